"""Whatever bytes a file contains: every reader accepts them or raises InputError, and never another exception."""

from __future__ import annotations

import contextlib
import gzip
import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from marginalia.annotation.client.answer_journal import answers_frame, latest
from marginalia.annotation.client.pseudonyms import read_key
from marginalia.annotation.gold.gold_questions import GoldQuestions, choose
from marginalia.pipeline.config.run_config import load_config
from marginalia.pipeline.core.run_log import read_log
from marginalia.pipeline.generation.response_journal import read_answers
from marginalia.pipeline.generation.writer_templates import load_templates, template_folder
from marginalia.pipeline.importing.column_mapping import SHIPPED as MAPPINGS
from marginalia.pipeline.importing.column_mapping import Mapping, load_mapping
from marginalia.pipeline.importing.row_conversion import convert
from marginalia.pipeline.importing.suggested_mapping import suggest
from marginalia.schemas.agreement_json import Agreement
from marginalia.schemas.calibration_json import CalibrationFile
from marginalia.schemas.errors import InputError
from marginalia.schemas.evaluation_json import Evaluation
from marginalia.schemas.input_records import read_records, read_records_to_score
from marginalia.schemas.manifest_json import Manifest
from marginalia.schemas.push_json import Pushed
from marginalia.schemas.source_rows import read_rows
from marginalia.schemas.storage.files import read_frame, read_model
from marginalia.schemas.storage.journal import Journal, read_journal
from marginalia.schemas.tables import GoldRecord, LabelScore
from marginalia.schemas.taxonomy import SHIPPED as TAXONOMIES
from marginalia.schemas.taxonomy import Taxonomy, load_taxonomy
from marginalia.schemas.thresholds_json import ThresholdsFile
from marginalia.scoring.guard import SHIPPED as GUARDS
from marginalia.scoring.guard import load_guard

Reader = Callable[[Path], object]
TAXONOMY = load_taxonomy("support-tickets")
RECORDS = (
    b'{"id": "a", "text": "My parcel is late", "labels": ["late_delivery"]}\n{"id": "b", "text": "x", "labels": []}\n'
)
ANSWER = {
    "key": "k",
    "slot_id": "s",
    "attempt": 1,
    "created_at": "2026-01-02T03:04:05.000001+00:00",
    "text": "hello",
    "refused": None,
    "finish_reason": "stop",
    "prompt_tokens": 3,
    "completion_tokens": 1,
    "request": {"messages": [{"role": "user", "content": "write"}]},
    "model": "m",
}
PULLED = {
    "record_id": "r",
    "annotator": "A01",
    "round": "annotate",
    "labels": ["a"],
    "status": "submitted",
    "rejected": None,
    "note": None,
    "unsure": False,
    "submitted_at": "2026-01-02T03:04:05+00:00",
    "pulled_at": "2026-01-02T03:04:05+00:00",
}
PUSHED = {
    "url": "http://127.0.0.1",
    "workspace": "w",
    "dataset": "d",
    "dataset_id": "i",
    "round": "annotate",
    "records": 3,
    "annotators": 2,
    "taxonomy": "t",
    "labels": ["a"],
    "taxonomy_sha256": "x",
    "suggestions": False,
    "pushed_at": "2026-01-02T03:04:05+00:00",
}
MANIFEST = {
    "stage": "plan",
    "inputs": {},
    "outputs": {"plan.parquet": "ab"},
    "config_sha256": "x",
    "counts_in": {},
    "counts_out": {"planned": 3},
    "seconds": 0.1,
    "versions": {},
    "finished_at": "2026-01-02T03:04:05+00:00",
}
COLUMNS = {
    "text": "text",
    "labels": {
        "columns": {"late": "refund", "x.y[0]": ["invoice", "return"], "fine": None},
        "ignore": ["rude"],
        "threshold": 0.5,
        "true": ["ja"],
        "false": ["nein"],
        "judged": "all",
    },
    "skip": {"text": ["REDACTED"]},
}
ANSWERS = {
    "id": "id",
    "messages": "chat.turns",
    "labels": {"column": "tags[*].name", "classes": ["ok", "late"], "values": {"ok": None, "late": "late_delivery"}},
    "annotators": {"items": "answers[*]", "column": "by.name"},
    "duplicates": "first",
    "unusable": "skip",
    "attributes": ["id"],
}
ANSWERED = {
    "id": 1,
    "chat": {"turns": [{"from": "human", "value": "where is it"}], "system": "be kind"},
    "answers": [{"by": {"name": "ann"}, "tags": [{"name": 1}, {"name": "late"}]}, {"by": {"name": 7}, "tags": "[]"}],
}
PLATT = {"method": "platt", "slope": 1.0, "intercept": 0.0}
CALIBRATION = {
    "calibrations": [
        {
            "simulated": True,
            "guard": "g",
            "estimator": "marginal",
            "method": "platt",
            "records": 3,
            "cross_fitted_log_loss": {"platt": 0.1},
            "pooled": PLATT,
            "labels": {"a": {"map": PLATT, "source": "label", "positives": 2}},
        }
    ]
}
THRESHOLDS = {
    "simulated": True,
    "taxonomy": "t",
    "confidence": 0.95,
    "guards": {
        "g": {
            "recommended": "marginal",
            "estimators": {
                "marginal": {
                    "overall": {},
                    "labels": {"a": {"max_f1": {"threshold": 0.5, "source": "label", "reason": None}}},
                }
            },
        }
    },
}
CONFIG = {
    "taxonomy": "support-tickets",
    "plan": {"records": 12},
    "score": {"guards": [{"name": "g", "guard": "instruct", "model": "m"}]},
}
KEY = {"people": [{"pseudonym": "A01", "username": "ann", "user_ids": ["1"]}]}


