"""The tree of answers that a search grows: its prefixes, and the tokens that the language forces after them."""

from __future__ import annotations

from dataclasses import dataclass, field

from marginalia.scoring.language.answer_language import State
from marginalia.scoring.language.token_language import Floats, Moves, TokenLanguage


@dataclass(eq=False, slots=True)
class Node:
    """A prefix of an answer, and, once the model has been evaluated at it, what may follow.

    mass: P(prefix | prompt). constrained: the same with every step renormalised over the tokens that stay in the
    language. `moves`, `masses` and `constrained_masses` are None until the prefix is evaluated; their entries are its
    children. `state` is None once the prefix has left the language; then it is followed for the greedy answer only."""

    token: int
    parent: Node | None
    depth: int  # tokens after the prompt
    state: State | None
    mass: float
    constrained: float
    slot: int = -1  # a local model's KV cache row of the token
    children: dict[int, Node] = field(default_factory=dict)  # those created so far, by index into `moves`
    moves: Moves | None = None
    masses: Floats | None = None
    constrained_masses: Floats | None = None
    unseen: float = 0.0  # raw mass of children whose probability the source did not return, at most
    constrained_unseen: float = 0.0
    spread: float = 0.0  # as in NextTokens
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
    """The prefixes of one record's answers; `start` is the state of the empty one.

    Where the language leaves no choice of the next text, a prefix is evaluated together with its forced run: the
    prefixes after it that the language forces, as these would be asked for next. `follow_forced`: whether to do so,
    which pays only if the model keeps to its language."""

    def __init__(self, language: TokenLanguage, start: State) -> None:
        self.language = language
        self.root = Node(-1, None, 0, start, 1.0, 1.0)
        self.follow_forced = False

    def child(self, parent: Node, index: int) -> Node:
        """The prefix after move `index` of an evaluated prefix."""
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

    def forced_run(self, node: Node) -> list[Node]:
        """The prefix and its forced run. New prefixes in it have mass 0 until their parents are evaluated."""
        run = [node]
        while self.follow_forced and node.state is not None and (index := self.language.forced(node.state)) is not None:
            if index not in node.children:
                moves = self.language.moves(node.state)
                token, state = int(moves.ids[index]), moves.states[index]
                node.children[index] = Node(token, node, node.depth + 1, state, 0.0, 0.0)
            node = node.children[index]
            run.append(node)
        return run

    def forced_run_length(self, parent: Node, index: int) -> int:
        """How many prefixes `forced_run` of that child would have, the child included."""
        assert parent.moves is not None
        length, state = 1, parent.moves.states[index]
        while self.follow_forced and state is not None and (forced := self.language.forced(state)) is not None:
            length, state = length + 1, self.language.moves(state).states[forced]
        return length
