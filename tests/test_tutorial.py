"""docs/tutorial.md shows what its commands print. Those that need no endpoint and no annotators are run here, in their
order. `python -m tests.tutorial` runs all of them, and updates the page with `--write`."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.tutorial import MASKS, NUMBER, SET_UP, Step, form, masked, prepare, printed, save, steps, updated

SCORING = "python -m marginalia.scoring"
# starts of the commands that are run here; the whole output is compared
RUN_HERE = (
    "marginalia new ",
    "marginalia config ",
    "python messages.py",
    "wc ",
    "marginalia plan ",
    f"{SCORING} new.jsonl",
    "marginalia explain ",
    "marginalia import ",
)
# what the demo run of the tests prints is compared, without its numbers: tests/pipeline/test_run_demo.py
COMPARED_WITH_THE_DEMO = (
    *(f"marginalia {stage} --run" for stage in ("generate", "push", "pull", "reconcile", "adjudicate")),
    *(f"marginalia {stage} --run" for stage in ("score", "evaluate", "report", "release", "publish")),
    "marginalia simulate",
    "marginalia verify",
)
# only `python -m tests.tutorial` compares these
NOT_COMPARED = {
    **dict.fromkeys(SET_UP, "sets up the environment"),
    "python -m marginalia.pipeline.generation.endpoint.bundled_llm_server": "runs until it is stopped",
    "marginalia preview": "shows texts of a model",
    "marginalia argilla": "starts a server",
    "marginalia status": "asks that server",
    "python -m marginalia.pipeline.annotating.simulated_annotators": "answers on that server",
    "python -c": "prints numbers of the run",
    "python flag.py": "prints numbers of the run",
}
DECIMAL = re.compile(r"\d+\.\d+")  # probabilities, which vary by machine in their last digits
CALIBRATED = "--calibration"  # needs the calibration of a run that is evaluated


def run_here(step: Step) -> bool:
    return step.text.startswith(RUN_HERE) and CALIBRATED not in step.text


def test_each_command_is_compared_or_not_for_a_reason() -> None:
    commands = [step.text for step in steps() if step.path is None]
    starts = [*RUN_HERE, *COMPARED_WITH_THE_DEMO, *NOT_COMPARED]
    for command in commands:
        assert sum(command.startswith(start) for start in starts) == 1, command
    assert [start for start in starts if not any(command.startswith(start) for command in commands)] == []


@pytest.mark.slow
def test_the_commands_print_what_the_page_shows(tmp_path: Path) -> None:
    prepare(tmp_path)
    for step in steps():
        if step.path is not None:
            save(step, tmp_path)
        elif run_here(step):
            output = printed(step.text, tmp_path)
            expected = [float(number) for number in DECIMAL.findall(masked(step.shown))]
            assert DECIMAL.sub("#", masked(output)) == DECIMAL.sub("#", masked(step.shown)), step.text
            assert [float(number) for number in DECIMAL.findall(masked(output))] == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("plan: 24 planned (0.4 s; not run yet)", "plan: 24 planned (12.0 s; not run yet)"),
        ("Argilla runs at http://127.0.0.1:6900 (process 1)", "Argilla runs at http://127.0.0.1:6901 (process 23)"),
        ("  ada    annotator  …", "  ada    annotator  pIx-9_"),
        ("  push   up to date   1 min ago", "  push   up to date   2 h ago"),
    ],
)
def test_what_varies_by_moment_is_masked(first: str, second: str) -> None:
    assert masked(first) == masked(second)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("plan: 24 planned (0.4 s; not run yet)", "plan: 25 planned (0.4 s; not run yet)"),
        ("plan: 24 planned (0.4 s; not run yet)", "plan: 24 planned (0.4 s; always runs)"),
    ],
)
def test_nothing_else_is_masked(first: str, second: str) -> None:
    assert masked(first) != masked(second)
    assert len(MASKS) == 6 and NUMBER.sub("#", "1,200 of 97.3%") == "# of #"


def test_an_update_takes_new_words_and_keeps_numbers() -> None:
    shown = "answers a record  alpha\n               1   0.63\nold\n"
    output = "answers per record  alpha\n                1   0.71\n"
    assert updated(shown, output) == "answers per record  alpha\n               1   0.63\n"
    assert form("  1   0.63\n") == form(" 12   0.7\n")
