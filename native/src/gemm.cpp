// Own matrix products: panels of A and B are packed so that a small tile of C, held in vector
// registers, reads both in order. The tile's code is compiled for several vector widths.
// Source: Goto, van de Geijn: Anatomy of High-Performance Matrix Multiplication, 2008.
#include "gemm.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "cpu_level.h"
#include "tensor.h"
#include "workers.h"

#if defined(__x86_64__)
#define TESSERA_TARGET(features) __attribute__((target(features)))
#else
#define TESSERA_TARGET(features)
#endif
#define TESSERA_INLINE inline __attribute__((always_inline))

namespace tessera::native {

namespace {

// Rows of A and columns of B of one packed block: they fit the L2 and L1 cache.
constexpr int64_t kBlockM = 96, kBlockK = 256, kBlockN = 2048;
// Products with fewer rows read B once, and packing it would cost as much as that.
constexpr int64_t kFewRows = 4;
// Multiplications below which sharing among threads costs more than it saves.
constexpr int64_t kWorthSharing = 1 << 19;

template <class T, int Bytes>
struct Vector {
    typedef T type __attribute__((vector_size(Bytes), aligned(sizeof(T)), may_alias));
    static constexpr int lanes = Bytes / int{sizeof(T)};
};

// C tile (Rows, 2 vectors) += packed A (k, Rows) * packed B (k, 2 vectors).
template <class T, int Bytes, int Rows>
TESSERA_INLINE void tile(int64_t k, const T *a, const T *b, T *c, int64_t row_stride) {
    using V = typename Vector<T, Bytes>::type;
    constexpr int lanes = Vector<T, Bytes>::lanes;
    V left[Rows] = {}, right[Rows] = {};
    for (int64_t p = 0; p < k; ++p, a += Rows, b += 2 * lanes) {
        const V b0 = *reinterpret_cast<const V *>(b), b1 = *reinterpret_cast<const V *>(b + lanes);
#pragma GCC unroll 16
        for (int r = 0; r < Rows; ++r) {
            left[r] += a[r] * b0;
            right[r] += a[r] * b1;
        }
    }
#pragma GCC unroll 16
    for (int r = 0; r < Rows; ++r, c += row_stride) {
        *reinterpret_cast<V *>(c) += left[r];
        *reinterpret_cast<V *>(c + lanes) += right[r];
    }
}

// y (n) += x[0] * B[0] + ... + x[k-1] * B[k-1], B row-major.
template <class T, int Bytes>
TESSERA_INLINE void add_rows(int64_t k, int64_t n, const T *x, const T *b, int64_t row_stride, T *y) {
    using V = typename Vector<T, Bytes>::type;
    constexpr int lanes = Vector<T, Bytes>::lanes;
    int64_t j = 0;
    for (; j + 4 * lanes <= n; j += 4 * lanes) {
        V sum[4] = {};
        for (int64_t p = 0; p < k; ++p)
            for (int v = 0; v < 4; ++v)
                sum[v] += x[p] * *reinterpret_cast<const V *>(b + p * row_stride + j + v * lanes);
        for (int v = 0; v < 4; ++v) *reinterpret_cast<V *>(y + j + v * lanes) += sum[v];
    }
    for (; j < n; ++j) {
        T sum = 0;
        for (int64_t p = 0; p < k; ++p) sum += x[p] * b[p * row_stride + j];
        y[j] += sum;
    }
}

// The product of two vectors of n elements.
template <class T, int Bytes>
TESSERA_INLINE T dot(int64_t n, const T *x, const T *y) {
    using V = typename Vector<T, Bytes>::type;
    constexpr int lanes = Vector<T, Bytes>::lanes;
    V sums[4] = {};
    int64_t i = 0;
    for (; i + 4 * lanes <= n; i += 4 * lanes)
        for (int v = 0; v < 4; ++v)
            sums[v] += *reinterpret_cast<const V *>(x + i + v * lanes) *
                       *reinterpret_cast<const V *>(y + i + v * lanes);
    const V all = (sums[0] + sums[1]) + (sums[2] + sums[3]);
    T total = 0;
    for (int lane = 0; lane < lanes; ++lane) total += all[lane];
    for (; i < n; ++i) total += x[i] * y[i];
    return total;
}

// The three inner loops, compiled for one kind of CPU.
template <class T>
struct Kernels {
    int rows, columns;
    void (*tile)(int64_t k, const T *a, const T *b, T *c, int64_t row_stride);
    void (*add_rows)(int64_t k, int64_t n, const T *x, const T *b, int64_t row_stride, T *y);
    T (*dot)(int64_t n, const T *x, const T *y);
};

#define TESSERA_KERNELS(Name, features, Bytes, Rows)                                              \
    template <class T>                                                                            \
    struct Name {                                                                                 \
        TESSERA_TARGET(features)                                                                  \
        static void run_tile(int64_t k, const T *a, const T *b, T *c, int64_t row_stride) {       \
            tile<T, Bytes, Rows>(k, a, b, c, row_stride);                                         \
        }                                                                                         \
        TESSERA_TARGET(features)                                                                  \
        static void run_rows(int64_t k, int64_t n, const T *x, const T *b, int64_t s, T *y) {     \
            add_rows<T, Bytes>(k, n, x, b, s, y);                                                 \
        }                                                                                         \
        TESSERA_TARGET(features)                                                                  \
        static T run_dot(int64_t n, const T *x, const T *y) { return dot<T, Bytes>(n, x, y); }    \
        static Kernels<T> kernels() {                                                             \
            return {Rows, 2 * Bytes / int{sizeof(T)}, run_tile, run_rows, run_dot};               \
        }                                                                                         \
    }

#if defined(__x86_64__)
TESSERA_KERNELS(Sse2, "sse2", 16, 4);
TESSERA_KERNELS(Avx2, "avx2,fma", 32, 6);
TESSERA_KERNELS(Avx512, "avx512f,avx2,fma", 64, 12);

template <class T>
Kernels<T> best_kernels() {
    if (cpu_features().avx512f) return Avx512<T>::kernels();
    if (cpu_features().x86_64_v3) return Avx2<T>::kernels();
    return Sse2<T>::kernels();
}
#else
TESSERA_KERNELS(Portable, "", 16, 8);

template <class T>
Kernels<T> best_kernels() {
    return Portable<T>::kernels();
}
#endif

// A matrix that may be read transposed: element (i, j) is at i * row + j * column.
template <class T>
struct View {
    const T *data;
    int64_t row, column;
    const T &at(int64_t i, int64_t j) const { return data[i * row + j * column]; }
};

// Strips of `width` rows of `view`, each with its columns one after the other, padded with zeros.
template <class T>
void pack(View<T> view, int64_t rows, int64_t columns, int width, T *out) {
    for (int64_t i = 0; i < rows; i += width) {
        const int64_t some = std::min<int64_t>(width, rows - i);
        for (int64_t j = 0; j < columns; ++j, out += width) {
            for (int64_t r = 0; r < some; ++r) out[r] = view.at(i + r, j);
            for (int64_t r = some; r < width; ++r) out[r] = 0;
        }
    }
}

int64_t rounded(int64_t value, int64_t step) { return (value + step - 1) / step * step; }

// Rows `begin ... end` of one product, which are zero before.
template <class T>
class Blocks {
public:
    Blocks(const Kernels<T> &kernels, View<T> a, View<T> b, T *c, int64_t n, int64_t k)
        : kernels_(kernels), a_(a), b_(b), c_(c), n_(n), k_(k) {}

