"""`tessera compile` and `tessera inspect`."""

import re
import sys
from pathlib import Path

import pytest
from numba import cuda

from .conftest import KERNELS, Tessera

KEYS = ["name", "arch", "registers", "spill_bytes", "shared_bytes", "cubin_bytes", "occupancy", "cached"]


def test_json_has_exactly_the_promised_keys_and_the_second_run_is_cached(
    tessera: Tessera, project: Path
) -> None:
    # A number of its own makes this kernel new to the cache, whoever ran before.
    (project / "kernels.py").write_text(KERNELS.replace("a * x[i]", f"a * x[i] * {id(project)}.0"))
    words = ("compile", "kernels.py:saxpy", "--arch", "sm_70", "--arch", "sm_90", "--json")
    first, second = tessera(*words), tessera(*words)
    assert first.status == second.status == 0
    assert list(first.json) == ["kernels", "seconds"]
    assert [list(row) for row in first.json["kernels"]] == [KEYS, KEYS]
    assert [(r["name"], r["arch"]) for r in first.json["kernels"]] == [("saxpy", "sm_70"), ("saxpy", "sm_90")]
    for row in first.json["kernels"]:
        assert 8 <= row["registers"] <= 64
        assert row["spill_bytes"] == 0
        assert row["occupancy"] == 1.0
        assert row["cubin_bytes"] > 500
    assert [r["cached"] for r in first.json["kernels"]] == [False, False]
    assert [r["cached"] for r in second.json["kernels"]] == [True, True]


def test_table_fits_80_columns_and_says_cached(tessera: Tessera, project: Path) -> None:
    tessera("compile", "kernels.py", "--arch", "sm_80,sm_90")
    said = tessera("compile", "kernels.py", "--arch", "sm_80,sm_90")
    assert said.status == 0
    assert all(len(line) <= 80 for line in said.out.splitlines())
    assert "\x1b" not in said.out
    for word in ("saxpy", "sm_80", "sm_90", "100 %", "all cached", "linear_relu"):
        assert word in said.out


def test_architectures_come_from_the_project_file(tessera: Tessera, project: Path) -> None:
    (project / "tessera.toml").write_text('[compile]\narch = ["sm_86"]\n')
    said = tessera("compile", "kernels.py:saxpy", "--json")
    assert {row["arch"] for row in said.json["kernels"]} == {"sm_86"}


def test_a_file_is_saved_that_loads(tessera: Tessera, project: Path) -> None:
    from tessera.package import Package

    assert tessera("compile", "kernels.py:saxpy", "--arch", "sm_80", "-o", "one.tsc").status == 0
    assert tessera("compile", "kernels.py", "--arch", "sm_80", "-o", "all.tsp").status == 0
    assert set(Package.load(project / "one.tsc").programs) == {"saxpy"}
    assert set(Package.load(project / "all.tsp").programs) == {"saxpy", "linear_relu"}


def test_a_folder_gets_packages_and_loose_files(tessera: Tessera, project: Path) -> None:
    assert tessera("compile", "kernels.py:saxpy", "--arch", "sm_80", "-o", "made").status == 0
    assert (project / "made" / "saxpy.tsc").is_file()
    assert (project / "made" / "sm_80" / "saxpy.cubin").read_bytes()[:4] == b"\x7fELF"
    assert ".entry saxpy" in (project / "made" / "sm_80" / "saxpy.ptx").read_text()


def test_a_wrong_ending_is_refused_and_says_which_fits(tessera: Tessera, project: Path) -> None:
    said = tessera("compile", "kernels.py", "--arch", "sm_80", "-o", "all.tsd")
    assert said.status == 2
    assert "2 kernels are saved as .tsp" in said.err
    assert "tessera package build" in said.err


def test_specs_can_be_given(tessera: Tessera, project: Path) -> None:
    (project / "f.py").write_text("import tessera as ts\n@ts.jit\ndef f(x, y):\n    return x + y\n")
    said = tessera("compile", "f.py", "--arch", "sm_80", "--json")
    assert said.status == 2
    assert "no spec for argument 'x'" in said.json["error"]["message"]
    words = ("compile", "f.py", "--arch", "sm_80", "--spec", "x=f32[n,8]", "--spec", "y=f32[8]", "--json")
    assert tessera(*words).status == 0
    (project / "tessera.toml").write_text('[specs.f]\nx = "f32[n]"\ny = "f32[n]"\n')
    assert tessera("compile", "f.py", "--arch", "sm_80", "--json").status == 0


