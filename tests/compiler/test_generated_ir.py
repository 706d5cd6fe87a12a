"""Generated kernels lowered straight to LLVM: each of them, to what numba-cuda makes of it."""

import ast
import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tessera as ts
from tessera.compiler import abi, ptx
from tessera.compiler.assigned_once import assigned_once
from tessera.compiler.cache import CompileCache
from tessera.compiler.generated_module import lower_generated
from tessera.compiler.generated_values import UnknownConstructError
from tessera.compiler.ptx import CudaKernel
from tessera.deploy import AOTCompiler
from tessera.program.artifact import Artifact
from tessera.runtime import open_artifact

FUNCTIONS: dict[str, tuple[Callable[..., Any], list[tuple[Any, ...]]]] = {
    "chain": (lambda x, y: ts.gelu(x * y + 0.5) - ts.exp(-ts.abs(y)), [("n", 37), (37,)]),
    "extrema": (lambda x, y: ts.maximum(x, y) - ts.minimum(x, 0.25), [("n", 37), (37,)]),
    "roots": (lambda x: ts.sqrt(ts.abs(x)) + ts.erf(x) + ts.tanh(x) + ts.sigmoid(x), [("n", 37)]),
    "rows": (lambda x: ts.softmax(x), [("n", 300)]),
    "normed": (lambda x: ts.layernorm(x), [("n", 20)]),
    "columns": (lambda x: ts.sum(x, axis=0), [("n", 37)]),
    "transposed": (lambda x: ts.transpose(x) + 1, [("n", 37)]),
    "product": (lambda x, y: ts.relu(ts.matmul(x, y)), [("n", 40), (40, 24)]),
}


def compiled(name: str, dtype: str) -> Artifact:
    fn, shapes = FUNCTIONS[name]
    specs = [ts.TensorSpec(shape, dtype) for shape in shapes]
    compiler = AOTCompiler(target_architectures=["sm_80"], cache=CompileCache.off())
    return compiler.compile(ts.jit(fn, name=name), specs).artifact


def refuse(*args: Any, **more: Any) -> Any:
    raise UnknownConstructError("this test wants the other way")


