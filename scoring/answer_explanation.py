"""Says in words why each label got its probability: `marginalia explain`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from marginalia.scoring.marginal.answer_search import Node, Search

SHOWN = 0.005  # masses below this are left out of the sentences
MOST_LABELS = 8  # in the sentences, the most probable first
ALONE, BEFORE_OTHERS = "alone", "before others"


@dataclass
class _Masses:
    """Where the mass of a finished search is. `completed`: row → how it was completed → mass; `answers`: the rows of an
    answer → mass; `left`, `open`: complete rows → mass that left the format after them, or was not explored."""

    completed: dict[int, dict[str, float]] = field(default_factory=dict)
    answers: dict[int, float] = field(default_factory=dict)
    left: dict[int, float] = field(default_factory=dict)
    open: dict[int, float] = field(default_factory=dict)


def explanation(search: Search, labels: Sequence[tuple[str, str]]) -> Iterator[str]:
    """One line per label with a noticeable probability, the most probable first: which answers it comes from, and where
    the rest is. `labels`: (code, id) in the order of the guard's labels.

    The numbers are lower bounds of `marginal`; what the search left open is named."""
    masses = _masses(search, [name for _, name in labels])
    totals = {row: sum(ways.values()) for row, ways in masses.completed.items() if row < len(labels)}
    shown = sorted((row for row, total in totals.items() if total >= SHOWN), key=lambda row: -totals[row])
    for row in shown[:MOST_LABELS]:
        code, name = labels[row]
        ways = [(way, mass) for way, mass in masses.completed[row].items() if mass >= SHOWN]
        parts = " + ".join(f"{mass:.2f} {way}" for way, mass in sorted(ways, key=lambda item: -item[1]))
        yield f"{code} ({name}): {totals[row]:.2f} = {parts or 'many small parts'}; {_rest(masses, row)}"
    if not shown:
        yield f"no label reaches {SHOWN:g}: the guard {_rest(masses, None)}"
    elif len(shown) > MOST_LABELS:
        yield f"{len(shown) - MOST_LABELS} more labels reach {SHOWN:g}"


def _rest(masses: _Masses, row: int | None) -> str:
    """Where the mass without this row is; with None, all mass."""

    def without(by_rows: dict[int, float]) -> dict[int, float]:
        return {rows: mass for rows, mass in by_rows.items() if row is None or not rows >> row & 1}

    answers = without(masses.answers)
    parts = {
        "says safe": answers.get(0, 0.0),
        "names other labels": sum(mass for rows, mass in answers.items() if rows),
        "leaves the format": sum(without(masses.left).values()),
        "was not explored": sum(without(masses.open).values()),
    }
    said = [f"{what} ({mass:.2f})" for what, mass in parts.items() if mass >= SHOWN]
    if not said:
        return "there is no rest" if row is not None else "gives every answer little probability"
    joined = said[0] if len(said) == 1 else f"{', '.join(said[:-1])} or {said[-1]}"
    return joined if row is None else f"the rest {joined}"


def _masses(search: Search, names: Sequence[str]) -> _Masses:
    found, language = _Masses(), search.language.language
    shown = (1 << language.verdict + 1) - 1  # hidden rows are no labels
    stack: list[tuple[Node, int]] = [(search.root, language.start.done & shown)]
    while stack:
        node, done = stack.pop()
        if node.moves is None or node.masses is None:
            _add(found.open, done, node.mass)
            continue
        states = node.moves.states
        for index, mass in enumerate(node.masses.tolist()):
            if mass <= 0:
                continue
            ends = bool(node.moves.ends[index])
            state = states[index]
            after = shown & (_mask(node.moves.done[index].tolist()) if state is None else state.done)
            _complete(found, done, after, mass, names, ends=ends)
            child = node.children.get(index)
            if ends:
                _add(found.answers, after, mass)
            elif child is not None:
                stack.append((child, after))
            else:
                _add(found.open, after, mass)
        _add(found.open, done, node.unseen)
        _add(found.left, done, max(node.mass - float(node.masses.sum()) - node.unseen, 0.0))
    return found


def _complete(found: _Masses, done: int, after: int, mass: float, names: Sequence[str], *, ends: bool) -> None:
    """Adds `mass` to the rows that this step completes."""
    before = [name for row, name in enumerate(names) if done >> row & 1]
    way = f"after {', '.join(before)}" if before else ALONE if ends else BEFORE_OTHERS
    new = after & ~done
    for row in range(new.bit_length()):
        if new >> row & 1:
            ways = found.completed.setdefault(row, {})
            ways[way] = ways.get(way, 0.0) + mass


def _add(masses: dict[int, float], rows: int, mass: float) -> None:
    masses[rows] = masses.get(rows, 0.0) + mass


def _mask(flags: Sequence[float]) -> int:
    return sum(1 << row for row, flag in enumerate(flags) if flag)
