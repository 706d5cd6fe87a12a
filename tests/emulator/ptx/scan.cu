// Inclusive prefix sum of one block, Hillis and Steele's way, in dynamic shared memory.
extern "C" __global__ void scan(const int *x, int *y, int n) {
    extern __shared__ int values[];
    int i = threadIdx.x;
    values[i] = i < n ? x[i] : 0;
    __syncthreads();
    for (int step = 1; step < blockDim.x; step *= 2) {
        int left = i >= step ? values[i - step] : 0;
        __syncthreads();
        values[i] += left;
        __syncthreads();
    }
    if (i < n) y[i] = values[i];
}