@pytest.mark.parametrize("dtype", ["f32", "f64", "bf16"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_both_ways_of_lowering_give_the_same_bits(
    name: str, dtype: str, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    def wrong_way(*args: Any, **more: Any) -> Any:
        pytest.fail("numba-cuda's own front end was asked")

    with monkeypatch.context() as patch:
        patch.setattr(ptx, "lower_cuda", wrong_way)
        straight = compiled(name, dtype)
    monkeypatch.setattr(ptx, "lower_generated", refuse)
    inferred = compiled(name, dtype)
    shapes = [tuple(9 if n == "n" else n for n in shape) for shape in FUNCTIONS[name][1]]
    kind = straight.programs[0].inputs[0].dtype.numpy
    inputs = [rng.standard_normal(shape).astype(kind) for shape in shapes]
    results = []
    for artifact in (straight, inferred):
        with open_artifact(artifact, device="emulator") as runtime:
            results.append(np.asarray(runtime.execute(*inputs)))
    np.testing.assert_array_equal(results[0].view(np.uint8), results[1].view(np.uint8))


def test_fast_math_reaches_the_functions() -> None:
    fn = ts.jit(lambda x: ts.exp(x) / 3.0, name="fast")
    specs = [ts.TensorSpec(("n",), "f32")]
    texts = [
        next(
            b.data.decode()
            for b in AOTCompiler(
                target_architectures=["sm_80"], enable_fast_math=fast, cache=CompileCache.off()
            )
            .compile(fn, specs)
            .binaries
            if b.format == "ptx"
        )
        for fast in (False, True)
    ]
    assert texts[0].count("\n") > texts[1].count("\n")
    assert "ex2.approx.ftz.f32" in texts[1]


def lowered(body: str) -> Any:
    """A kernel `f(x: f32*, n: i64)` with this body, straight to LLVM."""
    from numba import cuda, float32, int64
    from numba.cuda import types

    text = "def f(x, n):\n" + "".join(f"    {line}\n" for line in body.splitlines())
    tree = ast.parse(text).body[0]
    assert isinstance(tree, ast.FunctionDef)
    names = {"cuda": cuda, "float32": float32, "int64": int64}
    return lower_generated(tree, names, abi.numba_types(("f32*", "i64"), types), cc=(8, 0))


@pytest.mark.parametrize(
    "body",
    [
        "x[n] = float32(1)",
        "i = 0\nwhile i < n:\n    x[i] = float32(i)\n    i += 1\n    if i == 7:\n        break",
        "for i in range(2, n, 3):\n    if i == 5:\n        continue\n    x[i] += float32(1)",
        "t = (x[0], x[1])\na, b = t\nx[2] = a if n > 1 and x[3] > a else t[1]",
        "if 0 <= n < 7 < n + 3:\n    x[n] = float32(1)",
        "if n == 3:\n    return\nelse:\n    x[0] = float32(-n)\nx[1] = x[0]",
        "x[0] = float32(n if n > 2 else cuda.threadIdx.x)",
        "t = cuda.threadIdx.x\nx[t] = float32(t - 16 if n > 2 else t)",
        "tile = cuda.shared.array((4, 8), float32)\ntile[n, 2] = x[0]\nx[1] = tile[3, 4]",
    ],
)
def test_part_of_python_that_kernels_are_generated_in(body: str) -> None:
    assert "define void" in lowered(body).modules[0]


@pytest.mark.parametrize(
    "body",
    [
        "v = 1\nv = x[0]",
        "n = 3",
        "y = [1, 2]",
        "x[0] = unknown",
        "while n < 3:\n    pass\nelse:\n    x[0] = float32(1)",
        "for v in x:\n    pass",
        "for i in range(n, 0, -1):\n    x[i] = float32(1)",
        "x[0] = float32(1) if 0 < x[1] < 3 else float32(2)",
        "x[0] = float32(1) if n > 2 else n",
        "return n",
        "try:\n    x[0] = float32(1)\nfinally:\n    pass",
        "x[0] = cuda.nothing",
        "a = b = float32(1)",
    ],
)
def test_other_python_is_left_to_numba(body: str) -> None:
    with pytest.raises(UnknownConstructError):
        lowered(body)


def test_hand_written_kernels_are_lowered_by_numba() -> None:
    kernel = CudaKernel("f", lambda: None, ())
    assert kernel.source is None
    assert dataclasses.replace(kernel, source="def f(): pass").source is not None


@pytest.mark.parametrize("other", ["t - 16", "int64(x[t])"])
def test_integers_of_two_widths_join_to_the_wider(other: str) -> None:
    text = f"t = cuda.threadIdx.x\nwide = {other} if n > 2 else t\nwide += 1\nx[0] = float32(wide)"
    assert '%"wide" = alloca i64' in lowered(text).modules[0]


def test_conditions_become_branches_where_asked() -> None:
    from numba.cuda import types

    tree = ast.parse("def f(x, n):\n    x[0] = float32(1) if n > 2 else float32(2)").body[0]
    assert isinstance(tree, ast.FunctionDef)
    kinds = abi.numba_types(("f32*", "i64"), types)
    texts = [
        lower_generated(tree, {"float32": types.float32}, kinds, cc=(8, 0), branches=asked).modules[0]
        for asked in (False, True)
    ]
    assert ["select" in text for text in texts] == [True, False]
    assert ["phi" in text for text in texts] == [False, True]


def test_kernel_that_spills_gets_the_better_of_both_front_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Register pressure: a large tile of bf16 with its epilogue on sm_80, where every register is in use."""
    fn = ts.jit(lambda x, w, b: ts.relu(ts.matmul(x, w) + b), name="pressed")
    shapes = (("n", 128), (128, 64), (64,))
    specs = [ts.TensorSpec(shape, "bf16") for shape in shapes]
    compiler = AOTCompiler(target_architectures=["sm_80"], cache=CompileCache.off())
    both = compiler.compile(fn, specs).binaries
    monkeypatch.setattr(ptx, "lower_generated", refuse)
    inferred = compiler.compile(fn, specs).binaries
    for mine, other in zip(both, inferred, strict=True):
        if mine.format == "cubin":
            assert mine.resources is not None
            assert other.resources is not None
            assert (mine.resources.spill_bytes or 0) <= (other.resources.spill_bytes or 0)


@pytest.mark.parametrize(
    ("body", "values"),
    [
        ("a = x[0]\nb = a + a\nx[1] = b", "ab"),
        ("a = x[0]\na = a + a\nx[1] = a", ""),
        ("a = x[0]\na += a\nx[1] = a", ""),
        ("if n > 2:\n    a = x[0]\n    x[1] = a", "a"),
        ("if n > 2:\n    a = x[0]\nx[1] = a", ""),
        ("a = x[0]\nif n > 2:\n    x[1] = a\nelse:\n    x[2] = -a", "a"),
        ("a = x[0]\nif n > 2:\n    a = x[1]\nx[2] = a", ""),
        ("i = 0\nwhile i < n:\n    a = x[i]\n    x[i] = a + a\n    i += 1", "a"),
        ("i = 0\nwhile i < n:\n    if i > 1:\n        x[i] = a\n    a = x[i]\n    i += 1", ""),
        ("i = 0\nwhile n:\n    a = x[i]\nwhile a:\n    i += 1", ""),
        ("for i in range(n):\n    a = x[i]\n    x[a if i else 0] = (a, -a)[0]", "a"),
    ],
)
def test_names_that_are_values_are_told_from_variables(body: str, values: str) -> None:
    tree = ast.parse("def f(x, n):\n" + "".join(f"    {line}\n" for line in body.splitlines())).body[0]
    assert isinstance(tree, ast.FunctionDef)
    assert assigned_once(tree) == set(values)


def test_loop_over_what_is_near_is_left_to_the_assembler() -> None:
    row = AOTCompiler(target_architectures=["sm_80"], cache=CompileCache.off()).compile(
        ts.jit(lambda x: ts.softmax(x), name="rows"), [ts.TensorSpec(("m", "n"), "f32")]
    )
    ptx_text = next(b.data.decode() for b in row.binaries if b.format == "ptx")
    loads = ptx_text.count("ld.global")
    # Of three passes over the row, two are unrolled by four with a loop for what is left, and one is not.
    assert (loads, ptx_text.count('.pragma "nounroll"')) == (11, 2)
