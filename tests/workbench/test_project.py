"""tessera.toml."""

from pathlib import Path

import pytest

from tessera.program.errors import ConfigError
from tessera.workbench.project import Project, find_project


def write(folder: Path, text: str) -> Path:
    (folder / "tessera.toml").write_text(text)
    return folder


def test_settings_are_found_upward(tmp_path: Path) -> None:
    write(
        tmp_path,
        '[project]\nname = "p"\n[compile]\narch = ["sm_80", "cpu"]\nout = "made"\n[serve]\nport = 9000\n',
    )
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    project = find_project(inner)
    assert project.name == "p"
    assert project.arch() == ("sm_80", "cpu")
    assert project.out() == tmp_path / "made"
    assert project.serve == {"port": 9000}


def test_without_a_file_everything_is_empty(tmp_path: Path) -> None:
    assert find_project(tmp_path) == Project()


@pytest.mark.parametrize(
    ("text", "key", "line", "hint"),
    [
        ("[compile]\narchs = []\n", "archs", 2, "did you mean 'arch'?"),
        ("[compil]\narch = []\n", "compil", 1, "did you mean 'compile'?"),
        ("[project]\nname = 'x'\n[serve]\n\nprt = 1\n", "prt", 5, "did you mean 'port'?"),
        ("[compile]\narch = 'sm_80'\n", "arch", 2, None),
        ("[compile]\nfast_math = 1\n", "fast_math", 2, None),
        ("[serve]\nport = 'x'\n", "port", 2, None),
        ("[specs.f]\nx = 3\n", "x", 2, "bf16[None,1024]"),
        ("arch = ['sm_80']\n", "arch", 1, "sections: "),
    ],
)
def test_a_wrong_setting_is_named_with_its_line(
    tmp_path: Path, text: str, key: str, line: int, hint: str | None
) -> None:
    with pytest.raises(ConfigError) as caught:
        find_project(write(tmp_path, text))
    assert caught.value.fields["key"] == key
    assert key in caught.value.message
    assert caught.value.location is not None
    assert caught.value.location.line == line
    if hint:
        assert caught.value.hint is not None
        assert hint in caught.value.hint


def test_a_file_that_is_no_toml_names_the_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"is no TOML") as caught:
        find_project(write(tmp_path, "[compile]\narch = [\n"))
    assert caught.value.location is not None
    assert caught.value.location.line == 2
