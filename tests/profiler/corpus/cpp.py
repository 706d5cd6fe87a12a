"""The kernels of kernels.cu."""

import tessera as ts

FLAT = {"x": ts.Array[ts.f32, "n"], "y": ts.Array[ts.f32, "n"], "n": ts.Size[ts.i32, "n"]}
SQUARE = {"x": ts.Array[ts.f32, "n", "n"], "y": ts.Array[ts.f32, "n", "n"], "n": ts.Size[ts.i32, "n"]}
DEEP = {"x": ts.Array[ts.f32, "n"], "y": ts.Array[ts.f32, 32, "n"], "n": ts.Size[ts.i32, "n"]}
SIZES = {
    "turn": {"n": 512}, "turn_good": {"n": 512}, "aliased": {"n": 65536}, "aliased_good": {"n": 65536},
    "powers": {"n": 65536}, "powers_good": {"n": 65536}, "literal": {"n": 65536},
    "literal_good": {"n": 65536}, "pairs": {"n": 65536}, "pairs_good": {"n": 65536},
    "banks": {"n": 262144}, "banks_good": {"n": 262144},
}  # fmt: skip


def by_256(n):
    """Blocks for one element per thread."""
    return ts.cdiv(n, 256)


def by_512(n):
    """Blocks for two elements per thread."""
    return ts.cdiv(n, 512)


def by_1024(n):
    """Blocks for four elements per thread."""
    return ts.cdiv(n, 1024)


def by_rows(n):
    """A row of blocks for each row."""
    return ts.cdiv(n, 256), n


turn = ts.cuda_kernel("kernels.cu", entry="turn", params=SQUARE, outputs="y", grid=by_rows, block=256)
turn_good = ts.cuda_kernel(
    "kernels.cu", entry="turn_good", params=SQUARE, outputs="y", grid=by_rows, block=256
)
aliased = ts.cuda_kernel("kernels.cu", entry="aliased", params=DEEP, outputs="y", grid=by_256, block=256)
aliased_good = ts.cuda_kernel(
    "kernels.cu", entry="aliased_good", params=DEEP, outputs="y", grid=by_256, block=256
)
powers = ts.cuda_kernel("kernels.cu", entry="powers", params=FLAT, outputs="y", grid=by_256, block=256)
powers_good = ts.cuda_kernel(
    "kernels.cu", entry="powers_good", params=FLAT, outputs="y", grid=by_256, block=256
)
literal = ts.cuda_kernel("kernels.cu", entry="literal", params=FLAT, outputs="y", grid=by_256, block=256)
literal_good = ts.cuda_kernel(
    "kernels.cu", entry="literal_good", params=FLAT, outputs="y", grid=by_256, block=256
)
pairs = ts.cuda_kernel("kernels.cu", entry="pairs", params=FLAT, outputs="y", grid=by_512, block=256)
pairs_good = ts.cuda_kernel(
    "kernels.cu", entry="pairs_good", params=FLAT, outputs="y", grid=by_512, block=256
)
banks = ts.cuda_kernel("kernels.cu", entry="banks", params=FLAT, outputs="y", grid=by_1024, block=256)
banks_good = ts.cuda_kernel(
    "kernels.cu", entry="banks_good", params=FLAT, outputs="y", grid=by_1024, block=256
)