def as_model(model: type) -> Reader:
    return lambda path: read_model(path, model, made_by="the stage")


def journalled(entry: dict[str, Any]) -> bytes:
    with tempfile.TemporaryDirectory() as folder, Journal(Path(folder) / "j.jsonl") as journal:
        journal.append(entry)
        return journal.path.read_bytes() + (json.dumps(entry) + "\n").encode()


def imported(path: Path) -> object:
    return convert(read_rows(path), load_mapping(MAPPINGS / "records.yaml", TAXONOMY), TAXONOMY, str(path))


def imported_answers(path: Path) -> object:
    return convert(read_rows(path), Mapping.model_validate(ANSWERS), TAXONOMY, str(path))


def pulled(path: Path) -> object:
    return answers_frame(latest(path).values())


def parquet(path: Path) -> object:
    return read_frame(path, LabelScore, made_by="the stage")


def parquet_bytes() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        rows = {
            "record_id": ["r"],
            "estimator": ["e"],
            "label": ["a"],
            "probability": [0.5],
            "lower": [0.1],
            "upper": [0.9],
        }
        pl.DataFrame(rows).write_parquet(Path(folder) / "x.parquet")
        return (Path(folder) / "x.parquet").read_bytes()


def journal_opened(path: Path) -> object:
    with Journal(path) as journal:
        journal.append({"n": 1})
    return list(read_journal(path))[-1]["n"] == 1


def questions(path: Path) -> object:
    return choose(path, TAXONOMY, ["r1"], 0.5, 1)


def as_json(value: Any) -> bytes:
    return json.dumps(value).encode()


