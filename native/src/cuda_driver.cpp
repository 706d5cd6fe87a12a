#include "cuda_driver.h"

#include <dlfcn.h>

#include <mutex>

namespace tessera::native {

namespace {

constexpr const char *kLibrary = "libcuda.so.1";

template <class Function>
void find(void *library, Function &function, const char *name, bool optional = false) {
    function = reinterpret_cast<Function>(::dlsym(library, name));
    if (!function && !optional)
        throw Failure(TESSERA_DEVICE_ERROR, text("the NVIDIA driver lacks ", name),
                      "install a driver of CUDA 11.8 or newer");
}

CudaDriver load_driver() {
    void *library = ::dlopen(kLibrary, RTLD_NOW | RTLD_LOCAL);
    if (!library)
        throw Failure(TESSERA_DEVICE_ERROR,
                      text("there is no NVIDIA driver on this machine (", kLibrary, " is not found)"),
                      "install the driver, in a container add --gpus all, or use the device \"cpu\"");
    CudaDriver d{};
#define TESSERA_FIND(name) find(library, d.name, #name)
    TESSERA_FIND(cuInit);
    TESSERA_FIND(cuDeviceGetCount);
    TESSERA_FIND(cuDeviceGet);
    TESSERA_FIND(cuDeviceGetName);
    TESSERA_FIND(cuDeviceGetAttribute);
    TESSERA_FIND(cuDevicePrimaryCtxRetain);
    TESSERA_FIND(cuDevicePrimaryCtxRelease_v2);
    TESSERA_FIND(cuCtxGetCurrent);
    TESSERA_FIND(cuCtxSetCurrent);
    TESSERA_FIND(cuModuleLoadDataEx);
    TESSERA_FIND(cuModuleUnload);
    TESSERA_FIND(cuModuleGetFunction);
    TESSERA_FIND(cuFuncSetAttribute);
    TESSERA_FIND(cuMemAlloc_v2);
    TESSERA_FIND(cuMemFree_v2);
    TESSERA_FIND(cuMemcpyHtoDAsync_v2);
    TESSERA_FIND(cuMemcpyDtoHAsync_v2);
    TESSERA_FIND(cuMemcpyDtoDAsync_v2);
    TESSERA_FIND(cuStreamCreate);
    TESSERA_FIND(cuStreamSynchronize);
    TESSERA_FIND(cuStreamDestroy_v2);
    TESSERA_FIND(cuLaunchKernel);
    TESSERA_FIND(cuGetErrorName);
    TESSERA_FIND(cuGetErrorString);
#undef TESSERA_FIND
    find(library, d.cuCtxGetDevice, "cuCtxGetDevice", true);
    find(library, d.cuLaunchKernelEx, "cuLaunchKernelEx", true);
    const CUresult result = d.cuInit(0);
    if (result != kCudaNoDevice) d.check(result, "the NVIDIA driver does not work");
    return d;
}

}  // namespace

const CudaDriver &CudaDriver::get() {
    // A failed attempt is made again: the static stays unmade if its maker throws.
    static const CudaDriver driver = load_driver();
    return driver;
}

void CudaDriver::check(CUresult result, const std::string &what) const {
    if (result == kCudaSuccess) return;
    const char *name = nullptr, *description = nullptr;
    cuGetErrorName(result, &name);
    cuGetErrorString(result, &description);
    const bool memory = result == kCudaOutOfMemory;
    throw Failure(memory ? TESSERA_MEMORY_ERROR : TESSERA_DEVICE_ERROR,
                  text(what, ": ", name ? name : "CUDA error", " (", result, "): ",
                       description ? description : "unknown"),
                  memory ? "use smaller inputs, or end other programs on this GPU (nvidia-smi lists them)"
                         : "tessera check finds kernels that go out of bounds; nvidia-smi shows the "
                           "driver's own view");
}

CurrentContext::CurrentContext(const CudaDriver &driver, CUcontext context) : driver_(driver) {
    driver.check(driver.cuCtxGetCurrent(&before_), "the current context cannot be found");
    driver.check(driver.cuCtxSetCurrent(context), "the GPU's context cannot be made current");
}

CurrentContext::~CurrentContext() { driver_.cuCtxSetCurrent(before_); }

DeviceMemory allocate_device(const CudaDriver &driver, int64_t bytes) {
    CUdeviceptr pointer = 0;
    const size_t size = bytes > 0 ? static_cast<size_t>(bytes) : 1;
    driver.check(driver.cuMemAlloc_v2(&pointer, size), text("no ", size, " bytes of GPU memory"));
    return {new CUdeviceptr(pointer), [&driver](const CUdeviceptr *owned) {
                driver.cuMemFree_v2(*owned);
                delete owned;
            }};
}

}  // namespace tessera::native
