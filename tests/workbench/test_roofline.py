"""`tessera profile --gpu`: rooflines and verdicts of counted kernels."""

from pathlib import Path

import pytest

from .conftest import Tessera

SOURCE = """\
from numba import cuda, float32

import tessera as ts


@ts.kernel(grid=lambda n: ts.cdiv(n, 256), block=256)
def saxpy(x: ts.Array[ts.f32, "n"], y: ts.Array[ts.f32, "n"]):
    i = cuda.grid(1)
    if i < x.size:
        y[i] = float32(2.5) * x[i] + y[i]


@ts.kernel(grid=lambda n: ts.cdiv(n, 256), block=256)
def series(x: ts.Array[ts.f32, "n"], y: ts.Array[ts.f32, "n"]):
    i = cuda.grid(1)
    if i < x.size:
        total = float32(0)
        for _ in range(20000):
            total = total * x[i] + float32(1)
        y[i] = total


@ts.jit
def layer(x: ts.Tensor[ts.bf16, "batch", 128], w: ts.Tensor[ts.bf16, 128, 64]):
    return ts.softmax(ts.matmul(x, w), axis=-1)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with work.py, which is the current one."""
    (tmp_path / "work.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("width", [80, 160])
def test_ceilings_points_and_verdict_fit_the_terminal(
    tessera: Tessera, folder: Path, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    said = tessera("profile", "work.py:saxpy", "--size", "n=65536", "--arch", "sm_90", "--gpu", "NVIDIA H200")
    assert said.status == 0
    lines = said.out.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("what limits it"))
    assert max(map(len, lines[start:])) <= width
    text = " ".join(said.out.split())
    assert "what limits it on H200 SXM, predicted from the datasheet" in text
    assert "bf16 tensor 767 TFLOP/s measured" in text
    assert "DRAM 4.8 TB/s datasheet NVIDIA H200 datasheet" in text
    # Two arrays of 256 KiB read, one written; 2 operations for each element.
    assert "saxpy 131 k 786 kB 0.167 0.8 T/s" in text
    assert "1. saxpy: launch-bound: the launch takes 2 µs, the work" in text


def test_without_a_gpu_named_the_verdict_is_for_one_of_the_architecture(
    tessera: Tessera, folder: Path
) -> None:
    said = tessera("profile", "work.py:saxpy", "--arch", "sm_80")
    text = " ".join(said.out.split())
    assert "what limits it on A100 SXM 80 GB, predicted from the datasheet" in text
    assert "--gpu NAME for another" in text
    assert "Ceiling" not in said.out
    # A few models stand in the table of least times.
    assert "RTX 4090" in said.out
    assert "RTX 3080" not in said.out


def test_a_gpu_of_another_architecture_is_judged_by_the_registers_that_are_known(
    tessera: Tessera, folder: Path
) -> None:
    gpus = ("--gpu", "V100", "--gpu", "H200")
    said = tessera("profile", "work.py:saxpy", "--arch", "sm_80", "--size", "n=2097152", *gpus, "--json")
    v100, h200 = said.json["programs"][0]["roofline"]
    assert h200["points"][0]["bound"] == "memory"
    assert v100["points"][0]["bound"] == "memory"
    for gpu, own, chart in (("V100 SXM2", "sm_70", v100), ("H200 SXM", "sm_90", h200)):
        note = (
            f"sm_80 was counted, which {gpu} does not run; its warps are reckoned with the registers of "
            f"sm_80's: --arch {own} counts its own code"
        )
        assert note in chart["notes"]


def test_few_blocks_are_said_with_the_multiprocessors_that_idle(tessera: Tessera, folder: Path) -> None:
    said = tessera("profile", "work.py:series", "--size", "n=3072", "--arch", "sm_90", "--gpu", "H200")
    assert "latency-bound: 12 blocks for 132 SMs, 120 stand idle" in " ".join(said.out.split())


@pytest.mark.slow
def test_json_has_ceilings_and_points_of_every_gpu_named(tessera: Tessera, folder: Path) -> None:
    said = tessera(
        "profile", "work.py:layer", "--size", "batch=64", "--arch", "sm_80", "--gpu", "A100 PCIe 40 GB",
        "--gpu", "V100", "--gpu", "V100", "--json",
    )  # fmt: skip
    a100, v100 = said.json["programs"][0]["roofline"]
    assert (a100["gpu"], v100["gpu"]) == ("A100 PCIe 40 GB", "V100 SXM2")
    assert all(c["label"] and c["source"] for c in a100["ceilings"])
    product, softmax = a100["points"]
    assert (product["pipe"], product["operations"]) == ("bf16 tensor", 2 * 64 * 64 * 128)
    # Both operands and the product, once.
    assert product["bytes"] == 2 * (64 * 128 + 128 * 64 + 64 * 64)
    assert softmax["pipe"] == "f32"
    assert all(p["verdict"].startswith(f"{p['bound']}-bound") and p["remedy"] for p in a100["points"])
    # What a V100 cannot do is a note, not a point.
    assert [p["name"] for p in v100["points"]] == [softmax["name"]]
    assert any("no rate for bf16 tensor" in note for note in v100["notes"])
    assert any("--arch sm_70" in note for note in v100["notes"])


def test_a_function_is_judged_from_its_graph_at_any_size(tessera: Tessera, folder: Path) -> None:
    (folder / "product.py").write_text(PRODUCT)
    words = ("inspect", "product.py:product", "--roofline", "H200", "--roofline", "V100")
    said = tessera(*words, "--size", "batch=65536", "--json")
    h200, v100 = said.json["roofline"]
    (point,) = h200["points"]
    assert (point["bound"], point["pipe"], point["origin"]) == ("compute", "bf16 tensor", "graph")
    assert point["operations"] == 2 * 65536 * 4096 * 4096
    # The compiler has no tensor cores of a V100 for it.
    assert v100["points"][0]["pipe"] == "f32"
    text = tessera(*words[:4], "--size", "batch=1").out
    assert "memory-bound (DRAM): 33.6 MB" in " ".join(text.split())


PRODUCT = """\
import tessera as ts


@ts.jit
def product(x: ts.Tensor[ts.bf16, "batch", 4096], w: ts.Tensor[ts.bf16, 4096, 4096]):
    return ts.matmul(x, w)
"""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["product.py", "--roofline", "H200"], "a roofline needs sizes: batch"),
        (["product.py", "--roofline", "H200", "--size", "n=3"], "there is no size called 'n'"),
        (["product.py", "--roofline", "H9", "--size", "batch=3"], "no datasheet for the GPU 'H9'"),
        (["product.py", "--roofline", "H200", "--ptx"], "has a page of its own"),
        (["product.py", "--roofline", "H200", "--occupancy"], "has a page of its own"),
        (["product.py", "--size", "batch=3"], "add --roofline H200"),
        (["work.py:series", "--roofline", "H200", "--size", "n=3"], "series has no graph"),
        (["old.tsd", "--roofline", "H200", "--size", "batch=3"], "no code that H200 SXM runs; it has sm_120"),
    ],
)
def test_bad_calls_of_a_roofline_say_what_is_wrong(
    tessera: Tessera, folder: Path, arguments: list[str], message: str
) -> None:
    (folder / "product.py").write_text(PRODUCT)
    if arguments[0] == "old.tsd":
        tessera("package", "build", "product.py", "--arch", "sm_120", "-o", "old.tsd")
    said = tessera("inspect", *arguments)
    assert (said.status, said.out) == (2, "")
    assert message in said.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--gpu", "H1000"], "did you mean H100 SXM"),
        (["--gpu", "H100"], "several GPUs are called 'H100'"),
        (["--gpu", ""], "no datasheet for the GPU ''"),
        (["--gpu", "H200", "--csv"], "CSV has one row"),
        (["--gpu", "H200", "--device", "cpu"], "judges nothing by datasheets"),
    ],
)
def test_bad_gpus_are_refused_before_anything_is_counted(
    tessera: Tessera, folder: Path, arguments: list[str], message: str
) -> None:
    said = tessera("profile", "work.py:series", "--size", "n=100000000", *arguments)
    assert (said.status, said.out) == (2, "")
    assert message in said.err


def test_an_architecture_without_a_datasheet_has_no_verdict(tessera: Tessera, folder: Path) -> None:
    said = tessera("profile", "work.py:saxpy", "--size", "n=1024", "--arch", "sm_87", "--json")
    assert said.json["programs"][0]["roofline"] == []
