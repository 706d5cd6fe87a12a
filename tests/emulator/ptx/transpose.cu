// Transpose through a padded tile, four rows per thread, 16-byte loads where a row allows.
extern "C" __global__ void transpose(const float4 *in, float *out, int width, int height) {
    __shared__ float tile[32][33];
    int x = blockIdx.x * 32, y = blockIdx.y * 32;
    float4 four = in[((y + threadIdx.y) * width + x) / 4 + threadIdx.x];
    tile[threadIdx.y][threadIdx.x * 4] = four.x;
    tile[threadIdx.y][threadIdx.x * 4 + 1] = four.y;
    tile[threadIdx.y][threadIdx.x * 4 + 2] = four.z;
    tile[threadIdx.y][threadIdx.x * 4 + 3] = four.w;
    __syncthreads();
    for (int i = 0; i < 4; ++i)
        out[(x + threadIdx.y) * height + y + threadIdx.x * 4 + i] = tile[threadIdx.x * 4 + i][threadIdx.y];
}
