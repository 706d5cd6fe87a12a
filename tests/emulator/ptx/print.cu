// printf from a few threads, with every kind of argument.
#include <cstdio>
extern "C" __global__ void print(const double *x, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) printf("%s %d: %8.3f %lld 0x%08x %c %u%%\n", "thread", i, x[i], -5000000000ll * i, i * 255, 'a' + i, i);
}
