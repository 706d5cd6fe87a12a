// Insertion sort in a local array that is indexed at run time: local memory.
__device__ void sort(float *values, int n) {
    for (int i = 1; i < n; ++i) {
        float v = values[i];
        int j = i - 1;
        for (; j >= 0 && values[j] > v; --j) values[j + 1] = values[j];
        values[j + 1] = v;
    }
}
extern "C" __global__ void local_array(const float *x, float *medians, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    float window[9];
    for (int j = 0; j < 9; ++j) window[j] = x[(i + j) % n];
    sort(window, 9);
    medians[i] = window[4];
}
