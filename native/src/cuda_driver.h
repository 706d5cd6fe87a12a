// The CUDA driver's functions, found in libcuda.so.1 when first needed: nothing links to it.
// Source: NVIDIA CUDA Driver API; names, types and numbers are those of cuda.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "failure.h"

namespace tessera::native {

using CUresult = int;
using CUdevice = int;
using CUdeviceptr = uint64_t;
using CUcontext = void *;
using CUmodule = void *;
using CUfunction = void *;
using CUstream = void *;

constexpr CUresult kCudaSuccess = 0, kCudaOutOfMemory = 2, kCudaNoDevice = 100;
constexpr int kAttributeMajor = 75, kAttributeMinor = 76, kAttributeSharedOptin = 97;
constexpr int kFunctionMaxDynamicShared = 8, kFunctionNonPortableCluster = 14;
constexpr int kJitErrorLog = 5, kJitErrorLogBytes = 6;
constexpr unsigned kStreamNonBlocking = 1;

// `CUlaunchAttribute` for a cluster's shape (id 4); the value is a union of 64 bytes.
struct CudaLaunchAttribute {
    int id;
    int padding;
    unsigned cluster[3];
    unsigned rest[13];
};

// `CUlaunchConfig`.
struct CudaLaunchConfig {
    unsigned grid[3];
    unsigned block[3];
    unsigned shared_bytes;
    CUstream stream;
    CudaLaunchAttribute *attributes;
    unsigned attribute_count;
};

struct CudaDriver {
    CUresult (*cuInit)(unsigned);
    CUresult (*cuDeviceGetCount)(int *);
    CUresult (*cuDeviceGet)(CUdevice *, int);
    CUresult (*cuDeviceGetName)(char *, int, CUdevice);
    CUresult (*cuDeviceGetAttribute)(int *, int, CUdevice);
    CUresult (*cuDevicePrimaryCtxRetain)(CUcontext *, CUdevice);
    CUresult (*cuDevicePrimaryCtxRelease_v2)(CUdevice);
    CUresult (*cuCtxGetCurrent)(CUcontext *);
    CUresult (*cuCtxSetCurrent)(CUcontext);
    CUresult (*cuModuleLoadDataEx)(CUmodule *, const void *, unsigned, int *, void **);
    CUresult (*cuModuleUnload)(CUmodule);
    CUresult (*cuModuleGetFunction)(CUfunction *, CUmodule, const char *);
    CUresult (*cuFuncSetAttribute)(CUfunction, int, int);
    CUresult (*cuMemAlloc_v2)(CUdeviceptr *, size_t);
    CUresult (*cuMemFree_v2)(CUdeviceptr);
    CUresult (*cuMemcpyHtoDAsync_v2)(CUdeviceptr, const void *, size_t, CUstream);
    CUresult (*cuMemcpyDtoHAsync_v2)(void *, CUdeviceptr, size_t, CUstream);
    CUresult (*cuMemcpyDtoDAsync_v2)(CUdeviceptr, CUdeviceptr, size_t, CUstream);
    CUresult (*cuStreamCreate)(CUstream *, unsigned);
    CUresult (*cuStreamSynchronize)(CUstream);
    CUresult (*cuStreamDestroy_v2)(CUstream);
    CUresult (*cuLaunchKernel)(CUfunction, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned,
                               unsigned, CUstream, void **, void **);
    CUresult (*cuGetErrorName)(CUresult, const char **);
    CUresult (*cuGetErrorString)(CUresult, const char **);
    // Null where the driver is older than these.
    CUresult (*cuCtxGetDevice)(CUdevice *);
    CUresult (*cuLaunchKernelEx)(const CudaLaunchConfig *, CUfunction, void **, void **);

    // The driver, initialized. Throws a device `Failure` if there is none, or it does not work.
    static const CudaDriver &get();

    // Throws a `Failure` that begins with `what` unless `result` is success.
    void check(CUresult result, const std::string &what) const;

    // Call `work`, which does not throw, with `context` current: for destructors.
    template <class Work>
    void in_context(CUcontext context, Work work) const {
        CUcontext before = nullptr;
        cuCtxGetCurrent(&before);
        cuCtxSetCurrent(context);
        work();
        cuCtxSetCurrent(before);
    }
};

// Makes a context the calling thread's own, and the old one again at the end.
class CurrentContext {
public:
    CurrentContext(const CudaDriver &driver, CUcontext context);
    ~CurrentContext();
    CurrentContext(const CurrentContext &) = delete;
    CurrentContext &operator=(const CurrentContext &) = delete;

private:
    const CudaDriver &driver_;
    CUcontext before_ = nullptr;
};

// Device memory; freed, in the context that is current then, with the last copy.
using DeviceMemory = std::shared_ptr<const CUdeviceptr>;
DeviceMemory allocate_device(const CudaDriver &driver, int64_t bytes);

}  // namespace tessera::native
