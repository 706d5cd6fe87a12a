import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from sample_kernels import add_reduced, reverse, scale_c, widen, with_helpers

from tessera.compiler.options import ToolOptions
from tessera.compiler.ptx import CudaKernel, ir_to_ptx, lower, lowering_class, ptx_arch, virtual_file
from tessera.program.errors import SourceLocation

SCALE = CudaKernel("scale", scale_c, ("f32*", "f32*", "i64", "f32"), (True, False), threads=128)
HELPERS = CudaKernel("with_helpers", with_helpers, ("array:f32:1", "array:f32:1"), threads=256)
REDUCED = CudaKernel("reduced", add_reduced, ("array:bf16:1", "array:bf16:1"), threads=256)


def ptx_of(kernel, **settings):
    options = ToolOptions(settings.pop("target", "sm_80"), **settings)
    return ir_to_ptx(lower(kernel, options), kernel, options)


@pytest.mark.parametrize("target", ["sm_70", "sm_80", "sm_90", "sm_90a", "sm_120a"])
def test_entry_has_the_name_and_target_asked_for(target):
    text = ptx_of(SCALE, target=target).text
    assert f".target {target}" in text
    assert text.count(".visible .entry") == 1
    assert ".visible .entry scale(" in text
    assert ".maxntid 128" in text
    # A newer NVVM adds what it knows about a pointer between the type and the name.
    assert re.findall(r"\.param \.(\w+) [^,)]*?(scale_param_\d)", text) == [
        ("u64", "scale_param_0"),
        ("u64", "scale_param_1"),
        ("u64", "scale_param_2"),
        ("f32", "scale_param_3"),
    ]


def test_no_mangled_name_or_environment_is_left():
    for kernel in (SCALE, HELPERS, REDUCED):
        text = ptx_of(kernel).text
        assert "NumbaEnv" not in text
        assert "_ZN" not in text


def test_library_functions_of_other_kernels_are_left_out():
    alone = ptx_of(REDUCED).text
    others = CudaKernel("widen", widen, ("array:bf16:1", "array:bf16:1"), threads=256)
    assert ".func " not in ptx_of(others).text
    assert ptx_of(REDUCED).text == alone
    assert ".func " not in alone


def test_constant_pointer_is_read_through_the_read_only_cache():
    assert "ld.global.nc.f32" in ptx_of(SCALE).text
    unmarked = CudaKernel("scale", scale_c, SCALE.kinds, threads=128)
    assert "ld.global.nc" not in ptx_of(unmarked).text


def test_device_functions_compile_without_a_driver():
    assert ".entry with_helpers(" in ptx_of(HELPERS).text


def test_library_functions_are_merged_into_one_module():
    ptx = ptx_of(REDUCED)
    assert ptx.linked == ()
    assert ptx.text.count(".version") == 1
    assert ".extern" not in ptx.text


def test_lineinfo_names_the_file_without_folder_size_or_time():
    text = ptx_of(SCALE, lineinfo=True).text
    files = [line.strip() for line in text.splitlines() if line.strip().startswith(".file")]
    assert files == ['.file\t1 "sample_kernels.py", 1, 1']
    assert str(Path(__file__).parent) not in text
    line = next(
        i
        for i, s in enumerate(Path(scale_c.__code__.co_filename).read_text().splitlines(), 1)
        if "math.tanh(x[i]) * a" in s
    )
    assert f".loc\t1 {line} " in text


def test_lines_of_generated_source_point_at_the_users_line():
    line = scale_c.__code__.co_firstlineno + 4
    places = {line: SourceLocation("/home/someone/model.py", 77, 4)}
    kernel = CudaKernel("scale", scale_c, SCALE.kinds, threads=128, locations=places)
    text = ptx_of(kernel, lineinfo=True).text
    assert '.file\t2 "model.py", 1, 1' in text
    assert ".loc\t2 77 4" in text


