"""The house: schemas ← scoring, annotation ← pipeline; scoring and annotation never meet; no import cycles."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ALLOWED = {
    "schemas": set(),
    "scoring": {"schemas"},
    "annotation": {"schemas"},
    "pipeline": {"schemas", "scoring", "annotation"},
}
SERVER_SIDE = ROOT / "annotation/server/inside"  # runs in the Argilla server's environment, by its own names


def modules() -> dict[str, Path]:
    found = {}
    for floor in ALLOWED:
        for path in sorted((ROOT / floor).rglob("*.py")):
            if not path.is_relative_to(SERVER_SIDE):
                parts = path.relative_to(ROOT).with_suffix("").parts
                found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(path: Path, *, top_level_only: bool = False) -> Iterator[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in tree.body if top_level_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("floor", ALLOWED)
def test_a_floor_imports_only_lower_ones(floor: str) -> None:
    for name, path in modules().items():
        if name.split(".")[0] == floor:
            used = {target.split(".")[0] for target in imports(path)} & ALLOWED.keys()
            assert used <= ALLOWED[floor] | {floor}, f"{path} imports {used - ALLOWED[floor] - {floor}}"


def test_the_scan_sees_the_house() -> None:
    found = modules()
    assert {"schemas.files", "scoring.search", "annotation.reconcile", "pipeline.cli"} <= found.keys()
    assert "schemas.errors" in set(imports(found["scoring.search"]))


def test_no_import_cycles() -> None:
    known = modules()
    graph = {
        name: {t for t in imports(path, top_level_only=True) if t in known and t != name}
        for name, path in known.items()
    }
    assert len(list(TopologicalSorter(graph).static_order())) == len(known)  # raises CycleError


@pytest.mark.parametrize("path", sorted((ROOT / "scoring").rglob("*.py")), ids=lambda path: path.name)
def test_scoring_is_usable_on_its_own(path: Path) -> None:
    forbidden = {"argilla", "openai", "datasets", "typer"}
    assert not {target.split(".")[0] for target in imports(path)} & forbidden
