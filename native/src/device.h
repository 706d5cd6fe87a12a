// Where programs run.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "package.h"
#include "program.h"
#include "tensor.h"

namespace tessera::native {

// A program ready to run on one device.
class Executable {
public:
    virtual ~Executable() = default;

    // Outputs in order. `inputs` come from `read_inputs`. Any number of threads may call this at once.
    virtual std::vector<Tensor> run(const std::vector<Tensor> &inputs) = 0;
};

class Device {
public:
    virtual ~Device() = default;

    // `cpu`, `cuda:0`.
    virtual std::string name() const = 0;

    // `program` with its code and weights loaded and its setup done; refers to both arguments.
    virtual std::unique_ptr<Executable> load(const Program &program, const Package &package) = 0;
};

std::unique_ptr<Device> open_cpu();
// GPU number `index`. Throws a device `Failure` if there is no driver or no such GPU.
std::unique_ptr<Device> open_cuda(int index);
// The GPU of the calling thread's CUDA context, or 0. Throws if there is no driver.
int current_cuda_device();

// Throws a device `Failure`: the program has no code for `machine`.
[[noreturn]] void fail_no_code(const Program &program, const std::string &machine,
                               const std::string &hint);

}  // namespace tessera::native
