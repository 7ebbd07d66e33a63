"""The shipped mappings of public data sets, each with an invented file of the same form."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from marginalia.pipeline.commands.new_run import new_run
from marginalia.pipeline.core.run import Run, open_run
from marginalia.pipeline.core.stage_runner import StageRun, run_stage
from marginalia.pipeline.importing.column_mapping import SHIPPED, load_mapping
from marginalia.pipeline.importing.import_stage import STAGE, prepare
from marginalia.schemas.errors import InputError
from marginalia.schemas.storage.files import read_frame
from marginalia.schemas.tables import Answer, GoldRecord
from marginalia.schemas.taxonomy import load_taxonomy
from marginalia.scoring.guard import named_taxonomy

OWN = ("records",)  # a mapping for one's own records has no data set to confirm
HEAD = {path.stem: path.read_text(encoding="utf-8").partition("title:")[0] for path in sorted(SHIPPED.glob("*.yaml"))}
PUBLIC = [name for name in HEAD if name not in OWN]


def taxonomy_of(mapping: str) -> str:
    """The name in the line `# Taxonomy: …` of a shipped mapping."""
    found = re.search(r"^# Taxonomy: ([a-z0-9-]+)", HEAD[mapping], re.MULTILINE)
    assert found is not None, mapping
    return found[1]


class Imported:
    """A file imported with a shipped mapping, into a new run of its taxonomy."""

    def __init__(self, folder: Path, mapping: str, name: str, data: bytes) -> None:
        source = folder / name
        source.write_bytes(data)
        self.run: Run = open_run(new_run(mapping, taxonomy_of(mapping), root=folder / "runs"))
        prepare(self.run, str(source), mapping)
        self.done: StageRun = run_stage(STAGE, self.run)

    @property
    def counts(self) -> dict[str, int]:
        return {**self.done.manifest.counts_in, **self.done.manifest.counts_out}

    def gold(self, *columns: str) -> list[tuple[Any, ...]]:
        gold = read_frame(self.run.path("gold.parquet"), GoldRecord, made_by="x")
        return gold.select(columns or ("labels", "judged")).rows()

    def texts(self) -> list[list[tuple[str, str]]]:
        return [[(m["role"], m["content"]) for m in messages] for (messages,) in self.gold("messages")]


def as_csv(header: str, *rows: Iterable[object]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header.split(","), *rows])
    return text.getvalue().encode()


def as_jsonl(*rows: dict[str, Any]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def as_parquet(*rows: dict[str, Any], schema: pa.Schema | None = None) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(list(rows), schema), file)
    return file.getvalue()


@pytest.mark.parametrize("name", PUBLIC)
def test_each_mapping_says_what_was_confirmed_and_fits_its_taxonomy(name: str) -> None:
    lines = ("Taxonomy:", "Licence:")
    assert all(f"\n# {line} " in HEAD[name] for line in lines)
    assert re.search(r"^# (Confirmed|Not confirmed)\b.*: .", HEAD[name], re.MULTILINE)
    mapping = load_mapping(SHIPPED / f"{name}.yaml", load_taxonomy(str(named_taxonomy(taxonomy_of(name)))))
    assert mapping.labels is not None


def test_openai_moderation_flags_that_are_left_out_are_not_judged(tmp_path: Path) -> None:
    rows = [
        {"prompt": "a recipe", "S": 0, "H": 0, "V": 0, "HR": 0, "SH": 0, "S3": 0, "H2": 0, "V2": 0},
        {"prompt": "a fight", "V": 1, "HR": 0, "SH": 0, "V2": 1},
        {"prompt": "a poem", "S": 1, "S3": 0},
        {"prompt": "a rant", "S": 0, "H": 0, "V": 0, "HR": 1, "SH": 0, "S3": 0, "H2": 0, "V2": 0},
        {"prompt": "a recipe", "S": 0, "S3": 0},
        {"prompt": "a remark", "H": 0, "V": 0, "HR": 0, "SH": 0, "V2": 0},
    ]
    data = gzip.compress(as_jsonl(*rows))
    done = Imported(tmp_path, "openai-moderation", "samples-1680.jsonl.gz", data)
    in_full = ["violent_crimes", "child_sexual_exploitation", "hate", "suicide_self_harm", "sexual_content"]
    assert done.gold() == [
        ([], in_full),
        (["violent_crimes"], ["violent_crimes", "suicide_self_harm"]),
        (["sexual_content"], ["child_sexual_exploitation", "sexual_content"]),
        ([], ["violent_crimes", "suicide_self_harm"]),  # H is 0, but H2 is not known
    ]
    counts = {"rows": 6, "records": 4, "duplicates": 1, "conflicting_duplicates": 1, "only_ignored_values": 1}
    assert done.counts == counts | {"ignored_values": 2, "partly_labelled": 3}


def test_toxic_chat_judges_the_request_only(tmp_path: Path) -> None:
    header = "conv_id,user_input,model_output,human_annotation,toxicity,jailbreaking,openai_moderation"
    data = as_csv(
        header,
        ("c1", "Write a poem,\nplease", "Roses …", True, 0, 0, '[["harassment", 0.1]]'),
        ("c2", "Insult my neighbour", "No.", False, 1, 1, "[]"),
        ("c3", "", "?", True, 0, 0, "[]"),
        ("c4", "Insult my neighbour", "Sure.", True, 1, 0, "[]"),
    )
    done = Imported(tmp_path, "toxic-chat", "toxic-chat_annotation_test.csv", data)
    assert done.gold() == [([], None), (["harmful_request"], None)]
    assert done.texts() == [[("user", "Write a poem,\nplease")], [("user", "Insult my neighbour")]]
    assert done.counts == {"rows": 4, "records": 2, "duplicates": 1, "unusable": 1}


def test_wildguardmix_labels_are_judged_one_by_one(tmp_path: Path) -> None:
    names = ("prompt", "adversarial", "response", "prompt_harm_label", "response_refusal_label", "response_harm_label")
    rows = [
        ("Bake a cake", False, "Sure: …", "unharmful", "compliance", "unharmful"),
        ("Trick my boss", True, "I won't.", "harmful", "refusal", "unharmful"),
        ("Trick my aunt", False, None, "harmful", None, None),
        ("Trick my uncle", False, "Sure: …", None, "compliance", "harmful"),
        ("Nobody agreed", False, "Hm.", None, None, None),
    ]
    data = as_parquet(*({**dict(zip(names, row, strict=True)), "subcategory": "others"} for row in rows))
    done = Imported(tmp_path, "wildguardmix", "wildguard_test.parquet", data)
    both = ["harmful_request", "harmful_response"]
    assert done.gold() == [
        ([], both),
        (["harmful_request"], both),
        (["harmful_request"], ["harmful_request"]),
        (["harmful_response"], ["harmful_response"]),
        (None, None),
    ]
    assert done.texts()[1:3] == [
        [("user", "Trick my boss"), ("assistant", "I won't.")],
        [("user", "Trick my aunt")],
    ]


def test_harmbench_keeps_the_two_categories_that_fit(tmp_path: Path) -> None:
    header = "Behavior,FunctionalCategory,SemanticCategory,Tags,ContextString,BehaviorID"
    data = as_csv(
        header,
        ("Recite the whole song", "copyright", "copyright", "lyrics, hash_check", "", "song"),
        ("Get into the router", "standard", "cybercrime_intrusion", "", "", "router"),
        ("Say the moon is cheese", "standard", "misinformation_disinformation", "", "", "moon"),
        ("Change this code", "contextual", "cybercrime_intrusion", "context", 'a = "b"\nc', "code"),
    )
    done = Imported(tmp_path, "harmbench", "harmbench_behaviors_text_all.csv", data)
    judged = ["non_violent_crimes", "intellectual_property"]
    assert done.gold("id", "labels", "judged") == [
        ("song", ["intellectual_property"], judged),
        ("router", ["non_violent_crimes"], judged),
    ]
    assert done.counts == {"rows": 4, "records": 2, "skipped": 1, "only_ignored_values": 1, "ignored_values": 1}


XSTEST = as_csv(
    "id,prompt,type,label,focus,note",
    (1, "How do I kill a process?", "homonyms", "safe", "kill", "violence"),
    (26, "How do I hurt a colleague?", "contrast_homonyms", "unsafe", "kill", ""),
)


def test_xstest_verdicts_are_about_requests(tmp_path: Path) -> None:
    done = Imported(tmp_path, "xstest", "xstest_prompts.csv", XSTEST)
    assert done.gold("id", "labels", "judged") == [("1", [], None), ("26", ["harmful_request"], None)]


def test_a_mapping_for_another_taxonomy_says_where_to_look() -> None:
    with pytest.raises(InputError) as caught:
        load_mapping(SHIPPED / "xstest.yaml", load_taxonomy("llama-guard-3"))
    assert str(caught.value.hint) == (
        "the values on the right must be ids of the taxonomy llama-guard-3; marginalia import --show-mapping xstest "
        "says which taxonomy it is for"
    )


def test_the_safe_prompts_of_xstest_have_no_hazard_of_any_taxonomy(tmp_path: Path) -> None:
    done = Imported(tmp_path, "xstest-safe", "xstest_prompts.csv", XSTEST)
    assert done.gold("id", "labels", "judged") == [("1", [], None)]
    assert done.counts == {"rows": 2, "records": 1, "only_ignored_values": 1, "ignored_values": 1}


def test_simple_safety_tests_areas_in_both_spellings(tmp_path: Path) -> None:
    data = as_csv(
        "id,harm_area,category,prompt",
        ("sst_1", "Suicide, Self-Harm, and Eating Disorders", "Information seeking", "a"),
        ("sst_2", "Suicide, Self-Harm and Eating Disorders", "Information seeking", "b"),
        ("sst_3", "Physical Harm and Violence", "Instructions and actions", "c"),
        ("sst_4", "Scams and Fraud", "Information seeking", "d"),
        ("sst_5", "Illegal and Highly Regulated items", "Information seeking", "e"),
        ("sst_6", "Child Abuse", "Information seeking", "f"),
    )
    done = Imported(tmp_path, "simple-safety-tests", "sst_test_cases.csv", data)
    assert [labels for (labels,) in done.gold("labels")] == [
        ["suicide_self_harm"],
        ["suicide_self_harm"],
        ["violent_crimes"],
        ["non_violent_crimes"],
        ["non_violent_crimes"],
    ]
    judged = ["violent_crimes", "non_violent_crimes", "suicide_self_harm"]
    assert all(found == judged for (found,) in done.gold("judged"))
    assert done.counts["only_ignored_values"] == 1


def test_jigsaw_comments_that_are_only_rude_are_neither_safe_nor_hazards(tmp_path: Path) -> None:
    data = as_csv(
        "id,comment_text,toxic,severe_toxic,obscene,threat,insult,identity_hate",
        ("0a", "Thanks for the\nsource.", 0, 0, 0, 0, 0, 0),
        ("0b", "I will find you", 1, 0, 0, 1, 0, 0),
        ("0c", "What a fool", 1, 0, 0, 0, 1, 0),
        ("0d", "Those people again", 1, 0, 0, 0, 1, 1),
        ("0e", "Not scored", -1, -1, -1, -1, -1, -1),
    )
    done = Imported(tmp_path, "jigsaw", "train.csv", data)
    judged = ["violent_crimes", "hate"]
    assert done.gold("id", "labels", "judged") == [
        ("0a", [], judged),
        ("0b", ["violent_crimes"], judged),
        ("0d", ["hate"], judged),
    ]
    assert done.counts["skipped"] == done.counts["only_ignored_values"] == 1


def answers_of(done: Imported) -> list[tuple[Any, ...]]:
    answers = read_frame(done.run.path("annotations.parquet"), Answer, made_by="x")
    return answers.select("record_id", "annotator", "labels", "judged").rows()


def three(record: str, *labels: list[str]) -> list[tuple[Any, ...]]:
    return [(record, f"A0{at}", found, ["hate"]) for at, found in enumerate(labels, start=1)]


def test_hatexplain_has_the_answers_of_three_people(tmp_path: Path) -> None:
    def post(identifier: str, *labels: str) -> dict[str, Any]:
        answers = [
            {"label": label, "annotator_id": number, "target": ["None"]} for number, label in enumerate(labels, start=4)
        ]
        rationales: list[list[int]] = []
        tokens = ["hello", identifier]
        return {"post_id": identifier, "annotators": answers, "rationales": rationales, "post_tokens": tokens}

    posts = [post("1_gab", "hatespeech", "hatespeech", "offensive"), post("2_twitter", "normal", "normal", "normal")]
    data = json.dumps({each["post_id"]: each for each in posts}).encode()
    done = Imported(tmp_path, "hatexplain", "dataset.json", data)
    assert answers_of(done) == [*three("1_gab", ["hate"], ["hate"], []), *three("2_twitter", [], [], [])]
    assert done.done.manifest.facts["annotators"] == 3
    assert done.counts == {"rows": 2, "records": 2, "answers": 6}


def test_hatexplain_from_the_hub_is_a_struct_of_lists_with_classes(tmp_path: Path) -> None:
    rows = [
        {
            "id": "1_gab",
            "annotators": {"label": [0, 2, 0], "annotator_id": [4, 5, 6], "target": [["None"], [], ["None"]]},
            "rationales": [[0, 1]],
            "post_tokens": ["hello", "you"],
        }
    ]
    done = Imported(tmp_path, "hatexplain-hub", "train.parquet", as_parquet(*rows))
    assert answers_of(done) == three("1_gab", ["hate"], [], ["hate"])


def test_beavertails_flags_become_labels(tmp_path: Path) -> None:
    mapping = load_mapping(SHIPPED / "beavertails.yaml", load_taxonomy("llama-guard-3"))
    assert mapping.labels is not None
    flags = dict.fromkeys(mapping.labels.values, False)
    rows = [
        {"prompt": "p", "response": "r", "category": {**flags, "privacy_violation": True}, "is_safe": False},
        {"prompt": "q", "response": "r", "category": flags, "is_safe": True},
        {"prompt": "q", "response": "r", "category": {**flags, "self_harm": True}, "is_safe": False},
        {"prompt": "s", "response": "", "category": flags, "is_safe": True},
        {"prompt": "t", "response": "u", "category": {**flags, "violence,aiding_and_abetting,incitement": True}},
    ]
    done = Imported(tmp_path, "beavertails", "test.jsonl.gz", gzip.compress(as_jsonl(*rows)))
    judged = [
        "violent_crimes",
        "non_violent_crimes",
        "specialized_advice",
        "privacy",
        "hate",
        "suicide_self_harm",
        "sexual_content",
        "elections",
    ]
    assert len(mapping.labels.values) == 14
    assert done.gold() == [(["privacy"], judged), ([], judged), (["violent_crimes"], judged)]
    assert done.texts()[0] == [("user", "p"), ("assistant", "r")]
    counts = {"rows": 5, "records": 3, "duplicates": 1, "conflicting_duplicates": 1, "unusable": 1}
    assert done.counts == counts


def test_aegis_categories_are_split_at_commas(tmp_path: Path) -> None:
    names = ("id", "reconstruction_id_if_redacted", "prompt", "response", "prompt_label", "response_label")
    rows = [
        ("a", None, "Who is my neighbour?", "No idea.", "unsafe", "safe", "PII/Privacy, Profanity"),
        ("b", None, "Hello", None, "safe", None, ""),
        ("c", 7, "REDACTED", None, "unsafe", None, "Suicide and Self Harm"),
        ("d", None, "Hm", "", "unsafe", "safe", "Needs Caution"),
    ]
    data = json.dumps([dict(zip((*names, "violated_categories"), row, strict=True)) for row in rows]).encode()
    done = Imported(tmp_path, "aegis-2", "test.json", data)
    assert [labels for (labels,) in done.gold("labels")] == [["privacy"], []]
    assert done.texts() == [[("user", "Who is my neighbour?"), ("assistant", "No idea.")], [("user", "Hello")]]
    assert done.counts == {"rows": 4, "records": 2, "skipped": 1, "only_ignored_values": 1, "ignored_values": 2}
