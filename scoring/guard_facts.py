"""What guard files say about guards, for `marginalia guards list`, `marginalia guards show` and docs/guards.md."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from marginalia.schemas.storage.yaml_files import load_yaml
from marginalia.scoring.answer_pieces import (
    CodeList,
    Integers,
    Levels,
    PieceSpec,
    SpecialToken,
    VerdictWord,
    Word,
    located_pieces,
    rows_of,
)
from marginalia.scoring.guard import SHIPPED, Guard
from marginalia.scoring.guard_file import VERDICT, Confirmed, GuardFile
from marginalia.scoring.guard_kinds import GENERATIVE, kind_of
from marginalia.scoring.prompt_spec import EXPLAIN, PromptMessage
from marginalia.scoring.rendering import RENDERER
from marginalia.scoring.score_sources.source_file import SourceFile, load_source_file

EXAMPLE = [{"role": "user", "content": "What is the capital of France?"}]
OF_KINDS = {  # of guards that do not answer in text
    "classifier": "probabilities of classes",
    "moderations": "scores of a moderation endpoint",
    "decisions": "decisions of an endpoint",
    "systemone": "decisions of an endpoint",
}


@dataclass(frozen=True)
class GuardFacts:
    """What a guard file says about its guard. `answer`: what its answers consist of. `categories`: how many rows it has
    besides `unsafe`, or whose they are. `prompt_seen`, `answer_seen`: where these were seen word for word; None if
    they were not, or the file does not say."""

    name: str
    title: str
    answer: str
    categories: str
    judges: str
    reasons: bool
    licence: str | None
    source: str
    prompt_seen: str | None
    answer_seen: str | None
    note: str | None

    @property
    def confirmed(self) -> str:
        """Which of prompt and answer were seen."""
        seen = [what for what, where in (("prompt", self.prompt_seen), ("answer", self.answer_seen)) if where]
        return " and ".join(seen) or "no"


def shipped_guards() -> list[GuardFacts]:
    """The facts of all shipped guard files, by name."""
    return [facts_in(path) for path in sorted(SHIPPED.glob("*.yaml"))]


def facts_in(path: Path) -> GuardFacts:
    """The facts in a guard file of any kind. Raises InputError for an invalid file."""
    if (kind := kind_of(path)) == GENERATIVE:
        return facts_of(load_yaml(path, GuardFile, explain=EXPLAIN))
    file = load_source_file(path, kind)
    return _facts(file, file.guard or path.stem, OF_KINDS[kind], _count(file.names, file.taxonomy))


def facts_of(file: GuardFile) -> GuardFacts:
    """The facts that the file of a generative guard states or implies."""
    return _facts(
        file,
        file.guard,
        _answer(file),
        _count(file.labels, file.taxonomy),
        reasons=file.reasoning is not None,
        has_sides=bool(file.sides),
    )


def facts_table(facts: Sequence[GuardFacts]) -> list[list[str]]:
    """The rows of the list, with headers first."""
    rows = [["name", "answer", "categories", "judges", "reasons", "confirmed"]]
    for one in facts:
        reasons = "yes" if one.reasons else "no"
        rows.append([one.name, one.answer, one.categories, one.judges, reasons, one.confirmed])
    return rows


def described(guard: Guard) -> Iterator[str]:
    """The lines of `guards show` for a generative guard."""
    yield from _facts_lines(facts_of(guard.file))
    yield ""
    yield "categories (code, id, name):"
    yield from (f"  {category.code}  {category.id}  {category.name}" for category in guard.categories)
    yield ""
    yield f"prompt for {EXAMPLE[0]['content']!r}{', one call per label: the first' if guard.per_label else ''}:"
    yield from (f"  {line}".rstrip() for line in "".join(_prompt(guard)).splitlines())


def described_source(path: Path) -> Iterator[str]:
    """The lines of `guards show` for a guard that gives numbers itself: it has no prompt."""
    yield from _facts_lines(facts_in(path))
    names = load_source_file(path, kind_of(path)).names
    yield ""
    yield "categories (name in the source, id):"
    yield from (f"  {name}  {label}" for label, name in (names or {}).items())
    if names is None:
        yield "  all labels of the taxonomy, by their names"


def _facts_lines(facts: GuardFacts) -> Iterator[str]:
    yield f"{facts.name}: {facts.title}"
    yield f"  answer: {facts.answer}{', after reasoning' if facts.reasons else ''}"
    yield f"  judges: {facts.judges}"
    yield f"  licence: {facts.licence or 'not stated'}"
    yield f"  source: {facts.source}"
    yield f"  prompt seen: {facts.prompt_seen or 'no'}"
    yield f"  answer seen: {facts.answer_seen or 'no'}"
    if facts.note:
        yield f"  note: {facts.note}"


def _facts(
    file: GuardFile | SourceFile,
    name: str,
    answer: str,
    categories: str,
    *,
    reasons: bool = False,
    has_sides: bool = False,
) -> GuardFacts:
    seen = file.confirmed or Confirmed(prompt=False, answer=False)
    return GuardFacts(
        name=name,
        title=file.title,
        answer=answer,
        categories=categories,
        judges=(", ".join(file.judges or ()) or "not stated") + (": separate rows" if has_sides else ""),
        reasons=reasons,
        licence=file.licence or None,
        source=file.source,
        prompt_seen=seen.prompt or None,
        answer_seen=seen.answer or None,
        note=seen.note or None,
    )


def _count(labels: object, taxonomy: str | None) -> str:
    if isinstance(labels, dict):
        return str(len(labels))
    return f"of {taxonomy}" if taxonomy else "yours"


def _answer(file: GuardFile) -> str:
    """In a few words, what a guard's answer consists of."""
    pieces = [piece for _, piece in located_pieces([*file.answer, *(file.second.answer if file.second else [])])]
    scale = next((piece for piece in pieces if isinstance(piece, Levels | Integers)), None)
    if file.calls == "per_label":
        return "one label per call: " + ("verdict" if scale is None else _scale(scale))
    lists = {tuple(piece.rows or ()): piece for piece in pieces if isinstance(piece, CodeList)}
    words = [piece for piece in pieces if isinstance(piece, Word | SpecialToken)]
    questions = {row for piece in words for row in rows_of(piece)} - {VERDICT}
    parts = ["verdict"] if any(isinstance(piece, VerdictWord) for piece in pieces) else []
    parts += [] if scale is None else [_scale(scale)]
    parts += [] if not questions else ["1 question"] if len(questions) == 1 else [f"{len(questions)} questions"]
    if len(lists) > 1:
        parts.append(f"{len(lists)} lists of categories")
    else:
        parts += ["list of categories" if piece.labels else "one category" for piece in lists.values()]
    has_tokens = any(isinstance(piece, SpecialToken) for piece in pieces)
    twice = ", asked twice" if file.second is not None else ""
    return ", ".join(parts) + (" (special tokens)" if has_tokens else "") + twice


