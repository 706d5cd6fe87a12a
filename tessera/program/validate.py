"""Whether a Program holds together: every name, symbol and size it uses exists."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from tessera.program.arch import MAX_BLOCK_THREADS, is_cpu, resolve_target
from tessera.program.dim import Dim, as_symbol, symbols_of
from tessera.program.errors import ArchitectureError, KernelError, ProgramError
from tessera.program.graph import Graph
from tessera.program.program import (
    Arg,
    BoxMap,
    Choice,
    Extent,
    Gemm,
    Launch,
    Plan,
    Pointer,
    Program,
    ScalarInput,
    Step,
)
from tessera.program.tensor_map import TensorMap

_LEAF_ATTRS: dict[str, tuple[str, type | tuple[type, ...]]] = {
    "input": ("name", str),
    "constant": ("name", str),
    "scalar": ("value", (bool, int, float)),
}
"""What a leaf of a graph must say about itself."""


def validate(program: Program) -> None:
    """Check every reference inside `program`.

    Raises:
        ProgramError: Something does not hold together; the message and `fields["path"]` name the field.
    """
    if not program.name:
        _fail("name", "is empty")
    _unique("inputs", (p.name for p in program.inputs))
    _unique("outputs", (p.name for p in program.outputs))
    _unique("constants", (c.name for c in program.constants))
    _unique("plans", program.targets)
    known = bound_symbols(program)
    for i, port in enumerate(program.inputs):
        _check_symbols(f"inputs[{i}].shape", port.shape, known)
    _check_outputs(program, known)
    for i, constant in enumerate(program.constants):
        if any(size < 0 for size in constant.shape):
            _fail(f"constants[{i}].shape", f"negative size in {constant.shape}")
    if program.graph is not None:
        check_graph(program.graph)
    for i, plan in enumerate(program.plans):
        _check_plan(f"plans[{i}]", plan, program, known)


def bound_symbols(program: Program) -> frozenset[str]:
    """The symbols that the inputs give a value: bare symbols in shapes, and integer scalars."""
    names = {s for p in program.inputs for d in p.shape if (s := as_symbol(d))}
    names |= {p.name for p in program.inputs if p.kind == "scalar" and not p.dtype.is_float}
    return frozenset(names)


def _check_outputs(program: Program, known: frozenset[str]) -> None:
    inputs = {p.name: p for p in program.inputs}
    for i, port in enumerate(program.outputs):
        where = f"outputs[{i}]"
        _check_symbols(f"{where}.shape", port.shape, known)
        if port.initial is not None:
            source = inputs.get(port.initial)
            if source is None:
                _fail(f"{where}.initial", f"no input is called {port.initial!r}")
            elif (source.dtype, source.shape) != (port.dtype, port.shape):
                _fail(f"{where}.initial", f"input {port.initial!r} has another shape or dtype")


def _check_plan(where: str, plan: Plan, program: Program, known: frozenset[str]) -> None:
    if not plan.targets:
        _fail(f"{where}.targets", "is empty")
    for target in plan.targets:
        try:
            if resolve_target(target) != target:
                _fail(f"{where}.targets", f"{target!r} is not a full target name")
        except ArchitectureError as error:
            _fail(f"{where}.targets", error.message)
    _unique(f"{where}.buffers", (b.name for b in plan.buffers))
    _unique(f"{where}.persistent", (b.name for b in plan.persistent))
    _check_symbols(f"{where}.arena_bytes", (plan.arena_bytes,), known)
    for i, buffer in enumerate(plan.buffers):
        _check_symbols(f"{where}.buffers[{i}]", (buffer.offset_bytes, buffer.bytes), known)
    for i, buffer in enumerate(plan.persistent):
        _check_symbols(f"{where}.persistent[{i}]", (buffer.offset_bytes, buffer.bytes), frozenset())
    spaces = {
        "input": {p.name for p in program.inputs if p.kind == "tensor"},
        "output": {p.name for p in program.outputs},
        "constant": {c.name for c in program.constants},
        "buffer": {b.name for b in plan.buffers},
        "persistent": {b.name for b in plan.persistent},
        "null": {""},
    }
    scalars = {p.name for p in program.inputs if p.kind == "scalar"}
    for path, step in _flat(f"{where}.steps", plan.steps):
        _check_step(path, step, spaces, scalars, known, cpu=is_cpu(plan.targets[0]))
    at_load = {**spaces, "input": set(), "output": set(), "buffer": set()}
    for path, step in _flat(f"{where}.setup", plan.setup):
        _check_step(path, step, at_load, set(), frozenset(), cpu=is_cpu(plan.targets[0]))


def _flat(where: str, steps: Iterable[Step]) -> Iterator[tuple[str, Launch | Gemm]]:
    for i, step in enumerate(steps):
        path = f"{where}[{i}]"
        if not isinstance(step, Choice):
            yield path, step
            continue
        if not step.options or step.options[-1].guard:
            _fail(f"{path}.options", "the last option must have no guard")
        for j, option in enumerate(step.options):
            yield from _flat(f"{path}.options[{j}].steps", option.steps)


def _check_step(
    path: str,
    step: Launch | Gemm,
    spaces: dict[str, set[str]],
    scalars: set[str],
    known: frozenset[str],
    *,
    cpu: bool,
) -> None:
    if isinstance(step, Gemm):
        if step.dtype.name not in ("f32", "f64"):
            _fail(f"{path}.dtype", f"a gemm is f32 or f64, not {step.dtype}")
        sizes = (step.m, step.n, step.k, step.batch, step.stride_a, step.stride_b, step.stride_c)
        _check_symbols(path, sizes, known)
        for name, pointer in (("a", step.a), ("b", step.b), ("c", step.c)):
            _check_arg(f"{path}.{name}", pointer, spaces, scalars, known)
        return
    if not step.kernel:
        _fail(f"{path}.kernel", "is empty")
    _check_symbols(f"{path}.grid", (*step.grid, step.shared_bytes), known)
    threads = step.block[0] * step.block[1] * step.block[2]
    if min(step.block) < 1 or threads > (1 if cpu else MAX_BLOCK_THREADS):
        _fail(
            f"{path}.block",
            f"{step.block} is {threads} threads; allowed are 1 to {1 if cpu else MAX_BLOCK_THREADS}",
        )
    for i, arg in enumerate(step.args):
        if cpu and isinstance(arg, BoxMap):
            _fail(f"{path}.args[{i}]", "a CPU kernel takes no tensor map")
        _check_arg(f"{path}.args[{i}]", arg, spaces, scalars, known)


def _check_arg(
    path: str, arg: Arg, spaces: dict[str, set[str]], scalars: set[str], known: frozenset[str]
) -> None:
    if isinstance(arg, Pointer):
        if arg.name not in spaces[arg.space]:
            _fail(path, f"no {arg.space} is called {arg.name!r} here")
        _check_symbols(path, (arg.offset_bytes,), known)
    elif isinstance(arg, Extent):
        _check_symbols(path, (arg.value,), known)
    elif isinstance(arg, BoxMap):
        _check_map(path, arg)
        _check_arg(f"{path}.tensor", arg.tensor, spaces, scalars, known)
        _check_symbols(path, (*arg.sizes, *arg.strides_bytes), known)
    elif isinstance(arg, ScalarInput) and arg.name not in scalars:
        _fail(path, f"no scalar input is called {arg.name!r}")


def _check_map(path: str, arg: BoxMap) -> None:
    """What can be seen before sizes are known; the rest `TensorMap` sees at the launch."""
    rank = len(arg.sizes)
    for name, count, wanted in (
        ("box", len(arg.box), rank),
        ("strides_bytes", len(arg.strides_bytes), max(rank - 1, 0)),
    ):
        if count != wanted:
            _fail(f"{path}.{name}", f"{count} numbers for {rank} dimensions, not {wanted}")
    # A multiple of 16 for every address and stride stands for those that are open.
    strides = tuple(s if isinstance(s, int) else 16 for s in arg.strides_bytes)
    sizes = tuple(s if isinstance(s, int) else 1 for s in arg.sizes)
    try:
        TensorMap(arg.element, 0, sizes, strides, arg.box, swizzle=arg.swizzle, l2_promotion=arg.l2_promotion)
    except KernelError as error:
        _fail(path, error.message)


def check_graph(graph: Graph) -> None:
    """Check that a graph's nodes and names exist; `graph_rules` says what each operator asks for.

    Raises:
        ProgramError: Something does not hold together; the message and `fields["path"]` name the field.
    """
    for i, node in enumerate(graph.nodes):
        if any(not 0 <= operand < i for operand in node.inputs):
            _fail(f"graph.nodes[{i}].inputs", f"{node.inputs} must be indices below {i}")
        needed = _LEAF_ATTRS.get(node.op)
        if needed is not None and not isinstance(node.attrs.get(needed[0]), needed[1]):
            _fail(f"graph.nodes[{i}].attrs", f"{node.op} needs a {needed[0]}")
    for leaf in ("input", "constant"):
        _unique(f"graph: {leaf}", (str(n.attrs["name"]) for n in graph.nodes if n.op == leaf))
    if any(not 0 <= out < len(graph.nodes) for out in graph.outputs):
        _fail("graph.outputs", f"{graph.outputs} must be indices below {len(graph.nodes)}")
    if len(graph.outputs) != len(graph.output_names):
        _fail("graph.output_names", f"{len(graph.output_names)} names for {len(graph.outputs)} outputs")


def _check_symbols(path: str, dims: Iterable[Dim], known: frozenset[str]) -> None:
    missing = symbols_of(*dims) - known
    if missing:
        _fail(path, f"no input gives the symbol {sorted(missing)[0]!r} a value")


def _unique(path: str, names: Iterable[str]) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        _fail(path, f"{twice[0]!r} appears twice")


def _fail(path: str, text: str) -> None:
    raise ProgramError(f"{path}: {text}", path=path)
