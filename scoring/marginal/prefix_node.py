"""The tree of answers that a search grows: its prefixes, and what the language forces after them."""

from __future__ import annotations

from dataclasses import dataclass, field

from marginalia.scoring.language.answer_language import State
from marginalia.scoring.language.token_language import Floats, Moves, TokenLanguage


@dataclass(eq=False, slots=True)
class Node:
    """A prefix. `state` is None once it has left the language: then it is followed for the greedy answer only."""

    token: int
    parent: Node | None
    depth: int  # tokens after the prompt
    state: State | None
    mass: float
    constrained: float
    slot: int = -1  # where a local model keeps the token's keys and values
    children: dict[int, Node] = field(default_factory=dict)  # those that were asked for, by index into `moves`
    moves: Moves | None = None
    masses: Floats | None = None  # of all children, raw
    constrained_masses: Floats | None = None
    unseen: float = 0.0  # what may belong to children whose mass the source did not tell, raw
    constrained_unseen: float = 0.0
    spread: float = 0.0  # these two as the answer said
    stray: float = 0.0

    def path(self) -> list[int]:
        """Token ids from the prompt's end to this node."""
        tokens: list[int] = []
        node: Node | None = self
        while node is not None and node.parent is not None:
            tokens.append(node.token)
            node = node.parent
        return tokens[::-1]

    def __lt__(self, other: Node) -> bool:
        """By path: an order that does not depend on when a prefix was reached."""
        return self.path() < other.path()


class AnswerTree:
    """The prefixes of one record's answers. Each is evaluated with its run: those after it that the language forces and
    that would be wanted next. `runs_pay`: whether the model keeps to its language, so that it goes the forced way."""

    def __init__(self, language: TokenLanguage) -> None:
        self.language = language
        self.root = Node(-1, None, 0, language.language.start, 1.0, 1.0)
        self.runs_pay = False

    def child(self, parent: Node, index: int) -> Node:
        """The prefix after a move of an evaluated one."""
        if index not in parent.children:
            assert parent.moves is not None and parent.masses is not None and parent.constrained_masses is not None
            parent.children[index] = Node(
                int(parent.moves.ids[index]),
                parent,
                parent.depth + 1,
                parent.moves.states[index],
                float(parent.masses[index]),
                float(parent.constrained_masses[index]),
            )
        return parent.children[index]

    def run(self, node: Node) -> list[Node]:
        """The prefix and its run. The masses of those in it that are new come with their parents' answers."""
        run = [node]
        while self.runs_pay and node.state is not None and (index := self.language.forced(node.state)) is not None:
            if index not in node.children:
                moves = self.language.moves(node.state)
                token, state = int(moves.ids[index]), moves.states[index]
                node.children[index] = Node(token, node, node.depth + 1, state, 0.0, 0.0)
            node = node.children[index]
            run.append(node)
        return run

    def run_length(self, parent: Node, index: int) -> int:
        """How many prefixes the run of that child has."""
        assert parent.moves is not None
        length, state = 1, parent.moves.states[index]
        while self.runs_pay and state is not None and (forced := self.language.forced(state)) is not None:
            length, state = length + 1, self.language.moves(state).states[forced]
        return length
