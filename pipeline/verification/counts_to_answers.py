"""Checks that the counts agree from the plan to the annotators' answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import polars as pl

from marginalia.annotation.client.answer_journal import answers_frame, latest
from marginalia.annotation.gold.votes import ticked_not_judged
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


def check_generation(contents: Contents, verification: Verification) -> None:
    """Accepted + open = planned, and every accepted text comes from a response of the endpoint."""
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
    stopped_early = manifest is not None and manifest.facts.get("stopped early by")
    if not stopped_early:  # a spent budget leaves slots that were never requested
        unexplained = unfilled - set(rejected["slot_id"])
        problems += [f"slot {slot} is open without a reason" for slot in sorted(unexplained)]
    if manifest is not None:
        counted = {"accepted": written.height, "open": plan.height - written.height}
        problems += [
            f"the manifest says {manifest.counts_out.get(name)} {name}"
            for name in counted
            if manifest.counts_out.get(name) != counted[name]
        ]
    summary = f"{written.height:,} accepted + {len(unfilled):,} open = {plan.height:,} planned"
    verification.add("generate", "counts", summary, problems, f"{run.command('generate')} --force")
    _check_responses(contents, written, verification)


def _check_responses(contents: Contents, written: pl.DataFrame, verification: Verification) -> None:
    path = RESPONSES.path(contents.run)
    if not path.exists():
        return
    with verification.failing("generate", "journal", RESTORE):
        keys: Counter[str] = Counter()
        answered = set()
        for entry in read_journal(path, ("key", "slot_id", "created_at")):
            keys[entry["key"]] += 1
            answered.add((entry["slot_id"], str(entry["created_at"])))
        problems = [f"duplicate response {key}" for key, n in keys.items() if n > 1]
        created = written.select("slot_id", pl.col("created_at").dt.strftime("%Y-%m-%dT%H:%M:%S%.6f+00:00"))
        problems += [
            f"slot {slot} has a record but no response" for slot, at in created.rows() if (slot, at) not in answered
        ]
        summary = f"{len(keys):,} responses, no duplicates; all {written.height:,} generated records have one"
        verification.add("generate", "journal", summary, problems, RESTORE)


def check_annotation(contents: Contents, verification: Verification) -> None:
    """No more records pushed than there are, answers as in the journal, and all labels known and judged."""
    run, prompts = contents.run, contents.table(PROMPTS)
    pushed = contents.document(PUSHED)
    if pushed is not None and prompts is not None:
        questions = contents.document(GOLD_QUESTIONS)
        extra = len(questions.questions) if questions is not None else 0
        most = prompts.height + extra
        problems = [f"{pushed.records:,} of {most:,} records were pushed"] if pushed.records > most else []
        summary = f"{pushed.records:,} pushed of {prompts.height:,} records"
        summary += f" and {extra:,} gold questions" if extra else ""
        problems = problems or list(_changed_labels(contents, pushed))
        verification.add("push", "counts", summary, problems, run.command("push"))
    _check_answers(contents, verification)


def _changed_labels(contents: Contents, pushed: Pushed) -> Iterator[str]:
    if pushed.labels != contents.run.taxonomy.ids:
        yield f"{pushed.dataset} has other labels than the taxonomy"


def _check_answers(contents: Contents, verification: Verification) -> None:
    run, answers, maker = contents.run, contents.table(ANSWERS), contents.maker(ANSWERS)
    path = ANSWER_JOURNAL.path(run)
    if answers is None:
        return
    if maker == ANSWERS.stage and path.exists():
        with verification.failing("pull", "journal", RESTORE):
            state = latest(path)
            same = frame_hash(answers_frame(state.values())) == frame_hash(answers)
            different = f"annotations.parquet is not the latest state of the {len(state):,} answers in the journal"
            summary, problems = f"{len(state):,} answers, as in the table", [] if same else [different]
            verification.add("pull", "journal", summary, problems, run.command("pull"))
    used = set(answers["labels"].explode().drop_nulls())
    named = used | set(answers["judged"].explode().drop_nulls())
    problems = [f"unknown label '{label}'" for label in sorted(named - set(run.taxonomy.ids))]
    verification.add(
        maker, "labels", f"{len(used)} labels in use, all known", problems, f"add them to {run.taxonomy_path} again"
    )
    problems = [
        f"record '{record}': {annotator} ticked '{label}', which 'judged' leaves out"
        for record, annotator, label in ticked_not_judged(answers).iter_rows()
    ]
    if problems:
        verification.add(maker, "judged", "", problems, f"{run.command(maker)} --force")