def test_kernels_of_one_name_are_told_apart(tessera: Tessera, project: Path) -> None:
    (project / "f.cu").write_text(
        "template <typename T> __global__ void f(T *x) { x[threadIdx.x] += T(1); }\n"
    )
    (project / "f.py").write_text(
        """import tessera as ts

def f(name, dtype):
    return ts.cuda_kernel("f.cu", entry=f"f<{name}>", params={"x": ts.Array[dtype, 32]}, outputs="x",
                          grid=1, block=32)

wide, narrow = f("double", ts.f64), f("float", ts.f32)
"""
    )
    shown = tessera("compile", "f.py", "--arch", "sm_80").out
    assert "wide: f" in shown
    assert "narrow: f" in shown


@pytest.mark.parametrize("spec", ["x=f32[n]", "saxpy.x=f32[n]"])
def test_spec_for_a_kernel_is_refused(tessera: Tessera, project: Path, spec: str) -> None:
    said = tessera("compile", "kernels.py:saxpy", "--arch", "sm_80", "--spec", spec)
    assert said.status == 2
    assert "saxpy is a kernel, whose annotations say" in said.err


def test_a_function_without_specs_is_left_out_and_named(tessera: Tessera, project: Path) -> None:
    with (project / "kernels.py").open("a") as file:
        file.write("\n\n@ts.jit\ndef helper(x):\n    return ts.relu(x)\n")
    said = tessera("compile", "kernels.py", "--arch", "sm_80", "--json")
    assert said.status == 0
    assert "helper left out" in said.err
    assert "--spec 'helper.x=" in said.err
    assert not any("helper" in row["name"] for row in said.json["kernels"])


def test_unknown_architecture_suggests_and_is_status_2(tessera: Tessera, project: Path) -> None:
    said = tessera("compile", "kernels.py", "--arch", "sm_81")
    assert said.status == 2
    assert "unknown architecture 'sm_81'" in said.err
    assert "did you mean sm_80 or sm_86?" in said.err


WRONG = {
    "syntax error": ("def f(:\n", 1),
    "No module named 'tesera'": ("import os\nimport tesera as ts\n", 2),
    "ZeroDivisionError": ("def g():\n    return 1 / 0\n\ng()\n", 2),
    "has no attribute 'sze'": (KERNELS.replace("x.size", "x.sze"), 11),
    "cumsum": (KERNELS.replace("ts.relu(ts", "ts.cumsum(ts"), 17),
    "do not fit": (KERNELS.replace("ts.f32, 8, 4]", "ts.f32, 7, 4]"), 17),
}


@pytest.mark.parametrize("message", WRONG)
def test_each_mistake_is_one_message_with_its_line(message: str, tessera: Tessera, project: Path) -> None:
    text, line = WRONG[message]
    (project / "wrong.py").write_text(text)
    said = tessera("compile", "wrong.py", "--arch", "sm_80")
    assert said.status == 1
    assert re.findall(r"^error:", said.err, re.MULTILINE) == ["error:"]
    assert message in said.err
    assert f"--> wrong.py:{line}" in said.err
    assert "Traceback" not in said.err
    as_json = tessera("compile", "wrong.py", "--arch", "sm_80", "--json").json["error"]
    assert as_json["location"]["line"] == line


def test_an_empty_file_says_what_to_write(tessera: Tessera, project: Path) -> None:
    (project / "empty.py").write_text("x = 1\n")
    said = tessera("compile", "empty.py")
    assert said.status == 1
    assert "no kernel, function or Module" in said.err
    assert "@ts.jit" in said.err


def test_a_class_without_an_instance_says_so_and_can_be_named(tessera: Tessera, project: Path) -> None:
    (project / "m.py").write_text(
        "import tessera as ts\n\n\nclass Model(ts.Module):\n"
        "    def __init__(self):\n        super().__init__()\n        self.layer = ts.Linear(8, 4)\n\n"
        '    def forward(self, x: ts.Tensor[ts.f32, "n", 8]):\n        return self.layer(x)\n'
    )
    assert "model = Model()" in tessera("compile", "m.py").err
    assert tessera("compile", "m.py:Model", "--arch", "sm_80", "--json").status == 0


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("kernels.py:saxp", ["'saxp' is not there", "did you mean 'saxpy'?"]),
        ("kernels.py:ts", ["'ts' is neither a kernel, a function nor a Module"]),
        ("kernel.py", ["there is no file kernel.py", "did you mean kernels.py?"]),
        (".", ["is a folder, not a file"]),
    ],
)
def test_a_target_that_is_not_there_suggests(
    target: str, words: list[str], tessera: Tessera, project: Path
) -> None:
    said = tessera("compile", target)
    assert said.status == 2
    for word in words:
        assert word in said.err


