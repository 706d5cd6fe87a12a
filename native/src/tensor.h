// Tensors in host memory, C-contiguous.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "dtype.h"

namespace tessera::native {

// Enough for any vector load, and what CUDA gives.
constexpr size_t kAlignment = 256;

struct Tensor {
    DType dtype = TESSERA_F32;
    std::vector<int64_t> shape;
    std::shared_ptr<uint8_t> memory;
    int64_t bytes = 0;

    int64_t count() const { return bytes / facts(dtype).bytes; }
};

// Aligned memory whose contents are arbitrary. `what` names it in the error if there is none left.
std::shared_ptr<uint8_t> allocate(int64_t bytes, const std::string &what);

// Bytes of a tensor. Throws a `Failure` for a negative size or more than 64 bits hold.
int64_t tensor_bytes(DType dtype, const std::vector<int64_t> &shape);

// A tensor with memory of its own, contents arbitrary.
Tensor new_tensor(DType dtype, std::vector<int64_t> shape);

// The same values in another dtype: floats and integers to floats (nearest), integers and bools to
// integers that hold them. Throws an input `Failure` that begins with `what` where it cannot be.
Tensor converted(const Tensor &tensor, DType dtype, const std::string &what);

}  // namespace tessera::native
