"""Templates for tensor cores lowered straight to LLVM: without type inference, to the same results."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from products import aligned, variants

import tessera as ts
from tessera.compiler import ptx
from tessera.compiler.cache import CompileCache
from tessera.compiler.generated_values import UnknownConstructError
from tessera.deploy import AOTCompiler
from tessera.program.artifact import Artifact
from tessera.runtime import ArtifactSource
from tessera.runtime.emulator import EmulatorDevice


def masked(q: Any, k: Any, v: Any, m: Any) -> Any:
    return ts.attention(q, k, v, mask=m, causal=True)


def causal(q: Any, k: Any, v: Any) -> Any:
    return ts.attention(q, k, v, causal=True)


def convolved(x: Any, w: Any, s: Any) -> Any:
    return ts.relu(ts.conv2d(x, w, padding=1) * ts.reshape(s, (1, -1, 1, 1)))


def multiplied(x: Any, w: Any) -> Any:
    return ts.relu(ts.matmul(x, w))


HEADS = (("b", 2, "n", 64), ("b", 2, "t", 64), ("b", 2, "t", 64))
WINDOWS = (("b", 16, 9, 7), (24, 16, 3, 3), (24,))
SIZES = {"b": 1, "n": 70, "t": 90}
TEMPLATES: dict[str, tuple[Callable[..., Any], list[tuple[tuple[Any, ...], str]], str]] = {
    "mma": (multiplied, [(("n", 64), "bf16"), ((64, 136), "bf16")], "sm_80"),
    "wgmma": (multiplied, [(("n", 64), "f16"), ((64, 136), "f16")], "sm_90a"),
    "convolution": (convolved, [(shape, "f16") for shape in WINDOWS], "sm_80"),
    "convolution_wgmma": (convolved, [(shape, "bf16") for shape in WINDOWS], "sm_90a"),
    "flash": (causal, [(shape, "f16") for shape in HEADS], "sm_80"),
    "flash_tma": (causal, [(shape, "bf16") for shape in HEADS], "sm_90a"),
    "mask_of_bools": (
        masked,
        [*((shape, "bf16") for shape in HEADS), (("b", 1, "n", "t"), "bool")],
        "sm_80",
    ),
    "mask_of_numbers": (masked, [*((shape, "f16") for shape in HEADS), (("n", "t"), "f16")], "sm_80"),
}


def compiled(name: str) -> Artifact:
    fn, parameters, target = TEMPLATES[name]
    specs = [ts.TensorSpec(shape, dtype) for shape, dtype in parameters]
    compiler = AOTCompiler(target_architectures=[target], cache=CompileCache.off())
    return compiler.compile(ts.jit(fn, name=name), specs).artifact


def straight(name: str, monkeypatch: pytest.MonkeyPatch) -> Artifact:
    def wrong_way(*args: Any, **more: Any) -> Any:
        pytest.fail("numba-cuda's own front end was asked")

    with monkeypatch.context() as patch:
        patch.setattr(ptx, "lower_cuda", wrong_way)
        return compiled(name)


@pytest.mark.parametrize("name", TEMPLATES)
def test_templates_for_tensor_cores_need_no_type_inference(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = straight(name, monkeypatch)
    cubins = [b for b in artifact.binaries if b.format == "cubin"]
    spills = {b.name: b.resources.spill_bytes for b in cubins if b.resources is not None}
    assert len(spills) == len(cubins) > 0
    assert not any(spills.values()), spills


@pytest.mark.slow
@pytest.mark.parametrize("name", TEMPLATES)
def test_both_ways_of_lowering_tensor_cores_give_the_same_bits(
    name: str, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    def refuse(*args: Any, **more: Any) -> Any:
        raise UnknownConstructError("this test wants the other way")

    one_walk = straight(name, monkeypatch)
    monkeypatch.setattr(ptx, "lower_generated", refuse)
    inferred = compiled(name)
    shapes = [tuple(SIZES.get(size, size) for size in shape) for shape, _ in TEMPLATES[name][1]]
    ports = one_walk.programs[0].inputs
    inputs = {
        port.name: rng.standard_normal(shape).astype(np.float32).clip(0 if port.dtype.name == "bool" else -9)
        for port, shape in zip(ports, shapes, strict=True)
    }
    given = {port.name: inputs[port.name].astype(port.dtype.numpy) for port in ports}
    results = [dict(ran(artifact, given)) for artifact in (one_walk, inferred)]
    assert results[0].keys() == results[1].keys() != set()
    for kernel, bits in results[0].items():
        np.testing.assert_array_equal(bits, results[1][kernel], err_msg=kernel)


def ran(artifact: Artifact, inputs: dict[str, Any]) -> list[tuple[str, Any]]:
    """Each variant that these inputs can run in, and the bytes that it gives."""
    (program,) = artifact.programs
    found = []
    for kernel, only, guard in variants(program):
        if aligned(program, guard, inputs) and "_pack_" not in kernel:
            source = ArtifactSource(replace(artifact, programs=(only,)))
            (result,) = EmulatorDevice().load(only, source).run(list(inputs.values()), None)
            found.append((kernel, result.view(np.uint8)))
    return found