CSV = b'id,text,labels\n1,"a, ""b""",[]\n2,"c\nd",\n'
# what is read → file name, reader, a valid file
READERS: dict[str, tuple[str, Reader, bytes]] = {
    "records": ("r.jsonl", read_records, RECORDS),
    "records in Parquet": ("r.parquet", read_records, parquet_bytes()),
    "records in CSV": ("r.csv", read_records, CSV),
    "records in TSV": ("r.tsv", read_records, CSV.replace(b",", b"\t")),
    "records in UTF-16": ("r.csv", read_records, CSV.decode().encode("utf-16")),
    "records in a JSON list": ("r.json", read_records, b'{"rows": [' + RECORDS.strip().replace(b"\n", b",") + b"]}"),
    "records in gzip": ("r.csv.gz", read_records, gzip.compress(CSV)),
    "suggested mapping": ("r.csv", lambda path: suggest([str(path)], TAXONOMY), CSV),
    "records to score": ("r.jsonl", read_records_to_score, RECORDS),
    "import": ("r.jsonl", imported, RECORDS),
    "gold questions": ("r.jsonl", questions, RECORDS),
    "taxonomy": (
        "t.yaml",
        lambda path: load_taxonomy(path.name, relative_to=path.parent),
        (TAXONOMIES / "llama-guard-2.yaml").read_bytes(),
    ),
    "config": ("config.yaml", load_config, yaml.safe_dump(CONFIG).encode()),
    "import of answers": ("r.jsonl", imported_answers, as_json(ANSWERED)),
    "mapping with columns": ("m.yaml", lambda path: load_mapping(path, TAXONOMY), yaml.safe_dump(COLUMNS).encode()),
    "mapping of answers": ("m.yaml", lambda path: load_mapping(path, TAXONOMY), yaml.safe_dump(ANSWERS).encode()),
    "mapping": ("m.yaml", lambda path: load_mapping(path, TAXONOMY), (MAPPINGS / "records.yaml").read_bytes()),
    "guard": (
        "g.yaml",
        lambda path: load_guard(path.name, TAXONOMY, relative_to=path.parent),
        (GUARDS / "instruct.yaml").read_bytes(),
    ),
    "own guard": (
        "g.yaml",
        lambda path: load_guard(path.name, None, relative_to=path.parent),
        (GUARDS / "llama-guard-2.yaml").read_bytes(),
    ),
    "responses": ("responses.jsonl", read_answers, journalled(ANSWER)),
    "annotations": ("annotations.jsonl", pulled, journalled(PULLED)),
    "journal": ("j.jsonl", journal_opened, journalled(ANSWER)),
    "scores": ("s.parquet", parquet, parquet_bytes()),
    "manifest": ("m.json", as_model(Manifest), as_json(MANIFEST)),
    "push.json": ("p.json", as_model(Pushed), as_json(PUSHED)),
    "thresholds": ("t.json", as_model(ThresholdsFile), as_json(THRESHOLDS)),
    "calibration": ("c.json", as_model(CalibrationFile), as_json(CALIBRATION)),
    "pseudonyms": ("k.json", read_key, as_json(KEY)),
    "pushed gold questions": (
        "q.json",
        as_model(GoldQuestions),
        as_json({"questions": {"r": {"messages": [], "labels": ["a"]}}}),
    ),
    "log": (
        "log.jsonl",
        lambda path: list(read_log(path.parent)),
        as_json({"time": "x", "stage": "plan", "event": "started"}),
    ),
}
STRUCTURED = [name for name, (file, *_) in READERS.items() if file.endswith((".json", ".jsonl", ".yaml"))]

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["\0", "\u202e", "a" * 5000]),
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
edits = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 12), st.binary(max_size=8)), min_size=1, max_size=4)


def accepts_or_refuses(name: str, data: bytes) -> None:
    file, reader, _ = READERS[name]
    folder = Path(tempfile.mkdtemp())
    try:
        (folder / file).write_bytes(data)
        with contextlib.suppress(InputError):
            reader(folder / file)
    finally:
        shutil.rmtree(folder)


@pytest.mark.parametrize("name", READERS)
def test_a_valid_file_is_accepted(name: str, tmp_path: Path) -> None:
    file, reader, good = READERS[name]
    (tmp_path / file).write_bytes(good)
    if name != "records in Parquet":  # the valid file is a table of scores
        reader(tmp_path / file)


@pytest.mark.parametrize("name", READERS)
@given(data=st.binary(max_size=200))
@example(data=b"")
@example(data=b"[" * 3000)
@example(data=b"{" * 3000)
@example(data=b"\xef\xbb\xbf{}")
@example(data=b"9" * 5000)
@example(data=b"a: &a [*a]")
@example(data=b"{}")
@example(data=b"null\n")
def test_any_bytes(name: str, data: bytes) -> None:
    accepts_or_refuses(name, data)


