"""What a program is compared with: another library, or a function, computing the same in the same run."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tessera.program.errors import InputError, MissingDependencyError, OptionError

if TYPE_CHECKING:
    import numpy as np

    from tessera.program.graph import Graph
    from tessera.program.program import Program

    Array = np.ndarray[Any, Any]

Function = Callable[..., object]
Baseline = bool | str | Function
"""`numpy`, `torch`, `cupy`, `onnxruntime`, `none`, or a function of the program's inputs in their order."""

REFERENCE = "NumPy reference"
NAMES = ("numpy", "torch", "cupy", "onnxruntime", "none")

TOLERANCE = {"f64": 1e-9, "f32": 1e-3, "tf32": 1e-2, "f16": 2e-2, "bf16": 1e-1, "f8e4m3": 0.5, "f8e5m2": 0.5}
"""By dtype of an output, the difference that rounding makes, of the largest number in that output at the
most. Two orders of adding up differ by less; a wrong result differs by more."""

_PACKAGES = {"torch": ("torch",), "cupy": ("cupy",), "onnxruntime": ("onnxruntime", "onnx")}
_INSTALL = {
    "torch": "pip install torch",
    "cupy": "pip install 'tessera[cuda]'",
    "onnxruntime": "pip install onnxruntime onnx",
}


@dataclass(frozen=True, slots=True)
class Contender:
    """Something else that computes a program."""

    label: str
    """What it is, with the version of the library."""
    call: Callable[[], object]
    """Does the whole work, from NumPy to NumPy."""


@dataclass(frozen=True, slots=True)
class Case:
    """One program with inputs."""

    program: Program
    inputs: Mapping[str, Array]
    """By name; scalars as arrays of rank 0."""
    constants: Callable[[str], Array]
    """Weights by name."""
    sizes: Mapping[str, int]
    """Value of every symbol."""
    device: str
    """Where the program runs: `cpu`, `cuda:0`."""


def check_baseline(baseline: Baseline) -> Baseline:
    """`baseline` if there is such a thing here: a known name whose package is installed, or a function.

    Raises:
        OptionError: No such name.
        MissingDependencyError: The package is not installed.
    """
    if not isinstance(baseline, str):
        return baseline
    if baseline not in NAMES:
        raise OptionError(
            f"no baseline is called {baseline!r}", hint=f"{', '.join(NAMES)}, or FILE:NAME of a function"
        )
    for package in _PACKAGES.get(baseline, ()):
        if importlib.util.find_spec(package) is None:
            raise MissingDependencyError(
                f"the baseline {baseline} needs the Python package {package!r}, which is not installed",
                hint=f"{_INSTALL[baseline]}, or --baseline numpy",
                package=package,
            )
    return baseline


def make_contender(baseline: Baseline, case: Case) -> Contender | None:
    """The baseline for one case; None where none is wanted, or there is no graph for NumPy to compute.

    Raises:
        OptionError: The library is asked for an operator or type it has not, or for a raw kernel.
        DeviceError: CuPy finds no GPU.
    """
    if callable(baseline):
        return _function(baseline, case)
    name = baseline if isinstance(baseline, str) else "numpy" if baseline else "none"
    graph = case.program.graph
    if name == "none" or (graph is None and name == "numpy"):
        return None
    if graph is None:
        raise OptionError(
            f"{case.program.name} is a raw kernel: it has no graph that {name} could compute",
            hint="--baseline FILE:NAME of a function that does the same",
        )
    return _LIBRARIES[name](graph, case)


def _function(function: Function, case: Case) -> Contender:
    name = str(getattr(function, "__name__", "function"))
    values = [case.inputs[port.name] for port in case.program.inputs]
    return Contender(name, lambda: function(*values))


def _numpy(graph: Graph, case: Case) -> Contender:
    from tessera.reference import run_graph

    constants = _constants(graph, case)
    inputs = {name: case.inputs[name] for name in graph.leaves("input")}
    return Contender(REFERENCE, lambda: run_graph(graph, inputs, constants))


def _torch(graph: Graph, case: Case) -> Contender:
    from tessera.profiler.bench_torch import DTYPES, OPERATIONS, torch_call

    _check(graph, "torch", OPERATIONS, DTYPES)
    torch = importlib.import_module("torch")
    device = "cpu"
    if case.device.startswith("cuda") and torch.cuda.is_available():
        device = case.device
    call = torch_call(graph, case.inputs, _constants(graph, case), case.sizes, device)
    where = device if device != "cpu" else f"cpu, {torch.get_num_threads()} threads"
    return Contender(f"torch {torch.__version__} ({where})", call)


