"""Plans run over NumPy memory, step by step: an independent check of what the compiler plans.

CPU kernels are compiled by `numba.cfunc`, their work items split and shuffled;
CUDA kernels are run by `lockstep`. Memory that nobody wrote is NaN.
"""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Mapping
from functools import cache

import numpy as np
from lockstep import run_cuda_kernel

from tessera.compiler.kernel_source import POINTERS, SCALARS, KernelSource
from tessera.compiler.plan import plan_graph
from tessera.program.bind import bind_symbols
from tessera.program.dim import evaluate, product
from tessera.program.graph import Graph
from tessera.program.program import Choice, Constant, Extent, Gemm, Launch, Plan, Pointer, Port, Program
from tessera.program.validate import validate

TARGETS = {"cpu": ("cpu-x86_64-v3",), "cuda": ("sm_80",)}


def run(graph: Graph, inputs: Mapping, constants: Mapping = {}, *, kind="cpu", **options):
    """The outputs of `graph`, planned and run; checks that the plan holds together on the way."""
    plan, kernels = plan_graph(graph, kind=kind, targets=TARGETS[kind], **options)
    validate(program_of(graph, plan))
    return run_plan(graph, plan, kernels, inputs, constants)


def program_of(graph: Graph, plan: Plan) -> Program:
    nodes = graph.nodes
    ports = {name: nodes[i] for name, i in graph.leaves("input").items()}
    weights = {name: nodes[i] for name, i in graph.leaves("constant").items()}
    results = zip(graph.output_names, graph.outputs, strict=True)
    return Program(
        name=graph.name,
        inputs=tuple(Port(name=k, dtype=n.dtype, shape=n.shape) for k, n in ports.items()),
        outputs=tuple(Port(name=k, dtype=nodes[i].dtype, shape=nodes[i].shape) for k, i in results),
        constants=tuple(Constant(name=k, dtype=n.dtype, shape=n.shape) for k, n in weights.items()),
        plans=(plan,),
        graph=graph,
    )


def run_plan(graph: Graph, plan: Plan, kernels: tuple[KernelSource, ...], inputs, constants) -> dict:
    program = program_of(graph, plan)
    symbols = bind_symbols(program, {name: value.shape for name, value in inputs.items()})
    spaces = {
        "input": {k: _bytes(v) for k, v in inputs.items()},
        "constant": {k: _bytes(v) for k, v in constants.items()},
        "output": {
            p.name: np.full(evaluate(product(p.shape), symbols) * p.dtype.itemsize, 0xFF, np.uint8)
            for p in program.outputs
        },
    }
    for space, buffers, size in (
        ("buffer", plan.buffers, evaluate(plan.arena_bytes, symbols)),
        ("persistent", plan.persistent, plan.persistent_bytes),
    ):
        memory = np.full(size, 0xFF, np.uint8)
        spaces[space] = {b.name: _range(memory, b, symbols) for b in buffers}
    by_name = {kernel.name: kernel for kernel in kernels}
    assert len(by_name) == len(kernels), "kernel names must be unique"
    for step in _taken((*plan.setup, *plan.steps), symbols):
        if isinstance(step, Gemm):
            _gemm(step, spaces, symbols)
        else:
            _launch(step, by_name[step.kernel], spaces, symbols)
    return {
        p.name: spaces["output"][p.name].view(p.dtype.numpy).reshape([evaluate(d, symbols) for d in p.shape])
        for p in program.outputs
    }


def _taken(steps, symbols):
    """Every step, of choices the ones whose guard holds first."""
    for step in steps:
        if not isinstance(step, Choice):
            yield step
            continue
        yield from next(option.steps for option in step.options if _holds(option.guard, symbols))


def _holds(guard, symbols) -> bool:
    checks = {"<=": lambda a, b: a <= b, "divides": lambda a, b: b % a == 0}
    return all(checks[c.op](evaluate(c.lhs, symbols), evaluate(c.rhs, symbols)) for c in guard)


def _bytes(value: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(value).reshape(-1).view(np.uint8).copy()


def _range(memory, buffer, symbols):
    start, size = evaluate(buffer.offset_bytes, symbols), evaluate(buffer.bytes, symbols)
    assert start % 256 == 0
    assert start + size <= memory.size
    return memory[start : start + size]


def _pointer(pointer: Pointer, spaces, symbols) -> np.ndarray:
    return spaces[pointer.space][pointer.name][evaluate(pointer.offset_bytes, symbols) :]


def _gemm(step: Gemm, spaces, symbols) -> None:
    def size(dim):
        return evaluate(dim, symbols)

    dtype = step.dtype.numpy
    m, n, k, batch = (size(d) for d in (step.m, step.n, step.k, step.batch))
    a, b, c = (_pointer(p, spaces, symbols).view(dtype) for p in (step.a, step.b, step.c))
    for i in range(batch):
        left = a[i * size(step.stride_a) :][: m * k]
        right = b[i * size(step.stride_b) :][: k * n]
        left = left.reshape(k, m).T if step.transpose_a else left.reshape(m, k)
        right = right.reshape(n, k).T if step.transpose_b else right.reshape(k, n)
        c[i * size(step.stride_c) :][: m * n] = (left @ right).reshape(-1)


def _launch(step: Launch, kernel: KernelSource, spaces, symbols) -> None:
    grid = [evaluate(d, symbols) for d in step.grid]
    assert len(step.args) == len(kernel.args)
    values = []
    for arg, kind in zip(step.args, kernel.args, strict=True):
        if isinstance(arg, Pointer):
            assert kind in POINTERS
            values.append(_pointer(arg, spaces, symbols).view(POINTERS[kind]))
        else:
            assert isinstance(arg, Extent)
            assert kind == "i64"
            values.append(evaluate(arg.value, symbols))
    _check_noalias(kernel, values)
    if 0 in grid:
        return
    if kernel.target == "cuda":
        assert step.block == (kernel.threads, 1, 1)
        run_cuda_kernel(kernel, grid[0], values)
    else:
        _run_cpu_kernel(kernel, grid[0] * grid[1] * grid[2], values)


def _check_noalias(kernel: KernelSource, values: list) -> None:
    for i, read_only in enumerate(kernel.noalias_const):
        for j, other in enumerate(values):
            if read_only and i != j and isinstance(other, np.ndarray):
                assert not np.shares_memory(values[i], other), f"{kernel.name}: arguments {i} and {j} overlap"


def _run_cpu_kernel(kernel: KernelSource, items: int, values: list) -> None:
    function = _compiled(kernel.source, kernel.name, kernel.args)
    raw = [v.ctypes.data if isinstance(v, np.ndarray) else v for v in values]
    random = np.random.default_rng(items)
    cuts = sorted({0, items, *(int(c) for c in random.integers(0, items + 1, 3))})
    ranges = list(itertools.pairwise(cuts))
    for i in random.permutation(len(ranges)):
        function(*raw, *ranges[i])


@cache
def _compiled(source: str, name: str, args: tuple[str, ...]):
    from numba import cfunc, types

    namespace: dict = {}
    exec(compile(source, name, "exec"), namespace)
    numba_types = [
        types.CPointer(getattr(types, POINTERS[a])) if a in POINTERS else getattr(types, SCALARS[a])
        for a in (*args, "i64", "i64")
    ]
    compiled = cfunc(types.void(*numba_types))(namespace[name])
    kinds = [ctypes.c_void_p if a in POINTERS else ctypes.c_int64 for a in args]
    call = ctypes.CFUNCTYPE(None, *kinds, ctypes.c_int64, ctypes.c_int64)(compiled.address)
    call.keep_alive = compiled
    return call
