// NVIDIA GPUs as devices: cubins, or PTX where no cubin fits, out of a package.
#include <map>
#include <optional>
#include <tuple>

#include "arch.h"
#include "cuda_executable.h"

namespace tessera::native {

Gpu::Gpu(int number) : driver(CudaDriver::get()), index(number) {
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

namespace {

class CudaDevice : public Device {
public:
    explicit CudaDevice(int index) : gpu_(std::make_shared<Gpu>(index)) {}

    ~CudaDevice() override {
        gpu_->driver.in_context(gpu_->context, [this] {
            weights_.clear();
            for (const auto &module : modules_) gpu_->driver.cuModuleUnload(module.second);
        });
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
        return load_on_gpu(program, *code.plan, gpu_, std::move(functions), weights_);
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
