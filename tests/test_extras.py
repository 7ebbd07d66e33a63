"""Optional dependencies: every import belongs to the core or to an extra, and the error for a missing one names it."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import typer

from marginalia.pipeline.commands.shared_options import with_error_messages
from marginalia.schemas.extras import EXTRA_OF, missing_extra

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
# modules whose distribution has another name, or is installed with another one
DISTRIBUTIONS = {"yaml": "pyyaml"}
COMES_WITH = {
    "markupsafe": "jinja2",
    "pydantic_core": "pydantic",
    "safetensors": "transformers",
    "huggingface_hub": "huggingface-hub",
}


def distribution_names(requirements: list[str]) -> set[str]:
    return {re.split(r"[ \[<>=!~;]", requirement)[0].lower() for requirement in requirements}


def imported() -> set[str]:
    """Top-level names of all third-party modules that the four packages import."""
    names = set()
    for folder in ("schemas", "scoring", "annotation", "pipeline"):
        for path in (ROOT / folder).rglob("*.py"):
            if path.is_relative_to(ROOT / "annotation/server/inside"):
                continue
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Import):
                    names |= {alias.name.split(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.module:
                    names.add(node.module.split(".")[0])
    return names - set(sys.stdlib_module_names) - {"marginalia"}


def test_every_import_is_of_the_core_or_of_an_extra() -> None:
    core = distribution_names(PROJECT["dependencies"])
    for module in imported() - EXTRA_OF.keys():
        assert COMES_WITH.get(module, DISTRIBUTIONS.get(module, module)) in core, module


@pytest.mark.parametrize(("module", "extra"), EXTRA_OF.items())
def test_the_extra_installs_the_module(module: str, extra: str) -> None:
    assert DISTRIBUTIONS.get(module, module) in distribution_names(PROJECT["optional-dependencies"][extra])


def test_a_command_names_the_missing_extra(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "argilla", None)

    @with_error_messages
    def command() -> None:
        import argilla  # noqa: F401

    with pytest.raises(typer.Exit) as ended:
        command()
    assert ended.value.exit_code == 2
    message = "error: this needs the package 'argilla', which is not installed (pip install 'marginalia[annotation]')\n"
    assert capsys.readouterr().err == message


def test_our_own_missing_module_is_not_taken_for_an_extra() -> None:
    assert missing_extra(ModuleNotFoundError("no", name="marginalia.nothing")) is None


def test_the_core_can_be_imported_without_any_extra() -> None:
    """With all packages of extras hidden, the scorer and both commands still load."""
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({sorted(EXTRA_OF)!r}))\n"
        "import marginalia.scoring.command, marginalia.pipeline.commands.cli\n"
        "from marginalia import Scorer, Settings, Taxonomy, load_guard\n"
        "import marginalia.scoring.score_files, marginalia.scoring.models.load_model\n"
        "import marginalia.scoring.models.local_model, marginalia.scoring.models.endpoint_discovery\n"
        "print(Scorer.__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert (done.returncode, done.stdout.strip()) == (0, "Scorer"), done.stderr
