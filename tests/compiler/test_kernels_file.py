"""The kernels stage as a file: a lowered program, and what is refused of one that was tampered with."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tessera as ts
from tessera.compiler.cache import CompileCache
from tessera.compiler.graph_unit import Lowered
from tessera.compiler.kernels_file import kernels_from_json, kernels_to_json
from tessera.deploy import AOTCompiler, AOTConfig, CompilationTarget, emit_stage, load_program
from tessera.program.errors import CompileError, OptionError

TARGETS = ["sm_80", "sm_90a", "cpu"]
HOPPER = AOTConfig([CompilationTarget("sm_90", enable_hopper_features=True)], include_debug_info=True)


@ts.jit
def layer(x: ts.Tensor[ts.f16, "n", 64], w: ts.Tensor[ts.f16, 64, 64]) -> Any:
    bias = ts.tensor(np.linspace(-1, 1, 64, dtype=np.float16))
    return ts.relu(ts.matmul(x, w) + bias), ts.cumsum(x, 0)


def written(config: AOTConfig | None = None) -> bytes:
    (stage,) = emit_stage(layer, "kernels", config or AOTConfig(TARGETS))
    return stage.data


def test_a_lowered_program_compiles_to_the_bytes_of_its_source() -> None:
    for config in (AOTConfig(TARGETS), HOPPER):
        compiler = AOTCompiler(config, cache=CompileCache.off())
        whole = compiler.compile(layer)
        found = compiler.compile(load_program(written(config), "kernels"))
        assert found.programs == whole.programs
        assert found.artifact.notes == whole.artifact.notes
        assert {(b.name, b.target, b.format): b.data for b in found.binaries} == {
            (b.name, b.target, b.format): b.data for b in whole.binaries
        }


def test_what_was_read_is_written_as_it_was() -> None:
    data = written()
    assert kernels_to_json(kernels_from_json(data)) == data


def test_some_of_the_targets_may_be_compiled_and_no_others() -> None:
    lowered = load_program(written(), "kernels")
    compiled = AOTCompiler(AOTConfig(["sm_90a"], generate_cubin=False)).compile(lowered)
    assert compiled.programs[0].targets == ("sm_90a",)
    assert {b.target for b in compiled.binaries} == {"sm_90a"}
    with pytest.raises(CompileError, match=r"are for sm_80, sm_90a, cpu-\S+, not for sm_86"):
        AOTCompiler(AOTConfig(["sm_86"])).compile(lowered)


def test_each_later_stage_follows_and_no_earlier_one() -> None:
    lowered = load_program(written(AOTConfig(["sm_80"])), "kernels")
    (own, *_) = emit_stage(lowered, "nvvm", AOTConfig(["sm_80"]))
    (direct, *_) = emit_stage(layer, "nvvm", AOTConfig(["sm_80"]))
    assert own.data == direct.data
    for stage in ("graph", "kernels"):
        with pytest.raises(OptionError, match="is at the kernels stage already"):
            emit_stage(lowered, stage, AOTConfig(["sm_80"]))


def test_a_kernel_written_by_hand_has_no_program_stage() -> None:
    @ts.kernel(grid=1, block=32)
    def one(x: ts.Array[ts.f32, "n"]) -> None:
        x[0] = 1.0

    for stage in ("graph", "kernels"):
        with pytest.raises(CompileError, match=f"written by hand: it has no {stage} stage"):
            emit_stage(one, stage, AOTConfig(["sm_80"]))


def _source(change: Callable[[str], str]) -> Callable[[dict[str, Any]], Any]:
    def apply(data: dict[str, Any]) -> None:
        kernel = data["kernels"][0]
        kernel["source"] = change(kernel["source"])

    return apply


TAMPERED: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "import": (
        _source(lambda s: "import os\n" + s),
        r"kernels\[0\].source: line 1: only imports and the kernel",
    ),
    "import from": (_source(lambda s: "from os import system\n" + s), "line 1: only imports"),
    "numba's own": (_source(lambda s: "from numba import objmode\n" + s), "line 1: only imports"),
    "private": (_source(lambda s: "from tessera.compiler.cuda_cpp import subprocess\n" + s), "line 1: only"),
    "statement": (_source(lambda s: s + "\nprint('hello')\n"), "only imports and the kernel are allowed"),
    "decorator": (_source(lambda s: s.replace("def ", "@print\ndef ", 1)), "no decorators, defaults"),
    "default": (_source(lambda s: s.replace("):", "=print('x')):", 1)), "no decorators, defaults"),
    "nested": (_source(lambda s: s + "    def g(): pass\n"), "FunctionDef is nothing that kernels"),
    "import inside": (_source(lambda s: s + "    import os\n"), "Import is nothing that kernels"),
    "lambda": (_source(lambda s: s + "    f = lambda: 1\n"), "Lambda is nothing that kernels"),
    "dunder": (_source(lambda s: s + "    f = cuda.__loader__\n"), "__loader__ is no name of a kernel"),
    "no python": (_source(lambda s: s + "  )\n"), r"kernels\[0\].source: no Python"),
    "no kernel": (_source(lambda s: "import math\n"), "it has to define 'layer_"),
    "argument": (lambda d: d["kernels"][0]["args"].append("f33*"), r"kernels\[0\].args: 'f33\*' is no kind"),
    "noalias": (lambda d: d["kernels"][0]["noalias_const"].append(True), r"noalias_const: \d+ for \d+ arg"),
    "kernel gone": (lambda d: d["kernels"].pop(0), r"program.plans\[0\]: no kernel is called 'layer_"),
    "graph gone": (lambda d: d["program"].update(graph=None), "program.graph: it is missing"),
    "node": (lambda d: d["program"]["graph"]["nodes"][-1].update(op="x"), "x: no operator is called so"),
    "plan": (lambda d: d["program"]["plans"][0]["steps"].append({"type": "launch"}), "program.plans"),
    "version": (lambda d: d.update(schema="7.1"), "schema: version '7.1' is not 1.x"),
    "graph file": (lambda d: d.update(format="tessera graph"), "format: it is 'tessera graph'"),
}


@pytest.mark.parametrize("what", TAMPERED)
def test_a_file_that_was_tampered_with_is_refused(what: str) -> None:
    change, message = TAMPERED[what]
    data = json.loads(written())
    change(data)
    with pytest.raises(CompileError, match=message) as caught:
        kernels_from_json(json.dumps(data).encode(), "f.kernels.json")
    assert caught.value.message.startswith("f.kernels.json: ")


def test_a_torn_file_is_refused() -> None:
    data = written()
    for part in (0, len(data) // 3, len(data) - 2):
        with pytest.raises(CompileError, match="not a JSON document"):
            kernels_from_json(data[:part])


def test_stage_counts_its_kernels() -> None:
    (stage,) = emit_stage(layer, "kernels", AOTConfig(["sm_80"]))
    lowered = load_program(stage.data, "kernels")
    assert isinstance(lowered, Lowered)
    assert stage.label == lowered.name == "layer"
    assert set(stage.kernels) == {source.name for source, _ in lowered.kernels}
    assert set(stage.seconds) == {"graph", "kernels"}
