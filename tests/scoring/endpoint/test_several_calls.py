"""Guards that are asked several times about each record, on a server: one record's calls follow each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from marginalia.scoring.marginal.answer_search import MARGINALS
from marginalia.scoring.score_files import score_to_journal
from marginalia.scoring.score_request import EndpointOptions
from marginalia.scoring.scorer import Scorer, Settings
from tests.logprob_server import LogprobServer
from tests.scoring import tiny
from tests.scoring.endpoint.served import RECORDS, VOCABULARY, by_id

SETTINGS = Settings(tolerance=0.01, estimators=(*MARGINALS, "joint"))
SECOND = {
    "after": "unsafe",
    "prompt": {"message": "{{ conversation[0].content }} again"},
    "answer": [["safe"], ["unsafe\n", {"labels": [","]}]],
}
FILES: dict[str, dict[str, Any]] = {
    "a second call": {"answer": [["safe"], [{"verdict": "unsafe"}, {"any": ["", "\nS1", "\nS10"]}]], "second": SECOND},
    "one policy per call": {
        "calls": "per_label",
        "prompt": {"message": "{{ conversation[0].content }} {{ categories[0].code }}"},
        "answer": [["safe"], [{"verdict": "unsafe"}, {"any": ["", "\nS1", "\nS10"]}]],
    },
}


@pytest.mark.parametrize("name", FILES)
def test_the_numbers_are_the_local_ones_and_a_run_is_continued(
    tmp_path: Path, folder: Path, network: Any, name: str
) -> None:
    file = yaml.safe_load((folder / "guard.yaml").read_text())
    (tmp_path / "taxonomy.yaml").write_text((folder / "taxonomy.yaml").read_text())
    path = tmp_path / "guard.yaml"
    path.write_text(yaml.safe_dump({**file, **FILES[name]}))
    local = Scorer.load(str(folder / "model"), str(path), settings=SETTINGS)
    expected = by_id(local.score_records(RECORDS))
    asked: list[list[int]] = []
    with LogprobServer(network, tiny.tokenizer(), max_logprobs=10**6) as server:
        options = EndpointOptions(tokenizer=str(folder / "model"), top_logprobs=VOCABULARY)
        scorer = Scorer.load(server.url, str(path), settings=SETTINGS, endpoint=options)
        for call in scorer.calls.values():
            build = call.prompts.build
            call.prompts.build = lambda messages, build=build: (prompt := build(messages), asked.append(prompt.ids))[0]  # type: ignore[method-assign,misc]
        journal = tmp_path / "scores.journal.jsonl"
        ids = list(score_to_journal(scorer, RECORDS[:2], journal))
        before = len(asked)
        ids += [record_id for record_id in score_to_journal(scorer, RECORDS, journal) if record_id not in ids]
        assert before == 2 * len(scorer.calls)
        assert len(asked) == len(RECORDS) * len(scorer.calls)  # records of the first run are not asked about again
        assert sorted(ids) == [record_id for record_id, _ in RECORDS]
        found = by_id(scorer.score_records(RECORDS))
        scorer.model.caller.close()  # type: ignore[attr-defined]
    for record_id, result in found.items():
        for estimator in SETTINGS.estimators:
            for bound in ("probability", "lower", "upper"):
                there, here = (getattr(one.estimates[estimator], bound) for one in (result, expected[record_id]))
                assert there == pytest.approx(here, abs=1e-5), estimator