    void run(int64_t begin, int64_t end) {
        // Aligned scratch of this thread, kept for its next product.
        thread_local std::vector<T> packed_a, packed_b;
        const int64_t depth = std::min(k_, kBlockK);
        packed_a.resize(size_t(rounded(std::min(kBlockM, end - begin), kernels_.rows) * depth));
        packed_b.resize(size_t(rounded(std::min(kBlockN, n_), kernels_.columns) * depth));
        for (int64_t j = 0; j < n_; j += kBlockN) {
            const int64_t columns = std::min(kBlockN, n_ - j);
            for (int64_t p = 0; p < k_; p += kBlockK) {
                const int64_t inner = std::min(kBlockK, k_ - p);
                // Strips of B are columns: those of its transpose.
                pack(View<T>{&b_.at(p, j), b_.column, b_.row}, columns, inner, kernels_.columns,
                     packed_b.data());
                for (int64_t i = begin; i < end; i += kBlockM) {
                    const int64_t rows = std::min(kBlockM, end - i);
                    pack(View<T>{&a_.at(i, p), a_.row, a_.column}, rows, inner, kernels_.rows,
                         packed_a.data());
                    tiles(rows, columns, inner, packed_a.data(), packed_b.data(), c_ + i * n_ + j);
                }
            }
        }
    }

private:
    void tiles(int64_t rows, int64_t columns, int64_t inner, const T *a, const T *b, T *c) const {
        for (int64_t j = 0; j < columns; j += kernels_.columns)
            for (int64_t i = 0; i < rows; i += kernels_.rows) {
                const int64_t some_rows = std::min<int64_t>(kernels_.rows, rows - i);
                const int64_t some_columns = std::min<int64_t>(kernels_.columns, columns - j);
                T *to = c + i * n_ + j;
                if (some_rows == kernels_.rows && some_columns == kernels_.columns)
                    kernels_.tile(inner, a + i * inner, b + j * inner, to, n_);
                else
                    edge(inner, a + i * inner, b + j * inner, to, some_rows, some_columns);
            }
    }

