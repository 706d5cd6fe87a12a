// What callers pass, as the tensors that a program takes.
#pragma once

#include <vector>

#include "program.h"
#include "tensor.h"

namespace tessera::native {

// The inputs in the ports' dtypes and of their ranks. Throws an input `Failure` that names the input.
std::vector<Tensor> read_inputs(const Program &program, const std::vector<Tensor> &given);

// The value of every symbol of the program, which the shapes of tensors and the values of integer
// scalars give. `inputs` come from `read_inputs`. Throws an input `Failure` where they do not fit.
std::vector<int64_t> bind_symbols(const Program &program, const std::vector<Tensor> &inputs);

}  // namespace tessera::native
