"""The layers: schemas ← scoring, annotation ← pipeline; no import cycles; one import root."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import marginalia

ROOT = Path(__file__).parents[1]
ALLOWED = {
    "schemas": set(),
    "scoring": {"schemas"},
    "annotation": {"schemas"},
    "pipeline": {"schemas", "scoring", "annotation"},
}
SERVER_SIDE = ROOT / "annotation/server/inside"  # runs in the Argilla server's environment, by its own names


def modules() -> dict[str, Path]:
    """Every module of the four packages, by its full name."""
    by_name = {}
    for layer in ALLOWED:
        for path in sorted((ROOT / layer).rglob("*.py")):
            if not path.is_relative_to(SERVER_SIDE):
                parts = path.relative_to(ROOT).with_suffix("").parts
                by_name[".".join(("marginalia", *(parts[:-1] if parts[-1] == "__init__" else parts)))] = path
    return by_name


def imports(path: Path) -> Iterator[str]:
    """Names of all modules that a file imports, in functions and for type checking too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def layer_of(name: str) -> str:
    first, _, rest = name.partition(".")
    return rest.partition(".")[0] if first == "marginalia" else ""


@pytest.mark.parametrize("layer", ALLOWED)
def test_a_layer_imports_only_lower_ones(layer: str) -> None:
    for name, path in modules().items():
        if layer_of(name) == layer:
            used = {layer_of(target) for target in imports(path)} & ALLOWED.keys()
            assert used <= ALLOWED[layer] | {layer}, f"{path} imports {used - ALLOWED[layer] - {layer}}"


def test_the_scan_sees_the_modules() -> None:
    by_name = modules()
    assert {f"marginalia.{name}" for name in ("scoring.scorer", "schemas.errors", "pipeline")} <= by_name.keys()
    assert "marginalia.schemas.errors" in set(imports(by_name["marginalia.scoring.scorer"]))


def test_there_is_one_import_root() -> None:
    """`import scoring` works in a checkout, and would load a module a second time."""
    files = [path for folder in (*ALLOWED, "tests", "benchmarks") for path in (ROOT / folder).rglob("*.py")]
    for path in files:
        if not path.is_relative_to(SERVER_SIDE):
            assert not {target.split(".")[0] for target in imports(path)} & ALLOWED.keys(), path


def test_no_import_cycles_lazy_imports_included() -> None:
    known = modules()
    graph = {name: {t for t in imports(path) if t in known and t != name} for name, path in known.items()}
    try:
        assert len(list(TopologicalSorter(graph).static_order())) == len(known)
    except CycleError as error:
        pytest.fail(f"import cycle: {' → '.join(error.args[1])}")


def test_only_its_command_imports_the_demo() -> None:
    users = {
        name
        for name, path in modules().items()
        for target in imports(path)
        if target.startswith("marginalia.pipeline.demo") and not name.startswith("marginalia.pipeline.demo")
    }
    assert users == {"marginalia.pipeline.commands.cli"}


@pytest.mark.parametrize("path", sorted((ROOT / "scoring").rglob("*.py")), ids=lambda path: path.name)
def test_scoring_is_usable_on_its_own(path: Path) -> None:
    forbidden = {"argilla", "openai", "datasets", "typer"}
    assert not {target.split(".")[0] for target in imports(path)} & forbidden


def test_no_class_name_and_no_file_name_occurs_twice() -> None:
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in modules().values()}
    classes = Counter(
        node.name
        for tree in trees.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    )
    assert [name for name, count in classes.items() if count > 1] == []
    files = Counter(path.name for path in trees if path.name not in ("__init__.py", "config.py"))
    assert [name for name, count in files.items() if count > 1] == []


def test_every_exported_name_is_there() -> None:
    for name in marginalia.__all__:
        assert getattr(marginalia, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'scorer_of_tomorrow'"):
        marginalia.scorer_of_tomorrow  # noqa: B018


def test_importing_the_package_is_quick() -> None:
    code = "import sys, marginalia; print(sorted({'torch', 'polars', 'numpy', 'pydantic'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"
