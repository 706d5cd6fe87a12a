"""Machine code as text, with its source lines."""

import stat
from pathlib import Path

import pytest
from sample_kernels import saxpy

import tessera as ts
from tessera.compiler.sass import Instruction, disassemble, find_disassembler, with_source
from tessera.deploy import AOTCompiler, AOTConfig, CompilationTarget
from tessera.program.errors import MissingDependencyError, ToolchainError


def cubin(target: str = "sm_80", *, lines: bool = True) -> bytes:
    config = AOTConfig(targets=[CompilationTarget(target)], include_debug_info=lines)
    return next(b.data for b in AOTCompiler(config).compile(saxpy).binaries if b.format == "cubin")


@pytest.mark.parametrize("target", ["sm_75", "sm_80", "sm_90a", "sm_120"])
def test_instructions_come_in_order_with_their_lines(target: str) -> None:
    sass = disassemble(cubin(target), "saxpy")
    offsets = [i.offset for i in sass]
    assert offsets == sorted(offsets)
    assert sass[-1].text != "NOP"
    opcodes = [i.opcode for i in sass]
    assert {"FFMA", "EXIT"} <= set(opcodes)
    assert sum(o.startswith("LDG") for o in opcodes) == 2
    (fused,) = (i for i in sass if i.opcode == "FFMA")
    source = Path(saxpy.source_file).read_text().splitlines()
    assert fused.file == Path(saxpy.source_file).name
    assert fused.line is not None
    assert "a * x[i] + y[i]" in source[fused.line - 1]


def test_code_without_line_information_has_no_lines() -> None:
    assert {i.line for i in disassemble(cubin(lines=False), "saxpy")} == {None}


NESTED = """\
__device__ __forceinline__ float inner(float v) {
    return v * 2.0f;
}
__device__ __forceinline__ float middle(float v) {
    return inner(v) + 3.0f;
}
extern "C" __global__ void nested(float *x, long long n) {
    if (threadIdx.x < n)
        x[threadIdx.x] = sqrtf(middle(x[threadIdx.x]));
}
"""


def test_inlined_instructions_know_the_calls_they_were_inlined_at(tmp_path: Path) -> None:
    (tmp_path / "nested.cu").write_text(NESTED)
    params = {"x": ts.Array[ts.f32, "n"], "n": ts.Size[ts.i64, "n"]}
    source = str(tmp_path / "nested.cu")
    kernel = ts.cuda_kernel(source, entry="nested", params=params, outputs="x", grid=1, block=32)
    config = AOTConfig(targets=[CompilationTarget("sm_80")], include_debug_info=True)
    made = next(b.data for b in AOTCompiler(config).compile(kernel).binaries if b.format == "cubin")
    sass = disassemble(made, "nested")
    # 2 * v + 3 is one instruction, of the inner function or the middle one.
    fused = next(i for i in sass if i.opcode == "FFMA")
    assert (fused.file, fused.line, fused.callers) in (
        ("nested.cu", 2, (("nested.cu", 9), ("nested.cu", 5))),
        ("nested.cu", 5, (("nested.cu", 9),)),
    )
    load = next(i for i in sass if i.opcode.startswith("LDG"))
    assert (load.line, load.callers) == (9, ())


def test_predicates_and_labels_are_no_opcodes() -> None:
    assert Instruction(0, "@!P0 BRA `(.L_x_1)", None, None).opcode == "BRA"
    assert Instruction(0, "@P0 EXIT", None, None).opcode == "EXIT"
    assert Instruction(0, "HGMMA.64x64x16.F32.BF16 R24, gdesc[UR8], R24", None, None).opcode.startswith(
        "HGMMA"
    )


def test_text_shows_each_line_before_what_was_made_from_it() -> None:
    sass = (
        Instruction(0, "MOV R1, c[0x0][0x28]", "k.py", 1),
        Instruction(16, "S2R R0, SR_TID.X", "k.py", 2),
        Instruction(32, "EXIT", "other.py", 9, ".L_x_0"),
    )
    assert with_source(sass, "k.py", ["def f():", "    i = tid"]).splitlines() == [
        "// k.py:1: def f():",
        "    /*0000*/  MOV R1, c[0x0][0x28]",
        "// k.py:2: i = tid",
        "    /*0010*/  S2R R0, SR_TID.X",
        "// other.py:9",
        ".L_x_0:",
        "    /*0020*/  EXIT",
    ]


@pytest.mark.parametrize("data", [b"", b"not an ELF file", bytes(4096)])
def test_what_is_no_cubin_is_refused(data: bytes) -> None:
    with pytest.raises(ToolchainError, match="nvdisasm cannot read"):
        disassemble(data, "saxpy")


def test_kernel_that_is_not_there_is_named() -> None:
    with pytest.raises(ToolchainError, match="'daxpy'"):
        disassemble(cubin(), "daxpy")


def test_cut_cubin_is_refused_by_its_own_name() -> None:
    data = cubin()
    with pytest.raises(ToolchainError, match=r"nvdisasm cannot read mine\.cubin") as caught:
        disassemble(data[: len(data) // 2], "saxpy", "mine.cubin")
    assert "/tmp" not in caught.value.message
    assert "damaged" in str(caught.value.hint)


def test_disassembler_of_the_environment_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "nvdisasm"
    tool.write_text("#!/bin/sh\necho broken >&2\nexit 3\n")
    monkeypatch.setenv("TESSERA_NVDISASM", str(tool))
    assert find_disassembler() == tool
    with pytest.raises(ToolchainError, match="cannot be run"):
        disassemble(cubin(), "saxpy")
    tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
    with pytest.raises(ToolchainError, match="broken"):
        disassemble(cubin(), "saxpy")


def test_machine_without_disassembler_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tessera.compiler.sass.find_disassembler", lambda: None)
    with pytest.raises(MissingDependencyError) as caught:
        disassemble(cubin(), "saxpy")
    assert caught.value.hint == "pip install 'tessera[compile]'"
