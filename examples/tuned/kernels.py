"""A kernel that leaves its tile to be tuned: `tessera tune kernels.py:transpose`."""

from numba import cuda, float32

import tessera as ts

TILE = 16
"""Rows and columns that a block turns around; tuned."""
PITCH = 16
"""Elements between rows of the tile; one more than TILE puts a column in different banks; tuned."""
ROWS = 4
"""Rows of threads in a block; each thread copies TILE / ROWS elements; tuned."""


@ts.kernel(
    tune={"TILE": [8, 16, 32], "PITCH": [8, 9, 16, 17, 32, 33], "ROWS": [4, 8, 16]},
    where="ROWS <= TILE and PITCH - TILE in (0, 1)",
    grid=lambda rows, columns, TILE: (ts.cdiv(columns, TILE), ts.cdiv(rows, TILE)),
    block=lambda TILE, ROWS: (TILE, ROWS),
)
def transpose(x: ts.Array[ts.f32, "rows", "columns"], y: ts.Array[ts.f32, "columns", "rows"]):
    tile = cuda.shared.array((TILE, PITCH), float32)
    tx, ty = cuda.threadIdx.x, cuda.threadIdx.y
    left, top = cuda.blockIdx.x * TILE, cuda.blockIdx.y * TILE
    for row in range(ty, TILE, ROWS):
        if top + row < x.shape[0] and left + tx < x.shape[1]:
            tile[row, tx] = x[top + row, left + tx]
    cuda.syncthreads()
    for row in range(ty, TILE, ROWS):
        if left + row < x.shape[1] and top + tx < x.shape[0]:
            y[left + row, top + tx] = tile[tx, row]
