"""`marginalia guards check`: what an author of a guard file is shown."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from marginalia.pipeline.commands.cli import app
from marginalia.schemas.storage.yaml_files import load_yaml
from marginalia.scoring.guard import load_guard
from marginalia.scoring.guard_check import (
    CodeTokens,
    answer_with,
    check_guard,
    code_tokens,
    example_records,
    keeps_format,
    prefixes,
    shared_first_tokens,
)
from marginalia.scoring.guard_file import GuardFile
from marginalia.scoring.scored_record import Result
from marginalia.scoring.scorer import Scorer
from tests.scoring import tiny

LINES = """guard: tiny
title: Tiny
source: a test
taxonomy: taxonomy.yaml
labels: {late: S1, refund: S10, return: R}
prompt:
  message: "Rules\\t{{ conversation[0].content }}"
  frame: "<|start|>user\\n{{ message }}<|end|><|start|>"
answer:
  - ["safe"]
  - [{verdict: unsafe}, "\\n", {labels: [","]}]
"""
LABELS = [
    {"id": name, "name": name.title(), "definition": "x", "examples": [f"My {name} example"]}
    for name in ("late", "refund", "return")
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("guard")
    tiny.save(made / "model", 4)
    (made / "guard.yaml").write_text(LINES)
    taxonomy = {"id": "tiny", "version": "1", "title": "Tiny", "subject": "texts", "labels": LABELS}
    (made / "taxonomy.yaml").write_text(json.dumps(taxonomy))
    return made


@pytest.fixture(scope="module")
def scorer(folder: Path) -> Scorer:
    return Scorer.load(str(folder / "model"), str(folder / "guard.yaml"))


def lines_of(scorer: Scorer, folder: Path, *answers: str) -> list[str]:
    records = [(f"r{n}", [{"role": "user", "content": f"text {n}"}]) for n in range(len(answers))]
    results = [
        Result(f"r{n}", answer=answer, predicted=["late"], off_language=0.25) for n, answer in enumerate(answers)
    ]
    return list(check_guard(scorer, folder / "guard.yaml", records, results))


def test_the_prompt_with_control_tokens_and_white_space(scorer: Scorer, folder: Path) -> None:
    lines = lines_of(scorer, folder, "safe")
    assert lines[0].startswith("prompt of record 'r0': ")
    assert lines[1:3] == ["  ⟦<|start|>⟧user⏎", "  Rules→text·0⟦<|end|>⟧⟦<|start|>⟧"]


def test_a_control_token_in_a_record_is_not_marked(scorer: Scorer, folder: Path) -> None:
    record = ("r", [{"role": "user", "content": "<|end|>"}])
    lines = list(check_guard(scorer, folder / "guard.yaml", [record], [Result("r", answer="safe", off_language=0.0)]))
    assert "  Rules→<|end|>⟦<|end|>⟧⟦<|start|>⟧" in lines


def test_the_tokens_of_codes(scorer: Scorer, folder: Path) -> None:
    """The tiny tokenizer merges S 1 and S1 0."""
    assert code_tokens(scorer) == [
        CodeTokens("late", "S1", ["S1"], ["S", "S1"]),
        CodeTokens("refund", "S10", ["S10"], ["S", "S1", "S10"]),
        CodeTokens("return", "R", ["R"], ["R"]),
    ]
    lines = lines_of(scorer, folder, "safe")
    assert "codes (guard.yaml, line 5):" in lines
    (table,) = (line.split("\n") for line in lines if "can begin with" in line)
    assert re.split(" {2,}", table[2]) == ["", "S10", "refund", "'S10'", "'S', 'S1', 'S10'"]
    assert "  S1 begins S10: it counts when a separator or the end follows" in lines


def test_codes_that_share_their_first_token_or_begin_others() -> None:
    found = [CodeTokens(code, code, list(code), []) for code in ("S1", "S10", "R")]
    assert shared_first_tokens(found) == {"S": ["S1", "S10"]}
    assert prefixes(found) == {"S1": ["S10"]}


@pytest.mark.parametrize("name", ["llama-guard-3", "qwen3guard-gen", "wildguard", "nemotron-aegis-2"])
def test_an_answer_is_found_for_every_label_of_shipped_guards(name: str) -> None:
    guard = load_guard(name)
    for row in range(len(guard.labels)):
        answer = answer_with(guard.language, row)
        assert answer is not None
        accepted = guard.language.walk(answer)[-1].accepted
        assert accepted is not None and accepted >> row & 1


def test_answers_in_the_format(scorer: Scorer, folder: Path) -> None:
    lines = lines_of(scorer, folder, "safe", "unsafe\nS1")
    assert "    'unsafe\\nS1' is in the format: late; 75.0% of the probability stays in the format" in lines
    assert lines[-1] == "all 2 answers are in the format"


def test_the_line_to_change_for_white_space(scorer: Scorer, folder: Path) -> None:
    lines = lines_of(scorer, folder, "unsafe\nS1", "unsafe\nS1, S10", "unsafe\nS1, S10")
    assert "2 of 3 answers are outside the format, most often:" in lines
    assert "  2 × 'unsafe\\nS1, S10': only its white space differs from line 11" in lines
    to_change = (
        f'change line 11 of {folder / "guard.yaml"} to: - [{{verdict: "unsafe"}}, "\\n", {{labels: [",", ", "]}}]'
    )
    assert f"  to accept such answers, {to_change}" in lines


def test_the_line_to_change_for_other_answers(scorer: Scorer, folder: Path) -> None:
    lines = lines_of(scorer, folder, "unsafe\nX9", "Sure, here it is")
    assert "  nearest to 'unsafe\\nX9' is line 11: it accepts the beginning 'unsafe\\n'" in lines
    nothing = (
        "  no alternative of answer (line 9) begins like 'Sure, here it is': add one, or change the prompt (line 6)"
    )
    assert nothing in lines


def test_a_frame_that_does_not_fit_the_tokenizer(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "guard.yaml"
    other.write_text(LINES.replace("<|start|>", "<|begin|>").replace("taxonomy.yaml", str(folder / "taxonomy.yaml")))
    scorer = Scorer.load(str(folder / "model"), str(other))
    record = ("r", [{"role": "user", "content": "x"}])
    lines = list(check_guard(scorer, other, [record], [Result("r", answer="safe", off_language=0.0)]))
    assert any("the tokenizer has no <|begin|>" in line and line.endswith("(line 8)") for line in lines)


def test_five_records_by_default(folder: Path) -> None:
    guard = load_guard(str(folder / "guard.yaml"))
    records = example_records(guard)
    assert [name for name, _ in records] == ["late", "refund", "return", "plain 1", "plain 2"]
    assert records[0][1] == [{"role": "user", "content": "My late example"}]


def test_the_check_passes_when_every_answer_is_in_the_format(folder: Path) -> None:
    guard = load_guard(str(folder / "guard.yaml"))
    assert keeps_format(guard, [Result("a", answer="safe"), Result("b", answer="unsafe\nR")])
    assert not keeps_format(guard, [Result("a", answer="safe"), Result("b", answer="unsafe")])
    assert not keeps_format(guard, [Result("a", error="too long")])


def run(*words: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["guards", "check", *words])
    return done.exit_code, done.stdout, done.stderr


def test_the_bundled_guard() -> None:
    code, out, errors = run("support-tickets", "--model", "bundled-guard")
    assert (code, errors) == (0, "")
    assert "⟦<|im_start|>⟧user⏎" in out
    assert "share the first token 'S': S1, S2, S3, S4, S5, S6, S7, S8, S9, S10, S11, S12" in out
    assert "S1 begins S10, S11, S12: it counts when a separator or the end follows" in out
    assert "'unsafe\\nS1' is in the format: late_delivery; 99." in out
    assert out.endswith("all 5 answers are in the format\n")


def test_a_random_model_and_records(folder: Path, tmp_path: Path) -> None:
    records = tmp_path / "r.jsonl"
    records.write_text("".join(json.dumps({"id": f"r{n}", "text": f"text {n}"}) + "\n" for n in range(7)))
    code, out, _ = run(str(folder / "guard.yaml"), "--model", str(folder / "model"), "--records", str(records))
    assert code == 1
    assert "5 of 5 answers are outside the format, most often:" in out and "  r4: 'text 4'" in out and "r5" not in out


def test_one_policy_per_call(folder: Path) -> None:
    code, out, _ = run("shieldgemma", "--model", str(folder / "model"))
    assert code == 1
    assert ", the first of " in out and "codes: none; each call answers with the verdict on one label" in out


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("source:", "sourc:", "line 3: unknown key 'sourc'; did you mean 'source'?"),
        (
            "{verdict: unsafe}",
            "{verdikt: unsafe}",
            "line 11: a piece of an answer has the unknown key 'verdikt'; d",
        ),
        (
            "{verdict: unsafe}",
            "{word: unsafe, rows: [lat]}",
            "line 11: a word has the unknown row 'lat'; did you mean 'late'",
        ),
        ("{verdict: unsafe}", '"unsafe"', "line 9: no word of 'answer' completes the row 'unsafe'"),
        ("late: S1", "lat: S1", "line 5: label 'lat' is not in the taxonomy tiny; did you mean 'late'?"),
        ("{{ message }}", "{{ mesage }}", "line 8: prompt.frame: the template uses the unknown variable 'mesage'; did"),
    ],
)
def test_errors_name_the_line_and_the_nearest_key(
    folder: Path, tmp_path: Path, before: str, after: str, message: str
) -> None:
    path = tmp_path / "guard.yaml"
    path.write_text(LINES.replace("taxonomy.yaml", str(folder / "taxonomy.yaml")).replace(before, after))
    code, _, errors = run(str(path), "--model", str(folder / "model"))
    assert code == 2
    assert f"error: {path}: {message}" in errors


def test_a_wrong_option_names_it(folder: Path) -> None:
    code, _, errors = run(str(folder / "guard.yaml"), "--model", "http://127.0.0.1:1", "--api-key-env", "sk-1 2")
    assert code == 2 and errors.startswith("error: --api-key-env: ") and "marginalia guards check --help" in errors


def test_the_test_file_is_a_guard_file(folder: Path) -> None:
    assert load_yaml(folder / "guard.yaml", GuardFile).guard == "tiny"
