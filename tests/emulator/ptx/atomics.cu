// Atomics of several types; a maximum of floats by compare-and-swap; a lock that threads spin on.
#include <cuda_fp16.h>
extern "C" __global__ void atomics(const float *x, float *top, double *sum, unsigned long long *bits, __half2 *pair,
                                   int *lock, int *guarded, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    int *place = (int *)top, old = *place;
    while (__int_as_float(old) < x[i]) {
        int seen = atomicCAS(place, old, __float_as_int(x[i]));
        if (seen == old) break;
        old = seen;
    }
    atomicAdd(sum, (double)x[i]);
    atomicOr(bits, 1ull << (i % 64));
    atomicAdd(pair, __floats2half2_rn(1.0f, 0.5f));
    bool done = false;
    while (!done) {
        if (atomicCAS(lock, 0, 1) == 0) {
            __threadfence();
            *(volatile int *)guarded = *(volatile int *)guarded + i;
            __threadfence();
            atomicExch(lock, 0);
            done = true;
        }
    }
}
