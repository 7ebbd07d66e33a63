"""Attack: markup in the texts of a config, a taxonomy or records, meant for the data set card and the changelog of a
release. Everything stays text: the parsed files have only what the templates wrote."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from markdown_it import MarkdownIt
from markdown_it.token import Token

from marginalia.pipeline.core.run import open_run
from marginalia.pipeline.core.stage_order import load_stage
from marginalia.pipeline.core.stage_runner import run_stage
from marginalia.pipeline.release.markdown_escaping import bibtex, code, fenced, inline, link
from marginalia.schemas.storage.files import write_frame
from marginalia.schemas.tables import GoldRecord, PromptRecord
from marginalia.schemas.taxonomy import load_taxonomy
from tests.hostile.texts import VALUES, value
from tests.pipeline.release.labelled_run import AT, GOLD, gold_row, make_run

MARKDOWN = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
HEADER = re.compile(r"^(\s*---[\r\n]+)([\S\s]*?)([\r\n]+---(\r\n|\n|$))")  # as huggingface_hub finds it


def tokens_of(text: str) -> list[Token]:
    return [token for block in MARKDOWN.parse(text) for token in (block, *(block.children or []))]


def shape_of(text: str) -> set[tuple[str, str]]:
    """Kinds of elements, with where they point to."""
    return {
        (token.type, str(token.attrs.get("href") or token.attrs.get("src") or ""))
        for token in tokens_of(text)
        if token.type not in ("softbreak", "text", "inline", "paragraph_open", "paragraph_close")
    }


def released(folder: Path, texts: dict[str, Any]) -> Path:
    """The release of a run whose texts are those of `texts`, as value(n) or harmless ones."""
    in_files = texts["value"]

    def text(number: int) -> str:
        return in_files(number).replace("\u202e", "")  # refused in YAML files

    run = make_run(folder)
    taxonomy = load_taxonomy("support-tickets").model_dump(mode="json")
    for key in ("title", "subject", "verdict", "content_notice", "version"):
        taxonomy[key] = text(len(key))
    taxonomy["none"] = {"name": text(50), "definition": text(51)}
    for number, label in enumerate(taxonomy["labels"]):
        label |= {"name": text(number), "definition": text(number + 1), "includes": [text(number + 2)]}
    (run.folder / "taxonomy.yaml").write_text(yaml.safe_dump(taxonomy, allow_unicode=False), encoding="utf-8")
    section = {key: text(number) for number, key in enumerate(("title", "description", "contact", "gate_text"))}
    section |= {"authors": [text(number) for number in range(len(VALUES))], "tags": [text(1)], "license": "other"}
    statements = ("about_annotators", "pay", "consent", "personal_data")
    section["datasheet"] = {key: text(number) for number, key in enumerate(statements)}
    section |= {"license_link": text(4), **texts.get("release", {})}
    config = {
        "taxonomy": "taxonomy.yaml",
        "annotation": {"severity": [text(3), text(0)]},
        "release": section,
    }
    (run.folder / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    gold = [
        *GOLD[:4],
        gold_row(in_files(4), ["refund"], "test"),
        gold_row(in_files(8), None, "test", status=GOLD[4]["status"]),
    ]
    write_frame(run.path("gold.parquet"), GoldRecord.frame(gold), GoldRecord)
    prompts = [
        {
            "id": row["id"],
            "messages": [{"role": "user", "content": in_files(number)}],
            "intended_labels": [],
            "slot_id": f"s-{number}",
            "generator": in_files(number),
            "created_at": AT,
            "attributes": [{"name": "language", "value": in_files(number)}],
        }
        for number, row in enumerate(gold)
    ]
    write_frame(run.path("prompts.parquet"), PromptRecord.frame(prompts), PromptRecord)
    run_stage(load_stage("release"), open_run(run.folder))
    gold[1] = gold_row("r2", ["refund"], "calibration")
    gold.append(gold_row(in_files(3), ["invoice"], "train"))
    write_frame(
        run.path("gold.parquet"), GoldRecord.frame([row for row in gold if row["id"] != in_files(4)]), GoldRecord
    )
    run_stage(load_stage("release"), open_run(run.folder))
    return run.path("release")


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return released(tmp_path_factory.mktemp("hostile"), {"value": value})


@pytest.fixture(scope="module")
def harmless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return released(tmp_path_factory.mktemp("harmless"), {"value": lambda number: f"text {number}"})


@pytest.mark.parametrize("name", ["README.md", "CHANGELOG.md"])
def test_markdown_files_have_no_element_that_their_template_did_not_write(
    hostile: Path, harmless: Path, name: str
) -> None:
    found, expected = ((folder / name).read_text(encoding="utf-8") for folder in (hostile, harmless))
    bodies = [HEADER.sub("", text) for text in (found, expected)]
    assert shape_of(bodies[0]) <= shape_of(bodies[1])
    assert not {token.type for token in tokens_of(bodies[0])} & {"html_block", "html_inline", "hr"}
    outside_code = re.sub(r"(?s)^(`{3,}).*?^\1$|`[^`\n]+`", "", bodies[0], flags=re.MULTILINE)
    assert not re.search(r"(?<!\\)://example|www\.example|me@example|\u202e|[\x07\x1b]", outside_code)


def test_tables_keep_their_rows_and_columns(hostile: Path, harmless: Path) -> None:
    counts = []
    for folder in (hostile, harmless):
        types = [token.type for token in tokens_of(HEADER.sub("", (folder / "README.md").read_text("utf-8")))]
        counts.append({kind: types.count(kind) for kind in ("table_open", "tr_open", "td_open", "th_open", "fence")})
    # the rows of languages and generators are as many as there are different texts
    assert counts[0] == counts[1]


def test_the_header_has_exactly_the_keys_and_values_that_were_meant(hostile: Path, harmless: Path) -> None:
    heads = [HEADER.match((folder / "README.md").read_text("utf-8")) for folder in (hostile, harmless)]
    assert all(heads)
    found, expected = (yaml.safe_load(head[2]) for head in heads if head)
    assert found.keys() == expected.keys()
    assert found["license"] == "other"
    assert found["pretty_name"] == value(0) and found["tags"][1:] == [value(1)]
    assert found["configs"] == expected["configs"]
    assert shape_of(found["extra_gated_prompt"]) <= shape_of(expected["extra_gated_prompt"])


def test_values_cannot_end_a_field_of_the_citation(hostile: Path) -> None:
    body = HEADER.sub("", (hostile / "README.md").read_text("utf-8"))
    blocks = [token for token in tokens_of(body) if token.type == "fence"]
    (citation,) = (token.content for token in blocks if token.info == "bibtex")
    assert _fields(citation) == ["author", "title", "version"]


def _fields(entry: str) -> list[str]:
    """Names of the fields of a BibTeX entry, by counting braces."""
    depth, names, start = 0, [], 0
    for position, letter in enumerate(entry):
        depth += {"{": 1, "}": -1}.get(letter, 0)
        assert depth >= 0
        if letter == "," and depth == 1:
            start = position + 1
        if letter == "=" and depth == 1:
            names.append(entry[start:position].strip())
    assert depth == 0
    return names


@pytest.mark.parametrize("text", VALUES)
def test_each_value_is_shown_as_text_in_each_place(text: str) -> None:
    shown = " ".join(re.sub("[\u202a-\u202e]", "", text).split()).replace("\x07", "\ufffd").replace("\x1b", "\ufffd")
    for line in (inline(text), link(text)):
        paragraph, inner, _ = MARKDOWN.parse(line)
        assert paragraph.type == "paragraph_open"
        assert {token.type for token in inner.children or []} <= {"text", "text_special"}
        assert "".join(token.content for token in inner.children or []) == shown
    (_, inner, _) = MARKDOWN.parse(code(text))
    assert [token.type for token in inner.children or []] == ["code_inline"]
    (block,) = MARKDOWN.parse(fenced(text, "bibtex"))
    assert block.type == "fence"
    assert bibtex(text).count("{") == bibtex(text).count("}") == 0


@pytest.mark.parametrize("text", ["https://lab.example/policy?a=b&c=d", "safety@lab.example"])
def test_an_address_alone_is_a_link_to_itself(text: str) -> None:
    assert [href.removeprefix("mailto:") for kind, href in shape_of(link(text)) if kind == "link_open"] == [text]


def test_a_users_own_citation_is_kept_as_it_is(tmp_path: Path) -> None:
    own = "@misc{mine,\n  title = {A {B}},\n  note = {```\n# x\n```}\n}"
    folder = released(tmp_path, {"value": lambda number: f"text {number}", "release": {"citation": own}})
    body = HEADER.sub("", (folder / "README.md").read_text("utf-8"))
    assert [token.content.strip() for token in tokens_of(body) if token.info == "bibtex"] == [own]
    assert "x" not in [token.content for token in tokens_of(body) if token.type == "text"]
