"""Do the counts add up from the plan to the answers of people?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import polars as pl

from marginalia.annotation.client.answer_journal import answers_frame, latest
from marginalia.pipeline.core.artifacts import (
    ANSWER_JOURNAL,
    ANSWERS,
    GOLD_QUESTIONS,
    PLAN,
    PROMPTS,
    PUSHED,
    REJECTED,
    RESPONSES,
)
from marginalia.pipeline.verification.check_results import Verification
from marginalia.pipeline.verification.manifest_hashes import RESTORE
from marginalia.pipeline.verification.run_contents import Contents
from marginalia.schemas.push_json import Pushed
from marginalia.schemas.storage.files import frame_hash
from marginalia.schemas.storage.journal import read_journal


def check_generation(contents: Contents, found: Verification) -> None:
    """accepted + open = planned, and every accepted text was answered by the endpoint."""
    run = contents.run
    plan, prompts, rejected = contents.table(PLAN), contents.table(PROMPTS), contents.table(REJECTED)
    if plan is None or prompts is None or rejected is None:
        return
    written = prompts.filter(pl.col("slot_id").is_not_null())
    slots, filled = set(plan["slot_id"]), Counter(written["slot_id"])
    problems = [f"slot {slot} has {n} records" for slot, n in filled.items() if n > 1]
    problems += [f"slot {slot} is not in the plan" for slot in sorted({*filled, *rejected["slot_id"]} - slots)]
    unfilled = slots - filled.keys()
    manifest = contents.manifests.get("generate")
    stopped = manifest is not None and manifest.facts.get("stopped early by")
    if not stopped:  # a budget leaves slots that were never asked
        unexplained = unfilled - set(rejected["slot_id"])
        problems += [f"slot {slot} is open without a reason" for slot in sorted(unexplained)]
    if manifest is not None:
        told = {name: manifest.counts_out.get(name) for name in ("accepted", "open")}
        counted = {"accepted": written.height, "open": plan.height - written.height}
        problems += [f"the manifest says {told[name]} {name}" for name in told if told[name] != counted[name]]
    seen = f"{written.height:,} accepted + {len(unfilled):,} open = {plan.height:,} planned"
    found.add("generate", "counts", seen, problems, f"{run.command('generate')} --force")
    _check_responses(contents, written, found)


def _check_responses(contents: Contents, written: pl.DataFrame, found: Verification) -> None:
    path = RESPONSES.path(contents.run)
    if not path.exists():
        return
    with found.failing("generate", "journal", RESTORE):
        keys: Counter[str] = Counter()
        answered = set()
        for entry in read_journal(path, ("key", "slot_id", "created_at")):
            keys[entry["key"]] += 1
            answered.add((entry["slot_id"], str(entry["created_at"])))
        twice = [key for key, n in keys.items() if n > 1]
        problems = [f"answer {key} stands there twice" for key in twice]
        moments = written.select("slot_id", pl.col("created_at").dt.strftime("%Y-%m-%dT%H:%M:%S%.6f+00:00"))
        problems += [
            f"slot {slot} has a record, but no answer" for slot, at in moments.rows() if (slot, at) not in answered
        ]
        seen = f"{len(keys):,} answers, each once; all {written.height:,} records have theirs"
        found.add("generate", "journal", seen, problems, RESTORE)


def check_annotation(contents: Contents, found: Verification) -> None:
    """pushed ≤ prompts, answers ↔ journal, labels known."""
    run, prompts = contents.run, contents.table(PROMPTS)
    pushed = contents.document(PUSHED)
    if pushed is not None and prompts is not None:
        questions = contents.document(GOLD_QUESTIONS)
        extra = len(questions.questions) if questions is not None else 0
        most = prompts.height + extra
        problems = [f"{pushed.records:,} were pushed"] if pushed.records > most else []
        seen = f"{pushed.records:,} pushed of {prompts.height:,} records"
        seen += f" and {extra:,} gold questions" if extra else ""
        found.add("push", "counts", seen, problems or list(_changed_labels(contents, pushed)), run.command("push"))
    _check_answers(contents, found)


def _changed_labels(contents: Contents, pushed: Pushed) -> Iterator[str]:
    if pushed.labels != contents.run.taxonomy.ids:
        yield f"{pushed.dataset} asks for other labels than the taxonomy has now"


def _check_answers(contents: Contents, found: Verification) -> None:
    run, answers = contents.run, contents.table(ANSWERS)
    path = ANSWER_JOURNAL.path(run)
    if answers is None or not path.exists():
        return
    with found.failing("pull", "journal", RESTORE):
        state = latest(path)
        same = frame_hash(answers_frame(state.values())) == frame_hash(answers)
        problems = [] if same else [f"annotations.parquet is not the latest state of its {len(state):,} answers"]
        found.add(
            "pull", "journal", f"{len(state):,} answers, the table is their latest state", problems, run.command("pull")
        )
    used = set(answers["labels"].explode().drop_nulls())
    problems = [f"unknown label '{label}'" for label in sorted(used - set(run.taxonomy.ids))]
    found.add(
        "pull", "labels", f"{len(used)} labels in use, all known", problems, f"put them back into {run.taxonomy_path}"
    )
