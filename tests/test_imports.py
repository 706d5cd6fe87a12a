"""What importing Tessera costs: nothing heavy, and public names that exist."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import tessera

HEAVY = ("numpy", "ml_dtypes", "numba", "llvmlite", "textual", "typer", "rich", "plotly", "cupy")


def imported_after(code: str) -> set[str]:
    """Which heavy packages a fresh interpreter has after `code`."""
    script = f"import sys\n{code}\nprint(*[m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_import_tessera_imports_nothing_heavy() -> None:
    assert imported_after("import tessera") == set()


def test_every_public_name_imports_nothing_heavy() -> None:
    assert imported_after("from tessera import *") == set()


def test_tracing_a_function_without_weights_needs_no_numpy(tmp_path: Path) -> None:
    source = tmp_path / "functions.py"
    source.write_text(
        "import tessera as ts\n\n@ts.jit\ndef f(x: ts.Tensor[ts.bf16, 'n', 64]):\n    return ts.relu(x)\n"
    )
    code = f"sys.path.insert(0, {str(tmp_path)!r})\nimport functions\nfunctions.f.trace()"
    assert imported_after(code) == set()


@pytest.mark.parametrize("name", tessera.__all__)
def test_public_name_exists(name: str) -> None:
    assert getattr(tessera, name) is not None


def test_all_is_sorted_complete_and_typed() -> None:
    from tessera.language import operators

    assert tessera.__all__ == sorted(tessera.__all__, key=_constants_classes_others)
    assert len(set(tessera.__all__)) == len(tessera.__all__)
    tree = ast.parse(Path(tessera.__file__).read_text())
    (guard,) = [n for n in tree.body if isinstance(n, ast.If)]
    typed = {a.asname or a.name for n in ast.walk(guard) if isinstance(n, ast.ImportFrom) for a in n.names}
    # The operators, as type-checkers see them: `from tessera.language.operators import *`.
    assert "*" in typed
    typed = typed - {"*"} | set(operators.__all__)
    assert typed | {"__version__"} == set(tessera.__all__)


def test_public_operators_are_where_the_table_of_names_says() -> None:
    from tessera.language import operators

    public = {name for name, home in tessera._HOMES.items() if home == operators.__name__}
    assert public == set(operators.__all__)
    assert set(tessera._HOMES) | set(tessera._MODULES) | {"__version__"} == set(tessera.__all__)


def _constants_classes_others(name: str) -> tuple[int, list[tuple[str, int]]]:
    numbered = [(text, int(digits or 0)) for text, digits in re.findall(r"([^0-9]*)([0-9]*)", name)]
    return (0 if name.isupper() else 1 if name[0].isupper() else 2), numbered


def test_every_operator_of_the_language_is_public() -> None:
    from tessera.language.operators import OPERATORS

    assert set(OPERATORS) <= set(tessera.__all__)


def test_unknown_name_says_which_is_meant() -> None:
    with pytest.raises(AttributeError, match=r"no attribute 'sofmax'; did you mean ts\.softmax"):
        _ = tessera.sofmax  # type: ignore[attr-defined]


def test_dir_lists_names_not_yet_imported() -> None:
    assert set(tessera.__all__) <= set(dir(tessera))
