"""`tessera inspect --occupancy`."""

from pathlib import Path

import pytest

from tessera.program.arch import SM_LIMITS

from .conftest import Tessera

SOURCE = """\
from numba import cuda, float32

import tessera as ts


@ts.kernel(grid=lambda n: ts.cdiv(n, 256), block=256)
def saxpy(x: ts.Array[ts.f32, "n"], y: ts.Array[ts.f32, "n"]):
    i = cuda.grid(1)
    if i < x.size:
        y[i] = float32(2.5) * x[i] + y[i]


@ts.kernel(grid=lambda n: ts.cdiv(n, 64), block=64)
def tiles(x: ts.Array[ts.f32, "n"], y: ts.Array[ts.f32, "n"]):
    tile = cuda.shared.array(6144, float32)
    i, t = cuda.grid(1), cuda.threadIdx.x
    if i < x.size:
        tile[t] = x[i]
    cuda.syncthreads()
    if i < x.size:
        y[i] = tile[63 - t]
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with held.py, which is the current one."""
    (tmp_path / "held.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("width", [80, 160])
def test_tables_of_one_kernel_fit_the_terminal(
    tessera: Tessera, folder: Path, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    said = tessera("inspect", "held.py:tiles", "--occupancy", "--arch", "sm_90")
    assert said.status == 0
    lines = said.out.splitlines()
    assert max(map(len, lines)) <= width
    assert "predicted from the assembler's registers" in lines[0] + " " + lines[1]
    (own,) = [line.split() for line in lines if line.split()[:2] == ["tiles", "sm_90"]]
    assert own[2] == "64"
    assert own[4:] == ["24,576", "B", "9", "28", "%", "shared", "memory"]
    text = " ".join(said.out.split())
    assert "with 22,272 bytes of shared memory instead of 24 KiB: 10 blocks of 64 instead of 9" in text
    # Where it stands is marked once in each of three tables.
    assert sum(line.lstrip().startswith("▸ ") and "██" in line for line in lines) == 3


def test_several_kernels_and_architectures_have_a_line_each(tessera: Tessera, folder: Path) -> None:
    said = tessera("inspect", "held.py", "--occupancy", "--arch", "sm_75", "--arch", "sm_90")
    rows = [line.split()[:2] for line in said.out.splitlines() if line.split()[1:2] in (["sm_75"], ["sm_90"])]
    assert rows == [["saxpy", "sm_75"], ["saxpy", "sm_90"], ["tiles", "sm_75"], ["tiles", "sm_90"]]
    assert "tiles for sm_75\n" in said.out
    assert "--kernel NAME and one --arch" in " ".join(said.out.split())
    one = tessera("inspect", "held.py", "--occupancy", "--arch", "sm_90", "--kernel", "axp")
    assert "Registers of a thread" in one.out


def test_every_architecture_is_one_word(tessera: Tessera, folder: Path) -> None:
    said = tessera("inspect", "held.py:saxpy", "--occupancy", "--arch", "all")
    rows = [line.split()[1] for line in said.out.splitlines() if line.split()[:1] == ["saxpy"]]
    assert [r for r in rows if r.startswith("sm_")] == [f"sm_{a}{b}" for a, b in SM_LIMITS]
    # Architectures of which the same is to be said stand together.
    assert "saxpy for sm_70, sm_72" in said.out


def test_json_has_every_row(tessera: Tessera, folder: Path) -> None:
    said = tessera("inspect", "held.py", "--occupancy", "--arch", "sm_80", "--arch", "sm_120", "--json")
    found = said.json["occupancy"]
    assert [(t["kernel"], t["target"]) for t in found] == [
        ("saxpy", "sm_80"), ("saxpy", "sm_120"), ("tiles", "sm_80"), ("tiles", "sm_120"),
    ]  # fmt: skip
    assert found[0]["occupancy"]["limiter"] == "warps"
    assert found[0]["registers"][-1]["last"] == 255
    assert sum(row["here"] for row in found[2]["shared"]) == 1


def test_a_package_has_the_occupancy_it_was_compiled_with(tessera: Tessera, folder: Path) -> None:
    assert tessera("package", "build", "held.py:tiles", "--arch", "sm_80", "-o", "held.tsd").status == 0
    said = tessera("inspect", "held.tsd", "--occupancy", "--json")
    (table,) = said.json["occupancy"]
    assert (table["target"], table["needs"]["shared_bytes"]) == ("sm_80", 24576)


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["held.py", "--occupancy", "--ptx"], 2, "has a page of its own"),
        (["held.py", "--kernel", "saxpy"], 2, "add --occupancy"),
        (["held.py", "--occupancy", "--kernel", "nothing"], 2, "there are: saxpy, tiles"),
        (["held.py", "--occupancy", "--arch", "sm_42"], 2, "sm_42"),
        (["gone.py", "--occupancy"], 2, "there is no file gone.py"),
        (["torn.tsd", "--occupancy"], 1, "was cut off"),
    ],
)
def test_bad_calls_say_what_is_wrong(
    tessera: Tessera, folder: Path, arguments: list[str], status: int, message: str
) -> None:
    (folder / "torn.tsd").write_bytes(b"PK\x03\x04torn")
    said = tessera("inspect", *arguments)
    assert (said.status, said.out) == (status, "")
    assert message in said.err


def test_code_for_the_cpu_has_no_occupancy(tessera: Tessera, folder: Path) -> None:
    said = tessera("inspect", "held.py:saxpy", "--occupancy", "--arch", "cpu", "--json")
    assert said.json["occupancy"] == []
    assert "no machine code for a GPU" in said.err
