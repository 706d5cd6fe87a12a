// Warp-aggregated atomics: the lanes that keep their value take a place each with one atomic per group.
#include <cooperative_groups.h>
namespace cg = cooperative_groups;
extern "C" __global__ void aggregate(const int *x, int *kept, int *count, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n && x[i] % 3 == 0) {
        cg::coalesced_group group = cg::coalesced_threads();
        int base = 0;
        if (group.thread_rank() == 0) base = atomicAdd(count, (int)group.size());
        base = group.shfl(base, 0);
        kept[base + group.thread_rank()] = x[i];
    }
}
