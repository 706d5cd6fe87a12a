// NVIDIA GPUs as devices: cubins, or PTX where no cubin fits, out of a package.
#include <map>
#include <optional>

#include "arch.h"
#include "cuda_driver.h"
#include "device.h"
#include "executable.h"
#include "inputs.h"

namespace tessera::native {

namespace {

// Dynamic shared memory that a kernel may have without asking, and the most blocks along x, y and z.
// Source: CUDA C++ Programming Guide, "Technical Specifications".
constexpr int64_t kSharedWithoutAsking = 48 << 10;
constexpr int64_t kMaxGrid[3] = {2147483647, 65535, 65535};
constexpr int kPortableCluster = 8;
constexpr int64_t kMemoryStep = kAlignment;

int64_t rounded(int64_t bytes) { return add_sizes(bytes, kMemoryStep - 1) / kMemoryStep * kMemoryStep; }

// One GPU: its driver, context and what it can do. Everything on it holds a share.
struct Gpu {
    explicit Gpu(int number) : driver(CudaDriver::get()), index(number) {
        int count = 0;
        const CUresult result = driver.cuDeviceGetCount(&count);
        if (result != kCudaNoDevice) driver.check(result, "the GPUs cannot be counted");
        if (index >= count)
            throw Failure(TESSERA_DEVICE_ERROR, text("there is no GPU ", index, ": ", count, " found"),
                          (count ? text("use cuda:0 to cuda:", count - 1) : "use the device \"cpu\"") +
                              "; CUDA_VISIBLE_DEVICES limits what is seen");
        const std::string what = text("cuda:", index, " cannot be used");
        char name_text[256] = {};
        driver.check(driver.cuDeviceGet(&device, index), what);
        driver.check(driver.cuDeviceGetName(name_text, sizeof name_text - 1, device), what);
        driver.check(driver.cuDeviceGetAttribute(&major, kAttributeMajor, device), what);
        driver.check(driver.cuDeviceGetAttribute(&minor, kAttributeMinor, device), what);
        driver.check(driver.cuDeviceGetAttribute(&shared_limit, kAttributeSharedOptin, device), what);
        name = name_text;
        driver.check(driver.cuDevicePrimaryCtxRetain(&context, device), what);
    }
    ~Gpu() { driver.cuDevicePrimaryCtxRelease_v2(device); }
    Gpu(const Gpu &) = delete;
    Gpu &operator=(const Gpu &) = delete;

    const CudaDriver &driver;
    int index, major = 0, minor = 0, shared_limit = 0;
    CUdevice device = 0;
    CUcontext context = nullptr;
    std::string name;
};

class Stream {
public:
    explicit Stream(const CudaDriver &driver) : driver_(driver) {
        driver.check(driver.cuStreamCreate(&stream_, kStreamNonBlocking), "no stream");
    }
    ~Stream() { driver_.cuStreamDestroy_v2(stream_); }
    Stream(const Stream &) = delete;
    Stream &operator=(const Stream &) = delete;

    CUstream get() const { return stream_; }
    void synchronize() const {
        driver_.check(driver_.cuStreamSynchronize(stream_), "the GPU reports a failure");
    }

private:
    const CudaDriver &driver_;
    CUstream stream_ = nullptr;
};

// What one call works with: a stream, and memory for inputs, outputs and arena.
struct Workspace {
    explicit Workspace(const CudaDriver &driver) : stream(driver) {}

    Stream stream;
    DeviceMemory memory;
    int64_t bytes = 0;
};

class CudaExecutable : public Executable {
public:
    CudaExecutable(const Program &program, const Plan &plan, std::shared_ptr<Gpu> gpu,
                   std::map<std::string, CUfunction> functions,
                   std::map<std::string, DeviceMemory> weights)
        : program_(program), gpu_(std::move(gpu)), driver_(gpu_->driver),
          functions_(std::move(functions)), weights_(std::move(weights)), schedules_(program, plan) {
        const CurrentContext current(driver_, gpu_->context);
        for (const Constant &constant : program.constants)
            fixed_.constants.push_back(*weights_.at(constant.name));
        persistent_ = allocate_device(driver_, plan.persistent_bytes);
        fixed_.persistent = *persistent_;
        const Stream stream(driver_);
        launch_all(make_setup(program, plan), fixed_, {}, stream.get());
        stream.synchronize();
    }

    ~CudaExecutable() override {
        // Memory and streams go in their own context.
        gpu_->driver.cuCtxSetCurrent(gpu_->context);
        idle_.clear();
        persistent_.reset();
        weights_.clear();
    }

