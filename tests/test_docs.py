"""What programs can check of the documentation: links, commands, config keys, code blocks, and the tutorial's files."""

from __future__ import annotations

import argparse
import importlib.util
import re
import shlex
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from marginalia.pipeline.commands.cli import app
from marginalia.pipeline.config.config_text import known_keys
from marginalia.pipeline.config.run_config import Config
from marginalia.pipeline.importing.column_mapping import load_mapping
from marginalia.schemas.input_records import read_records
from marginalia.schemas.storage.yaml_files import load_yaml
from marginalia.schemas.taxonomy import Taxonomy, load_taxonomy
from marginalia.scoring.command import _parser
from marginalia.scoring.coverage_text import coverage_lines
from marginalia.scoring.guard import load_guard
from marginalia.scoring.guard_file import GuardFile
from marginalia.scoring.moderation_profile import ModerationRules, profile_problems, read_profile
from marginalia.scoring.score_sources.source_file import load_source_file
from tests.code_blocks import MARK, blocks

ROOT = Path(__file__).parents[1]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "examples/README.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    ROOT / "scoring/guards/README.md",
    ROOT / "scoring/adapters/support-tickets/README.md",
]
TUTORIAL = ROOT / "docs/tutorial.md"
COMMANDS: Any = typer.main.get_command(app)
SPAN = re.compile(r"`((?:make|marginalia) [^`]*)`")
LINE = re.compile(r"^(?: {4}|\$ )?((?:make|marginalia) .*)$", re.MULTILINE)
# page and language of its code blocks → how many there are, and the test that runs, loads or compares them
CHECKED = {
    ("README.md", "python"): (1, "test_examples.py::test_the_lines_of_the_readme_print_what_it_shows"),
    ("README.md", "text"): (1, "test_examples.py::test_the_lines_of_the_readme_print_what_it_shows"),
    ("docs/api/evaluation.md", "python"): (1, "test_examples.py::test_the_python_of_the_api_pages_runs"),
    ("docs/api/scorer.md", "python"): (3, "test_examples.py::test_the_python_of_the_api_pages_runs"),
    ("examples/README.md", "console"): (5, "test_examples.py::test_it_prints_what_the_page_shows"),
    ("docs/architecture.md", "text"): (
        2,
        "test_architecture.py::test_the_tree_shows_every_folder_of_code_and_no_other",
    ),
    ("docs/import.md", "console"): (5, "test_import_page.py::test_the_commands_print_what_the_page_shows"),
    ("docs/import.md", "csv"): (1, "test_import_page.py::test_the_commands_print_what_the_page_shows"),
    ("docs/import.md", "python"): (1, "test_import_page.py::test_the_commands_print_what_the_page_shows"),
    ("docs/import.md", "yaml"): (2, "test_import_page.py::test_the_commands_print_what_the_page_shows"),
    ("docs/scaling.md", "yaml"): (2, "test_docs.py::test_the_examples_of_several_endpoints_load"),
    ("docs/serve.md", "yaml"): (1, "test_docs.py::test_the_profile_of_the_page_has_no_problems"),
    ("docs/your-own.md", "yaml"): (5, "test_docs.py::test_the_parts_of_a_config_load"),
    ("docs/tutorial.md", "console"): (21, "test_tutorial.py::test_each_command_is_compared_or_not_for_a_reason"),
    ("docs/tutorial.md", "json"): (1, "test_tutorial.py::test_the_commands_print_what_the_page_shows"),
    ("docs/tutorial.md", "python"): (2, "test_docs.py::test_the_tutorials_scripts_compile"),
    ("docs/tutorial.md", "yaml"): (4, "test_docs.py::test_the_tutorials_yaml_files_load"),
    ("scoring/guards/README.md", "yaml"): (4, "test_docs.py::test_the_examples_of_guard_files_load"),
}


def page_names(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def without_blocks(text: str) -> str:
    return re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)


