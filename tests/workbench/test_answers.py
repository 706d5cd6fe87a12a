"""What `tessera compile` said before is said again as long as nothing has changed, and not when it has."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tessera.workbench.answers import answer, keep

FILE = """import tessera as ts
from scaling import RATE

@ts.jit
def f(x: ts.Tensor[ts.f32, "n"]):
    return x * RATE
"""
WORDS = ["compile", "sub/kernels.py", "--arch", "sm_80"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Path:
    """A project whose cache knows an answer to `WORDS`."""
    monkeypatch.setenv("TESSERA_CACHE_DIR", str(tmp_path / "cache"))
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "kernels.py").write_text(FILE)
    (tmp_path / "sub" / "scaling.py").write_text("RATE = 2.0\n")
    monkeypatch.chdir(tmp_path)
    known()
    return tmp_path


def known(made: tuple[Path, ...] = ()) -> None:
    """Let the answer be kept, as a compilation that begins now would."""
    time.sleep(0.03)
    assert answer(WORDS) is None
    keep(
        Path("sub/kernels.py"),
        _project(),
        made,
        shown=("table\n2 binaries in ", ", all cached\n", "note: n\n"),
    )


def _project() -> Path | None:
    found = (folder / "tessera.toml" for folder in (Path.cwd() / "sub", *(Path.cwd() / "sub").parents))
    return next(filter(Path.is_file, found), None)


def test_answer_is_what_was_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert answer(WORDS) == 0
    said = capsys.readouterr()
    assert said.out.startswith("table\n2 binaries in 0.")
    assert said.out.endswith(" s, all cached\n")
    assert said.err == "note: n\n"


def touch(folder: Path) -> None:
    for file in (folder / "sub").iterdir():
        os.utime(file, (1, 1))


NOTHING: dict[str, Callable[[Path], object]] = {
    "nothing": lambda folder: None,
    "touched": touch,
    "bytecode": lambda folder: (folder / "sub" / "__pycache__").mkdir(),
    "data": lambda folder: (folder / "sub" / "notes.txt").write_text("x"),
    "same-text": lambda folder: (folder / "sub" / "scaling.py").write_text("RATE = 2.0\n"),
}
CHANGES: dict[str, Callable[[Path], object]] = {
    "file": lambda folder: (folder / "sub" / "kernels.py").write_text(FILE + "# more\n"),
    "imported-file": lambda folder: (folder / "sub" / "scaling.py").write_text("RATE = 3.0\n"),
    "file-gone": lambda folder: (folder / "sub" / "kernels.py").unlink(),
    "imported-file-gone": lambda folder: (folder / "sub" / "scaling.py").unlink(),
    "package-instead-of-the-file": lambda folder: (folder / "sub" / "scaling").mkdir(),
    "file-in-place-of-a-library": lambda folder: (folder / "sub" / "numba.py").write_text(""),
    "extension-in-place-of-the-file": lambda folder: (folder / "sub" / "scaling.so").write_text(""),
    "project-file": lambda folder: (folder / "sub" / "tessera.toml").write_text("[compile]\narch=['sm_90']"),
    "project-file-above": lambda folder: (folder / "tessera.toml").write_text("[compile]\narch=['sm_90']"),
}


@pytest.mark.parametrize("name", NOTHING)
def test_what_means_nothing_is_answered(folder: Path, name: str) -> None:
    NOTHING[name](folder)
    assert answer(WORDS) == 0


@pytest.mark.parametrize("name", CHANGES)
def test_change_is_not_answered(folder: Path, name: str) -> None:
    CHANGES[name](folder)
    assert answer(WORDS) is None


def test_change_taken_back_is_answered(folder: Path) -> None:
    CHANGES["imported-file"](folder)
    assert answer(WORDS) is None
    NOTHING["same-text"](folder)
    assert answer(WORDS) == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("NUMBA_DEBUG", "1"),
        ("CUDA_HOME", "/x"),
        ("TESSERA_CC", "gcc"),
        ("PYTHONPATH", "/y"),
        ("COLUMNS", "91"),
    ],
)
def test_other_environment_is_not_answered(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    assert answer(WORDS) is None


def test_other_import_path_is_not_answered(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path_factory.mktemp("here")
    monkeypatch.syspath_prepend(str(here))
    assert answer(WORDS) is None
    known()
    assert answer(WORDS) == 0
    (here / "numpy-3.0.dist-info").mkdir()
    assert answer(WORDS) is None


@pytest.mark.parametrize(
    "words", [[*WORDS, "--json"], [*WORDS, "--arch", "sm_90"], ["run", *WORDS[1:]], [], [*WORDS, "--timings"]]
)
def test_other_words_are_not_answered(folder: Path, words: list[str]) -> None:
    assert answer(words) is None


def test_other_folder_is_not_answered(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder / "sub")
    assert answer(WORDS) is None


def test_files_are_written_again(folder: Path) -> None:
    made = Path("out/one.tsc")
    made.parent.mkdir()
    made.write_bytes(os.urandom(3000))
    before = made.read_bytes()
    # Another answer: the folder `out` is new, and importable.
    (folder / "sub" / "other.py").write_text("")
    known((made,))
    made.unlink()
    made.parent.rmdir()
    assert answer(WORDS) == 0
    assert made.read_bytes() == before
    made.write_bytes(b"")
    assert answer(WORDS) == 0
    assert made.read_bytes() == before
    assert [p.name for p in made.parent.iterdir()] == ["one.tsc"]


def test_file_that_cannot_be_written_is_left_to_the_command(folder: Path) -> None:
    Path("one.tsc").write_bytes(b"1")
    (folder / "sub" / "other.py").write_text("")
    known((Path("one.tsc"),))
    Path("one.tsc").unlink()
    Path("one.tsc").mkdir()
    (folder / "one.tsc" / "x").write_text("")
    assert answer(WORDS) is None


def test_file_changed_while_it_was_compiled_is_not_kept(folder: Path) -> None:
    CHANGES["file"](folder)
    assert answer(WORDS) is None
    (folder / "sub" / "scaling.py").write_text("RATE = 5.0\n")
    keep(Path("sub/kernels.py"), _project(), (), shown=("", "", ""))
    assert answer(WORDS) is None


def test_file_that_is_not_self_contained_is_not_kept(folder: Path) -> None:
    (folder / "sub" / "scaling.py").write_text("import time\nRATE = time.time()\n")
    known()
    assert answer(WORDS) is None


def test_damaged_answer_is_not_given(folder: Path) -> None:
    (path,) = (folder / "cache").rglob("*.entry")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert answer(WORDS) is None
    assert not path.exists()


def run(folder: Path, *words: str) -> tuple[str, str, list[str]]:
    """stdout, stderr and imported modules of a process."""
    command = [sys.executable, "-X", "importtime", "-m", "tessera", *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    lines = done.stderr.splitlines()
    modules = [line.rpartition("|")[2].strip() for line in lines if line.startswith("import time:")]
    return done.stdout, "\n".join(n for n in lines if not n.startswith("import time:")), modules


def test_whole_command_is_answered_without_compiler_numpy_or_typer(folder: Path) -> None:
    words = ("compile", "sub/kernels.py", "--arch", "sm_80", "-o", "out.tsc")
    run(folder, *words)
    first = (folder / "out.tsc").read_bytes()
    (folder / "out.tsc").unlink()
    second, errors, modules = run(folder, *words)
    assert "1 binary in 0." in second
    assert "all cached" in second
    assert "f_0_mul" in second
    assert errors == ""
    assert (folder / "out.tsc").read_bytes() == first
    heavy = {
        "numba",
        "llvmlite",
        "numpy",
        "typer",
        "rich",
        "msgspec",
        "tessera.language",
        "tessera.compiler.aot",
    }
    assert not heavy & set(modules)
    (folder / "sub" / "scaling.py").write_text("RATE = 3.0\n")
    third, _, modules = run(folder, *words)
    assert "all cached" not in third
    assert "llvmlite" in modules


def test_whole_command_with_json_is_answered(folder: Path) -> None:
    words = ("compile", "sub/kernels.py", "--arch", "sm_80", "--json")
    first, second = (json.loads(run(folder, *words)[0]) for _ in range(2))
    assert list(second) == ["kernels", "seconds"]
    assert [{**row, "cached": True} for row in first["kernels"]] == second["kernels"]
