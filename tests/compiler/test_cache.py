"""What counts as the same kernel, and what a cache survives."""

import enum
import errno
import linecache
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tessera.compiler.aot import AOTCompiler, AOTConfig
from tessera.compiler.cache import CompileCache, Entry, entry_key
from tessera.compiler.fingerprint import UnknownValueError, function_digest
from tessera.compiler.options import CompilationTarget, ToolOptions

KERNEL = """
import tessera as ts
from numba import cuda

FACTOR = 3.0
{extra}

@cuda.jit(device=True)
def helper(v):
    return v * FACTOR + {constant}

@ts.kernel(grid=lambda n: ts.cdiv(n, 256), block={block})
def work(x: ts.Array[ts.f32, "n"], y: ts.Array[ts.f32, "n"]):
    {docstring}
    i = cuda.grid(1)
    if i < x.size:{comment}
        y[i] = helper(x[i]) + 1.0
"""


def load(folder: Path, **changes):
    """The kernel of a file written for this call, as a fresh import would see it."""
    parts = {"extra": "", "constant": "2.0", "block": "256", "docstring": '"""Doc."""', "comment": ""}
    path = folder / "kernels.py"
    folder.mkdir(exist_ok=True, parents=True)
    path.write_text(KERNEL.format(**{**parts, **changes}))
    linecache.checkcache(str(path))
    namespace = {"__name__": "kernels"}
    exec(compile(path.read_text(), str(path), "exec"), namespace)
    return namespace["work"]


def was_cached(kernel, cache, *, flags=("-O3",), target="sm_80", **settings):
    config = AOTConfig(targets=[CompilationTarget(target, flags)], **settings)
    compiled = AOTCompiler(config, cache=cache).compile(kernel)
    return all(b.cached for b in compiled.binaries)


@pytest.fixture
def cache(tmp_path):
    return CompileCache(tmp_path / "cache")


@pytest.fixture
def warm(tmp_path, cache):
    """A cache that holds the unchanged kernel."""
    assert not was_cached(load(tmp_path / "source"), cache)
    return cache


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"comment": "  # only a comment"},
        {"extra": "\n\n# lines above\n\n"},
        {"docstring": '"""Another text."""'},
        {"extra": "UNUSED = 99"},
    ],
    ids=["nothing", "comment", "lines", "docstring", "unused"],
)
def test_change_that_means_nothing_is_a_hit(tmp_path, warm, changes):
    assert was_cached(load(tmp_path / "elsewhere", **changes), warm)


def test_touched_file_is_a_hit(tmp_path, warm):
    os.utime(tmp_path / "source" / "kernels.py", (1, 1))
    assert was_cached(load(tmp_path / "source"), warm)


@pytest.mark.parametrize(
    "changes",
    [{"extra": "FACTOR = 4.0"}, {"constant": "2.5"}, {"block": "128"}],
    ids=["global", "helper", "block"],
)
def test_change_of_meaning_is_a_miss(tmp_path, warm, changes):
    assert not was_cached(load(tmp_path / "source", **changes), warm)


@pytest.mark.parametrize(
    "options",
    [
        {"flags": ("-O1",)},
        {"flags": ("-O3", "--use_fast_math")},
        {"flags": ("-O3", "--maxrregcount=32")},
        {"target": "sm_90"},
        {"include_debug_info": True},
        {"generate_cubin": False},
    ],
    ids=str,
)
def test_change_of_options_is_a_miss(tmp_path, warm, options):
    assert not was_cached(load(tmp_path / "source"), warm, **options)


def test_line_shift_is_a_miss_with_line_information(tmp_path, cache):
    settings = {"include_debug_info": True}
    assert not was_cached(load(tmp_path), cache, **settings)
    assert was_cached(load(tmp_path), cache, **settings)
    assert not was_cached(load(tmp_path, extra="\n\n"), cache, **settings)


def test_change_of_toolchain_is_a_miss(tmp_path, warm, monkeypatch):
    from tessera.compiler import cache as module

    versions = {**module.toolchain(), "numba-cuda": "99.0"}
    monkeypatch.setattr(module, "toolchain", lambda: versions)
    assert not was_cached(load(tmp_path / "source"), warm)


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "other"])
def test_damaged_entry_is_found_and_made_anew(tmp_path, warm, damage):
    (path,) = warm.folder.glob("??/*.entry")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    contents = {"flip": bytes(data), "cut": bytes(data)[:-7], "empty": b"", "other": b"not an entry"}
    path.write_bytes(contents[damage])
    assert not was_cached(load(tmp_path / "source"), warm)
    assert was_cached(load(tmp_path / "source"), warm)


def test_entry_of_a_newer_form_is_not_misread(tmp_path):
    from tessera.compiler.cache_file import write_entry

    cache = CompileCache(tmp_path)
    key = entry_key(ToolOptions("sm_80"), {"name": "x"})
    cache.put(key, Entry(files={"ptx": b"text"}))
    (path,) = tmp_path.glob("??/*.entry")
    write_entry(path, b"\xc1 not msgpack")
    assert cache.get(key) is None
    assert not path.exists()


