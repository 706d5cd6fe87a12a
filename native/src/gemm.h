// Matrix products on the CPU: by the system's BLAS where there is one, else by our own.
#pragma once

#include <cstdint>
#include <string>

#include "dtype.h"

namespace tessera::native {

// C (m, n) = op(A) (m, k) @ op(B) (k, n), row-major, dense; `batch` of them, strides in elements.
// C overlaps neither A nor B. A product over nothing (k = 0) is zero.
struct Product {
    DType dtype = TESSERA_F32;  // or TESSERA_F64
    int64_t m = 0, n = 0, k = 0, batch = 1;
    bool transpose_a = false, transpose_b = false;
    const void *a = nullptr;
    const void *b = nullptr;
    void *c = nullptr;
    int64_t stride_a = 0, stride_b = 0, stride_c = 0;
};

void multiply(const Product &product);

// With the own kernels, whatever BLAS there is.
void multiply_own(const Product &product);

// The BLAS that products go to, such as "libopenblas.so.0"; "own" where there is none.
// TESSERA_BLAS names another library, or "own".
std::string blas_name();

}  // namespace tessera::native
