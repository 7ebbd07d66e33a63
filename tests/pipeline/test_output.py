"""What the commands print: readable in narrow terminals and in pipes, and JSON for programs."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from marginalia.pipeline.commands.cli import app
from tests.pipeline.synthetic_run import Synthetic, write_run
from tests.pipeline.test_cli import marginalia
from tests.scoring.tiny import save

ROOT = Path(__file__).parents[2]
GUARD = ["--guard", "instruct", "--taxonomy", "support-tickets", "--tolerance", "0.3", "--node-budget", "8"]
TABLES = [
    "status --run RUN",
    "verify --run RUN",
    "plan --run RUN --show --force",
    "simulate --run RUN --overlap 1 --overlap 3 --records 20",
    "audit --run RUN --guard smollm2",
    "evaluate --run RUN",
    "reconcile --run RUN",
    "release --run RUN",
    "publish --run RUN",
    "cache",
    "config --explain",
    "config --explain annotators",
    "import data.jsonl --run OWN --preview",
    "import --show-mapping all",
    f"explain records.jsonl --model model {' '.join(GUARD)}",
    "guards check instruct --model model --taxonomy support-tickets",
]
# commands that need a server or a long time; their JSON has the same form as that of the other stages, or is tested
# with them
ELSEWHERE = {
    *("adjudicate", "argilla users", "generate", "merge", "preview", "pull", "push", "score"),  # servers and models
    "paper",  # test_paper.py
    "guards probe",  # test_guard_probe.py
    *("profile check", "profile suggest"),  # serving/test_suggest_profile.py
}
JSON = {
    "argilla status": "argilla status --run RUN",
    "audit": "audit --run RUN --guard smollm2",
    "cache": "cache",
    "compare": "compare RUN RUN",
    "config": "config --run RUN",
    "evaluate": "evaluate --run RUN",
    "explain": f"explain records.jsonl --model model {' '.join(GUARD)}",
    "guards check": "guards check instruct --model model --taxonomy support-tickets",
    "guards list": "guards list",
    "import": "import data.jsonl --run OWN --preview",
    "plan": "plan --run RUN --show --force",
    "publish": "publish --run RUN",
    "reconcile": "reconcile --run RUN",
    "release": "release --run RUN",
    "repair": "repair --run RUN",
    "report": "report --run RUN",
    "simulate": "simulate --run RUN --overlap 1 --records 20",
    "status": "status --run RUN",
    "verify": "verify --run RUN",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with gold and scores, a run for records of one's own, a file of them, and a tiny model."""
    made = tmp_path_factory.mktemp("output")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(made)
        patch.setenv("MARGINALIA_CACHE", str(made / "cache"))
        rows = [
            {"id": "r1", "text": "late again", "labels": ["late_delivery"]},
            {"id": "r2", "text": "hello", "labels": []},
        ]
        (made / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        (made / "records.jsonl").write_text(json.dumps({"id": "r1", "text": "Where is it?"}) + "\n")
        save(made / "model", 4, sharpness=3.0)
        for words in ("new whole", "new own --data data.jsonl"):
            assert marginalia(*words.split(), "--taxonomy", "support-tickets").returncode == 0
        config = made / "runs/whole/config.yaml"
        guards = "  guards: [{name: smollm2, guard: instruct, model: bundled}]\n"
        text = re.sub(r"(?m)^  guards:(.*\n)(?:  - .*\n|    .*\n)*", guards, config.read_text())
        config.write_text(re.sub(r"(?m)^  #?resamples: .*", "  resamples: 100", text))
        write_run(made / "runs/whole", Synthetic(n=60, skill=0.7, unresolved=0, failed=0))
        for stage in ("reconcile", "evaluate", "release"):
            done = marginalia(stage, "--run", "runs/whole", "--force")
            assert done.returncode == 0, done.stderr
    return made


@pytest.fixture(autouse=True)
def inside(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MARGINALIA_CACHE", str(folder / "cache"))


def call(command: str, columns: int | None = None) -> Any:
    """The command in a terminal of this width; None: in a pipe."""
    words = command.replace("RUN", "runs/whole").replace("OWN", "runs/own").split()
    return CliRunner().invoke(app, words, env={"COLUMNS": None if columns is None else str(columns)})


@pytest.mark.parametrize("command", TABLES)
def test_every_table_fits_the_terminal_and_loses_nothing(command: str) -> None:
    call(command)  # so that all further calls find the same files
    piped = call(command)
    assert piped.stdout, piped.stderr
    for columns in (60, 80, 120):
        shown = call(command, columns)
        assert shown.exit_code == piped.exit_code
        for line in shown.stdout.splitlines():
            # commands to copy, the exact text of a prompt and single words are not broken
            whole = line.startswith(("next: ", "  fix: ")) or "⟧" in line or len(line.split()) == 1
            assert len(line) <= columns or whole, line
        assert "\x1b" not in shown.stdout
        assert characters(piped.stdout) <= characters(shown.stdout)  # the first column of a table may be repeated


def characters(text: str) -> Counter[str]:
    """How often each character occurs, without white space and numbers, which may be times."""
    return Counter(re.sub(r"[\d.,]+|\s+", "", text))


def commands(group: Any, before: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*before, name))
        else:
            yield " ".join((*before, name)), command


def test_every_command_with_json_is_tested_and_documented() -> None:
    every = dict(commands(typer.main.get_command(app)))
    with_json = {name for name, command in every.items() if any("--json" in each.opts for each in command.params)}
    with_json.add("explain")  # whose options are those of the scoring command
    assert with_json == JSON.keys() | ELSEWHERE
    page = (ROOT / "docs/stages.md").read_text(encoding="utf-8")
    rows = re.search(r"(?m)^\| command \| `--json` prints \|\n\|.*\n((?:\|.*\n)+)", page)
    assert rows is not None
    documented = {name for row in rows[1].splitlines() for name in re.findall(r"`([a-z ]+)`", row.split("|")[1])}
    assert documented == with_json


@pytest.mark.parametrize(
    "command", [*JSON.values(), "config --explain", "config --explain annotators", "cache --clear"]
)
def test_json_alone_is_on_stdout(command: str) -> None:
    text, data = call(command), call(f"{command} --json")
    assert data.exit_code == text.exit_code, data.output
    json.loads(data.stdout)


@pytest.mark.parametrize("command", ["reconcile --run RUN", "evaluate --run RUN", "release --run RUN"])
def test_the_json_of_a_stage_says_what_it_did_and_what_comes_next(command: str) -> None:
    data = json.loads(call(f"{command} --json").stdout)
    assert {"stage", "status", "counts_in", "counts_out", "outputs", "warnings", "missing", "next"} <= data.keys()
    assert data["stage"] == command.split()[0]
    assert data["counts_out"] and data["outputs"]
    assert data["next"].startswith("marginalia ")


def test_an_error_leaves_stdout_empty() -> None:
    done = call("status --run runs/nothing --json")
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith("error: runs/nothing: no such run")


def test_the_json_of_a_preview_has_the_counts_of_its_table() -> None:
    data = json.loads(call("import data.jsonl --run OWN --preview --json").stdout)
    assert data["counts"]["records"] == 2
    assert data["labels"][0] == {"label": "late_delivery", "applies": 1, "judged": 2}


def test_the_json_of_explain_has_the_masses_of_its_tree() -> None:
    data = json.loads(call(f"{JSON['explain']} --json").stdout)
    assert (data["record"], data["guard"]) == ("r1", "instruct")
    assert data["tree"]["mass"] == 1.0
    assert 0 < sum(branch["mass"] for branch in data["tree"]["branches"]) <= 1.001
    assert {row["label"] for row in data["labels"]} >= {"late_delivery", "refund"}


def test_the_json_of_a_guard_check_has_its_answers() -> None:
    done = call("guards check instruct --model model --taxonomy support-tickets --json")
    data = json.loads(done.stdout)
    assert data["keeps_format"] is (done.exit_code == 0)
    assert len(data["answers"]) == 5
    assert {"code", "label", "usual", "first"} == data["codes"][0].keys()


def test_json_of_a_config_key() -> None:
    (row,) = json.loads(call("config --explain annotators --json").stdout)
    assert (row["key"], row["default"], row["required"]) == ("annotation.annotators", 3, False)
    assert row["type"].startswith("whole number")
