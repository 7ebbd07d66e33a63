"""How far the tree search's log-probabilities are from those of plain forward passes, over a batch that is hard for it.

Prompts are longer and shorter than the windows and chunks of the small test models (16 tokens). Trees are deeper than a
window. So windows begin inside the shared start, inside the record and inside the tree, and a token's ancestors are on
both sides of the border of a chunk. Rows are padded, and one of them goes to another record while the others go on."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from torch import Tensor

from marginalia.scoring.models.local_model import LocalModel
from marginalia.scoring.models.prefix_tree import TokenToRun, TreeBatch
from tests.scoring.networks import plain

START = 20  # tokens that most prompts share
DEPTH = 20  # tokens of each answer
FORK = 2  # tokens after which the two answers of a record differ
NEXT_RECORD = 5  # tokens after which the last row goes to another record
LONGEST = 120  # tokens of the longest prompt with its answer

Path = tuple[int, ...]


@dataclass
class _Answer:
    """A path through the tree of the record in `row`: its tokens so far, and their slots."""

    row: int
    tokens: list[int] = field(default_factory=list)
    slots: list[int] = field(default_factory=list)


def largest_difference(model: LocalModel, ids: range, *, forget: int | None = None) -> float:
    """In nats of log-probability. `ids`: the token ids that are drawn. With `forget`, the tree search hides that
    ancestor of each token (1: the parent) from it: the difference then shows whether a wrong mask would be noticed."""
    computed = _tree_logits(model, ids, forget)
    paths = sorted(computed, key=len, reverse=True)
    passes: dict[Path, Tensor] = {}
    for path in paths:
        # each prefix of one answer in a pass of its own; elsewhere one pass over the whole answer
        if path == paths[0][: len(path)] or not any(longer[: len(path)] == path for longer in passes):
            passes[path] = plain(model.runner.model, list(path))
    differences = []
    for path, logits in computed.items():
        longer = path if path in passes else next(known for known in passes if known[: len(path)] == path)
        differences.append(float((logits.log_softmax(-1) - passes[longer][len(path) - 1]).abs().max()))
    return max(differences)


def _tree_logits(model: LocalModel, ids: range, forget: int | None) -> dict[Path, Tensor]:
    """Prompt and answer so far → the tree search's logits after them."""
    rng = random.Random(0)

    def draw(count: int) -> list[int]:
        return [rng.choice(ids) for _ in range(count)]

    start = draw(START)
    longest = min(model.context, LONGEST) - DEPTH
    prompts = [start + draw(longest - START), start + draw(5), start + draw(17), draw(9)]
    next_prompt = start + draw(7)  # in a row whose record did not begin with the shared start
    batch = TreeBatch(model.runner, model.runner.prefix(start), rows=len(prompts), room=max(map(len, prompts)))
    for row, prompt in enumerate(prompts):
        batch.join(row, prompt)
    rows = range(len(prompts))
    computed = {tuple(prompt): logits for prompt, logits in zip(prompts, batch.run(rows), strict=True)}
    answers = [_Answer(row) for row in rows]
    for step in range(DEPTH):
        if step == FORK:
            answers += [_Answer(answer.row, [*answer.tokens], [*answer.slots]) for answer in answers]
        begin: list[int] = []
        if step == NEXT_RECORD:
            answers = [answer for answer in answers if answer.row != rows[-1]]
            batch.join(rows[-1], next_prompt)
            begin = [rows[-1]]
        to_run = [_extend(batch, answers[0], draw(1)[0], None)]  # a path that ends here
        answers[0].tokens.pop(), answers[0].slots.pop()
        to_run += [_extend(batch, answer, draw(1)[0], forget) for answer in answers]
        logits = batch.run(begin, to_run)
        computed |= {tuple(next_prompt): logits[0] for _ in begin}
        after = logits[len(logits) - len(answers) :]
        computed |= {(*prompts[a.row], *a.tokens): row for a, row in zip(answers, after, strict=True)}
    return computed


def _extend(batch: TreeBatch, answer: _Answer, token: int, forget: int | None) -> TokenToRun:
    """Appends the token to the answer. `forget`: the ancestor that it does not see."""
    prompt, depth = len(batch.prompts[answer.row]), len(answer.tokens)
    sees = [slot for index, slot in enumerate(answer.slots) if depth - index != forget]
    answer.tokens.append(token)
    answer.slots.append(batch.take_slot(answer.row))
    return TokenToRun(answer.row, token, answer.slots[-1], prompt + depth, prompt, sees)
