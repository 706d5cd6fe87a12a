"""Stages of the compiler as files: each can be taken further, to the bytes of the whole compiler."""

import pytest
from numba import cuda
from sample_kernels import saxpy

import tessera as ts
from tessera.compiler.aot import AOTCompiler, AOTConfig
from tessera.compiler.cache import CompileCache
from tessera.compiler.options import ToolOptions
from tessera.compiler.stages import ENDINGS, STAGES, emit_stage, resume_stage, stage_of
from tessera.program.errors import ArchitectureError, CompileError, OptionError, ToolchainError


@ts.jit
def scaled_softmax(x: ts.Tensor[ts.f32, "m", "n"]):
    return ts.softmax(x * 1.25)


@cuda.jit(device=True)
def twice(v):
    return v * 2.0


@ts.kernel(grid=1, block=64)
def calls(x: ts.Array[ts.f32, "n"]):
    i = cuda.grid(1)
    if i < x.size:
        x[i] = twice(x[i])


@ts.kernel(grid=1, block=64, max_registers=24, min_blocks=2)
def bounded(x: ts.Array[ts.f32, "n"]):
    i = cuda.grid(1)
    if i < x.size:
        x[i] = x[i] * 2.0


SUBJECTS = {"bounded": bounded, "function": scaled_softmax, "kernel": saxpy, "several-modules": calls}


def whole(fn: object, target: str) -> dict[str, bytes]:
    """What the compiler makes in one go, by stage."""
    compiled = AOTCompiler(AOTConfig([target]), cache=CompileCache.off()).compile(fn)
    return {b.format: b.data for b in compiled.binaries}


@pytest.mark.parametrize("subject", SUBJECTS)
@pytest.mark.parametrize("target", ["sm_80", "sm_90a"])
def test_stage_after_stage_gives_what_the_whole_compiler_makes(subject: str, target: str) -> None:
    made = whole(SUBJECTS[subject], target)
    (llvm,) = emit_stage(SUBJECTS[subject], "nvvm", AOTConfig([target]))
    ptx = resume_stage(llvm.data, "nvvm", "ptx")
    assert ptx.data == made["ptx"]
    assert ptx.target == target
    cubin = resume_stage(ptx.data, "ptx", "cubin", ToolOptions(target))
    assert cubin.data == made["cubin"]
    assert cubin.resources is not None
    assert cubin.resources.registers
    at_once = resume_stage(llvm.data, "nvvm", "cubin")
    assert at_once.data == made["cubin"]
    assert set(at_once.seconds) == {"ptx", "cubin"}
    assert all(seconds > 0 for seconds in at_once.seconds.values())


def test_each_stage_can_be_asked_for() -> None:
    stages = {name: emit_stage(scaled_softmax, name, AOTConfig(["sm_80"]))[0] for name in STAGES}
    kernel = "scaled_softmax_0_mul_softmax"
    assert all(stage.kernels == (kernel,) for name, stage in stages.items() if name != "graph")
    assert '"op": "softmax"' in stages["graph"].text
    assert f"def {kernel}(" in stages["kernels"].text
    assert "define void" in stages["nvvm"].text
    assert f".entry {kernel}(" in stages["ptx"].text
    assert stages["cubin"].data[:4] == b"\x7fELF"
    assert "EXIT" in stages["sass"].text
    assert [stage_of(f"x{ending}") for ending in ENDINGS.values()] == list(STAGES)
    assert stage_of("x.py") is None


def test_ptx_of_an_earlier_architecture_becomes_code_for_a_later_one() -> None:
    (ptx,) = emit_stage(saxpy, "ptx", AOTConfig(["sm_80"]))
    cubin = resume_stage(ptx.data, "ptx", "cubin", ToolOptions("sm_90"))
    assert cubin.target == "sm_90"
    assert "saxpy" in resume_stage(cubin.data, "cubin", "sass").text


@pytest.mark.parametrize(("made", "wanted"), [("sm_90", "sm_80"), ("sm_90a", "sm_90"), ("sm_90a", "sm_100")])
def test_ptx_for_another_architecture_is_refused_at_its_line(made: str, wanted: str) -> None:
    (ptx,) = emit_stage(saxpy, "ptx", AOTConfig([made]))
    with pytest.raises(
        ArchitectureError, match=f"is for {made}, and cannot become code for {wanted}"
    ) as caught:
        resume_stage(ptx.data, "ptx", "cubin", ToolOptions(wanted), file="k.ptx")
    place = caught.value.location
    assert place is not None
    assert f".target {made}" in ptx.text.splitlines()[place.line - 1]


