// A ring of two buffers between one producer warp and a consumer warp: bulk copies that complete mbarriers.
#include <cuda/barrier>
#include <cuda/ptx>
#include <cstdint>
namespace ptx = cuda::ptx;
extern "C" __global__ void hopper(const float *x, float *sums, int tiles) {
    __shared__ alignas(128) float buffer[2][64];
    __shared__ alignas(8) uint64_t full[2], empty[2];
    if (threadIdx.x == 0)
        for (int i = 0; i < 2; ++i) {
            ptx::mbarrier_init(&full[i], 1);
            ptx::mbarrier_init(&empty[i], 32);
        }
    __syncthreads();
    if (threadIdx.x < 32) {
        if (threadIdx.x == 0)
            for (int t = 0; t < tiles; ++t) {
                int slot = t & 1;
                while (!ptx::mbarrier_try_wait_parity(&empty[slot], (t >> 1 & 1) ^ 1)) {}
                ptx::cp_async_bulk(ptx::space_cluster, ptx::space_global, buffer[slot], x + 64 * t, 256, &full[slot]);
                ptx::mbarrier_arrive_expect_tx(ptx::sem_release, ptx::scope_cta, ptx::space_shared, &full[slot], 256);
            }
    } else {
        int lane = threadIdx.x - 32;
        float sum = 0;
        for (int t = 0; t < tiles; ++t) {
            int slot = t & 1;
            while (!ptx::mbarrier_try_wait_parity(&full[slot], t >> 1 & 1)) {}
            sum += buffer[slot][lane] * (t + 1) + buffer[slot][lane + 32];
            ptx::mbarrier_arrive(&empty[slot]);
        }
        sums[lane] = sum;
    }
}
