"""Memory of a scoring run by number of records: of the records themselves, of scoring, and of writing the tables.

    python -m benchmarks.scoring_memory --records 10000 100000

A stand-in replaces the model (it answers `unsafe` and one topic, each token with probability 0.999), so 100,000 records
take minutes. A real model adds its weights and the KV cache of one batch, which do not grow with the number of records.
Each size runs in a separate process. The last line of output is one JSON object."""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from transformers import AutoTokenizer

from marginalia.schemas.taxonomy import load_taxonomy
from marginalia.scoring.guard import load_guard
from marginalia.scoring.language.token_language import TokenLanguage
from marginalia.scoring.marginal.answer_search import NextTokens, Node
from marginalia.scoring.marginal.model_protocol import NextMoves
from marginalia.scoring.models.bundled_model import bundled_smollm2
from marginalia.scoring.models.model_cache import model_cache
from marginalia.scoring.score_files import journal_path, score_to_journal, write_tables
from marginalia.scoring.scorer import Scorer, Settings

ANSWER = b"unsafe\nS3"
TOKEN_PROBABILITY = 0.999
WORDS = ("parcel", "lamp", "late", "broken", "again", "please", "send", "another", "or", "my", "money", "back")


@dataclass
class StandIn:
    """A Model and Source (marginalia.scoring.marginal.model_protocol) that gives every record the same answer."""

    tokenizer: Any
    end_ids: tuple[int, ...]
    context = 8192
    context_reason = ""
    token_ids = None
    name = revision = "stand-in"
    identity = ("stand-in",)
    notes: tuple[str, ...] = ()
    shared_tokens = 0
    min_records = 1
    batch_invariant = True

    def source(self) -> StandIn:
        """The stand-in itself."""
        return self

    def add_shared_start(self, ids: Sequence[int]) -> None:
        """Sets the token ids that all prompts start with."""
        self.shared_tokens = len(ids)

    def open(self, batch_rows: int, longest: int, tokens: NextMoves) -> _Batch:
        """A batch of any size."""
        assert isinstance(tokens, TokenLanguage)
        return _Batch(tokens)


@dataclass
class _Batch:
    tokens: TokenLanguage

    def join(self, batch_row: int, prompt: list[int], *, continues: bool = False) -> None:
        pass

    def next_tokens(self, nodes: Sequence[tuple[int, Node]]) -> list[NextTokens]:
        return [self._after(node) for _, node in nodes]

    def _after(self, node: Node) -> NextTokens:
        if node.state is None:
            return NextTokens(np.empty(0), self.tokens.end_ids[0], 0.0)
        moves, so_far = self.tokens.moves(node.state), self.tokens.text(node.path())
        logs = np.full(len(moves.ids), np.log((1 - TOKEN_PROBABILITY) / 2 / max(len(moves.ids), 1)))
        rest = ANSWER.removeprefix(so_far) if ANSWER.startswith(so_far) else b""
        fits = [index for index, token in enumerate(moves.ids) if rest and rest.startswith(self._text(token))]
        best = max(fits, key=lambda index: len(self._text(moves.ids[index])), default=len(moves.ids) - 1)
        logs[best] = np.log(TOKEN_PROBABILITY)
        return NextTokens(logs, int(moves.ids[best]), float(logs[best]))

    def _text(self, token: int) -> bytes:
        return self.tokens.token_bytes.get(int(token), b"\0")


def main() -> None:
    """The command."""
    options = _parser().parse_args()
    if options.inside:
        print(json.dumps(_run(options.records[0], Path(options.inside))))
        return
    found = {}
    for count in options.records:
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-m", "benchmarks.scoring_memory", "--records", str(count), "--inside", folder]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        found[str(count)] = json.loads(done.stdout.splitlines()[-1])
        print(f"{count:>9,} records: {found[str(count)]}")
    print(json.dumps(found))


def _run(count: int, folder: Path) -> dict[str, float]:
    tokenizer = AutoTokenizer.from_pretrained(bundled_smollm2(model_cache()), local_files_only=True)
    guard = load_guard("support-tickets", load_taxonomy("support-tickets"))
    scorer = Scorer(StandIn(tokenizer, (tokenizer.eos_token_id,)), guard, Settings(tolerance=1e-2))
    out = folder / "scores.parquet"
    memory = {"start_mb": _peak()}
    draw = np.random.default_rng(0)
    records = [
        (f"r{number}", [{"role": "user", "content": " ".join(draw.choice(WORDS, 40))}]) for number in range(count)
    ]
    memory["records_mb"] = _peak()
    started = time.perf_counter()
    done = sum(1 for _ in score_to_journal(scorer, records, journal_path(out)))
    assert done == count
    memory["scored_mb"] = _peak()
    memory["seconds"] = round(time.perf_counter() - started)
    write_tables(out, [record_id for record_id, _ in records], scorer.settings.estimators)
    memory["tables_mb"] = _peak()
    memory["journal_mb"] = round(journal_path(out).stat().st_size / 1e6)
    return memory


def _peak() -> int:
    """The peak memory of this process so far, in MB."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, nargs="+", default=[10_000, 100_000], help="default: 10000 100000")
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    main()
