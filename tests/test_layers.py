"""What `make layers` does not check: one import root, unique names, a fast import. The layers are in pyproject.toml."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import marginalia

ROOT = Path(__file__).parents[1]
FOLDERS = ("schemas", "scoring", "annotation", "pipeline")
SERVER_SIDE = ROOT / "annotation/server/inside"  # runs in the Argilla server's environment, under other module names


def modules(*folders: str) -> list[Path]:
    paths = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    assert len(paths) > 100
    return [path for path in paths if not path.is_relative_to(SERVER_SIDE)]


def imports(path: Path) -> Iterator[str]:
    """Names of all modules that a file imports, also in functions and for type checking."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_every_folder_with_a_module_is_a_package() -> None:
    """Import-linter ignores other folders."""
    assert not {path.parent for path in modules(*FOLDERS) if not (path.parent / "__init__.py").exists()}


def test_there_is_one_import_root() -> None:
    """In a checkout `import scoring` also works, but loads the module a second time."""
    for path in modules(*FOLDERS, "tests", "benchmarks"):
        assert not {target.split(".")[0] for target in imports(path)} & set(FOLDERS), path


def test_no_class_name_and_no_file_name_occurs_twice() -> None:
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in modules(*FOLDERS)}
    classes = Counter(
        node.name
        for tree in trees.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    )
    assert [name for name, count in classes.items() if count > 1] == []
    files = Counter(path.name for path in trees if path.name not in ("__init__.py", "config.py"))
    assert [name for name, count in files.items() if count > 1] == []


def test_every_exported_name_exists() -> None:
    for name in marginalia.__all__:
        assert getattr(marginalia, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'scorer_of_tomorrow'"):
        marginalia.scorer_of_tomorrow  # noqa: B018


def test_importing_the_package_loads_no_large_library() -> None:
    code = "import sys, marginalia; print(sorted({'torch', 'polars', 'numpy', 'pydantic'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"
