"""The architectures that Tessera knows are those that its toolchain has, and each gets machine code."""

from __future__ import annotations

import itertools

import pytest
from sample_kernels import saxpy

from tessera.compiler.cache import CompileCache
from tessera.deploy import AOTCompiler
from tessera.program.arch import KNOWN
from tessera.program.errors import ArchitectureError

EMPTY = ".version 8.8\n.target {}\n.address_size 64\n.visible .entry k() {{ ret; }}\n"


def assembles(name: str) -> bool:
    """Whether nvJitLink makes a cubin for an architecture."""
    from cuda.core import Linker, LinkerOptions, ObjectCode

    try:
        Linker(ObjectCode.from_ptx(EMPTY.format(name).encode()), options=LinkerOptions(arch=name)).link(
            "cubin"
        )
    except Exception:  # noqa: BLE001 - whatever it says, it is no
        return False
    return True


def test_what_is_known_is_what_the_toolchain_has() -> None:
    names = [f"sm_{major}{minor}{suffix}" for major, minor, suffix in
             itertools.product(range(7, 14), range(10), ("", "a", "f"))]  # fmt: skip
    assert {name for name in names if assembles(name)} == set(KNOWN)


@pytest.mark.parametrize("name", KNOWN)
def test_a_kernel_gets_a_cubin_and_ptx_on_each(name: str) -> None:
    compiled = AOTCompiler(target_architectures=[name], cache=CompileCache.off()).compile(saxpy)
    files = {b.format: b for b in compiled.binaries}
    assert files["cubin"].target == name
    assert files["cubin"].data[:4] == b"\x7fELF"
    assert files["cubin"].resources.spill_bytes == 0
    assert f".target {name}\n" in files["ptx"].data.decode().replace(", debug", "")


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("sm_60", "sm_70"),
        ("sm_77", "sm_75 or sm_80"),
        ("sm_88", "sm_87 or sm_89"),
        ("sm_80a", "sm_80"),
        ("sm_91a", "sm_90a or sm_100a"),
        ("sm_110", "sm_103 or sm_120"),
        ("sm_110f", "sm_103f or sm_120f"),
        ("sm_130", "sm_121"),
        ("90", "sm_90"),
    ],
)
def test_an_architecture_that_it_lacks_is_refused_with_the_nearest(name: str, near: str) -> None:
    with pytest.raises(ArchitectureError, match=f"unknown architecture '{name}'") as caught:
        AOTCompiler(target_architectures=[name])
    assert caught.value.hint is not None
    assert f"did you mean {near}? " in caught.value.hint
    assert all(known in caught.value.hint for known in KNOWN)
