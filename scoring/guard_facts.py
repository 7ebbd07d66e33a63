"""What guard files say about guards, for `marginalia guards list` and `marginalia guards show`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

from marginalia.schemas.storage.yaml_files import load_yaml
from marginalia.scoring.answer_pieces import Choice, CodeList, Integers, Levels, Optional, PieceSpec, SpecialToken
from marginalia.scoring.guard import SHIPPED, Guard
from marginalia.scoring.guard_file import GuardFile
from marginalia.scoring.prompt_spec import EXPLAIN, PromptMessage
from marginalia.scoring.rendering import RENDERER

EXAMPLE = [{"role": "user", "content": "What is the capital of France?"}]
NOT_CONFIRMED = "no"


@dataclass(frozen=True)
class GuardFacts:
    """A guard file in a list. `answer`: the kind of its answers. `labels`: how many; None for any taxonomy.
    `confirmed`: which of prompt and answer were seen word for word in the guard's own publication."""

    name: str
    title: str
    answer: str
    labels: int | None
    judges: list[str]
    reasons: bool
    licence: str | None
    confirmed: str
    note: str | None


def shipped_guards() -> list[GuardFacts]:
    """The facts of all shipped guard files, by name."""
    return [facts_of(load_yaml(path, GuardFile, explain=EXPLAIN)) for path in sorted(SHIPPED.glob("*.yaml"))]


def facts_of(file: GuardFile) -> GuardFacts:
    """The facts that a guard file states or implies."""
    return GuardFacts(
        name=file.guard,
        title=file.title,
        answer=_answer(file),
        labels=None if file.labels is None else len(file.labels),
        judges=[*(file.judges or [])],
        reasons=file.reasoning is not None,
        licence=file.licence,
        confirmed=_confirmed(file),
        note=None if file.confirmed is None else file.confirmed.note,
    )


def facts_table(facts: Sequence[GuardFacts]) -> list[list[str]]:
    """The rows of the list, with headers first."""
    rows = [["name", "answer", "labels", "judges", "reasons", "confirmed"]]
    for one in facts:
        labels = "yours" if one.labels is None else str(one.labels)
        judges = ", ".join(one.judges) or "not stated"
        rows.append([one.name, one.answer, labels, judges, "yes" if one.reasons else "no", one.confirmed])
    return rows


def described(guard: Guard) -> Iterator[str]:
    """The lines of `guards show`."""
    facts = facts_of(guard.file)
    yield f"{facts.name}: {facts.title}"
    yield f"  answer: {facts.answer}{', after reasoning' if facts.reasons else ''}"
    yield f"  judges: {', '.join(facts.judges) or 'not stated'}"
    yield f"  licence: {facts.licence or 'not stated'}"
    yield f"  source: {guard.file.source}"
    confirmed = guard.file.confirmed
    for what in ("prompt", "answer"):
        where = getattr(confirmed, what) if confirmed is not None else False
        yield f"  {what} confirmed: {where or NOT_CONFIRMED}"
    if facts.note:
        yield f"  note: {facts.note}"
    yield ""
    yield "categories (code, id, name):"
    yield from (f"  {category.code}  {category.id}  {category.name}" for category in guard.categories)
    yield ""
    yield f"prompt for {EXAMPLE[0]['content']!r}{', one call per label: the first' if guard.per_label else ''}:"
    yield from (f"  {line}" for line in "".join(_prompt(guard)).splitlines())


def _answer(file: GuardFile) -> str:
    """The kind of a guard's answers, in a few words."""
    if file.calls == "per_label":
        return "one verdict per label"
    pieces = [piece for alternative in file.answer for piece in _all_pieces(alternative)]
    kinds = []
    if any(isinstance(piece, Levels) for piece in pieces):
        kinds.append("levels")
    if any(isinstance(piece, Integers) for piece in pieces):
        kinds.append("a number")
    if any(isinstance(piece, SpecialToken) for piece in pieces):
        kinds.append("control tokens")
    if lists := {tuple(piece.rows or ()) for piece in pieces if isinstance(piece, CodeList)}:
        kinds.append("a list of codes" if len(lists) == 1 else f"{len(lists)} lists of codes")
    return " and ".join(kinds) or "words"


def _all_pieces(pieces: Sequence[PieceSpec]) -> Iterator[PieceSpec]:
    for piece in pieces:
        yield piece
        inner = piece.any if isinstance(piece, Choice) else piece.optional if isinstance(piece, Optional) else []
        for part in inner:
            yield from _all_pieces(part if isinstance(part, list) else [part])


def _confirmed(file: GuardFile) -> str:
    if file.confirmed is None:
        return "not stated"
    seen = [what for what in ("prompt", "answer") if getattr(file.confirmed, what)]
    return " and ".join(seen) or NOT_CONFIRMED


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
        yield "\n[the tokenizer's chat template writes what is around it"
        yield f", with {spec.arguments}]" if spec.arguments else "]"
    if spec.prefill:
        yield f"\n[the answer begins with] {RENDERER.render(spec.prefill, variables)}"
