// One GPU through the driver, and a program loaded on it.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "cuda_driver.h"
#include "device.h"

namespace tessera::native {

// One GPU: its driver, context and what it can do. Everything on it holds a share.
struct Gpu {
    // Throws a device `Failure` if there is no driver or no such GPU.
    explicit Gpu(int number);
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

// What `plan` of `program` launches, with its kernels and the weights of its constants by name; the
// setup of the plan is done. Refers to `program` and `plan`.
std::unique_ptr<Executable> load_on_gpu(const Program &program, const Plan &plan,
                                        std::shared_ptr<Gpu> gpu,
                                        std::map<std::string, CUfunction> functions,
                                        std::map<std::string, DeviceMemory> weights);

}  // namespace tessera::native
