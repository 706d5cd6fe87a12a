// Stable compaction of one block: votes within warps, a scan over the warps' counts.
extern "C" __global__ void compact(const int *x, int *y, int *count, int n) {
    __shared__ int offsets[33];
    int i = threadIdx.x, lane = i & 31, warp = i >> 5;
    bool keep = i < n && x[i] > 0;
    unsigned votes = __ballot_sync(0xffffffff, keep);
    if (lane == 0) offsets[warp + 1] = __popc(votes);
    if (i == 0) offsets[0] = 0;
    __syncthreads();
    if (i == 0)
        for (int w = 1; w <= blockDim.x / 32; ++w) offsets[w] += offsets[w - 1];
    __syncthreads();
    if (keep) y[offsets[warp] + __popc(votes & ((1u << lane) - 1))] = x[i];
    if (i == 0) *count = offsets[blockDim.x / 32];
}