def test_fast_math_shows_in_the_code():
    assert "tanh.approx" in ptx_of(SCALE, fast_math=True).text
    assert "tanh.approx" not in ptx_of(SCALE, fast_math=True, target="sm_70").text


def test_targets_share_lowering_unless_the_kernel_depends_on_them():
    same = [lowering_class(SCALE, ToolOptions(t)) for t in ("sm_70", "sm_90a", "sm_120")]
    assert len(set(same)) == 1
    dependent = CudaKernel("scale", scale_c, SCALE.kinds, cc_dependent=True)
    assert lowering_class(dependent, ToolOptions("sm_70")) != lowering_class(dependent, ToolOptions("sm_80"))


def test_virtual_file_has_no_folder():
    assert virtual_file("/a/b/c.py") == "c.py"
    assert virtual_file("<generated.py>") == "generated.py"


PROGRAM = """
import hashlib, sys
sys.path.insert(0, sys.argv[1])
import sample_kernels as k
from tessera.compiler.cubin import ptx_to_cubin
from tessera.compiler.native import CpuKernel, kernel_to_object, link_program
from tessera.compiler.options import ToolOptions
from tessera.compiler.ptx import CudaKernel, ir_to_ptx, lower
kernels = [
    CudaKernel("scale", k.scale_c, ("f32*", "f32*", "i64", "f32"), (True, False), 128),
    CudaKernel("with_helpers", k.with_helpers, ("array:f32:1", "array:f32:1"), (), 256),
    CudaKernel("reverse", k.reverse, ("array:f32:1", "array:f32:1"), (), 256),
    CudaKernel("reduced", k.add_reduced, ("array:f16:1", "array:f16:1"), (), 256),
]
if sys.argv[2] == "backwards":
    kernels.reverse()
found = {}
for kernel in kernels:
    options = ToolOptions("sm_80", lineinfo=True)
    ptx = ir_to_ptx(lower(kernel, options), kernel, options)
    found[kernel.name] = hashlib.sha256(ptx_to_cubin(ptx, kernel.name, options)[0]).hexdigest()
options = ToolOptions("cpu-x86_64-v3")
cpu = CpuKernel("scale", k.scale_cpu, ("f32*", "f32*", "i64", "f32"), (True, True))
found["so"] = hashlib.sha256(link_program([kernel_to_object(cpu, options)], "program", options)).hexdigest()
print(sorted(found.items()))
"""


def test_machine_code_is_the_same_bytes_in_another_process_and_folder(tmp_path):
    source = Path(__file__).parent / "sample_kernels.py"
    printed = []
    for number, order in enumerate(("forwards", "backwards")):
        folder = tmp_path / f"place_{number}" / "deeper"
        folder.mkdir(parents=True)
        (folder / "sample_kernels.py").write_bytes(source.read_bytes())
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(folder), order],
            env={
                "PYTHONHASHSEED": str(number + 1),
                "PYTHONPATH": str(Path(__file__).parents[2]),
                "PATH": "/usr/bin:/bin",
            },
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        printed.append(done.stdout)
    assert printed[0] == printed[1]


def test_barrier_kernel_keeps_its_shared_memory():
    text = ptx_of(CudaKernel("reverse", reverse, ("array:f32:1", "array:f32:1"), threads=256)).text
    assert "bar.sync" in text
    assert "[1024]" in text


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize(
    "target", ["sm_70", "sm_80", "sm_89", "sm_90", "sm_90a", "sm_100", "sm_103", "sm_121"]
)
def test_shared_text_is_what_nvvm_writes_for_the_target_itself(target, fast):
    options = ToolOptions(target, fast_math=fast)
    for kernel in (SCALE, replace(SCALE, cc_dependent=True)):
        assert ptx_arch(kernel, options) == target or not kernel.cc_dependent
    shared, own = (
        ir_to_ptx(lower(SCALE, options), kernel, options).text.partition(".target")[2]
        for kernel in (SCALE, replace(SCALE, cc_dependent=True))
    )
    assert shared == own
