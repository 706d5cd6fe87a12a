"""Nsight Compute's counters, replayed: its pages, and what goes wrong with it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ncu_replay import RECORDED, details_page, foreign, grouped, install, raw_page, sass_page, source_page

import tessera.profiler.ncu as ncu_module
from tessera.profiler.flame import folded, ncu_stacks
from tessera.profiler.ncu import METRICS, SECTIONS, find_ncu, profile_ncu
from tessera.profiler.ncu_csv import NcuLaunch, decimal_comma, kernel_name, number, read_launches
from tessera.profiler.ncu_details import NcuFinding, read_findings
from tessera.profiler.ncu_rules import measured_metrics
from tessera.profiler.ncu_source import CodeLine, NcuLine, lines_of, located, read_instructions
from tessera.profiler.rules import RULES, VOCABULARY, apply
from tessera.profiler.source_lines import SourceFiles
from tessera.program.errors import DeviceError, MissingDependencyError, RecordingError

LINES = {
    (8, "    i = cuda.grid(1)"): [(10, 2048), (0, 2048)],
    (10, "        y[i] = x[i]"): [(400, 2048), (1200, 2048), (30, 2048)],
}
SOURCE = source_page("saxpy", "/home/me/slow.py", LINES)
INPUTS = {"x": np.ones(4, np.float32)}


@pytest.fixture
def ncu(tmp_path: Path) -> Path:
    return install(tmp_path / "bin", {"saxpy": "copied_4", "scores": "chain"}, SOURCE)


def run(ncu: Path, **options: object) -> ncu_module.NcuProfile:
    return profile_ncu(ncu.parent / "slow.tsd", "saxpy", INPUTS, ncu=str(ncu), **options)  # type: ignore[arg-type]


# -- pages ----------------------------------------------------------------------------------------


def test_launches_have_the_metrics_that_were_recorded(ncu: Path) -> None:
    found = run(ncu)
    recorded = json.loads(RECORDED.read_text())
    assert [(each.index, each.kernel) for each in found.launches] == [(0, "saxpy"), (1, "scores")]
    for launch, case in zip(found.launches, ("copied_4", "chain"), strict=True):
        assert {name: launch.metrics[name] for name in recorded[case]} == recorded[case]
    assert found.version == "2025.1.1.0"
    assert (found.launches[0].grid, found.launches[0].block) == ("(256, 1, 1)", "(256, 1, 1)")


def test_units_are_made_base_units(ncu: Path) -> None:
    metrics = run(ncu).launches[0].metrics
    assert metrics["dram__bytes_read.sum"] == 1_024_500
    assert metrics["gpu__time_duration.sum"] == 2848
    older = raw_page({"k": {}}).replace('"ns"', '"usecond"').replace('"2,848"', '"2.85"')
    assert read_launches(older)[0].metrics["gpu__time_duration.sum"] == 2850


def read_lines(page: str) -> list[NcuLine]:
    return lines_of(read_instructions(page))


def test_lines_are_sums_of_their_instructions_and_nothing_twice(ncu: Path) -> None:
    first, second = run(ncu).lines
    assert (first.file, first.line, first.source) == ("/home/me/slow.py", 8, "    i = cuda.grid(1)")
    assert (first.samples, first.executed, first.instructions) == (10, 4096, 2)
    # The row of the line itself is the sum of the rows below it.
    assert (second.samples, second.executed, second.instructions) == (1630, 3 * 2048, 3)
    assert second.stalls == {"long_sb": 815, "wait": 815}
    assert "Avg. Threads Executed" not in second.metrics


def test_launches_of_one_kernel_are_added_and_inlined_instructions_counted_once() -> None:
    helper = source_page("saxpy", "/home/me/maths.py", {(3, "return v"): [(400, 2048)]}, start=0x10)
    lines = read_lines(SOURCE + helper + SOURCE + helper)
    by_place = {(line.file, line.line): line for line in lines}
    assert by_place["/home/me/slow.py", 10].executed == 2 * 3 * 2048
    # Its address stands in the first table too.
    assert ("/home/me/maths.py", 3) not in by_place
    apart = source_page("saxpy", "/home/me/maths.py", {(3, "return v"): [(400, 2048)]}, start=0x900)
    assert {line.line for line in read_lines(SOURCE + apart)} == {3, 8, 10}


def test_machine_code_alone_has_no_lines_but_its_sum() -> None:
    page = (
        '"Kernel Name","saxpy(float *)"\n"Address","Source","# Samples","Instructions Executed"\n'
        '"0x7f00","MOV","3","1,024"\n"0x7f10","EXIT","1","1,024"\n"...","","-","-"\n'
    )
    (line,) = read_lines(page)
    assert (line.kernel, line.file, line.line, line.samples, line.executed) == ("saxpy", "", 0, 4, 2048)


def test_instructions_take_the_lines_that_their_code_names() -> None:
    numbers = {"# Samples": 5, "Instructions Executed": 64}
    code = [
        (0, "MOV R1, c[0x0][0x28]", numbers),
        (16, "@P0 LDG.E R2, [R4.64]", numbers),
        (32, "EXIT", numbers),
    ]
    listed = read_instructions(sass_page("k", code) * 2)
    assert [(i.offset, i.opcode, i.line) for i in listed] == [(0, "MOV", 0), (16, "LDG", 0), (32, "EXIT", 0)]
    # Two launches, at the same addresses.
    assert {i.metrics["# Samples"] for i in listed} == {10}
    inlined = CodeLine("maths.py", 9, "LDG", (("a.py", 7), ("b.py", 3)))
    tables = {"k": {0: CodeLine("a.py", 7, "MOV"), 16: inlined, 32: CodeLine("a.py", 9, "STG")}}
    first, second, third = located(listed, tables)
    assert (first.file, first.line, second.line) == ("a.py", 7, 9)
    # Another instruction stands there: this is not the code that ran.
    assert third.line == 0
    assert [line.line for line in lines_of((first, second, third))] == [0, 7, 9]
    stacks, _ = ncu_stacks((first, second, third))
    assert folded(stacks) == "k;a.py:7 10\nk;a.py:7;b.py:3;maths.py:9 10\nk;no line known 10\n"


def test_called_function_before_the_kernel_moves_no_lines() -> None:
    numbers = {"# Samples": 1}
    texts = ["MOV R0, R4", "RET.ABS.NODEC R20", "MOV R1, c[0x0][0x28]", "LDG.E R2, [R4.64]", "EXIT"]
    code = [(16 * i, text, numbers) for i, text in enumerate(texts)]
    table = {0: CodeLine("a.py", 1, "MOV"), 16: CodeLine("a.py", 2, "LDG"), 32: CodeLine("a.py", 3, "EXIT")}
    found = located(read_instructions(sass_page("k", code)), {"k": table})
    assert [i.line for i in found] == [0, 0, 1, 2, 3]


def test_rules_read_measured_numbers_by_opcode() -> None:
    load = {"Instructions Executed": 64, "Predicated-On Thread Instructions Executed": 2048,
            "L1 Tag Requests Global": 64, "L2 Theoretical Sectors Global": 2048,
            "L2 Theoretical Sectors Global Ideal": 256, "Thread Instructions Executed": 2048}  # fmt: skip
    shared = {"Instructions Executed": 64, "L1 Wavefronts Shared": 2048, "L1 Wavefronts Shared Ideal": 64,
              "Predicated-On Thread Instructions Executed": 2048}  # fmt: skip
    code = [(0, "LDG.E R2, [R4.64]", load), (16, "STS [R0], R2", shared), (32, "BAR.SYNC 0x0", shared),
            (48, "DFMA R2, R2, R2, R2", load)]  # fmt: skip
    places = {0: (3, "LDG"), 16: (3, "STS"), 32: (4, "BAR"), 48: (5, "DFMA")}
    tables = {"k": {offset: CodeLine("a.py", *place) for offset, place in places.items()}}
    (kernel,) = measured_metrics(located(read_instructions(sass_page("k", code)), tables), SourceFiles())
    line = kernel.lines[0]
    assert (line["global_ld_requests"], line["global_ld_sectors"], line["global_ld_ideal_sectors"]) == (
        64,
        2048,
        256,
    )
    assert (line["shared_st_wavefronts"], line["shared_ld_wavefronts"]) == (2048, 0)
    assert (kernel["barriers"], kernel["fp64_instructions"], kernel["instructions"]) == (64, 64, 256)
    assert kernel.label == "counted by Nsight Compute"
    # What no column tells is not known, so that no rule takes it for nothing.
    assert "global_ld_bytes" not in kernel.known
    assert set(kernel.known) <= set(VOCABULARY)
    kinds = {(a.kind, a.line) for a in apply(RULES, kernel)}
    assert any(line == 3 and "coalesced" in kind for kind, line in kinds)
    assert any(line == 3 and "conflict" in kind for kind, line in kinds)


def launch(**metrics: float) -> NcuLaunch:
    """64 blocks of 100 threads on a GPU of 132 multiprocessors."""
    named = {name.replace("__dot__", "."): value for name, value in metrics.items()}
    return NcuLaunch(0, "k", "(64, 1, 1)", "(100, 1, 1)", named, "9.0")


def test_rules_of_a_kernel_as_a_whole_speak_from_the_metrics_of_its_launches() -> None:
    executed = {"smsp__inst_executed__dot__sum": 4e6, "sm__inst_executed_pipe_tensor__dot__sum": 0.0}
    (kernel,) = measured_metrics((), SourceFiles(), "counted on a GPU", [launch(**executed)])
    # 132 multiprocessors is what the table says of compute capability 9.0.
    assert {name: kernel[name] for name in ("blocks", "block_threads", "warps", "multiprocessors")} == {
        "blocks": 64, "block_threads": 100, "warps": 256, "multiprocessors": 132,
    }  # fmt: skip
    kinds = {advice.kind: advice for advice in apply(RULES, kernel)}
    assert set(kinds) == {"partial-warps", "few-blocks"}
    assert all((a.line, a.label) == (0, "counted on a GPU") for a in kinds.values())
    assert set(kernel.known) <= set(VOCABULARY)


def test_occupancy_and_its_limiter_are_those_that_ncu_tells() -> None:
    limits = {"warps": 16, "registers": 2, "shared_mem": 5, "blocks": 32}
    metrics = {f"launch__occupancy_limit_{name}": float(blocks) for name, blocks in limits.items()}
    metrics |= {"sm__maximum_warps_per_active_cycle_pct": 12.5, "launch__grid_size": 10_000.0,
                "launch__block_size": 128.0, "device__attribute_multiprocessor_count": 114.0,
                "sm__inst_executed_pipe_tensor__dot__sum": 0.0,
                "smsp__inst_executed__dot__sum": 1e9}  # fmt: skip
    listed = read_instructions(sass_page("k", [(0, "FADD R1, R1, R2", {"Instructions Executed": 640})]))
    (kernel,) = measured_metrics(listed, SourceFiles(), launches=[launch(**metrics)])
    assert (kernel["occupancy"], kernel["resident_blocks"], kernel.limiter) == (0.125, 2, "registers")
    assert (kernel["multiprocessors"], kernel.arch) == (114, "sm_90")
    # Lines are parts of what the source page adds up to.
    assert kernel["instructions"] == 640
    found = next(a for a in apply(RULES, kernel) if a.kind == "low-occupancy")
    assert "limited by registers" in found.what


def test_numbers_of_launches_add_up_and_what_one_lacks_is_not_known() -> None:
    whole = launch(
        smsp__inst_executed__dot__sum=100.0, l1tex__t_sectors_pipe_lsu_mem_global_op_ld__dot__sum=8.0
    )
    part = launch(smsp__inst_executed__dot__sum=50.0)
    (kernel,) = measured_metrics((), SourceFiles(), launches=[whole, part])
    assert (kernel["instructions"], kernel["warps"]) == (150, 512)
    assert "global_ld_sectors" not in kernel.known


def test_a_kernel_is_found_fault_with_where_it_is_defined(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("import x\n\n\ndef k(x):\n    i = 1\n    x[i] = 2\n")
    numbers = {"Instructions Executed": 1e6, "Thread Instructions Executed": 3e7}
    listed = read_instructions(sass_page("k", [(0, "STG R1", numbers), (16, "EXIT", numbers)]))
    table = {0: CodeLine(str(tmp_path / "a.py"), 6, "STG"), 16: CodeLine(str(tmp_path / "a.py"), 5, "EXIT")}
    (kernel,) = measured_metrics(located(listed, {"k": table}), SourceFiles(), launches=[launch()])
    assert (Path(kernel.file).name, kernel.line) == ("a.py", 4)


# -- rules of Nsight Compute ----------------------------------------------------------------------

RULE = {
    "Kernel Name": "saxpy(float *)",
    "ID": "0",
    "Section Name": "Occupancy",
    "Rule Name": "TheoreticalOccupancy",
    "Rule Type": "OPT",
    "Rule Description": "limited by\n registers",
    "Estimated Speedup Type": "local",
    "Estimated Speedup": "50.5",
}


def test_rules_of_ncu_are_read_with_their_estimates(ncu: Path) -> None:
    metric = {"Kernel Name": "saxpy(float *)", "ID": "0", "Metric Name": "Block Size", "Metric Value": "256"}
    better = {**RULE, "ID": "1", "Estimated Speedup": "60"}
    words = {**RULE, "Rule Name": "Info", "Rule Type": "INF", "Rule Description": "as it is",
             "Estimated Speedup": "", "Estimated Speedup Type": ""}  # fmt: skip
    (ncu.parent / "details.csv").write_text(details_page([metric, words, RULE, better]))
    assert run(ncu).findings == (
        NcuFinding("saxpy", "Occupancy", "TheoreticalOccupancy", "OPT", "limited by registers", 60, "local"),
        NcuFinding("saxpy", "Occupancy", "Info", "INF", "as it is"),
    )


def test_versions_without_rules_on_the_page_have_none_and_torn_pages_are_refused(ncu: Path) -> None:
    assert run(ncu).findings == ()
    assert read_findings('"ID","Kernel Name","Metric Name"\n"0","k","x"\n') == ()
    whole = details_page([RULE, RULE])
    with pytest.raises(RecordingError, match="torn"):
        read_findings(whole.rpartition('","')[0] + '"\n')
    assert read_findings(foreign(whole))[0].speedup_percent == pytest.approx(50.5)


def test_columns_that_a_version_lacks_are_not_known() -> None:
    head = '"Kernel Name","k"\n"Address","Source","# Samples","Instructions Executed"\n'
    page = head + '"0x7f00","LDG R2","3","64"\n'
    (kernel,) = measured_metrics(read_instructions(page), SourceFiles())
    assert "instructions" in kernel.known
    assert "global_ld_sectors" not in kernel.known
    assert apply(RULES, kernel) == ()


def test_source_alone_and_doubled_columns_are_read() -> None:
    page = (
        '"File Path","a.py"\n"Function Name","k"\n"Line No","Source","# Samples","# Samples"\n'
        '"4","x","7","7"\n'
    )
    (line,) = read_lines(page)
    assert (line.line, line.samples) == (4, 7)


def test_numbers_of_other_languages_are_read(tmp_path: Path, ncu: Path) -> None:
    german = install(tmp_path / "german", {"saxpy": "copied_4", "scores": "chain"}, SOURCE, comma=True)
    assert '"1.024,50"' in (tmp_path / "german" / "raw.csv").read_text()
    assert run(german).launches == run(ncu).launches
    # A page of whole numbers alone does not say: a point is taken, as ncu is called with LC_ALL=C.
    assert run(german).lines[0].samples == 10


@given(st.floats(-1e12, 1e12).map(lambda v: round(v, 2)), st.sampled_from([",", "\u00a0", "\u202f", "'"]))
def test_every_number_survives_its_formatting(value: float, separator: str) -> None:
    point = f"{value:,.2f}".replace(",", separator)
    assert number(point) == value
    comma = point.replace(",", "|").replace(".", ",").replace("|", ".")
    assert number(comma, comma=True) == value
    assert decimal_comma([comma])
    assert not decimal_comma([point])


@pytest.mark.parametrize("cell", ["", "-", "n/a", "nan", "inf", "0x7f00", "(256, 1, 1)", "1e", "1 of 2"])
def test_what_is_no_number_is_none(cell: str) -> None:
    assert number(cell) is None


def test_two_languages_in_one_page_are_an_error() -> None:
    with pytest.raises(RecordingError, match=r"two languages: '1.5' and '2,75'"):
        decimal_comma(["1.5", "2,75"])


@pytest.mark.parametrize(
    "text", ["", "==PROF== Connected\n", "Segmentation fault", "\x00\xff", '"Kernel Name","k"\n']
)
def test_page_without_a_table_is_an_error(text: str) -> None:
    with pytest.raises(RecordingError, match="no table of metrics"):
        read_launches(text)
    assert read_lines(text) == []


@given(st.integers(1, 2000))
def test_torn_page_is_an_error_or_reads_whole_rows(cut: int) -> None:
    page = raw_page({"a": {"z.sum": 1234.0}, "b": {"z.sum": 5678.0}})
    whole = [launch.metrics for launch in read_launches(page)]
    try:
        found = [launch.metrics for launch in read_launches(page[: -min(cut, len(page))])]
    except RecordingError:
        return
    assert found == whole[: len(found)]


@pytest.mark.parametrize("cut", [2, 4, 8])
def test_page_that_ends_within_a_cell_is_an_error(cut: int) -> None:
    page = raw_page({"a": {"z.sum": 1234.0}})
    with pytest.raises(RecordingError, match="torn"):
        read_launches(page[:-cut])
    with pytest.raises(RecordingError, match="torn"):
        read_lines(SOURCE[:-4])


def test_names_lose_their_arguments() -> None:
    assert kernel_name("void ns::k<int, 4>(float *, long)") == "ns::k"
    assert kernel_name("saxpy") == "saxpy"


# -- calls ----------------------------------------------------------------------------------------


def test_missing_ncu_says_where_it_comes_from(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_ncu() is None
    with pytest.raises(MissingDependencyError, match="not on the path") as caught:
        profile_ncu(tmp_path / "slow.tsd", "saxpy", INPUTS)
    assert "CUDA toolkit" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("mode", "message", "hint"),
    [
        ("permission", "ERR_NVGPUCTRPERM", "NVreg_RestrictProfilingToAdminUsers=0"),
        ("permission", "may not read", "--cap-add SYS_ADMIN"),
        ("die", "was ended by SIGSEGV and wrote no report", "tessera run"),
        ("program", "error: device 'cuda:0' cannot run this: out of memory", "tessera run"),
        ("stub", "no Nsight Compute that works: Nsight Compute is not installed", "PATH"),
    ],
)
def test_failure_says_what_to_do(
    ncu: Path, monkeypatch: pytest.MonkeyPatch, mode: str, message: str, hint: str
) -> None:
    monkeypatch.setenv("NCU_REPLAY", mode)
    with pytest.raises(DeviceError) as caught:
        run(ncu)
    assert message in caught.value.message
    assert hint in (caught.value.hint or "")


def test_hanging_ncu_is_stopped_with_all_that_it_started(ncu: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NCU_REPLAY", "hang")
    with pytest.raises(DeviceError, match="did not end within 2 s and was stopped"):
        run(ncu, timeout_s=2)
    time.sleep(0.1)
    left = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert str(ncu) not in left


def test_what_an_older_version_does_not_know_is_left_out_and_named(
    ncu: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NCU_REPLAY", "old")
    found = run(ncu)
    assert found.unknown == ("--import-source", "dram__bytes_read.sum", "lts__t_sector_hit_rate.pct")
    assert found.lines == ()
    calls = (ncu.parent / "calls").read_text().splitlines()
    last = next(call for call in reversed(calls) if "--metrics" in call)
    assert "dram__bytes_read.sum" not in last
    assert "dram__bytes_write.sum" in last


def test_missing_section_leaves_the_metrics(ncu: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NCU_REPLAY", "no section")
    found = run(ncu)
    assert (found.unknown, found.lines) == (("section SourceCounters",), ())
    assert found.launches[0].metrics


def test_ncu_that_is_no_program_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "ncu").write_text("nothing to run")
    (tmp_path / "ncu").chmod(0o755)
    with pytest.raises(DeviceError, match="cannot be started"):
        profile_ncu(tmp_path / "slow.tsd", "saxpy", INPUTS, ncu=str(tmp_path / "ncu"))


def test_ncu_is_asked_for_one_execution_in_plain_numbers(ncu: Path) -> None:
    run(ncu)
    version, collect, raw, code, source, details = (ncu.parent / "calls").read_text().splitlines()
    assert "--version" in version
    assert "'--profile-from-start', 'off'" in collect
    assert ",".join(METRICS) in collect
    assert collect.rstrip("]").endswith("'cuda:0'")
    assert "'--page', 'raw'" in raw
    assert "'--print-units', 'base'" in raw
    assert "--print-source" not in code
    assert "'--print-source', 'cuda,sass'" in source
    assert "'--page', 'details'" in details
    assert [f"'--section', '{name}'" in collect for name in SECTIONS] == [True, True, True]
    assert not list(Path("/tmp").glob("tessera-ncu-*/report.ncu-rep"))


def test_samples_are_stacks_and_without_them_executions_are() -> None:
    stacks, weight = ncu_stacks(read_instructions(SOURCE))
    assert weight == "samples"
    assert [(s.sites[0].name, s.sites[1].line, s.weight) for s in stacks] == [
        ("saxpy", 8, 10),
        ("saxpy", 10, 1630),
    ]
    unsampled = read_instructions(source_page("k", "a.py", {(1, "x"): [(0, 64)]}))
    assert ncu_stacks(unsampled)[1] == "instructions of machine code"


def test_child_says_what_is_wrong_with_its_package(tmp_path: Path) -> None:
    np.savez(tmp_path / "inputs.npz", **{"input.x": np.ones(4)})
    command = [sys.executable, "-m", "tessera.profiler.ncu_launch", str(tmp_path / "no.tsd"), "p",
               str(tmp_path / "inputs.npz"), "cuda:0"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr


def test_grouping_is_that_of_ncu() -> None:
    assert (grouped(1024.5), grouped(2048)) == ("1,024.50", "2,048")
    assert '"1.024,50"' in foreign('"1,024.50"\n')
