// Bitonic sort of one block's keys in shared memory.
extern "C" __global__ void bitonic(int *keys, int n) {
    extern __shared__ int shared[];
    int i = threadIdx.x;
    shared[i] = i < n ? keys[i] : 0x7fffffff;
    __syncthreads();
    for (int size = 2; size <= blockDim.x; size *= 2)
        for (int step = size / 2; step > 0; step /= 2) {
            int other = i ^ step;
            if (other > i) {
                bool up = (i & size) == 0;
                int a = shared[i], b = shared[other];
                if ((a > b) == up) { shared[i] = b; shared[other] = a; }
            }
            __syncthreads();
        }
    if (i < n) keys[i] = shared[i];
}
