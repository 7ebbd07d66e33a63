"""The search against every answer enumerated by plain forward passes, on tiny random Llamas in float32."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml

from marginalia.scoring.marginal.answer_search import MARGINALS
from marginalia.scoring.scorer import Scorer, Settings
from tests.scoring.tiny import END, Oracle, guard_answers, model, save, tokenizer

LANGUAGES = {
    "prefixes": (["S1", "S2", "S10"], ","),
    "spaces and commas": (["S1", "Hate", "Hate, x"], ", "),
    "nested": (["A", "B", "AB", "BA"], ","),
}
EVERYTHING = 10**6


def scorer(folder: Path, codes: list[str], separator: str, settings: Settings) -> Scorer:
    labels = [{"id": f"l{n}", "name": f"Label {n}", "definition": "x"} for n in range(len(codes))]
    taxonomy = {"id": "tiny", "version": "1", "title": "Tiny", "subject": "texts", "labels": labels}
    guard = {
        "guard": "tiny",
        "title": "Tiny",
        "source": "a test",
        "taxonomy": "taxonomy.yaml",
        "labels": {f"l{n}": code for n, code in enumerate(codes)},
        "prompt": {"message": "Judge: {{ conversation[0].content }}"},
        "answer": [["safe"], [{"verdict": "unsafe"}, "\n", {"labels": [separator]}]],
    }
    (folder / "taxonomy.yaml").write_text(yaml.safe_dump(taxonomy))
    (folder / "guard.yaml").write_text(yaml.safe_dump(guard))
    return Scorer.load(str(folder / "model"), str(folder / "guard.yaml"), settings=settings)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize(("seed", "sharpness"), [(1, 0.5), (2, 2.0)])
def test_marginals_equal_enumeration(tmp_path: Path, language: str, seed: int, sharpness: float) -> None:
    codes, separator = LANGUAGES[language]
    save(tmp_path / "model", seed, sharpness=sharpness)
    exact = Settings(tolerance=0, node_budget=EVERYTHING)
    made = scorer(tmp_path, codes, separator, exact)
    message = [{"role": "user", "content": "hello"}]
    answers, complete = guard_answers(codes, "safe", "unsafe\n", separator)
    oracle = Oracle(model(seed, sharpness=sharpness), tokenizer(), [END], answers)
    truth = oracle.run(made.prompts.build(message).ids, len(codes) + 1, complete)
    (result,) = made.score_records([("a", message)])
    for estimator in MARGINALS:
        assert result.estimates[estimator].probability == pytest.approx(truth[estimator].numpy(), abs=1e-5)
    assert result.off_language == pytest.approx(float(truth["off"]), abs=1e-6)
    assert result.unexplored == pytest.approx(0, abs=1e-9)

    widths = []
    for tolerance in (0.3, 0.05, 0.005):
        made.settings = Settings(tolerance=tolerance, node_budget=EVERYTHING)
        (result,) = made.score_records([("a", message)])
        for estimator in MARGINALS:
            bounds = result.estimates[estimator]
            assert (bounds.lower <= truth[estimator].numpy() + 1e-6).all()
            assert (bounds.upper >= truth[estimator].numpy() - 1e-6).all()
            assert (bounds.lower <= bounds.probability).all() and (bounds.probability <= bounds.upper).all()
            assert (bounds.upper - bounds.lower).max() <= tolerance + 1e-9
        widths.append(max((result.estimates[name].upper - result.estimates[name].lower).max() for name in MARGINALS))
    assert widths == sorted(widths, reverse=True)


def test_batch_composition_and_order_change_nothing(tmp_path: Path) -> None:
    codes, separator = LANGUAGES["prefixes"]
    save(tmp_path / "model", 3, sharpness=2.0)
    made = scorer(tmp_path, codes, separator, Settings(tolerance=0.01))
    texts = ["hello", "a rather longer text about nothing", "x", "another one, with a comma", "hello there"]
    records = [(f"r{n}", [{"role": "user", "content": text}]) for n, text in enumerate(texts)]
    together = {result.record_id: result for result in made.score_records(records)}
    backwards = {result.record_id: result for result in made.score_records(records[::-1])}
    for record_id, messages in records:
        (alone,) = made.score_records([(record_id, messages)])
        for name, estimate in alone.estimates.items():
            for other in (together[record_id], backwards[record_id]):
                assert np.abs(other.estimates[name].probability - estimate.probability).max() < 1e-4
        assert together[record_id].answer == alone.answer


def test_fewest_prefixes(tmp_path: Path) -> None:
    """The wide search evaluates at most 1.1 × the smallest budget with which it reaches the tolerance."""
    codes, separator = LANGUAGES["prefixes"]
    save(tmp_path / "model", 5, sharpness=3.0)
    settings = Settings(estimators=("marginal",), tolerance=0.01, node_budget=EVERYTHING, answer_tokens=1)
    made = scorer(tmp_path, codes, separator, settings)
    message = [{"role": "user", "content": "hello"}]
    (result,) = made.score_records([("a", message)])
    fewest = None
    for budget in range(1, result.nodes + 1):
        made.settings = Settings(estimators=("marginal",), tolerance=0.01, node_budget=budget, answer_tokens=1)
        (limited,) = made.score_records([("a", message)])
        bounds = limited.estimates["marginal"]
        if (bounds.upper - bounds.lower).max() <= 0.01:
            fewest = limited.nodes
            break
    assert fewest is not None
    assert result.nodes <= 1.1 * fewest


def test_bfloat16_stays_near_float32(tmp_path: Path) -> None:
    """Half precision: 0.01 on tiny models, a few times the 0.003 that was measured over eight of them."""
    codes, separator = LANGUAGES["prefixes"]
    save(tmp_path / "model", 4, sharpness=2.0)
    settings = Settings(tolerance=1e-3, node_budget=EVERYTHING)
    full = scorer(tmp_path, codes, separator, settings)
    half = Scorer.load(str(tmp_path / "model"), str(tmp_path / "guard.yaml"), dtype="bfloat16", settings=settings)
    assert full.model.identity != half.model.identity  # so no journal mixes the two
    message = [{"role": "user", "content": "hello"}]
    (exact,), (result,) = full.score_records([("a", message)]), half.score_records([("a", message)])
    for name in MARGINALS:
        bounds, full_precision = result.estimates[name], exact.estimates[name]
        assert (bounds.lower <= full_precision.upper + 0.01).all() and (
            full_precision.lower <= bounds.upper + 0.01
        ).all(), name
