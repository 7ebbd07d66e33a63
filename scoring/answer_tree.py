"""Prints the tree of a record's answers with their masses: `python -m marginalia.scoring explain`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from marginalia.scoring.language.token_language import Moves, TokenLanguage
from marginalia.scoring.marginal.answer_search import Node, Search


@dataclass(frozen=True)
class _Branch:
    text: str
    mass: float
    node: Node | None = None


def answer_tree(search: Search, *, smallest: float = 0.005, labels: Sequence[str] = ()) -> Iterator[str]:
    """The lines of the tree: each branch's mass and text, with ■ where an answer ends, ✗ where it leaves the language,
    and … after a prefix that was not evaluated. Branches with a mass below `smallest` are combined; a branch that does
    not fork is one line. `labels`: the names of the rows, which are then shown where an answer ends."""
    yield f"{1:.4f}  (prompt)"
    yield from _below(search.root, search.language, smallest, labels, "")


def tree_data(search: Search, *, smallest: float = 0.005, labels: Sequence[str] = ()) -> dict[str, Any]:
    """The same tree for `--json`: text, mass and branches of each prefix, with the same signs in the texts."""

    def branches(node: Node | None) -> list[dict[str, Any]]:
        found = _branches(node, search.language, smallest, labels) if node is not None else []
        return [{"text": one.text, "mass": one.mass, "branches": branches(one.node)} for one in found]

    return {"text": "", "mass": 1.0, "branches": branches(search.root)}


def _below(node: Node, language: TokenLanguage, smallest: float, labels: Sequence[str], indent: str) -> Iterator[str]:
    branches = _branches(node, language, smallest, labels)
    for index, branch in enumerate(branches):
        last = index == len(branches) - 1
        text, below = branch.text, branch.node
        while below is not None:
            further = _branches(below, language, smallest, labels)
            if len(further) != 1:
                break
            text, below = text + further[0].text, further[0].node
        yield f"{indent}{'└' if last else '├'} {branch.mass:.4f}  {text}"
        if below is not None:
            yield from _below(below, language, smallest, labels, f"{indent}{' ' if last else '│'}  ")


def _text(moves: Moves, index: int, language: TokenLanguage) -> str:
    return language.text([int(moves.ids[index])]).decode("utf-8", "replace").replace("\n", "⏎")


def _branches(node: Node, language: TokenLanguage, smallest: float, labels: Sequence[str]) -> list[_Branch]:
    if node.moves is None or node.masses is None:
        return []
    shown: list[_Branch] = []
    small_mass = 0.0
    for index, mass in enumerate(node.masses.tolist()):
        child = node.children.get(index)
        if mass < smallest:
            small_mass += mass
        elif node.moves.ends[index]:
            named = [label for label, done in zip(labels, node.moves.done[index].tolist(), strict=False) if done]
            text = "" if node.moves.states[index] is None else _text(node.moves, index, language)
            shown.append(_Branch(f"{text} ■ {', '.join(named)}".rstrip(), mass))
        else:
            text = _text(node.moves, index, language)
            evaluated = child is not None and child.moves is not None
            shown.append(_Branch(text if evaluated else f"{text} …", mass, child if evaluated else None))
    outside = max(node.mass - float(node.masses.sum()), 0.0)
    if outside >= smallest:
        shown.append(_Branch(" ✗ leaves the format", outside))
    else:
        small_mass += outside
    shown.sort(key=lambda branch: -branch.mass)
    if shown and small_mass >= smallest:
        shown.append(_Branch("(smaller ones)", small_mass))
    return shown
