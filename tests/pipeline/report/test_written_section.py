"""What the report says about the texts, from generation.json."""

from __future__ import annotations

from dataclasses import replace

from marginalia.pipeline.report.report_page import build_page
from marginalia.schemas.generation_json import Check, CheckedLabel, Diversity, Generation, Lengths
from tests.pipeline.report.test_page import Page, report_data
from tests.pipeline.synthetic_run import Synthetic

VARIED = Diversity(
    generator="writer <b>7b</b>",
    texts=1200,
    distinct_1=0.21,
    distinct_2=0.64,
    distinct_3=None,
    self_bleu=0.35,
    self_bleu_texts=300,
    lengths=Lengths(mean=80, p10=31, median=77, p90=140),
    labels={"a": 600, "b": 600},
    without_label=0,
    label_balance=1.0,
)
CHECK = Check(
    model="judge",
    records=1200,
    labelled=1000,
    agree=850,
    differ=150,
    unreadable=180,
    failed=20,
    per_label=[CheckedLabel(label="a", intended=600, found=571, both=543)],
    planted=40,
    obeyed=3,
    obedience=0.075,
)


def test_diversity_and_the_blind_check_are_shown() -> None:
    plain = report_data(Synthetic(n=48, skill=0.5))
    page = Page(build_page(replace(plain, generation=Generation(diversity=[VARIED], check=CHECK))))
    assert page.open == []
    assert "How varied the texts are" in page.text
    assert "writer <b>7b</b> 1,200 0.21 0.64 — 0.35 1.00 31 / 77 / 140" in " ".join(page.text.split())
    assert "judge, which does not see the intended labels, agrees with them on 85 % of the texts" in page.text
    assert "Of 40 planted texts with an instruction to answer wrongly, 3 got the wrong answer." in " ".join(
        page.text.split()
    )


def test_the_spread_of_embeddings_is_shown_where_it_was_measured() -> None:
    measured = VARIED.model_copy(update={"embedding_spread": 0.62})
    other = VARIED.model_copy(update={"generator": "other"})
    plain = report_data(Synthetic(n=48, skill=0.5))
    page = Page(build_page(replace(plain, generation=Generation(diversity=[measured, other], check=None))))
    text = " ".join(page.text.split())
    assert "self-BLEU Spread Balance" in text
    assert "0.21 0.64 — 0.35 0.62 1.00" in text
    assert "0.21 0.64 — 0.35 — 1.00" in text
    without = Page(build_page(replace(plain, generation=Generation(diversity=[VARIED], check=None))))
    assert "Spread" not in without.text


def test_without_the_file_the_sections_are_left_out() -> None:
    page = Page(build_page(report_data(Synthetic(n=48, skill=0.5))))
    assert "How varied" not in page.text
    assert "Blind check" not in page.text
