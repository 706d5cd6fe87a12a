// Game of Life on a torus, several generations inside one block.
extern "C" __global__ void life(unsigned char *cells, int generations) {
    __shared__ unsigned char board[16][16];
    int x = threadIdx.x, y = threadIdx.y;
    board[y][x] = cells[y * 16 + x];
    __syncthreads();
    for (int g = 0; g < generations; ++g) {
        int around = 0;
        #pragma unroll
        for (int dy = -1; dy <= 1; ++dy)
            #pragma unroll
            for (int dx = -1; dx <= 1; ++dx)
                if (dx || dy) around += board[(y + dy) & 15][(x + dx) & 15];
        __syncthreads();
        board[y][x] = around == 3 || (around == 2 && board[y][x]);
        __syncthreads();
    }
    cells[y * 16 + x] = board[y][x];
}
