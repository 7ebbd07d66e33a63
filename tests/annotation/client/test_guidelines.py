from __future__ import annotations

import pytest

from marginalia.annotation.client.annotator_words import WORDS
from marginalia.annotation.client.dataset_settings import label_options
from marginalia.annotation.client.guidelines import LIMIT, escaped, guidelines
from marginalia.schemas.errors import InputError
from marginalia.schemas.taxonomy import Label, Taxonomy


def taxonomy(*labels: Label, **more: str) -> Taxonomy:
    return Taxonomy(id="t", version="1", title="T", subject="texts", labels=list(labels), **more)  # type: ignore[arg-type]


FULL = Label(
    id="a", name="Alpha", definition="It is alpha.", includes=["in one"], excludes=["out one"], examples=["an example"]
)


def test_guidelines_say_all_that_the_taxonomy_says() -> None:
    text = guidelines(taxonomy(FULL, content_notice="Rude words."), preface="# Ours")
    for part in ("# Ours", "Rude words", "Alpha", "It is alpha", "in one", "out one", "an example", "You may skip"):
        assert part in text
    assert "None of these" in text


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("<script>alert(1)</script>", r"&lt;script\>alert\(1\)&lt;/script\>"),
        ("[x](http://e.com) *b* `c` # h", r"\[x\]\(http\://e\.com\) \*b\* \`c\` \# h"),
        ("&lt;b&gt;", "&amp;lt;b&amp;gt;"),
        ("two\n\nlines\u2028here", "two lines here"),
        ("- a | ~b~ _c_ !d", r"\- a \| \~b\~ \_c\_ \!d"),
    ],
)
def test_text_of_the_taxonomy_is_never_markup(given: str, shown: str) -> None:
    assert escaped(given) == shown


def test_a_long_taxonomy_loses_examples_first_and_never_a_definition() -> None:
    labels = [
        FULL.model_copy(update={"id": f"a{at}", "name": f"Name {at}", "examples": ["long " * 60]}) for at in range(40)
    ]
    text = guidelines(taxonomy(*labels))
    assert len(text) <= LIMIT
    assert "long long" not in text
    assert text.count("It is alpha") == 40
    assert text.count("out one") == 40


def test_definitions_that_do_not_fit_are_refused() -> None:
    long = FULL.model_copy(update={"definition": "word " * 2500})
    with pytest.raises(InputError, match="Argilla shows 10,000 at most"):
        guidelines(taxonomy(long))


def many(count: int) -> list[Label]:
    return [Label(id=f"a{at}", name=f"Name {at}", definition=f"It is {at}.") for at in range(count)]


@pytest.mark.parametrize(("count", "first"), [(8, None), (9, "01"), (98, "01"), (99, "001")])
def test_keys_are_explained_when_they_have_several_digits(count: int, first: str | None) -> None:
    text = guidelines(taxonomy(*many(count)))  # with `none` there is one option more than labels
    assert ("**Keys.**" in text) == (first is not None)
    assert first is None or f"instead of *{first}*" in text
    assert ("To search for a label" in text) == (count >= 14)


def test_the_paragraph_on_keys_is_left_out_before_definitions_are_refused() -> None:
    labels = many(9)
    without = len(guidelines(taxonomy(*labels))) - len("**Keys.**")
    labels[0] = labels[0].model_copy(update={"definition": "x" * (LIMIT - without + 100)})
    text = guidelines(taxonomy(*labels))
    assert len(text) <= LIMIT
    assert "**Keys.**" not in text


def test_labels_are_under_the_heading_of_their_parent_and_options_in_the_same_order() -> None:
    parents = {"a2": "a0", "a0": "a3"}
    labels = [label.model_copy(update={"parent": parents.get(label.id)}) for label in many(4)]
    text = guidelines(taxonomy(*labels))
    headings = [line for line in text.splitlines() if line.startswith("###")]
    assert headings == ["### Name 1", "### Name 3", "#### Name 0", "##### Name 2"]
    assert list(label_options(taxonomy(*labels))) == ["a1", "a3", "a0", "a2", "none"]
    plain = many(4)
    assert [line for line in guidelines(taxonomy(*plain)).splitlines() if line.startswith("###")] == [
        f"### Name {number}" for number in range(4)
    ]


@pytest.mark.parametrize("language", ["en", "de", "de-AT", "fr", "es", "ja"])
def test_fixed_words_are_in_the_language_of_the_taxonomy(language: str) -> None:
    parent = Label(id="p", name="Parent", definition="Broad.")
    labels = [FULL.model_copy(update={"parent": "p"}), parent, *many(15)]
    pair = [("p", "a0")]
    text = guidelines(taxonomy(*labels, language=language, content_notice="Rude.", forbidden_pairs=pair))  # type: ignore[arg-type]
    said = WORDS.get(language[:2], WORDS["en"])
    fixed = (said.content_notice, said.skip, said.judge, said.search, said.includes, said.excludes, said.examples)
    for words in (*fixed, said.kind_of.format(parent="Parent")):
        assert words in text
    assert said.never_together.format(first="Parent", second="Name 0") in text
    assert "{" not in text
