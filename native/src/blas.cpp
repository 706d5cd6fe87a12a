// The system's BLAS, found when first needed. Source: the C interface of the BLAS Technical Forum.
#include <dlfcn.h>

#include <climits>
#include <cstdlib>

#include "gemm.h"

namespace tessera::native {

namespace {

constexpr int kRowMajor = 101, kNoTranspose = 111, kTranspose = 112;

template <class T>
using CblasGemm = void (*)(int order, int transpose_a, int transpose_b, int m, int n, int k, T alpha,
                           const T *a, int lda, const T *b, int ldb, T beta, T *c, int ldc);

constexpr const char *kLibraries[] = {"libopenblas.so.0", "libopenblas.so", "libcblas.so.3",
                                      "libblas.so.3"};

struct Blas {
    std::string name = "own";
    CblasGemm<float> sgemm = nullptr;
    CblasGemm<double> dgemm = nullptr;

    Blas() {
        const char *chosen = std::getenv("TESSERA_BLAS");
        if (chosen && *chosen) {
            if (std::string(chosen) != "own") open(chosen);
            return;
        }
        for (const char *library : kLibraries)
            if (open(library)) return;
    }

private:
    // The library stays loaded for as long as the process.
    bool open(const char *library) {
        void *handle = ::dlopen(library, RTLD_NOW | RTLD_LOCAL);
        if (!handle) return false;
        const auto s = reinterpret_cast<CblasGemm<float>>(::dlsym(handle, "cblas_sgemm"));
        const auto d = reinterpret_cast<CblasGemm<double>>(::dlsym(handle, "cblas_dgemm"));
        if (!s || !d) {
            ::dlclose(handle);
            return false;
        }
        sgemm = s, dgemm = d, name = library;
        return true;
    }
};

const Blas &blas() {
    static const Blas found;
    return found;
}

template <class T>
void call(CblasGemm<T> gemm, const Product &p) {
    const auto m = static_cast<int>(p.m), n = static_cast<int>(p.n), k = static_cast<int>(p.k);
    for (int64_t i = 0; i < p.batch; ++i)
        gemm(kRowMajor, p.transpose_a ? kTranspose : kNoTranspose,
             p.transpose_b ? kTranspose : kNoTranspose, m, n, k, T{1},
             static_cast<const T *>(p.a) + i * p.stride_a, p.transpose_a ? m : k,
             static_cast<const T *>(p.b) + i * p.stride_b, p.transpose_b ? k : n, T{0},
             static_cast<T *>(p.c) + i * p.stride_c, n);
}

}  // namespace

std::string blas_name() { return blas().name; }

void multiply(const Product &product) {
    const bool fits = product.m <= INT_MAX && product.n <= INT_MAX && product.k <= INT_MAX;
    if (!blas().sgemm || !fits || product.k == 0)
        multiply_own(product);
    else if (product.dtype == TESSERA_F32)
        call(blas().sgemm, product);
    else
        call(blas().dgemm, product);
}

}  // namespace tessera::native
