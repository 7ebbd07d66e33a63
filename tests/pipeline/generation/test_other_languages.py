"""A taxonomy that nobody ships, in German and in Japanese: plan, preview, generate, check, gold, report."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from marginalia.pipeline.annotating.reconcile_stage import STAGE as RECONCILE
from marginalia.pipeline.core.run import open_run
from marginalia.pipeline.core.stage_runner import run_stage
from marginalia.pipeline.evaluation.evaluate_stage import STAGE as EVALUATE
from marginalia.pipeline.generation.generate_stage import STAGE as GENERATE
from marginalia.pipeline.generation.generate_stage import preview
from marginalia.pipeline.generation.plan_stage import STAGE as PLAN
from marginalia.pipeline.report.report_stage import STAGE as REPORT
from marginalia.schemas.storage.files import write_frame
from marginalia.schemas.tables import Answer
from tests.openai_server import OpenAIServer, request_hash

ENGLISH = "The new timetable is wrong, and nobody at the station could tell me when the next bus leaves."


@dataclass(frozen=True)
class Tongue:
    """A language. `rejected_answers` has, by type, an answer of a model and the reason for which it is rejected."""

    code: str
    name: str
    taxonomy: str
    parts: tuple[tuple[str, ...], ...]
    rejected_answers: dict[str, tuple[str, str]]
    private: tuple[str, str]
    wrapped: str

    def good(self, draw: random.Random) -> str:
        return "".join(draw.choice(part) for part in self.parts).format(number=draw.randrange(100, 999))


GERMAN = Tongue(
    "de",
    "German",
    """
id: nahverkehr
version: "1"
title: Meldungen an die Stadtwerke
language: de
subject: Nachrichten von Fahrgästen an die Verkehrsbetriebe
none: {name: Nichts davon, definition: Es geht um etwas anderes.}
labels:
  - id: delay
    name: Verspätung
    definition: Ein Bus oder eine Bahn kam zu spät oder fiel aus.
    includes: [verpasste Anschlüsse]
    examples: ["Die Linie 4 kam heute zwanzig Minuten zu spät, ich habe meinen Zug verpasst.", "Warum fiel er aus?"]
  - id: ticket
    name: Fahrkarte
    definition: Kauf, Preis oder Erstattung einer Fahrkarte.
    examples: ["Der Automat hat mein Geld geschluckt und keine Karte gedruckt.", "Was kostet das Monatsabo?"]
  - id: staff
    name: Personal
    definition: Das Verhalten von Fahrerinnen, Fahrern oder Kontrolleuren.
    examples: ["Der Fahrer hat mir die Tür vor der Nase zugemacht.", "Eine Kontrolleurin war sehr freundlich zu mir."]
  - {id: threat, name: Drohung, definition: Drohungen gegen Menschen., generation: withheld}
""",
    (
        ("Guten Tag, ", "Hallo, ", "Heute früh: ", "Liebes Team, "),
        ("die Linie {number} ", "mein Bus ", "die Straßenbahn am Markt ", "der Zug nach Süden ", "die Nachtlinie "),
        ("hielt gestern einfach nicht an", "fuhr mir vor der Nase davon", "war so voll wie noch nie im Oktober"),
        ("; ", ", und ", " – "),
        ("wer ersetzt mir das Taxi für {number} Kilometer", "meine Tochter stand im Regen und weinte"),
        (
            "?",
            ".",
            ", das kann doch nicht wahr sein.",
            " – bitte melden Sie sich bald.",
            "; ich fahre seit Jahren mit.",
        ),
    ),
    {
        "refusal": ("Es tut mir leid, aber ich kann bei dieser Anfrage leider nicht weiterhelfen.", "refused"),
        "help": ("Leider kann ich dabei nicht behilflich sein.", "refused"),
        "reply": ("Vielen Dank für Ihre Nachricht, wir kümmern uns umgehend darum.", "answered"),
        "blank": ("Mein Name ist [Ihr Name], und die Linie 7 kam gestern nicht.", "invalid"),
        "short": ("Zu spät!", "too_short"),
        "same": ("Die Fahrkarte, die ich am Schalter gekauft habe, gilt angeblich nicht im Nachtbus.", "duplicate"),
        "nearly": ("Die Fahrkarte, die ich am Schalter kaufte, gilt angeblich nicht im Nachtbus!", "duplicate"),
        "copied": ("Der Automat hat mein Geld geschluckt und keine Karte gedruckt!", "copied"),
    },
    (
        " Schreiben Sie an jürgen.groß@web.de oder 0171 1234567.",
        r" Schreiben Sie an name@example\.com oder 555-01\d\d\.",
    ),
    "Gerne! Hier ist eine Nachricht:\n\n„{text}“\n\nHinweis: Sie ist höflich.",
)
JAPANESE = Tongue(
    "ja",
    "Japanese",
    """