def anchors(path: Path) -> set[str]:
    """The anchors that GitHub makes of a page's headings."""
    headings = re.findall(r"^#+ (.+)$", without_blocks(path.read_text(encoding="utf-8")), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=page_names)
def test_relative_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", without_blocks(page.read_text(encoding="utf-8"))):
        if target.startswith(("http://", "https://")):
            continue
        file, _, anchor = target.partition("#")
        path = (page.parent / file) if file else page
        assert path.exists(), f"{page_names(page)}: {target}"
        if anchor:
            assert anchor in anchors(path), f"{page_names(page)}: {target}"


def test_every_page_is_in_the_index() -> None:
    index = (ROOT / "docs/README.md").read_text(encoding="utf-8")
    for page in (ROOT / "docs").glob("*.md"):
        assert page.name == "README.md" or f"]({page.name})" in index, f"{page.name} is not in docs/README.md"


def commands(page: Path) -> Iterator[list[str]]:
    """The words of each command that starts with make or marginalia, in code spans and blocks; comments left out."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    blocks = re.findall(r"^```.*?^```$|^ {4}\S.*$", text, flags=re.DOTALL | re.MULTILINE)
    spans = [" ".join(span.split()) for span in SPAN.findall(without_blocks(text))]
    for found in [*spans, *(line for block in blocks for line in LINE.findall(block))]:
        words = shlex.split(found.partition("#")[0].partition(" | ")[0].partition(";")[0])
        yield words[: words.index("&&")] if "&&" in words else words


def make_targets() -> set[str]:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = {name for line in re.findall(r"^([a-z][a-z -]*):", makefile, flags=re.MULTILINE) for name in line.split()}
    stages = re.search(r"^STAGES := (.+)$", makefile, flags=re.MULTILINE)
    assert stages is not None
    return targets | set(stages[1].split())


@pytest.mark.parametrize("page", PAGES, ids=page_names)
def test_every_command_exists(page: Path) -> None:
    targets = make_targets()
    for tool, *words in commands(page):
        named = [word for word in words if re.fullmatch(r"[a-z][a-z-]*", word)]
        if tool == "make":
            unknown = [word for word in named if word not in targets]
            assert not unknown, f"{page_names(page)}: make {unknown[0]}"
        elif named and words[0] == named[0]:
            command_of(words)


def command_of(words: list[str]) -> tuple[Any, list[str]]:
    """(the command that the words of a `marginalia` call name, the words after its name); `up|down` names several."""
    command, rest = COMMANDS, words
    while rest and hasattr(command, "commands"):
        names = rest[0].split("|")
        unknown = [name for name in names if name not in command.commands]
        assert not unknown, f"marginalia {' '.join(words)}: no command '{unknown[0]}'"
        command, rest = command.commands[names[0]], rest[1:]
    return command, rest


@pytest.mark.parametrize("page", PAGES, ids=page_names)
def test_every_config_key_exists(page: Path) -> None:
    keys = known_keys(Config)
    sections = {key for key in keys if "." not in key}
    files = (".yaml", ".json", ".jsonl", ".parquet", ".md", ".py")
    for word in re.findall(r"`([a-z_]+(?:\.[a-z_]+)+)`", page.read_text(encoding="utf-8")):
        if word.split(".")[0] in sections and not word.endswith(files):
            assert word in keys, f"{page_names(page)}: {word}"


@pytest.mark.parametrize("page", PAGES, ids=page_names)
def test_every_python_module_exists(page: Path) -> None:
    for module in re.findall(r"python -m ([\w.]+)", page.read_text(encoding="utf-8")):
        assert importlib.util.find_spec(module) is not None, f"{page_names(page)}: python -m {module}"


# ---- code blocks -----------------------------------------------------------------------------------------------------


def test_every_code_block_is_checked_by_a_test_or_marked_as_an_illustration() -> None:
    unmarked: Counter[tuple[str, str]] = Counter()
    lines: dict[tuple[str, str], list[int]] = {}
    for page in PAGES:
        for block in blocks(page):
            if not block.illustration:
                unmarked[page_names(page), block.language] += 1
                lines.setdefault((page_names(page), block.language), []).append(block.line)
    for key, count in unmarked.items():
        expected, _ = CHECKED.get(key, (0, ""))
        assert count == expected, (
            f"{key[0]} has {count} {key[1]} blocks without a mark (lines {lines[key]}), {expected} are known: "
            f"test the new one and count it in CHECKED, or write {MARK} and an empty line before it"
        )
    assert unmarked.keys() == CHECKED.keys()


@pytest.mark.parametrize("name", sorted({name for _, name in CHECKED.values()}))
def test_the_test_of_a_code_block_exists(name: str) -> None:
    file, _, function = name.partition("::")
    assert f"def {function}(" in (ROOT / "tests" / file).read_text("utf-8")


def test_a_block_is_an_illustration_only_with_the_mark_before_it(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"a\n\n{MARK}\n\n```\nx\n```\n\n```yaml\ny: 1\n```\n", encoding="utf-8")
    assert [(block.line, block.language, block.text, block.illustration) for block in blocks(page)] == [
        (5, "", "x\n", True),
        (9, "yaml", "y: 1\n", False),
    ]


def yaml_blocks(page: Path) -> list[str]:
    return [block.text for block in blocks(page) if block.language == "yaml"]


def test_the_parts_of_a_config_load(tmp_path: Path) -> None:
    text = "".join(text for text in yaml_blocks(ROOT / "docs/your-own.md") if "categories:" not in text)
    (tmp_path / "config.yaml").write_text(f"taxonomy: support-tickets\n{text}", encoding="utf-8")
    config = load_yaml(tmp_path / "config.yaml", Config)
    assert (config.generate.endpoint.api_key_env, config.annotation.workspace) == ("LLM_KEY", "safety")
    assert (config.score.guards[0].guard, config.release.license) == ("llama-guard-3", "cc-by-4.0")


def test_the_example_of_categories_is_covered_as_the_page_says(tmp_path: Path) -> None:
    page = ROOT / "docs/your-own.md"
    (example,) = (text for text in yaml_blocks(page) if "categories:" in text)
    (tmp_path / "config.yaml").write_text(f"taxonomy: support-tickets\n{example}", encoding="utf-8")
    (run,) = load_yaml(tmp_path / "config.yaml", Config).score.guards
    labels = [
        {"id": label, "name": label, "definition": label} for label in ("hate", "violence", "slurs", "money", "spam")
    ]
    policy = Taxonomy.model_validate(
        {"id": "house-rules", "version": "1", "title": "T", "subject": "S", "labels": labels}
    )
    coverage = load_guard(run.guard, policy, categories=run.categories).coverage
    assert coverage is not None
    lines = coverage_lines(run.name, coverage)
    (shown,) = (block.text for block in blocks(page) if block.text.startswith("llama-guard covers"))
    assert shown.splitlines()[:-1] == lines[:-1]
    assert lines[-1].startswith(shown.splitlines()[-1].removesuffix("…"))


def test_the_examples_of_guard_files_load(tmp_path: Path) -> None:
    """The first one is a whole file; the others are parts, which can take the place of its own."""
    example, *parts, classifier = yaml_blocks(ROOT / "scoring/guards/README.md")
    assert len(parts) >= 2
    (tmp_path / "my-classifier.yaml").write_text(classifier, encoding="utf-8")
    assert load_source_file(tmp_path / "my-classifier.yaml", "classifier").names == {"hate": "hateful", "violence": 3}
    for part in ["{}", *parts]:
        changed = {**yaml.safe_load(example), **yaml.safe_load(part)}
        (tmp_path / "my-guard.yaml").write_text(yaml.safe_dump(changed), encoding="utf-8")
        file = load_yaml(tmp_path / "my-guard.yaml", GuardFile)
        assert file.labels == {"rude": "C1", "spam": "C2"}


def test_the_examples_of_several_endpoints_load(tmp_path: Path) -> None:
    score, generate = yaml_blocks(ROOT / "docs/scaling.md")
    (tmp_path / "config.yaml").write_text(f"taxonomy: taxonomy.yaml\n{score}{generate}", encoding="utf-8")
    config = load_yaml(tmp_path / "config.yaml", Config)
    assert config.score.guards[0].concurrency == config.generate.concurrency == 128


def test_the_profile_of_the_page_has_no_problems(tmp_path: Path) -> None:
    (text,) = yaml_blocks(ROOT / "docs/serve.md")
    (tmp_path / "profile.yaml").write_text(text, encoding="utf-8")
    profile = read_profile(tmp_path / "profile.yaml")
    assert list(profile_problems(profile)) == []
    assert profile.profile.rules == ModerationRules()  # the page shows the defaults


# ---- the tutorial ----------------------------------------------------------------------------------------------------


def tutorial_commands() -> list[list[str]]:
    blocks = re.findall(r"^```console\n(.*?)^```$", TUTORIAL.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    lines = [line[2:] for block in blocks for line in block.splitlines() if line.startswith("$ ")]
    return [shlex.split(line.partition(" | ")[0]) for line in lines]


def test_the_tutorials_marginalia_commands_parse() -> None:
    called = [words[1:] for words in tutorial_commands() if words[0] == "marginalia"]
    assert len(called) > 20
    for words in called:
        command, rest = command_of(words)
        command.make_context(words[0], rest)  # raises for a wrong option or a missing argument


def test_the_tutorials_python_modules_exist_and_take_these_options() -> None:
    called = [words[2:] for words in tutorial_commands() if words[:2] == ["python", "-m"]]
    assert {words[0] for words in called} >= {
        "marginalia.scoring",
        "marginalia.pipeline.generation.endpoint.bundled_llm_server",
        "marginalia.pipeline.annotating.simulated_annotators",
    }
    for module, *words in called:
        assert importlib.util.find_spec(module) is not None, module
        if module == "marginalia.scoring":
            explains = words[:1] == ["explain"]
            parsed = _parser(explains).parse_args(words[explains:])
            assert isinstance(parsed, argparse.Namespace)


def test_the_tutorials_yaml_files_load(tmp_path: Path) -> None:
    names = ["taxonomy.yaml", "config.yaml", "mapping.yaml", "second.yaml"]
    for name, text in zip(names, yaml_blocks(TUTORIAL), strict=True):
        (tmp_path / name).write_text(text, encoding="utf-8")
    assert load_taxonomy("taxonomy.yaml", relative_to=tmp_path).ids == [
        "late",
        "faulty",
        "wrong_item",
        "return",
        "refund",
    ]
    assert load_yaml(tmp_path / "config.yaml", Config).simulated
    assert load_mapping(tmp_path / "mapping.yaml", load_taxonomy("support-tickets")).skip == {"split": ["train"]}
    assert load_yaml(tmp_path / "second.yaml", Config).reconcile.splits.calibration == 0.7


def test_the_tutorials_scripts_compile() -> None:
    scripts = re.findall(r"^```python\n(.*?)^```$", TUTORIAL.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    assert len(scripts) == 2
    for script in scripts:
        compile(script, "tutorial", "exec")


def test_the_tutorials_new_messages_are_records(tmp_path: Path) -> None:
    (lines,) = re.findall(r"^```json\n(.*?)^```$", TUTORIAL.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    (tmp_path / "new.jsonl").write_text(lines, encoding="utf-8")
    assert read_records(tmp_path / "new.jsonl")["id"].to_list() == ["n1", "n2"]


def test_the_page_of_attacks_names_every_hostile_test_and_no_other() -> None:
    page = (ROOT / "docs/security.md").read_text("utf-8")
    named = set(re.findall(r"`([\w/]+\.py)`", page))
    hostile = {path.name for path in (ROOT / "tests/hostile").glob("test_*.py")}
    assert {name for name in named if "/" not in name} == hostile
    assert not [name for name in named if "/" in name and not (ROOT / name).is_file()]
