// Steps until a point escapes: threads leave their loops at different times.
extern "C" __global__ void mandelbrot(unsigned short *steps, int width, int height, int limit) {
    int x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y * blockDim.y + threadIdx.y;
    if (x >= width || y >= height) return;
    float cx = __fdiv_rn(3.0f * x, width) - 2.25f, cy = __fdiv_rn(2.5f * y, height) - 1.25f;
    float zx = 0, zy = 0;
    int n = 0;
    while (n < limit && __fadd_rn(__fmul_rn(zx, zx), __fmul_rn(zy, zy)) <= 4) {
        float next = __fadd_rn(__fsub_rn(__fmul_rn(zx, zx), __fmul_rn(zy, zy)), cx);
        zy = __fmaf_rn(2 * zx, zy, cy);
        zx = next;
        ++n;
    }
    steps[y * width + x] = n;
}