    std::vector<Tensor> run(const std::vector<Tensor> &inputs) override {
        const std::shared_ptr<const Schedule> schedule = schedules_.find(bind_symbols(program_, inputs));
        std::vector<Tensor> outputs = new_outputs(program_, *schedule, inputs, false);
        const CurrentContext current(driver_, gpu_->context);
        std::unique_ptr<Workspace> workspace = take_workspace();
        Bases bases = place(*workspace, *schedule, inputs, outputs);
        try {
            const CUstream stream = workspace->stream.get();
            upload(bases, inputs, stream);
            launch_all(*schedule, bases, inputs, stream);
            for (size_t i = 0; i < outputs.size(); ++i)
                if (outputs[i].bytes)
                    driver_.check(driver_.cuMemcpyDtoHAsync_v2(outputs[i].memory.get(), bases.outputs[i],
                                                               size_t(outputs[i].bytes), stream),
                                  "an output cannot be copied");
        } catch (const Failure &) {
            // Nobody may free or reuse memory while work on it is under way.
            driver_.cuStreamSynchronize(workspace->stream.get());
            throw;
        }
        workspace->stream.synchronize();
        const std::lock_guard<std::mutex> guard(lock_);
        idle_.push_back(std::move(workspace));
        return outputs;
    }

private:
    std::unique_ptr<Workspace> take_workspace() {
        const std::lock_guard<std::mutex> guard(lock_);
        if (idle_.empty()) return std::make_unique<Workspace>(driver_);
        std::unique_ptr<Workspace> found = std::move(idle_.back());
        idle_.pop_back();
        return found;
    }

    // Tensors one after the other in the workspace's memory, then the arena.
    Bases place(Workspace &workspace, const Schedule &schedule, const std::vector<Tensor> &inputs,
                const std::vector<Tensor> &outputs) const {
        int64_t bytes = 0;
        std::vector<int64_t> offsets;
        for (const std::vector<Tensor> *tensors : {&inputs, &outputs})
            for (const Tensor &tensor : *tensors) {
                offsets.push_back(bytes);
                bytes = add_sizes(bytes, rounded(tensor.bytes));
            }
        const int64_t arena = bytes;
        bytes = add_sizes(bytes, schedule.arena_bytes);
        if (!workspace.memory || workspace.bytes < bytes) {
            workspace.memory.reset();
            workspace.memory = allocate_device(driver_, bytes);
            workspace.bytes = bytes;
        }
        Bases bases = fixed_;
        for (size_t i = 0; i < offsets.size(); ++i)
            (i < inputs.size() ? bases.inputs : bases.outputs)
                .push_back(*workspace.memory + uint64_t(offsets[i]));
        bases.arena = *workspace.memory + uint64_t(arena);
        return bases;
    }

    void upload(const Bases &bases, const std::vector<Tensor> &inputs, CUstream stream) const {
        for (size_t i = 0; i < inputs.size(); ++i)
            if (inputs[i].bytes && !program_.inputs[i].is_scalar)
                driver_.check(driver_.cuMemcpyHtoDAsync_v2(bases.inputs[i], inputs[i].memory.get(),
                                                           size_t(inputs[i].bytes), stream),
                              "an input cannot be copied");
        for (size_t i = 0; i < program_.outputs.size(); ++i) {
            if (program_.outputs[i].initial < 0) continue;
            const auto source = static_cast<size_t>(program_.outputs[i].initial);
            if (inputs[source].bytes)
                driver_.check(driver_.cuMemcpyDtoDAsync_v2(bases.outputs[i], bases.inputs[source],
                                                           size_t(inputs[source].bytes), stream),
                              "an input cannot be copied");
        }
    }

    void launch_all(const Schedule &schedule, const Bases &bases, const std::vector<Tensor> &inputs,
                    CUstream stream) {
        for (const Call &call : schedule.calls) {
            const auto *launch = std::get_if<LaunchCall>(&call);
            if (!launch)
                throw Failure(TESSERA_DEVICE_ERROR,
                              text("program ", quoted(program_.name),
                                   ": its plan for a GPU holds a product that only a CPU does"),
                              "compile the program again");
            launch_one(*launch, bases, inputs, stream);
        }
    }

