"""`tessera compile --emit graph` and `--emit kernels`: programs as files, in place of a source."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from .conftest import Tessera

ARCH = ("--arch", "sm_80,sm_90a")


@pytest.fixture
def files(tessera: Tessera, project: Path) -> tuple[str, str]:
    for stage in ("graph", "kernels"):
        assert tessera("compile", "kernels.py:linear_relu", "--emit", stage, *ARCH, "-o", "out").status == 0
    return "out/linear_relu.graph.json", "out/linear_relu.kernels.json"


def test_packages_from_each_stage_are_the_sources(
    tessera: Tessera, project: Path, files: tuple[str, str]
) -> None:
    assert tessera("compile", "kernels.py:linear_relu", *ARCH, "-o", "source.tsc").status == 0
    for number, file in enumerate(files):
        assert tessera("compile", file, *ARCH, "-o", f"{number}.tsc").status == 0
        assert (project / f"{number}.tsc").read_bytes() == (project / "source.tsc").read_bytes()
    said = tessera("compile", files[1], "-o", "own.tsc")
    assert said.status == 0
    assert (project / "own.tsc").read_bytes() == (project / "source.tsc").read_bytes()


def test_notes_are_of_the_architectures_that_are_compiled(tessera: Tessera, project: Path) -> None:
    source = (
        "import tessera as ts\n\n\n@ts.jit\n"
        'def product(x: ts.Tensor[ts.f16, "m", 64], w: ts.Tensor[ts.f16, 64, 64]):\n'
        "    return ts.matmul(x, w)\n"
    )
    (project / "product.py").write_text(source)
    words = ("--emit", "kernels", "--arch", "sm_75,sm_80", "-o", "product.kernels.json")
    assert tessera("compile", "product.py", *words).status == 0
    said = tessera("compile", "product.kernels.json", "--arch", "sm_80")
    assert "sm_80: product_0_matmul" in said.err
    assert "sm_75" not in said.err
    # Their shared memory is asked for by the launch, and is shared memory of a block all the same.
    rows = [line.split() for line in said.out.splitlines() if " sm_80 " in line]
    assert [row[row.index("B") + 1 :][:2] for row in rows] == [["48.0", "KiB"], ["32.0", "KiB"]]


def test_later_stages_follow(tessera: Tessera, project: Path, files: tuple[str, str]) -> None:
    said = tessera("compile", files[0], "--emit", "kernels", *ARCH, "-o", "again.kernels.json", "--timings")
    first, times = said.out.splitlines()
    assert first == "wrote again.kernels.json (1 kernel)"
    assert [word for word in times.split() if word.isalpha() and word != "ms"] == ["graph", "kernels"]
    assert (project / "again.kernels.json").read_bytes() == (project / files[1]).read_bytes()
    (row, *_) = tessera("compile", files[1], "--emit", "ptx", "--json").json["stages"]
    assert row["stage"] == "ptx"
    assert ".entry linear_relu_0" in row["text"]


def test_programs_are_shown_run_and_checked(tessera: Tessera, files: tuple[str, str]) -> None:
    said = tessera("inspect", files[0])
    assert "x: f32(batch, 8), W: f32(8, 4)" in said.out
    shown = tessera("inspect", files[0], "--graph").out
    assert shown == tessera("inspect", "kernels.py:linear_relu", "--graph").out
    source = tessera("run", "kernels.py:linear_relu", "--size", "batch=3", "--json").json["outputs"]
    assert tessera("run", files[0], "--size", "batch=3", "--json").json["outputs"] == source
    assert tessera("check", files[0], "--size", "batch=3").status == 0


def test_bad_programs_are_refused(tessera: Tessera, project: Path, files: tuple[str, str]) -> None:
    said = tessera("compile", files[1], "--arch", "sm_86")
    assert said.status == 1
    assert "for sm_80, sm_90a, not for sm_86" in said.err
    assert "says what its inputs are" in tessera("compile", files[0], "--spec", "x=f32[4,8]").err
    assert "it has linear_relu" in tessera("compile", f"{files[0]}:other").err
    assert "has no graph stage" in tessera("compile", "kernels.py:saxpy", "--emit", "graph").err
    said = tessera("compile", "kernels.py:linear_relu", "--emit", "graph", "-o", "f.ptx")
    assert said.status == 2
    assert "-o f.graph.json" in said.err
    graph = project / files[0]
    data = json.loads(graph.read_text())
    data["graph"]["nodes"][2]["shape"] = ["batch", 5]
    graph.write_text(json.dumps(data))
    said = tessera("compile", files[0], "--json")
    assert said.status == 1
    assert "graph.nodes[2]: matmul: its shape is (batch, 5)" in said.json["error"]["message"]
    for text in ("", "{", "[]", '{"format": "tessera graph", "schema": "9.0"}'):
        graph.write_text(text)
        said = tessera("compile", files[0])
        assert said.status == 1
        assert "Traceback" not in said.err
    graph.unlink()
    said = tessera("compile", files[0])
    assert said.status == 2
    assert "did you mean" in said.err


@pytest.mark.parametrize(
    ("name", "text", "words", "hint"),
    [
        ("a.graph.json", '{"x":', ("inspect",), "tessera compile FILE --emit graph"),
        ("a.graph.json", "", ("compile",), "tessera compile FILE --emit graph"),
        ("a.kernels.json", "{}", ("inspect",), "--emit graph (or kernels)"),
        ("a.ptx", "", ("inspect", "--sass"), "--emit ptx -o FILE.ptx"),
        ("a.cubin", "x", ("inspect", "--sass"), "--emit cubin"),
    ],
)  # fmt: skip
def test_a_torn_or_empty_file_of_a_stage_says_how_to_write_it_anew(
    tessera: Tessera, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str,
    words: tuple[str, ...], hint: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    Path(name).write_text(text)
    said = tessera(words[0], name, *words[1:])
    assert said.status == 1
    assert hint in " ".join(said.err.split())
