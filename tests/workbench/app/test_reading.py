"""What the app reads: outlines, line maps, colours, editors."""

import textwrap
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tessera.workbench.app.editor import editor_command
from tessera.workbench.app.highlight import highlight
from tessera.workbench.app.outline import MAX_FILES, list_project, read_outline
from tessera.workbench.app.ptx_lines import first_location, line_map, with_source
from tessera.workbench.app.words import title
from tessera.workbench.failure import visible

PTX = textwrap.dedent(
    """\
    .visible .entry saxpy(
    )
    {
    \t.loc\t1 9 0
    \tld.param.f32 %f1, [saxpy_param_0];
    \t.loc\t2 40 5, function_name $L__info_string0, inlined_at 1 11 9
    \tmul.wide.u32 %rd1, %r1, 4;
    \t.loc\t2 41 5
    \tadd.s64 %rd2, %rd1, 1;
    \tret;
    }
    \t.file\t1 "kernels.py", 1, 1
    \t.file\t2 "intrinsics.py", 1, 1
    """
)


def written(folder: Path, text: str) -> Path:
    path = folder / "source.py"
    path.write_text(textwrap.dedent(text))
    return path


def test_outline_finds_what_tessera_decorates_under_any_name(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        """\
        import tessera
        import tessera as ts
        from tessera import Module, kernel as k, jit

        @ts.kernel(grid=1, block=32)
        def one(): ...

        @k(grid=1, block=32)
        def two(): ...

        @jit
        def three(x): ...

        class Model(Module):
            def forward(self, x): ...

        model = Model()
        other = object()

        def load():
            return Model()

        loaded = load()

        @property
        def four(): ...

        @tessera.jit(name="f")
        def five(x):
            return x
        """,
    )
    found = [(d.name, d.kind, d.line) for d in read_outline(path).definitions]
    assert found == [
        ("one", "kernel", 6),
        ("two", "kernel", 9),
        ("three", "function", 12),
        ("model", "module", 17),
        ("loaded", "module", 23),
        ("five", "function", 29),
    ]


def test_outline_of_a_file_that_does_not_parse_says_where(tmp_path: Path) -> None:
    assert read_outline(written(tmp_path, "x = 1\ndef f(:\n")).problem == "line 2: invalid syntax"


def test_outline_ignores_files_without_tessera(tmp_path: Path) -> None:
    assert (
        read_outline(written(tmp_path, "class ts:\n    jit = 1\n@ts.jit\ndef f(): ...\n")).definitions == ()
    )


def test_project_lists_kernels_first_and_skips_hidden_and_built(tmp_path: Path) -> None:
    for name in (
        "a.py",
        "sub/k.py",
        ".git/x.py",
        "__pycache__/y.py",
        "out/z.py",
        "notes.txt",
        "tessera.toml",
    ):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("import tessera as ts\n@ts.jit\ndef f(x): ...\n" if name == "sub/k.py" else "x = 1\n")
    names = [f.path.relative_to(tmp_path).as_posix() for f in list_project(tmp_path).files]
    assert names == ["sub/k.py", "a.py", "tessera.toml"]


def test_project_of_very_many_files_is_cut_and_says_so(tmp_path: Path) -> None:
    for number in range(MAX_FILES + 5):
        (tmp_path / f"f{number}.md").touch()
    listing = list_project(tmp_path)
    assert (len(listing.files), listing.truncated) == (MAX_FILES, True)


def test_line_map_goes_both_ways_and_follows_inlining() -> None:
    found = line_map(PTX, "kernels.py")
    assert found.source_of[:11] == (None, None, None, 9, 9, 11, 11, None, None, None, None)
    assert found.ptx_of == {9: (3, 4), 11: (5, 6)}


def test_line_map_of_another_file_is_empty() -> None:
    assert line_map(PTX, "other.py").ptx_of == {}


@given(st.text())
def test_highlighting_keeps_every_line(text: str) -> None:
    for language in ("python", "ptx", "no such language"):
        lines = highlight(text, language, {})
        shown = "\n".join("".join(piece for piece, _ in line) for line in lines)
        expected = visible(text.expandtabs(4))
        assert shown.rstrip("\n") == expected.rstrip("\n")


def test_editor_gets_the_line_where_it_understands_it() -> None:
    path = Path("k.py")
    assert editor_command(path, 7, {"EDITOR": "vim -n"}) == ["vim", "-n", "+7", "k.py"]
    assert editor_command(path, 7, {"VISUAL": "code --wait", "EDITOR": "vi"}) == ["code", "--wait", "k.py"]


def test_source_lines_stand_where_their_instructions_begin() -> None:
    source = ["# line"] * 8 + ["def saxpy(x):", "    ", "    i = cuda.grid(1)"]
    shown = with_source(PTX, "kernels.py", source).splitlines()
    assert shown[3] == "\t.loc\t1 9 0\t// kernels.py:9: def saxpy(x):"
    assert shown[5].endswith("inlined_at 1 11 9\t// kernels.py:11: i = cuda.grid(1)")
    assert [line.split("\t//")[0] for line in shown] == PTX.splitlines()
    assert with_source(PTX, "kernels.py", []).splitlines() == PTX.splitlines()
    assert with_source(PTX, "other.py", source).splitlines() == PTX.splitlines()


def test_code_of_ptx_begins_at_its_first_location() -> None:
    assert first_location(PTX) == 3
    assert first_location("// nothing\n") == 0


def test_title_names_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "hello"
    folder.mkdir()
    monkeypatch.chdir(folder)
    assert title(folder, 80) == "Tessera · hello"