def test_folder_that_cannot_be_written_is_a_note_not_a_failure(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    compiled = AOTCompiler(target_architectures=["sm_80"], cache=CompileCache(blocked / "cache")).compile(
        load(tmp_path)
    )
    assert any("cache" in note and "could not be written" in note for note in compiled.artifact.notes)


def test_cache_that_is_off_keeps_nothing(tmp_path):
    assert not was_cached(load(tmp_path), CompileCache.off())
    assert not was_cached(load(tmp_path), CompileCache.off())


def test_folder_comes_from_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("TESSERA_CACHE_DIR", str(tmp_path / "chosen"))
    assert CompileCache.default().folder == tmp_path / "chosen" / "kernels"
    monkeypatch.delenv("TESSERA_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert CompileCache.default().folder == tmp_path / "xdg" / "tessera" / "kernels"


def test_old_entries_go_when_the_folder_is_full(tmp_path):
    cache = CompileCache(tmp_path, max_bytes=2500)
    keys = [entry_key(ToolOptions("sm_80"), {"name": str(i)}) for i in range(4)]
    for age, key in enumerate(keys):
        cache.put(key, Entry(files={"ptx": bytes(1000)}))
        path = cache._path(key)
        stamp = time.time() - 100 + age
        os.utime(path, (stamp, stamp))
    assert cache.prune() == 2
    assert [cache.get(key) is not None for key in keys] == [False, False, True, True]


PROCESS = """
import sys
sys.path.insert(0, sys.argv[1])
import kernels
from tessera.compiler.aot import AOTCompiler
compiled = AOTCompiler(target_architectures=["sm_80", "cpu"]).compile(kernels.work)
import hashlib
print([hashlib.sha256(b.data).hexdigest() for b in compiled.binaries])
"""


def test_two_processes_at_once_agree(tmp_path):
    load(tmp_path / "source")
    env = {
        **os.environ,
        "TESSERA_CACHE_DIR": str(tmp_path / "shared"),
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    command = [sys.executable, "-c", PROCESS, str(tmp_path / "source")]
    running = [
        subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(2)
    ]
    results = [process.communicate(timeout=120) for process in running]
    assert [p.returncode for p in running] == [0, 0], results
    assert results[0][0] == results[1][0]
    assert not list((tmp_path / "shared").rglob(".*")), "temporary files were left behind"


HIT = """
import sys
import tessera as ts
from tessera.compiler.build import Builder
from tessera.compiler.cache import CompileCache, Entry
from tessera.compiler.job import Job
from tessera.compiler.options import AOTConfig
from tessera.program.artifact import Resources
config = AOTConfig(targets=["sm_80"])
options = config.tool_options()
job = Job("k", "cuda", {"any": "thing"}, load=lambda: sys.exit("not a hit"), threads=256)
entry = Entry(files={"cubin": b"code", "ptx": b"text"}, resources=Resources(registers=8))
cache = CompileCache.default()
cache.put(job.key(options[0], cubin=True), entry)
builder = Builder(config, cache)
assert all(b.cached for item in builder.begin_gpu("p", [job], options) for b in builder.gpu(item))
heavy = {m for m in ("numba", "llvmlite", "numpy", "cuda.core", "cuda.bindings") if m in sys.modules}
sys.exit(str(heavy) if heavy else 0)
"""


def test_hit_imports_no_compiler(tmp_path):
    env = {**os.environ, "TESSERA_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", HIT], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_closure_and_default_values_count():
    def make(value, default):
        def kernel(x, y=default):
            x[0] = value

        return kernel

    assert function_digest(make(1.0, 2)) == function_digest(make(1.0, 2))
    assert len({function_digest(make(*v)) for v in ((1.0, 2), (1.5, 2), (1.0, 3), (1, 2), (True, 2))}) == 5


def test_values_of_an_enum_count():
    def make(value):
        mode = enum.IntEnum("Mode", {"FAST": value})

        def kernel(x):
            x[0] = mode.FAST

        return kernel

    assert function_digest(make(1)) == function_digest(make(1))
    assert function_digest(make(1)) != function_digest(make(2))


def test_recursive_functions_have_a_digest():
    def even(n):
        return n == 0 or odd(n - 1)

    def odd(n):
        return n != 0 and even(n - 1)

    assert function_digest(even) != function_digest(odd)


def test_function_that_reads_an_unknown_object_has_none():
    class Settings:
        factor = 2

    settings = Settings()

    def kernel(x):
        x[0] = settings.factor

    with pytest.raises(UnknownValueError, match="Settings"):
        function_digest(kernel)


def test_entry_that_finds_no_space_leaves_nothing(tmp_path, monkeypatch):
    def full(self, target):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    cache = CompileCache(tmp_path)
    cache.put(entry_key(ToolOptions("sm_80"), {"name": "x"}), Entry(files={"ptx": b"text"}))
    assert "No space left" in cache.failure
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []
