"""The C++ page of the manual: its program compiles and prints what the page says."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import tessera as ts
from tessera.deploy import AOTCompiler

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "cpp.md").read_text(encoding="utf-8")
HEADERS = "".join(path.read_text() for path in (ROOT / "native" / "include" / "tessera").glob("*.h"))
SOURCES = "".join(path.read_text() for path in (ROOT / "native" / "src").glob("*.cpp"))


def test_the_pages_program_prints_what_the_page_says(
    compile_program: Callable[..., Path], digits: object, tmp_path: Path
) -> None:
    spec = ts.TensorSpec(shape=("batch", 64), dtype=ts.f32)
    compiled = AOTCompiler(target_architectures=["cpu"]).compile(digits.load(ts.f32), input_specs=[spec])
    compiled.save(tmp_path / "digits.tsd")
    (code,) = re.findall(r"```cpp\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "classify.cpp").write_text(code)
    program = compile_program(tmp_path / "classify.cpp", tmp_path / "classify")
    done = subprocess.run([program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"$ ./classify\n{done.stdout}" in PAGE


def test_every_name_on_the_page_exists() -> None:
    for name in re.findall(r"^\| `(.+?)` \|", PAGE, re.MULTILINE):
        for word in re.findall(r"\b[A-Za-z_]{4,}\b", name):
            assert word in HEADERS or word in SOURCES, word