@pytest.mark.parametrize("name", READERS)
@given(edits=edits)
def test_a_valid_file_with_some_bytes_changed(name: str, edits: list[tuple[float, int, bytes]]) -> None:
    data = READERS[name][2]
    for share, removed, new in edits:
        start = int(share * len(data))
        data = data[:start] + new + data[start + removed :]
    accepts_or_refuses(name, data)


@pytest.mark.parametrize("name", STRUCTURED)
@given(draw=st.data())
def test_a_valid_file_with_one_value_changed(name: str, draw: st.DataObject) -> None:
    file, _, good = READERS[name]
    whole = yaml.safe_load(good) if file.endswith(".yaml") else json.loads(good.rstrip(b"\n").split(b"\n")[-1])
    changed = _replaced(whole, draw)
    data = yaml.safe_dump(changed) if file.endswith(".yaml") else json.dumps(changed) + "\n"
    accepts_or_refuses(name, data.encode("utf-8", "surrogatepass"))


def _replaced(value: Any, draw: st.DataObject) -> Any:
    """The value with one part, anywhere inside it, replaced, removed or added."""
    if isinstance(value, dict) and value and draw.draw(st.integers(0, 3)):
        key = draw.draw(st.sampled_from(sorted(value)))
        change = draw.draw(st.integers(0, 5))
        if change == 0:
            return {name: item for name, item in value.items() if name != key}
        if change == 1:
            return {**value, draw.draw(st.text(max_size=6)): draw.draw(values)}
        return {**value, key: _replaced(value[key], draw)}
    if isinstance(value, list) and value and draw.draw(st.integers(0, 3)):
        index = draw.draw(st.integers(0, len(value) - 1))
        return [*value[:index], _replaced(value[index], draw), *value[index + 1 :]]
    return draw.draw(values)


@given(data=st.text(max_size=80))
@example(data="{{ 7 / 0 }}")
@example(data="{{ ''.__class__.__mro__ }}")
@example(data="{% for a in b %}")
@example(data="{% include '/etc/passwd' %}")
def test_any_template(data: str) -> None:
    """Reading it raises no other exception than ours. What rendering may do has its own tests."""
    shipped = template_folder("default", relative_to=Path())
    folder = Path(tempfile.mkdtemp())
    try:
        for path in shipped.glob("*"):
            (folder / path.name).write_bytes(path.read_bytes())
        template = sorted(folder.glob("*.j2"))[0]
        template.write_bytes(data.encode("utf-8", "surrogatepass"))
        with contextlib.suppress(InputError):
            load_templates(folder)
    finally:
        shutil.rmtree(folder)


def test_an_evaluation_or_agreement_of_anything(tmp_path: Path) -> None:
    for model in (Evaluation, Agreement, Taxonomy):
        for data in (b"[]", b"{}", b'{"gold": NaN}', b'{"gold": Infinity}', b'"x"', b'{"records": 1e999}'):
            (tmp_path / "x.json").write_bytes(data)
            with pytest.raises(InputError):
                read_model(tmp_path / "x.json", model, made_by="the stage")


def test_gold_with_hostile_columns(tmp_path: Path) -> None:
    for frame in (pl.DataFrame({"id": [b"\xff"]}), pl.DataFrame(), pl.DataFrame({"\0": [1]})):
        frame.write_parquet(tmp_path / "g.parquet")
        with pytest.raises(InputError):
            read_frame(tmp_path / "g.parquet", GoldRecord, made_by="the stage")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"labels": 5}, "labels: Input should be a valid list"),
        ({"record_id": "a\ud800"}, "surrogates not allowed"),
        ({"submitted_at": None}, "submitted without a time"),
        ({"pulled_at": "2026-01-02"}, "a time without a time zone"),
        ({"severity": [1]}, "severity: Input should be a valid dictionary"),
    ],
)
def test_an_invalid_answer_in_the_journal_is_reported_with_its_line(
    tmp_path: Path, change: dict[str, Any], problem: str
) -> None:
    path = tmp_path / "annotations.jsonl"
    path.write_text("".join(json.dumps(entry) + "\n" for entry in (PULLED, {**PULLED, **change})))
    with pytest.raises(InputError) as caught:
        latest(path)
    assert str(caught.value).startswith(f"{path}: line 2: not an answer: ") and problem in str(caught.value)
