"""Every option and flag changes what is made, in the way that it says, or is a clear error."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from numba import cuda, float32

import tessera as ts
from tessera.compiler.cache import CompileCache
from tessera.compiler.options import KNOWN_FLAGS
from tessera.deploy import AOTCompiler, AOTConfig, CompilationTarget, CompiledKernel
from tessera.program.errors import ConfigError, ResourceError


@ts.jit
def product(x: ts.Tensor[ts.f16, 2048, 2048], w: ts.Tensor[ts.f16, 2048, 2048]) -> ts.Tensor:
    return ts.relu(ts.matmul(x, w))


@ts.jit
def rows(x: ts.Tensor[ts.f32, "m", 200]) -> ts.Tensor:
    return ts.softmax(x / 1.7) * 1.0


@ts.kernel(grid=1, block=64)
def shares(x: ts.Array[ts.f32, "n"]) -> None:
    tile = cuda.shared.array(4096, float32)
    t = cuda.threadIdx.x
    tile[t] = x[t]
    cuda.syncthreads()
    x[t] = tile[63 - t]


@ts.kernel(grid=lambda n, BLOCK: ts.cdiv(n, BLOCK), block=lambda BLOCK: BLOCK, tune={"BLOCK": [64, 256]})
def tuned(x: ts.Array[ts.f32, "n"]) -> None:
    i = cuda.grid(1)
    if i < x.size:
        x[i] = 2 * x[i]


def compiled(fn: object, target: CompilationTarget | str = "sm_80", **options: Any) -> CompiledKernel:
    return AOTCompiler(AOTConfig([target], **options), cache=CompileCache.off()).compile(fn)


def texts(made: CompiledKernel) -> str:
    """All PTX."""
    return "".join(b.data.decode("utf-8", "replace") for b in made.binaries if b.format == "ptx")


def codes(made: CompiledKernel) -> list[bytes]:
    return [b.data for b in made.binaries if b.format == "cubin"]


def names(made: CompiledKernel) -> list[str]:
    return sorted({b.name for b in made.binaries})


def formats(made: CompiledKernel) -> set[str]:
    return {b.format for b in made.binaries}


def flagged(*flags: str) -> CompilationTarget:
    return CompilationTarget("sm_80", flags)


HOPPER = CompilationTarget("sm_90", enable_hopper_features=True)


def level(number: int) -> None:
    made = {n: codes(compiled(rows, flagged(f"-O{n}"))) for n in (0, 1, 3)}
    # The assembler makes the same of 2 and 3.
    assert made[0] != made[1] != made[3] != made[0]
    assert codes(compiled(rows, flagged(f"-O{number}"))) == made[min(number, 3) if number != 2 else 3]


def graph_optimization(_: Path) -> None:
    on, off = compiled(rows), compiled(rows, enable_graph_optimization=False)
    assert len(names(on)[0].split("_")) < len("".join(names(off)).split("_"))
    assert texts(on) != texts(off)


def kernel_fusion(_: Path) -> None:
    on, off = compiled(rows), compiled(rows, enable_kernel_fusion=False)
    assert len(off.programs[0].plans[0].steps) > len(on.programs[0].plans[0].steps) == 1


def autotuning(folder: Path) -> None:
    plain = compiled(tuned)
    chosen = compiled(tuned, enable_autotuning=True, autotune_cache=str(folder / "cache.json"))
    assert plain.artifact.notes != chosen.artifact.notes
    assert any("BLOCK" in note for note in chosen.artifact.notes)


def autotune_cache(folder: Path) -> None:
    file = folder / "cache.json"
    compiled(tuned, enable_autotuning=True, autotune_cache=str(file))
    assert b'"BLOCK"' in file.read_bytes()
    file.write_text("{")
    with pytest.raises(ConfigError, match=r"cache\.json is damaged"):
        compiled(tuned, enable_autotuning=True, autotune_cache=str(file))


def autotune_lock(folder: Path) -> None:
    with pytest.raises(ConfigError, match="there is no lock file"):
        compiled(tuned, autotune_lock=str(folder / "none.lock"))


def shared_memory(_: Path) -> None:
    assert compiled(shares).binaries
    with pytest.raises(ResourceError, match=r"16384|16 KiB"):
        compiled(shares, max_shared_memory_per_block=16383)


def debug_info(_: Path) -> None:
    assert "\t.loc\t" not in texts(compiled(rows))
    assert "\t.loc\t" in texts(compiled(rows, include_debug_info=True))


def hopper(_: Path) -> None:
    assert "wgmma" not in texts(compiled(product, "sm_90"))
    made = compiled(product, HOPPER)
    assert ".target sm_90a" in texts(made)
    assert "wgmma.mma_async" in texts(made)


def wgmma(_: Path) -> None:
    for shape, wide in (("m64n64k16", "n64k16"), ("m64n128k16", "n128k16")):
        target = CompilationTarget("sm_90", enable_hopper_features=True, wgmma_config=shape)
        assert f"wgmma.mma_async.sync.aligned.m64{wide}" in texts(compiled(product, target))


def tensor_cores(_: Path) -> None:
    assert "mma.sync" in texts(compiled(product))
    assert "mma.sync" not in texts(compiled(product, CompilationTarget("sm_80", tensor_core_config="off")))


def architecture(_: Path) -> None:
    assert ".target sm_86" in texts(compiled(rows, CompilationTarget("sm_86")))


def fast_math(_: Path) -> None:
    plain, fast = texts(compiled(rows)), texts(compiled(rows, flagged("--use_fast_math")))
    assert ("div.rn.f32" in plain, "div.full" in plain) == (True, False)
    assert ("div.rn.f32" in fast, "div.full.ftz.f32" in fast) == (False, True)


def registers(_: Path) -> None:
    few, many = (compiled(product, flagged(f"--maxrregcount={n}")) for n in (64, 255))
    used = [max(b.resources.registers or 0 for b in made.binaries if b.resources) for made in (few, many)]
    assert used[0] <= 64 < used[1]


def lineinfo(_: Path) -> None:
    assert "\t.loc\t" in texts(compiled(rows, flagged("-lineinfo")))


def debugging(_: Path) -> None:
    assert ".section\t.debug_info" in texts(compiled(rows, flagged("-G")))


CONFIG: dict[str, Callable[[Path], None]] = {
    "targets": architecture,
    "enable_graph_optimization": graph_optimization,
    "enable_kernel_fusion": kernel_fusion,
    "enable_autotuning": autotuning,
    "autotune_cache": autotune_cache,
    "autotune_lock": autotune_lock,
    "max_shared_memory_per_block": shared_memory,
    "include_debug_info": debug_info,
    "generate_ptx": lambda _: check(formats(compiled(rows, generate_ptx=False)) == {"cubin"}),
    "generate_cubin": lambda _: check(formats(compiled(rows, generate_cubin=False)) == {"ptx"}),
}
TARGET: dict[str, Callable[[Path], None]] = {
    "architecture": architecture,
    "optimization_flags": fast_math,
    "tensor_core_config": tensor_cores,
    "enable_hopper_features": hopper,
    "wgmma_config": wgmma,
}
FLAGS: dict[str, Callable[[Path], None]] = {
    **{f"-O{n}": (lambda _, n=n: level(n)) for n in range(4)},
    "--use_fast_math": fast_math,
    "--maxrregcount=N": registers,
    "-lineinfo": lineinfo,
    "-G": debugging,
}


def check(value: bool) -> None:
    assert value


def test_every_option_and_flag_is_in_the_tables() -> None:
    assert set(CONFIG) == {field.name for field in fields(AOTConfig)}
    assert set(TARGET) == {field.name for field in fields(CompilationTarget)}
    assert set(FLAGS) == set(KNOWN_FLAGS.split())


@pytest.mark.parametrize("option", [*CONFIG, *TARGET, *FLAGS])
def test_it_has_an_effect_or_is_an_error(option: str, tmp_path: Path) -> None:
    {**CONFIG, **TARGET, **FLAGS}[option](tmp_path)


@ts.kernel(grid=1, block=64)
def too_much(x: ts.Array[ts.f32, "n"]) -> None:
    small = cuda.shared.array(16, float32)
    large = cuda.shared.array((200, 100), float32)
    t = cuda.threadIdx.x
    small[t % 16], large[t, 0] = x[t], x[t]
    cuda.syncthreads()
    x[t] = large[63 - t, 0] + small[t % 16]


@pytest.mark.parametrize(("kernel", "cap", "line"), [(too_much, None, "large = "), (shares, 1000, "tile = ")])
def test_too_much_shared_memory_is_shown_where_it_is_declared(
    kernel: ts.Kernel, cap: int | None, line: str
) -> None:
    for _ in range(2):
        with pytest.raises(ResourceError, match="shared memory") as caught:
            # The second time the cache answers.
            AOTCompiler(AOTConfig(["sm_80"], max_shared_memory_per_block=cap)).compile(kernel)
        assert caught.value.location is not None
        text = Path(__file__).read_text().splitlines()[caught.value.location.line - 1]
        assert f"{line}cuda.shared.array" in text