def _scale(piece: PieceSpec) -> str:
    if isinstance(piece, Levels):
        return f"{len(piece.levels)} levels"
    assert isinstance(piece, Integers)
    return f"number from {piece.integers[0]} to {piece.integers[1]}"


def _prompt(guard: Guard) -> Iterator[str]:
    """The rendered prompt for EXAMPLE. What a tokenizer's chat template would write is described in brackets."""
    spec = guard.file.prompt
    asked = next(iter(guard.calls.values())) if guard.per_label else guard
    categories = [asdict(category) for category in asked.categories]
    variables = {**spec.arguments, "categories": categories, "conversation": EXAMPLE, "last_role": "user"}
    if spec.message is not None:
        message = RENDERER.render(spec.message, variables)
        yield RENDERER.render(spec.frame, {"message": message}) if spec.frame is not None else message
    for part in spec.messages or ():
        if isinstance(part, PromptMessage):
            yield f"[{part.role} message]\n{RENDERER.render(part.content, variables)}\n"
        else:
            yield "".join(f"[{message['role']} message]\n{message['content']}\n" for message in EXAMPLE)
    if spec.frame is None:
        arguments = f", with the arguments {spec.arguments}" if spec.arguments else ""
        yield f"\n[what is around it: the tokenizer's chat template{arguments}]"
    if spec.prefill:
        yield f"\n[the answer begins with] {RENDERER.render(spec.prefill, variables)}"