def test_inspect_shows_ptx_graph_and_plan(tessera: Tessera, project: Path) -> None:
    ptx = tessera("inspect", "kernels.py:saxpy", "--ptx").out
    assert ".entry saxpy" in ptx
    assert "// kernels.py:12: y[i] = a * x[i] + y[i]" in ptx
    on_cpu = tessera("inspect", "kernels.py:saxpy", "--ptx", "--arch", "cpu")
    assert "compiled for the cpu alone" in on_cpu.err
    graph = tessera("inspect", "kernels.py:linear_relu", "--graph").out
    assert "matmul(%0, %1) -> f32(batch, 4)" in graph
    assert "grid(" in tessera("inspect", "kernels.py:linear_relu", "--plan").out
    data = tessera("inspect", "kernels.py:saxpy", "--ptx", "--arch", "sm_80", "--json").json
    assert data["ptx"][0]["arch"] == "sm_80"
    assert data["kernels"][0]["limited_by"] == "warps"


def test_inspect_tells_passes_and_memory(tessera: Tessera, project: Path) -> None:
    text = tessera("inspect", "kernels.py:linear_relu", "--graph", "--arch", "cpu,sm_80").out
    assert "passes for cuda" in text
    assert "passes for cpu" in text
    assert "simplify" in text
    shown = tessera("inspect", "kernels.py:linear_relu", "--plan", "--arch", "cpu").out
    assert "arena: 256*cdiv(16*batch, 256) bytes" in shown
    words = ["inspect", "kernels.py:linear_relu", "--graph", "--plan", "--arch", "cpu", "--json"]
    data = tessera(*words).json
    assert data["passes"]["linear_relu"][0]["launches"] == 2
    (memory,) = data["memory"]["linear_relu"]
    assert memory["buffers"][0]["first_step"] == 0
    assert memory["buffers"][0]["last_step"] == 1
    assert memory["peak_bytes"] is None


@pytest.mark.slow
def test_graphs_laid_out_for_tensor_cores_have_reports_of_their_own(tessera: Tessera, project: Path) -> None:
    Path("net.py").write_text(
        "import tessera as ts\n\n\n@ts.jit\n"
        'def net(x: ts.Tensor[ts.f16, "n", 16, 8, 8], w: ts.Tensor[ts.f16, 8, 16, 3, 3]) -> ts.Tensor:\n'
        "    return ts.conv2d(x, w, padding=1)\n"
    )
    reports = tessera("inspect", "net.py:net", "--graph", "--arch", "sm_75,sm_80,sm_86", "--json").json
    loops, laid = reports["passes"]["net"]
    assert (loops["targets"], laid["targets"]) == (["sm_75"], ["sm_80", "sm_86"])
    assert (loops["launches"], laid["launches"]) == (1, 3)
    text = tessera("inspect", "net.py:net", "--graph", "--arch", "sm_75,sm_80,sm_86").out
    assert "for cuda (sm_80, sm_86)" in text
    assert "channels last" in text


def test_inspect_lists_what_a_file_defines(tessera: Tessera, project: Path) -> None:
    said = tessera("inspect", "kernels.py")
    assert "a: f32, x: f32(n), y: f32(n)" in said.out
    assert "x: f32[batch, 8], W: f32[8, 4]" in said.out


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("raise GeneratorExit", "GeneratorExit: "),
        ("class E(BaseException): pass\nraise E('no')", "E: no"),
        ("class E(Exception):\n    def __str__(self): 1 / 0\nraise E", "E, whose message cannot be shown"),
    ],
)
def test_whatever_a_file_raises_has_its_place(
    tessera: Tessera, project: Path, text: str, message: str
) -> None:
    (project / "odd.py").write_text(text)
    said = tessera("compile", "odd.py", "--json")
    assert (said.status, said.json["error"]["message"]) == (1, message)
    assert said.json["error"]["location"]["line"] == len(text.splitlines())


@pytest.mark.skipif(cuda.is_available(), reason="a GPU compiles signatures at once")
def test_signature_that_asks_for_a_driver_says_to_leave_it_out(tessera: Tessera, project: Path) -> None:
    (project / "signed.py").write_text(
        "from numba import cuda\n\n\n@cuda.jit('int32(int32)', device=True)\ndef f(n):\n    return n\n"
    )
    said = tessera("compile", "signed.py", "--json")
    assert said.status == 1
    assert "asks for a GPU" in said.json["error"]["message"]
    assert "@cuda.jit(device=True)" in said.json["error"]["hint"]
    assert said.json["error"]["location"]["line"] == 4


def test_file_without_its_compiler_says_what_brings_it(
    tessera: Tessera, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "numba", None)
    said = tessera("compile", "kernels.py", "--json")
    assert said.status == 1
    assert said.json["error"]["kind"] == "MissingDependencyError"
    assert said.json["error"]["hint"] == "pip install 'tessera[compile]'"
    assert said.json["error"]["location"]["file"].endswith("kernels.py")