id: library
version: "1"
title: 図書館への連絡
language: ja
subject: 利用者から図書館への連絡
none: {name: どれでもない, definition: ほかの用件。}
labels:
  - id: loan
    name: 貸出
    definition: 本の貸出や返却、延長についての連絡。
    includes: [延滞]
    examples: ["借りた本の返却期限を一週間延ばしたいのですが、どうすればいいですか。", "返却ポストはどこにありますか。"]
  - id: noise
    name: 騒音
    definition: 館内の音についての苦情。
    examples: ["二階の学習室がうるさくて集中できません。", "子どもの声が気になって本が読めませんでした。"]
  - id: card
    name: 利用カード
    definition: 利用カードの発行や紛失についての連絡。
    examples: ["カードをなくしてしまいました。再発行できますか。", "家族のカードも一緒に作れますか。"]
  - {id: threat, name: 脅迫, definition: 人に対する脅し。, generation: withheld}
""",
    (
        ("昨日の夕方、", "先週の土曜日に", "今朝早く、", "三年前から"),
        ("児童書の棚で", "地下の書庫の前で", "受付の横で", "自転車置き場で", "二階の窓ぎわで"),
        ("傘を忘れたのですが", "財布を拾ったのに", "大きな犬を見かけて", "知らない人に道を聞かれ"),
        ("、{number}番の札をもらいました。", "、係の方はいませんでした。", "、掲示が外れていました。"),
        (
            "どこに届ければいいですか。",
            "来月の行事の予定も教えてください。",
            "駐車場の料金はいくらでしょうか。",
            "とても困っています。",
        ),
    ),
    {
        "refusal": ("申し訳ありませんが、そのようなご要望にはお応えできません。", "refused"),
        "help": ("すみませんが、このリクエストには対応しかねます。", "refused"),
        "reply": ("お問い合わせいただきありがとうございます。少々お待ちください。", "answered"),
        "blank": ("私は［お名前］です。借りた本をまだ返していません。", "invalid"),
        "short": ("困りました。", "too_short"),
        "same": ("予約した本が届いたという知らせが来たのに、受付では見つからないと言われました。", "duplicate"),
        "nearly": ("予約した本が届いたというメールが来たのに、受付では見つからないと言われました！", "duplicate"),
        "copied": ("借りた本の返却期限を一週間延ばしたいのですが、どうすればいいですか？", "copied"),
    },
    ("連絡先はtaro@gmail.comか090-1234-5678です。", r"連絡先はname@example\.comか555-01\d\dです。"),
    "もちろんです。以下は例文です。\n「{text}」",
)
KINDS = (*("good",) * 5, "private", "wrapped", "json", "english", "long", *GERMAN.rejected_answers)


def _drawn(payload: dict[str, Any]) -> tuple[str, random.Random]:
    draw = random.Random(request_hash(payload))
    return draw.choice(KINDS), draw


def _written(tongue: Tongue, payload: dict[str, Any]) -> str:
    kind, draw = _drawn(payload)
    if kind in tongue.rejected_answers:
        return tongue.rejected_answers[kind][0]
    text = tongue.good(draw)
    match kind:
        case "english":
            return ENGLISH
        case "long":
            return " ".join(tongue.good(draw) for _ in range(40))
        case "private":
            return text + tongue.private[0]
        case "wrapped":
            return tongue.wrapped.format(text=text)
        case "json":
            return json.dumps({"text": text})
    return text


def _checked(payload: dict[str, Any]) -> str:
    return json.dumps({"labels": random.Random(request_hash(payload)).choice([["delay"], [], ["?"]])})


def _is_check(payload: dict[str, Any]) -> bool:
    return bool(payload["messages"][0]["content"].startswith("You label texts by a policy"))


def _answers(tongue: Tongue) -> Any:
    def answer(payload: dict[str, Any]) -> str:
        return _checked(payload) if _is_check(payload) else _written(tongue, payload)

    return answer


@pytest.mark.parametrize(
    ("tongue", "templates"),
    [(GERMAN, "default"), (JAPANESE, "default"), (JAPANESE, "small-model")],
    ids=["de", "ja", "ja, small-model"],
)
def test_the_line_in_another_language(tmp_path: Path, tongue: Tongue, templates: str) -> None:
    with OpenAIServer(answer=_answers(tongue)) as server:
        run = _run(tmp_path, tongue, server.url, templates)
        run_stage(PLAN, run)
        shown = str(preview(run, 5))
        manifest = run_stage(GENERATE, run).manifest
        asked = [payload["messages"] for payload in server.requests if not _is_check(payload)]
    sent_prompts = ["\n".join(turn["content"] for turn in messages) for messages in asked]
    assert all(f"in {tongue.name}" in prompt or f"Language: {tongue.name}." in prompt for prompt in sent_prompts)
    assert not any("Drohung" in prompt or "脅迫" in prompt for prompt in sent_prompts)  # withheld
    plan, prompts, rejected = (pl.read_parquet(run.path(f"{name}.parquet")) for name in ("plan", "prompts", "rejected"))
    assert plan["language"].unique().to_list() == [tongue.code]
    counts = manifest.counts_out
    assert counts["accepted"] + counts["open"] == 60 == plan.height
    assert counts["accepted"] > 45
    assert len(re.findall(r"^  > ", shown, re.MULTILINE)) >= 2
    _reasons(run.path("responses.jsonl"), tongue, prompts, rejected)
    (varied,) = json.loads(run.path("generation.json").read_bytes())["diversity"]
    assert 0.05 < varied["distinct_1"] < varied["distinct_2"] < varied["distinct_3"] < 0.5  # texts of a few parts
    assert 0.5 < varied["self_bleu"] < 1
    check = json.loads(run.path("generation.json").read_bytes())["check"]
    assert check["labelled"] + check["unreadable"] == prompts.height
    page = _reported(run, prompts)
    assert all(label.name in page for label in run.taxonomy.labels)


def _run(root: Path, tongue: Tongue, url: str, templates: str) -> Any:
    root.joinpath("taxonomy.yaml").write_text(tongue.taxonomy, encoding="utf-8")
    config = {
        "taxonomy": "taxonomy.yaml",
        "seed": 11,
        "plan": {"records": 60, "min_per_label": 2},
        "generate": {
            "endpoint": {"base_url": url, "model": "test-model"},
            "templates": templates,
            "max_attempts": 6,
            "check": {"enabled": True, "planted": 4},
        },
        "reconcile": {"bootstrap": 20},
        "evaluate": {"resamples": 100},
    }
    root.joinpath("config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    return open_run(root)


def _reasons(journal: Path, tongue: Tongue, prompts: pl.DataFrame, rejected: pl.DataFrame) -> None:
    """Each answer was accepted or rejected for what it is."""
    entries = [json.loads(line) for line in journal.read_bytes().splitlines()]
    text_of = {slot: messages[0]["content"] for slot, messages in prompts.select("slot_id", "messages").iter_rows()}
    reason_of = {(slot, attempt): reason for slot, attempt, reason, _ in rejected.iter_rows()}
    seen = Counter()
    for entry in entries:
        reason = reason_of.get((entry["slot_id"], entry["attempt"]))
        kind, draw = _drawn(entry["request"])
        seen[kind] += 1
        if kind in tongue.rejected_answers:
            expected = tongue.rejected_answers[kind][1]
            assert reason == expected or (reason is None and expected == "duplicate"), (kind, reason)
        elif kind in ("english", "long"):
            assert reason == ("language" if kind == "english" else "too_long")
        else:
            assert reason in (None, "duplicate"), (kind, reason, entry["text"])
            text = tongue.good(draw)
            if reason is None and kind == "private":
                assert re.fullmatch(re.escape(text) + tongue.private[1], text_of[entry["slot_id"]])
            elif reason is None:
                assert text_of[entry["slot_id"]] == text
    assert set(seen) == set(KINDS)
    # of "same" and "nearly", the one that is first in the plan is kept
    assert (
        sum(
            text in (tongue.rejected_answers["same"][0], tongue.rejected_answers["nearly"][0])
            for text in text_of.values()
        )
        == 1
    )


def _reported(run: Any, prompts: pl.DataFrame) -> str:
    now = datetime(2026, 11, 1, tzinfo=UTC)
    rows = [
        {
            "record_id": record,
            "annotator": annotator,
            "labels": labels,
            "status": "submitted",
            "note": None,
            "submitted_at": now,
            "pulled_at": now,
            "round": "annotate",
        }
        for record, labels in prompts.select("id", "intended_labels").iter_rows()
        for annotator in ("A01", "A02")
    ]
    write_frame(run.path("annotations.parquet"), Answer.frame(rows), Answer)
    for stage in (RECONCILE, EVALUATE, REPORT):
        run_stage(stage, run)
    return str(run.path("report.html").read_text(encoding="utf-8"))
