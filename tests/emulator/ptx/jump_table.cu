// A switch that becomes a jump table, and a call through a pointer that becomes an indirect call.
__device__ __noinline__ int twice(int x) { return 2 * x; }
__device__ __noinline__ int square(int x) { return x * x; }
__device__ __noinline__ int negate(int x) { return -x; }
__device__ int (*const table[3])(int) = {twice, square, negate};
extern "C" __global__ void jump_table(const int *codes, const int *x, int *y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    int v = x[i];
    switch (codes[i]) {
        case 0: v += 7; break;
        case 1: v = v * 3 - 1; break;
        case 2: v ^= 0x55; break;
        case 3: v = v > 0 ? v : -v; break;
        case 4: v = __clz(v); break;
        case 5: v = __brev(v); break;
        case 6: v = v / 7; break;
        case 7: v = v % 11; break;
        default: v = -1;
    }
    y[i] = table[i % 3](v);
}
