"""`marginalia repair`: moves the lines of a run's journals that cannot be read to files of their own."""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from marginalia.annotation.client import answer_journal
from marginalia.pipeline.core.artifacts import (
    ANSWER_JOURNAL,
    CHECK_JOURNAL,
    RESPONSES,
    UNREADABLE,
    UNREADABLE_CHECKS,
)
from marginalia.pipeline.core.run import Run
from marginalia.pipeline.core.run_log import log_event
from marginalia.pipeline.generation import response_journal, unreadable_answers
from marginalia.schemas.storage.journal import DAMAGED, repair_journal
from marginalia.schemas.storage.run_lock import run_lock
from marginalia.scoring import score_journal_entry

Check = Callable[[dict[str, Any]], object]

CHECKS: dict[str, tuple[str, Check, Collection[str]]] = {  # pattern → stage, check of an entry, its keys
    RESPONSES.name: (RESPONSES.stage, response_journal.check_entry, ()),
    UNREADABLE.name: (UNREADABLE.stage, unreadable_answers.check_entry, ()),
    CHECK_JOURNAL.name: (CHECK_JOURNAL.stage, response_journal.check_entry, ()),
    UNREADABLE_CHECKS.name: (UNREADABLE_CHECKS.stage, unreadable_answers.check_entry, ()),
    ANSWER_JOURNAL.name: (ANSWER_JOURNAL.stage, answer_journal.check_entry, ()),
    "scores/**/*.journal.jsonl": ("score", score_journal_entry.check_entry, score_journal_entry.KEYS),  # with shards
}


@dataclass(frozen=True)
class RepairedJournal:
    """One journal and how many of its lines were moved. `command`: what reads or makes the missing entries again."""

    path: Path
    moved: int
    command: str

    def __str__(self) -> str:
        if self.moved == 0:
            return f"{self.path}: every line can be read"
        lines = "1 line that cannot be read" if self.moved == 1 else f"{self.moved:,} lines that cannot be read"
        return f"{self.path}: moved {lines} to {self.path.name}{DAMAGED}; next: {self.command}"


def repair_journals(run: Run) -> list[RepairedJournal]:
    """Repairs every journal of the run. Raises LockedError when another process uses the run folder, and InputError
    when a file cannot be written."""
    with run_lock(run.folder, "marginalia repair"):
        repaired = []
        for pattern, (stage, check, keys) in CHECKS.items():
            for path in sorted(run.folder.glob(pattern)):
                is_shard = path.parent.parent.suffix == ".shards"  # has a lock of its own: score --shard
                with run_lock(path.parent, "marginalia repair") if is_shard else nullcontext():
                    # score does not read its journal again while its tables are up to date
                    command = run.command(stage) + (" --force" if stage == "score" else "")
                    repaired.append(RepairedJournal(path, repair_journal(path, keys, check), command))
        for journal in repaired:
            if journal.moved:
                log_event(run, "repair", "moved unreadable lines", journal=journal.path.name, lines=journal.moved)
    return repaired
