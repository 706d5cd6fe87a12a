"""What an edit makes the compiler do: nothing where it means nothing, the right thing where it does.

Stale: the cache answers with other code than a compiler without a cache makes. Spurious: code is made anew
although nothing changed.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from edited_project import HARMLESS, MEANINGFUL, PROJECT, SUBJECTS, Edit, change, project

from tessera.compiler.aot import AOTCompiler, AOTConfig
from tessera.compiler.cache import CompileCache
from tessera.compiler.options import CompilationTarget
from tessera.program.artifact import KernelBinary


def compiled(module: Any, name: str, cache: CompileCache, **settings: Any) -> tuple[KernelBinary, ...]:
    """PTX alone: what a cubin is made of, in a fraction of the time."""
    given = {"targets": [CompilationTarget("sm_80")], "generate_cubin": False, **settings}
    return AOTCompiler(AOTConfig(**given), cache=cache).compile(getattr(module, name)).binaries


def same(ours: tuple[KernelBinary, ...], theirs: tuple[KernelBinary, ...]) -> bool:
    return [(b.name, b.data) for b in ours] == [(b.name, b.data) for b in theirs]


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> CompileCache:
    """A cache that holds the whole project, with and without line information."""
    cache = CompileCache(tmp_path_factory.mktemp("cache"))
    with project(tmp_path_factory.mktemp("project") / "first", PROJECT) as module:
        for name in SUBJECTS:
            assert not any(b.cached for b in compiled(module, name, cache))
            compiled(module, name, cache, include_debug_info=True)
    return cache


def edited(edit: Edit) -> dict[str, str]:
    files = dict(PROJECT)
    edit(files)
    return files


@pytest.mark.parametrize("name", HARMLESS)
@pytest.mark.parametrize("subject", SUBJECTS)
def test_edit_that_means_nothing_is_answered_from_the_cache(
    tmp_path: Path, warm: CompileCache, subject: str, name: str
) -> None:
    with project(tmp_path / "moved", edited(HARMLESS[name])) as module:
        assert all(b.cached for b in compiled(module, subject, warm))


@pytest.mark.slow
@pytest.mark.parametrize(("subject", "name", "edit"), MEANINGFUL, ids=[f"{s}-{n}" for s, n, _ in MEANINGFUL])
@pytest.mark.parametrize("lines", [False, True], ids=["plain", "lines"])
def test_edit_with_a_meaning_gives_what_a_compiler_without_cache_makes(
    tmp_path: Path, warm: CompileCache, subject: str, name: str, edit: Edit, lines: bool
) -> None:
    with project(tmp_path / "moved", edited(edit)) as module:
        ours = compiled(module, subject, warm, include_debug_info=lines)
        assert not all(b.cached for b in ours)
        # Another object: a function that has been lowered once may keep what it was.
    with project(tmp_path / "again", edited(edit)) as module:
        assert same(ours, compiled(module, subject, CompileCache.off(), include_debug_info=lines))
        assert all(b.cached for b in compiled(module, subject, warm, include_debug_info=lines))


@pytest.mark.parametrize("subject", SUBJECTS)
def test_edit_taken_back_is_answered_from_the_cache(tmp_path: Path, warm: CompileCache, subject: str) -> None:
    with project(tmp_path / "changed", edited(change("deep.py", "BASE = 0.5", "BASE = 0.625"))) as module:
        compiled(module, subject, warm)
    with project(tmp_path / "back", PROJECT) as module:
        assert all(b.cached for b in compiled(module, subject, warm))


@pytest.mark.parametrize("subject", SUBJECTS)
def test_shifted_lines_are_made_anew_with_line_information(
    tmp_path: Path, warm: CompileCache, subject: str
) -> None:
    def shift(files: dict[str, str]) -> None:
        files.update({name: "\n\n\n" + text for name, text in files.items()})

    with project(tmp_path / "moved", edited(shift)) as module:
        ours = compiled(module, subject, warm, include_debug_info=True)
        assert same(ours, compiled(module, subject, CompileCache.off(), include_debug_info=True))


OPTIONS: dict[str, dict[str, Any]] = {
    "level": {"targets": [CompilationTarget("sm_80", ["-O1"])]},
    "fast-math": {"targets": [CompilationTarget("sm_80", ["-O3", "--use_fast_math"])]},
    "registers": {"targets": [CompilationTarget("sm_80", ["-O3", "--maxrregcount=24"])]},
    "architecture": {"targets": [CompilationTarget("sm_89")]},
    "hopper": {"targets": [CompilationTarget("sm_90", enable_hopper_features=True)]},
}


@pytest.mark.slow
@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("subject", SUBJECTS)
def test_option_gives_what_a_compiler_without_cache_makes(
    tmp_path: Path, warm: CompileCache, subject: str, option: str
) -> None:
    with project(tmp_path / "moved", PROJECT) as module:
        ours = compiled(module, subject, warm, **OPTIONS[option])
        assert not any(b.cached for b in ours)
        assert same(ours, compiled(module, subject, CompileCache.off(), **OPTIONS[option]))


def test_touched_files_and_other_hash_seeds_are_answered_from_the_cache(
    tmp_path: Path, warm: CompileCache
) -> None:
    with project(tmp_path / "here", PROJECT):
        for file in (tmp_path / "here").iterdir():
            os.utime(file, (1, 1))
    script = f"""
import sys
sys.path[:0] = [{str(tmp_path / "here")!r}, {str(Path(__file__).parent)!r}]
from pathlib import Path
import kernels, test_edits
from tessera.compiler.cache import CompileCache
cache = CompileCache(Path({str(warm.folder)!r}))
for name in test_edits.SUBJECTS:
    assert all(b.cached for b in test_edits.compiled(kernels, name, cache)), name
"""
    for seed in ("1", "2", "77"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        subprocess.run([sys.executable, "-c", script], check=True, env=environment)


def test_other_versions_of_the_tools_make_everything_anew(
    tmp_path: Path, warm: CompileCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tessera.compiler import cache as module

    known = dict(module.toolchain())
    with project(tmp_path / "here", PROJECT) as source:
        for tool in known:
            monkeypatch.setattr(module, "toolchain", lambda tool=tool: {**known, tool: "another"})
            assert not any(b.cached for b in compiled(source, "plain", warm))
