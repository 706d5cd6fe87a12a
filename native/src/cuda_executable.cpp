// Runs plans on a GPU. A call has one stream and one block of memory: inputs, outputs, arena.
#include <mutex>

#include "cuda_executable.h"
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
        driver_.in_context(gpu_->context, [this] {
            idle_.clear();
            persistent_.reset();
            weights_.clear();
        });
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

}  // namespace

std::unique_ptr<Executable> load_on_gpu(const Program &program, const Plan &plan,
                                        std::shared_ptr<Gpu> gpu,
                                        std::map<std::string, CUfunction> functions,
                                        std::map<std::string, DeviceMemory> weights) {
    return std::make_unique<CudaExecutable>(program, plan, std::move(gpu), std::move(functions),
                                            std::move(weights));
}

}  // namespace tessera::native