def test_machine_code_is_shown_under_the_lines_of_the_source(tessera: Tessera, project: Path) -> None:
    said = tessera("inspect", "kernels.py:saxpy", "--sass", "--arch", "sm_80")
    assert said.status == 0
    lines = said.out.splitlines()
    place = next(i for i, line in enumerate(lines) if "y[i] = a * x[i] + y[i]" in line)
    assert any("FFMA" in line for line in lines[place:])
    data = tessera("inspect", "kernels.py:saxpy", "--sass", "--arch", "sm_80,sm_90", "--json").json
    assert [s["arch"] for s in data["sass"]] == ["sm_80", "sm_90"]
    assert all(
        {"offset", "text", "opcode", "file", "line"} == set(i) for i in data["sass"][0]["instructions"]
    )
    assert tessera("inspect", "kernels.py:linear_relu", "--sass", "--arch", "cpu").status == 0


def test_times_of_the_stages_are_shown_on_request(tessera: Tessera, project: Path) -> None:
    (project / "kernels.py").write_text(KERNELS.replace("a * x[i]", f"a * x[i] * {id(tessera)}.0"))
    said = tessera("compile", "kernels.py:saxpy", "--arch", "sm_80", "--timings")
    assert re.search(r"front end \d+\.\d\d s  ptx .* cubin", said.out)
    again = tessera("compile", "kernels.py:saxpy", "--arch", "sm_80", "--timings", "--json").json
    assert list(again) == ["kernels", "seconds", "stages"]
    assert set(again["stages"].values()) == {0.0}


def test_stages_are_written_and_taken_further(tessera: Tessera, project: Path) -> None:
    for stage in ("nvvm", "ptx", "cubin"):
        assert (
            tessera("compile", "kernels.py:saxpy", "--emit", stage, "--arch", "sm_80", "-o", "out").status
            == 0
        )
    assert {p.name for p in (project / "out" / "sm_80").iterdir()} == {"saxpy.ll", "saxpy.ptx", "saxpy.cubin"}
    said = tessera("compile", "out/sm_80/saxpy.ll", "-o", "saxpy.cubin", "--json")
    assert said.status == 0
    (row,) = said.json["stages"]
    assert (row["kernels"], row["arch"], row["stage"], row["file"]) == (
        ["saxpy"], "sm_80", "cubin", "saxpy.cubin",
    )  # fmt: skip
    assert set(row["seconds"]) == {"ptx", "cubin"}
    assert (project / "saxpy.cubin").read_bytes() == (project / "out/sm_80/saxpy.cubin").read_bytes()
    shown = tessera("inspect", "--sass", "saxpy.cubin")
    assert shown.status == 0
    assert "EXIT" in shown.out
    assert tessera("compile", "out/sm_80/saxpy.ptx", "--emit", "sass", "--arch", "sm_90").out.count("EXIT")
    text = tessera("compile", "saxpy.cubin", "--emit", "sass", "-o", "saxpy.sass")
    assert text.out == "wrote saxpy.sass\n"


def test_stage_file_keeps_its_architecture_in_a_project_of_others(tessera: Tessera, project: Path) -> None:
    made = tessera("compile", "kernels.py:saxpy", "--emit", "nvvm", "--arch", "sm_89", "-o", "saxpy.ll")
    assert made.status == 0
    (project / "tessera.toml").write_text('[compile]\narch = ["sm_80", "sm_90", "cpu"]\n')
    said = tessera("compile", "saxpy.ll", "--emit", "ptx", "-o", "saxpy.ptx")
    assert (said.status, said.out) == (0, "wrote saxpy.ptx (sm_89)\n")
    assert tessera("inspect", "--sass", "saxpy.ptx").out.count("EXIT")


def test_bad_stages_are_refused_with_their_line(tessera: Tessera, project: Path) -> None:
    assert (
        tessera("compile", "kernels.py:saxpy", "--emit", "ptx", "--arch", "sm_90", "-o", "k.ptx").status == 0
    )
    said = tessera("compile", "k.ptx", "--arch", "sm_80", "-o", "k.cubin", "--json")
    assert said.status == 2
    assert said.json["error"]["location"]["file"] == "k.ptx"
    assert not (project / "k.cubin").exists()
    assert "give a folder" in tessera("compile", "kernels.py", "--emit", "ptx", "-o", "k.ptx").err
    assert "written to .cubin" in tessera("compile", "k.ptx", "-o", "k.sass").err
    assert "goes to a file" in tessera("compile", "k.ptx").err
    assert "no stage is called 'x'" in tessera("compile", "kernels.py", "--emit", "x").err
    assert "a CPU has no such stage" in tessera("compile", "kernels.py", "--emit", "ptx", "--arch", "cpu").err
    assert "say what to show" in tessera("inspect", "k.ptx").err
    assert "which --occupancy says nothing of" in tessera("inspect", "--occupancy", "k.ptx").err
    assert tessera("compile", "missing.ptx").status == 2