def _cupy(graph: Graph, case: Case) -> Contender:
    from tessera.profiler.bench_cupy import OPERATIONS, TYPES, cupy_call
    from tessera.runtime.cuda_driver import open_driver

    _check(graph, "cupy", OPERATIONS, TYPES)
    # Says why, where there is no GPU; CuPy's own message does not.
    open_driver(0)
    cupy = importlib.import_module("cupy")
    call = cupy_call(cupy, graph, case.inputs, _constants(graph, case), case.sizes)
    return Contender(f"cupy {cupy.__version__}", call)


def _onnxruntime(graph: Graph, case: Case) -> Contender:
    from tessera.profiler.bench_onnx import OPERATIONS, TYPES, onnx_call

    _check(graph, "onnxruntime", OPERATIONS, TYPES)
    call = onnx_call(graph, case.inputs, _constants(graph, case), case.sizes, case.device)
    version = importlib.import_module("onnxruntime").__version__
    return Contender(f"onnxruntime {version}", call)


_LIBRARIES: dict[str, Callable[[Graph, Case], Contender]] = {
    "numpy": _numpy,
    "torch": _torch,
    "cupy": _cupy,
    "onnxruntime": _onnxruntime,
}


def _constants(graph: Graph, case: Case) -> dict[str, Array]:
    return {name: case.constants(name) for name in graph.leaves("constant")}


def _check(graph: Graph, library: str, operators: Mapping[str, object], types: Container[str]) -> None:
    leaves = ("input", "constant", "scalar", "cast")
    for node in graph.nodes:
        wrong = ""
        if node.op not in operators and node.op not in leaves:
            wrong = f"operator {node.op!r}"
        elif node.dtype.name not in types:
            wrong = f"type {node.dtype}"
        if wrong:
            raise OptionError(
                f"{library} is not asked for the {wrong} of {graph.name}: there is no one word for it",
                hint="--baseline numpy, or --baseline FILE:NAME of a function that does the same",
                location=node.location,
            )


def named_outputs(program: Program, result: object) -> dict[str, Array]:
    """The outputs of a program by name, out of what a function returned: one, several in order, or by name.

    Raises:
        InputError: There are not as many as the program has.
    """
    import numpy as np

    names = [port.name for port in program.outputs]
    if isinstance(result, Mapping):
        missing = [name for name in names if name not in result]
        if missing:
            raise InputError(f"the baseline returned no {missing[0]!r}", hint=f"outputs: {', '.join(names)}")
        return {name: np.asarray(result[name]) for name in names}
    several = list(result) if isinstance(result, tuple | list) else [result]
    if len(several) != len(names):
        raise InputError(
            f"the baseline returned {len(several)} outputs, {program.name} has {len(names)}",
            hint=f"outputs in order: {', '.join(names)}",
        )
    return {name: np.asarray(value) for name, value in zip(names, several, strict=True)}


def agreement(
    found: Mapping[str, Array], expected: Mapping[str, Array], tolerances: Mapping[str, float]
) -> tuple[float | None, bool]:
    """The largest difference of two results, and whether rounding explains it.

    Where both are NaN, or the same infinity, they agree. None: shapes differ, or a difference is not finite.

    Args:
        found: Arrays by name.
        expected: Arrays of the same names.
        tolerances: By name, the largest difference that rounding makes, relative to the largest number.
    """
    import numpy as np

    largest, agrees = 0.0, True
    for name, tolerance in tolerances.items():
        left, right = np.asarray(found[name]), np.asarray(expected[name])
        if left.shape != right.shape:
            return None, False
        left, right = np.atleast_1d(left.astype(np.float64)), np.atleast_1d(right.astype(np.float64))
        with np.errstate(invalid="ignore"):
            gap = np.abs(left - right)
        gap[(left == right) | (np.isnan(left) & np.isnan(right))] = 0.0
        worst = float(gap.max(initial=0.0))
        if not np.isfinite(worst):
            return None, False
        finite = np.abs(right[np.isfinite(right)])
        agrees &= worst <= tolerance * float(finite.max(initial=0.0))
        largest = max(largest, worst)
    return largest, agrees


def tolerances(program: Program) -> dict[str, float]:
    """By output, the difference that rounding makes; 0 for integers."""
    return {port.name: TOLERANCE.get(port.dtype.name, 0.0) for port in program.outputs}