    void launch_one(const LaunchCall &call, const Bases &bases, const std::vector<Tensor> &inputs,
                    CUstream stream) {
        const std::string what = "kernel " + quoted(call.launch->kernel);
        for (size_t i = 0; i < 3; ++i)
            if (call.grid[i] > kMaxGrid[i])
                throw Failure(TESSERA_DEVICE_ERROR,
                              text(what, ": ", call.grid[i], " blocks along ", "xyz"[i],
                                   ", a GPU takes ", kMaxGrid[i]),
                              "use smaller inputs, or give a block more work");
        const CUfunction function = functions_.at(call.launch->kernel);
        allow_shared(function, call, what);
        ArgumentCells cells(call, bases, inputs);
        unsigned grid[3], block[3];
        for (size_t i = 0; i < 3; ++i) {
            grid[i] = static_cast<unsigned>(call.grid[i]);
            block[i] = static_cast<unsigned>(call.launch->block[i]);
        }
        const auto shared = static_cast<unsigned>(call.shared_bytes);
        if (call.launch->has_cluster) {
            launch_cluster(call, {{grid[0], grid[1], grid[2]}, {block[0], block[1], block[2]}, shared,
                                  stream, nullptr, 0}, function, cells, what);
            return;
        }
        driver_.check(driver_.cuLaunchKernel(function, grid[0], grid[1], grid[2], block[0], block[1],
                                             block[2], shared, stream, cells.pointers(), nullptr),
                      what + " cannot be launched");
    }

    void launch_cluster(const LaunchCall &call, CudaLaunchConfig config, CUfunction function,
                        ArgumentCells &cells, const std::string &what) {
        if (!driver_.cuLaunchKernelEx)
            throw Failure(TESSERA_DEVICE_ERROR, what + " needs clusters, which this driver lacks",
                          "install a driver of CUDA 11.8 or newer");
        CudaLaunchAttribute attribute{};
        attribute.id = 4;
        int64_t blocks = 1;
        for (size_t i = 0; i < 3; ++i) {
            attribute.cluster[i] = static_cast<unsigned>(call.launch->cluster[i]);
            blocks *= call.launch->cluster[i];
        }
        if (blocks > kPortableCluster)
            driver_.check(driver_.cuFuncSetAttribute(function, kFunctionNonPortableCluster, 1), what);
        config.attributes = &attribute;
        config.attribute_count = 1;
        driver_.check(driver_.cuLaunchKernelEx(&config, function, cells.pointers(), nullptr),
                      what + " cannot be launched in clusters");
    }

    void allow_shared(CUfunction function, const LaunchCall &call, const std::string &what) {
        if (call.shared_bytes <= kSharedWithoutAsking) return;
        if (call.shared_bytes > gpu_->shared_limit)
            throw Failure(TESSERA_DEVICE_ERROR,
                          text(what, ": ", call.shared_bytes, " bytes of shared memory per block, ",
                               gpu_->name, " has ", gpu_->shared_limit),
                          "use smaller tiles");
        const std::lock_guard<std::mutex> guard(lock_);
        int64_t &allowed = shared_allowed_[function];
        if (call.shared_bytes <= allowed) return;
        driver_.check(driver_.cuFuncSetAttribute(function, kFunctionMaxDynamicShared,
                                                 static_cast<int>(call.shared_bytes)), what);
        allowed = call.shared_bytes;
    }

    const Program &program_;
    std::shared_ptr<Gpu> gpu_;
    const CudaDriver &driver_;
    std::map<std::string, CUfunction> functions_;
    std::map<std::string, DeviceMemory> weights_;
    Schedules schedules_;
    Bases fixed_;
    DeviceMemory persistent_;
    std::mutex lock_;
    std::vector<std::unique_ptr<Workspace>> idle_;
    std::map<CUfunction, int64_t> shared_allowed_;
};

class CudaDevice : public Device {
public:
    explicit CudaDevice(int index) : gpu_(std::make_shared<Gpu>(index)) {}

    ~CudaDevice() override {
        const CudaDriver &driver = gpu_->driver;
        CUcontext before = nullptr;
        driver.cuCtxGetCurrent(&before);
        driver.cuCtxSetCurrent(gpu_->context);
        weights_.clear();
        for (const auto &module : modules_) driver.cuModuleUnload(module.second);
        driver.cuCtxSetCurrent(before);
    }

    std::string name() const override { return text("cuda:", gpu_->index); }

    std::unique_ptr<Executable> load(const Program &program, const Package &package) override {
        const Code code = choose(program, package);
        const CurrentContext current(gpu_->driver, gpu_->context);
        std::map<std::string, CUfunction> functions;
        for (const std::string &kernel : code.plan->kernels())
            functions[kernel] = function(*package.kernel(program.name, kernel, code.target, code.format),
                                         kernel, package);
        for (const Constant &constant : program.constants) upload(constant, package);
        return std::make_unique<CudaExecutable>(program, *code.plan, gpu_, std::move(functions), weights_);
    }

private:
    struct Code {
        const Plan *plan;
        std::string target;
        CodeFormat format;
    };

