// Structs by value: as a kernel parameter, as a function's argument and result, and indexed at run time.
struct Box { float low[4], high[4]; int hits; };
struct Pair { double a; short b; };
__device__ __noinline__ Box grow(Box box, float by) {
    for (int i = 0; i < 4; ++i) { box.low[i] -= by; box.high[i] += by; }
    box.hits += 1;
    return box;
}
extern "C" __global__ void structs(Box box, const float *points, int *inside, Pair *pairs, int axis, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    Box grown = grow(box, 0.25f * (i % 3));
    float p = points[i];
    int k = (axis + i) & 3;
    inside[i] = (p >= grown.low[k] && p <= grown.high[k]) * 10 + grown.hits + (p >= box.low[k]);
    pairs[i].a = p;
    pairs[i].b = (short)(i * 1000);
}