    // A tile that C has only a part of.
    void edge(int64_t inner, const T *a, const T *b, T *c, int64_t rows, int64_t columns) const {
        T whole[12 * 32] = {};
        kernels_.tile(inner, a, b, whole, kernels_.columns);
        for (int64_t i = 0; i < rows; ++i)
            for (int64_t j = 0; j < columns; ++j) c[i * n_ + j] += whole[i * kernels_.columns + j];
    }

    const Kernels<T> &kernels_;
    View<T> a_, b_;
    T *c_;
    int64_t n_, k_;
};

// One product of few rows: B is read in place, once.
template <class T>
void few_rows(const Kernels<T> &kernels, const Product &p, const T *a, const T *b, T *c) {
    std::vector<T> row(static_cast<size_t>(p.transpose_a ? p.k : 0));
    for (int64_t i = 0; i < p.m; ++i) {
        const T *x = a + i * p.k;
        if (p.transpose_a) {
            for (int64_t j = 0; j < p.k; ++j) row[static_cast<size_t>(j)] = a[j * p.m + i];
            x = row.data();
        }
        if (p.transpose_b)
            for (int64_t j = 0; j < p.n; ++j) c[i * p.n + j] = kernels.dot(p.k, x, b + j * p.k);
        else
            kernels.add_rows(p.k, p.n, x, b, p.n, c + i * p.n);
    }
}

template <class T>
void multiply_typed(const Product &p) {
    static const Kernels<T> kernels = best_kernels<T>();
    const View<T> a0{static_cast<const T *>(p.a), p.transpose_a ? 1 : p.k, p.transpose_a ? p.m : 1};
    const View<T> b0{static_cast<const T *>(p.b), p.transpose_b ? 1 : p.n, p.transpose_b ? p.k : 1};
    for (int64_t i = 0; i < p.batch; ++i) {
        View<T> a = a0, b = b0;
        a.data += i * p.stride_a;
        b.data += i * p.stride_b;
        T *c = static_cast<T *>(p.c) + i * p.stride_c;
        std::fill(c, c + p.m * p.n, T{0});
        if (!p.k) continue;
        if (p.m < kFewRows) {
            few_rows(kernels, p, a.data, b.data, c);
            continue;
        }
        const auto rows = [&](int64_t begin, int64_t end) {
            // A thread takes whole tiles; the last gets what is left.
            const int64_t first = begin * kernels.rows, last = std::min(end * kernels.rows, p.m);
            Blocks<T>(kernels, a, b, c, p.n, p.k).run(first, last);
        };
        const int64_t strips = (p.m + kernels.rows - 1) / kernels.rows;
        const bool large = double(p.m) * double(p.n) * double(p.k) > double(kWorthSharing);
        // Each thread packs B for itself, so it should have many rows to use that for.
        const int64_t parts = large ? std::min<int64_t>(worker_threads(), strips) : 1;
        share_work(
            [&](int64_t begin, int64_t end) {
                for (int64_t part = begin; part < end; ++part)
                    rows(strips * part / parts, strips * (part + 1) / parts);
            },
            0, parts);
    }
}

}  // namespace

void multiply_own(const Product &product) {
    if (product.dtype == TESSERA_F32)
        multiply_typed<float>(product);
    else
        multiply_typed<double>(product);
}

}  // namespace tessera::native