def test_unknown_instruction_is_refused_at_its_line() -> None:
    (ptx,) = emit_stage(saxpy, "ptx", AOTConfig(["sm_80"]))
    lines = ptx.text.splitlines()
    number = next(i for i, line in enumerate(lines) if "fma.rn.f32" in line)
    lines[number] = lines[number].replace("fma.rn.f32", "fmx.rn.f32")
    with pytest.raises(CompileError, match=r"[Nn]ot.*known instruction: 'fmx'") as caught:
        resume_stage("\n".join(lines).encode(), "ptx", "cubin", file="k.ptx")
    assert caught.value.location is not None
    assert (caught.value.location.file, caught.value.location.line) == ("k.ptx", number + 1)


@pytest.mark.parametrize("part", [0.5, 0.7, 0.9])
@pytest.mark.parametrize("stage", ["nvvm", "ptx"])
def test_torn_text_is_refused_at_its_end(stage: str, part: float) -> None:
    (given,) = emit_stage(scaled_softmax, stage, AOTConfig(["sm_80"]))
    torn = given.data[: int(len(given.data) * part)]
    with pytest.raises(CompileError) as caught:
        resume_stage(torn, stage, "cubin", file="torn")
    assert caught.value.location is not None
    assert caught.value.location.line >= torn.count(b"\n") - 1


def test_error_in_a_later_module_has_its_line_in_the_file() -> None:
    (given,) = emit_stage(calls, "nvvm", AOTConfig(["sm_80"]))
    lines = given.text.splitlines()
    second = next(i for i, line in enumerate(lines) if "next module" in line)
    number = next(i for i, line in enumerate(lines) if i > second and " fmul " in line)
    lines[number] = lines[number].replace(" fmul ", " fmulx ")
    with pytest.raises(CompileError, match="instruction opcode") as caught:
        resume_stage("\n".join(lines).encode() + b"\n", "nvvm", "ptx", file="k.ll")
    assert caught.value.location is not None
    assert caught.value.location.line == number + 1


@pytest.mark.parametrize(
    ("data", "stage", "message"),
    [
        (b"", "ptx", "no PTX"),
        (b"hello\n", "ptx", "no PTX"),
        (b".version 8.0\n.target sm_80\n.address_size 64\n", "ptx", "has no kernel"),
        (b".version 8.0\n.visible .entry f() { ret; }\n", "ptx", "no .target"),
        (b"\xff\xfe\x00", "ptx", "byte 0 is 0xff"),
        (b"", "nvvm", "has no kernel"),
        (b"", "cubin", "is no cubin"),
        (b"\x7fELF" + b"\0" * 60, "cubin", "is no cubin"),
    ],
)
def test_what_is_no_such_file_is_refused(data: bytes, stage: str, message: str) -> None:
    with pytest.raises(CompileError, match=message):
        resume_stage(data, stage, "sass", file="x")


def test_torn_cubin_is_refused() -> None:
    (cubin,) = emit_stage(saxpy, "cubin", AOTConfig(["sm_80"]))
    with pytest.raises(ToolchainError, match=r"nvdisasm cannot read|is no cubin"):
        resume_stage(cubin.data[: len(cubin.data) // 2], "cubin", "sass")


def test_stages_that_do_not_follow_are_refused() -> None:
    with pytest.raises(OptionError, match="is a whole program"):
        resume_stage(b"", "graph", "ptx")
    with pytest.raises(OptionError, match="is ptx already"):
        resume_stage(b"", "ptx", "nvvm")
    with pytest.raises(OptionError, match="no stage is called 'lto'"):
        emit_stage(saxpy, "lto", AOTConfig(["sm_80"]))


def test_cuda_cpp_has_no_nvvm_stage(tmp_path) -> None:
    (tmp_path / "f.cu").write_text('extern "C" __global__ void f(float *x) { x[0] = 1; }\n')
    kernel = ts.cuda_kernel(
        str(tmp_path / "f.cu"), entry="f", grid=1, block=32, outputs="x", params={"x": ts.Array[ts.f32, "n"]}
    )
    with pytest.raises(CompileError, match=r"CUDA C\+\+.*no nvvm stage"):
        emit_stage(kernel, "nvvm", AOTConfig(["sm_80"]))
    assert emit_stage(kernel, "ptx", AOTConfig(["sm_80"]))[0].kernels == ("f",)
