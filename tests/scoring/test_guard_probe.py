"""`marginalia guards probe`: the verdict for every outcome of every check."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from marginalia.pipeline.commands.cli import app
from marginalia.schemas.taxonomy import load_taxonomy
from marginalia.scoring.guard import load_guard
from marginalia.scoring.guard_probe import HARMFUL, HARMLESS, Probe, ProbeFinding, probe, probe_records
from marginalia.scoring.marginal.estimators import LabelEstimates
from marginalia.scoring.score_files import origin_of
from marginalia.scoring.scored_record import Result
from marginalia.scoring.scorer import Scorer
from tests.scoring import tiny

GUARD = """guard: tiny
title: Tiny
source: a test
taxonomy: taxonomy.yaml
labels: {late: S1, refund: S10}
prompt:
  message: "RULES{{ conversation[0].content }}"
  frame: "<|start|>user\\n{{ message }}<|end|><|start|>assistant\\n"
answer:
  - ["safe"]
  - [{verdict: unsafe}, "\\n", {labels: [","]}]
"""
LABELS = [{"id": name, "name": name.title(), "definition": "x"} for name in ("late", "refund")]
POLICY = "Our policy has " + "many words. " * 40
CHAT = (
    "{% for m in messages %}<|start|>user\n" + POLICY + "{{ m.content }}<|end|>{% endfor %}<|start|>assistant{{ '\n' }}"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("guard")
    tiny.save(made / "model", 4)
    (made / "guard.yaml").write_text(GUARD)
    taxonomy = {"id": "tiny", "version": "1", "title": "Tiny", "subject": "texts", "labels": LABELS}
    (made / "taxonomy.yaml").write_text(json.dumps(taxonomy))
    return made


@pytest.fixture
def scorer(folder: Path) -> Scorer:
    return Scorer.load(str(folder / "model"), str(folder / "guard.yaml"))


def planted(
    *, off: float = 0.0, safe: int = 12, unsafe: int = 8, disagreeing: int = 0, outside: int = 0
) -> list[Result]:
    """Results for the twenty texts: so many of the harmless ones safe, of the harmful ones unsafe …"""
    results = []
    for number, (name, _) in enumerate(names()):
        harmless = name.startswith("h")
        rank = int(name[1:])
        says = rank > safe if harmless else rank <= unsafe
        greedy = says != (number < disagreeing)
        answer = "no" if number < outside else "unsafe\nS1" if greedy else "safe"
        estimates = {
            "marginal": row(0.9 if says else 0.1),
            "greedy": row(float(greedy)),
        }
        results.append(Result(name, estimates, answer=answer, off_language=off))
    return results


def names() -> list[tuple[str, str]]:
    return [(f"h{n}", text) for n, text in enumerate(HARMLESS, 1)] + [
        (f"x{n}", text) for n, text in enumerate(HARMFUL, 1)
    ]


def row(verdict: float) -> LabelEstimates:
    values = np.array([0.0, 0.0, verdict])
    return LabelEstimates(values, values, values)


def outcomes(found: Probe) -> dict[str, str]:
    return {finding.check: finding.outcome for finding in found.findings}


@pytest.mark.parametrize(
    ("results", "check", "outcome", "verdict"),
    [
        ({}, "format", "fits", "fits"),
        ({"off": 0.029}, "format", "fits", "fits"),
        ({"off": 0.031}, "format", "cannot tell", "cannot tell"),
        ({"off": 0.21}, "format", "does not fit", "does not fit"),
        ({"safe": 11}, "harmless texts", "fits", "fits"),
        ({"safe": 10}, "harmless texts", "cannot tell", "cannot tell"),
        ({"safe": 6}, "harmless texts", "does not fit", "does not fit"),
        ({"unsafe": 1}, "harmful texts", "fits", "fits"),
        ({"unsafe": 0}, "harmful texts", "cannot tell", "cannot tell"),
        ({"disagreeing": 2}, "greedy answers", "fits", "fits"),
        ({"disagreeing": 3}, "greedy answers", "cannot tell", "cannot tell"),
        ({"outside": 3}, "greedy answers", "cannot tell", "cannot tell"),
        ({"outside": 7}, "greedy answers", "does not fit", "does not fit"),
    ],
)
def test_each_outcome(scorer: Scorer, results: dict[str, float], check: str, outcome: str, verdict: str) -> None:
    found = probe(scorer, planted(**results))
    assert (outcomes(found)[check], found.verdict) == (outcome, verdict)


def test_a_text_that_cannot_be_scored(scorer: Scorer) -> None:
    results = [*planted()[:-1], Result("x8", error="too long")]
    found = probe(scorer, results)
    assert found.verdict == "does not fit"
    assert "1 of 20 texts could not be scored: too long" in "\n".join(found.lines())


def test_the_prompt_is_compared_with_a_chat_template_that_has_a_policy(scorer: Scorer) -> None:
    assert probe(scorer, planted()).findings[0].outcome == "not checked", "the template is that of any chat model"

    def prompt_finding(template: str) -> ProbeFinding:
        scorer.model.tokenizer.chat_template = template
        again = Scorer(scorer.model, scorer.guard)
        return probe(again, planted()).findings[0]

    differs = prompt_finding(CHAT)
    assert differs.outcome == "cannot tell"
    assert (
        "differs from the tokenizer's own chat template from character 15 on: '<|start|>user\\nRULESHello."
        in differs.sentence
    )
    prompt = scorer.guard.file.prompt.model_copy(update={"message": POLICY + "{{ conversation[0].content }}"})
    object.__setattr__(scorer.guard, "file", scorer.guard.file.model_copy(update={"prompt": prompt}))
    assert prompt_finding(CHAT).outcome == "fits"
    assert prompt_finding(CHAT.replace("user\n", "user\n\n")).sentence.endswith("only in white space")


def test_the_texts(scorer: Scorer) -> None:
    assert len(HARMLESS) + len(HARMFUL) == 20
    texts = dict(probe_records(scorer.guard))
    assert texts["x1"][0]["content"] == HARMFUL[0]
    tickets = load_guard("support-tickets", load_taxonomy("support-tickets"))
    examples = {example for category in tickets.categories for example in category.examples}
    own = {messages[0]["content"] for name, messages in probe_records(tickets) if name.startswith("x")}
    assert len(own) == 8 and own <= examples


def test_the_command() -> None:
    """The demo guard keeps its format; general texts are unlike the tickets that it was trained on."""
    arguments = ["guards", "probe", "support-tickets", "--model", "bundled-guard", "--json"]
    result = CliRunner().invoke(app, arguments)
    found = json.loads(result.stdout)
    assert result.exit_code == 1 and found["verdict"] == "cannot tell"
    by_check = {finding["check"]: finding["outcome"] for finding in found["findings"]}
    assert by_check == {
        "prompt": "not checked",
        "codes": "fits",
        "format": "fits",
        "greedy answers": "fits",
        "harmless texts": "cannot tell",
        "harmful texts": "fits",
    }
    wrong = CliRunner().invoke(app, ["guards", "probe", "qwen3guard-gen", "--model", "bundled-guard"])
    assert wrong.exit_code == 1 and wrong.stdout.startswith("does not fit\n")


def test_score_notes_a_prompt_that_is_not_the_tokenizers(folder: Path) -> None:
    """The two checks that need no forward pass are among the notes on every table of scores."""
    scorer = Scorer.load(str(folder / "model"), str(folder / "guard.yaml"))
    assert origin_of(scorer).notes == ()
    scorer.model.tokenizer.chat_template = CHAT
    (note,) = origin_of(Scorer(scorer.model, scorer.guard)).notes
    assert note.startswith("the prompt differs from the tokenizer's own chat template from character 15 on: ")