    // A cubin for the GPU first: architecture-specific code, then the highest minor version. Then PTX
    // of the nearest earlier architecture, which the driver compiles.
    Code choose(const Program &program, const Package &package) const {
        std::optional<Architecture> cubin, ptx;
        const auto rank = [](const Architecture &a) {
            return std::tuple(a.major, a.minor, a.suffix == 'a', a.suffix == 'f');
        };
        for (const std::string &target : program.targets()) {
            const std::optional<Architecture> arch = parse_architecture(target);
            if (!arch) continue;
            if (arch->cubin_runs_on(gpu_->major, gpu_->minor) &&
                has(program, package, target, CodeFormat::Cubin) && (!cubin || rank(*arch) > rank(*cubin)))
                cubin = arch;
            if (arch->ptx_runs_on(gpu_->major, gpu_->minor) &&
                has(program, package, target, CodeFormat::Ptx) && (!ptx || rank(*arch) > rank(*ptx)))
                ptx = arch;
        }
        if (cubin) return {program.plan_for(cubin->name()), cubin->name(), CodeFormat::Cubin};
        if (ptx) return {program.plan_for(ptx->name()), ptx->name(), CodeFormat::Ptx};
        fail_no_code(program, text(gpu_->name, " (compute capability ", gpu_->major, ".", gpu_->minor, ")"),
                     text("compile it with --arch sm_", gpu_->major, gpu_->minor));
    }

    static bool has(const Program &program, const Package &package, const std::string &target,
                    CodeFormat format) {
        for (const std::string &kernel : program.plan_for(target)->kernels())
            if (!package.kernel(program.name, kernel, target, format)) return false;
        return true;
    }

    CUfunction function(const KernelRow &row, const std::string &kernel, const Package &package) {
        const CudaDriver &driver = gpu_->driver;
        auto known = modules_.find(row.path);
        if (known == modules_.end()) known = modules_.emplace(row.path, load_module(row, package)).first;
        CUfunction found = nullptr;
        driver.check(driver.cuModuleGetFunction(&found, known->second, kernel.c_str()),
                     text(row.path, " has no kernel ", quoted(kernel)));
        return found;
    }

    CUmodule load_module(const KernelRow &row, const Package &package) const {
        const CudaDriver &driver = gpu_->driver;
        const Content code = package.code(row);
        // PTX is text that ends in a zero byte.
        const std::string image(code.bytes.chars());
        char log[4096] = {};
        int options[] = {kJitErrorLog, kJitErrorLogBytes};
        void *values[] = {log, reinterpret_cast<void *>(sizeof log)};
        CUmodule module = nullptr;
        const CUresult result = driver.cuModuleLoadDataEx(&module, image.c_str(), 2, options, values);
        log[sizeof log - 1] = '\0';
        driver.check(result, text(row.path, " cannot be loaded on ", gpu_->name, *log ? ": " : "", log));
        return module;
    }

    // Put a weight on the GPU, once however many programs read it.
    void upload(const Constant &constant, const Package &package) {
        if (weights_.count(constant.name)) return;
        const CudaDriver &driver = gpu_->driver;
        const Content content = package.weight(constant);
        DeviceMemory memory = allocate_device(driver, constant.bytes);
        const Stream stream(driver);
        if (content.bytes.size)
            driver.check(driver.cuMemcpyHtoDAsync_v2(*memory, content.bytes.data, content.bytes.size,
                                                     stream.get()),
                         text("weight ", quoted(constant.name), " cannot be copied"));
        stream.synchronize();
        weights_.emplace(constant.name, std::move(memory));
    }

    std::shared_ptr<Gpu> gpu_;
    std::map<std::string, CUmodule> modules_;
    std::map<std::string, DeviceMemory> weights_;
};

}  // namespace

std::unique_ptr<Device> open_cuda(int index) { return std::make_unique<CudaDevice>(index); }

int current_cuda_device() {
    const CudaDriver &driver = CudaDriver::get();
    CUcontext context = nullptr;
    CUdevice device = 0;
    const bool has_context = driver.cuCtxGetCurrent(&context) == kCudaSuccess && context;
    if (has_context && driver.cuCtxGetDevice && driver.cuCtxGetDevice(&device) == kCudaSuccess)
        return device;
    return 0;
}

}  // namespace tessera::native
