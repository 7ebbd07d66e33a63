"""Simulated annotators: programs that answer through Argilla's API in the name of the team or the experts.

They answer with the intended labels, changed at random with the error rates of their profiles, so that the demo has
answers to reconcile. They refuse a run that does not have `simulated: true` in its config.

python -m marginalia.pipeline.annotating.simulated_annotators --run runs/NAME                      the team answers
python -m marginalia.pipeline.annotating.simulated_annotators --run runs/NAME --round adjudicate   the experts answer"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from marginalia.annotation.client.connection import Connection
from marginalia.annotation.client.dataset_settings import LABELS, NONE, NOTE, UNSURE
from marginalia.annotation.gold.gold_questions import read_gold_questions
from marginalia.annotation.server.server_control import Account, accounts, up
from marginalia.annotation.simulated.annotator_profiles import AnnotatorProfile, SimulationSection
from marginalia.pipeline.annotating.pull_stage import datasets
from marginalia.pipeline.annotating.push_stage import HOME
from marginalia.pipeline.core.artifacts import GOLD_QUESTIONS, PROMPTS
from marginalia.pipeline.core.run import Run, open_run
from marginalia.schemas.errors import InputError, ServiceError
from marginalia.schemas.exit_codes import run_command
from marginalia.schemas.progress import progress
from marginalia.schemas.push_json import Pushed

BATCH = 100  # answers per request; Argilla's limit
NOTES = ("Simulated note: borderline.", "Simulated note: two readings.", "Simulated note: hard to tell.")


@dataclass(frozen=True)
class AnnotatorCounts:
    """What one simulated annotator answered in one call."""

    username: str
    submitted: int
    discarded: int


def annotate(run: Run, section: SimulationSection, *, round: str = "annotate") -> list[AnnotatorCounts]:
    """Answers all pending records of each member of annotation.team (or, in the round `adjudicate`, of
    annotation.experts). Answered records are not answered again, so the call can be repeated after a kill.

    Raises InputError for a run that is not simulated, whose Argilla is not its own local one, or without this round."""
    _require_simulated(run)
    pushed = next((item for item in datasets(run) if item.round == round), None)
    if pushed is None:
        raise InputError(f"{run.folder}: nothing was pushed for the round '{round}'", hint=run.command("adjudicate"))
    prompts = PROMPTS.read(run)
    prompts = prompts.drop_nulls("intended_labels")  # they are null for imported records without labels
    intended = dict(zip(prompts["id"].to_list(), prompts["intended_labels"].to_list(), strict=True))
    intended |= read_gold_questions(GOLD_QUESTIONS.path(run)).known
    home = run.path(HOME)
    server = up(home)
    known = {account.username: account for account in accounts(home)}
    counts = []
    names = run.config.annotation.team if round == "annotate" else run.config.annotation.experts
    for index, name in enumerate(names):
        profile = section.profile(index) if round == "annotate" else section.expert
        with _sign_in(server.url, known.get(name), name) as connection:
            counts.append(_answer_all(connection, run, pushed, profile, intended))
    return counts


def simulated_answer(
    intended: Sequence[str], labels: Sequence[str], profile: AnnotatorProfile, *, seed: int, annotator: str, record: str
) -> dict[str, Any]:
    """One answer: status and values in the format of Argilla's API. It is seeded by annotator and record, so that
    neither the order of the records nor a restart changes it."""
    rng = random.Random(f"{seed}:{annotator}:{record}")
    values: dict[str, Any] = {}
    skipped, noted, unsure = (rng.random() < rate for rate in (profile.skip, profile.note, profile.unsure))
    ticked = [label for label in labels if _ticks(label, label in intended, profile, rng)]
    if noted:
        values[NOTE] = {"value": rng.choice(NOTES)}
    if skipped:
        return {"status": "discarded", "values": values}
    if unsure:
        values[UNSURE] = {"value": "unsure"}
    values[LABELS] = {"value": ticked or [NONE]}
    return {"status": "submitted", "values": values}


def _ticks(label: str, is_intended: bool, profile: AnnotatorProfile, rng: random.Random) -> bool:
    drawn = rng.random()
    if is_intended:
        return drawn >= profile.label_miss.get(label, profile.miss)
    return drawn < profile.label_false_alarm.get(label, profile.false_alarm)


def _answer_all(
    connection: Connection,
    run: Run,
    pushed: Pushed,
    profile: AnnotatorProfile,
    intended: Mapping[str, list[str]],
) -> AnnotatorCounts:
    name, seed, labels = connection.username, run.config.seed, run.taxonomy.ids
    questions = {item["name"] for item in connection.get(f"/datasets/{pushed.dataset_id}/questions")["items"]}
    counts = {"submitted": 0, "discarded": 0}
    with progress(what=f"simulated {name}", unit="record") as bar:
        for batch in _pending(connection, pushed.dataset_id):
            items = []
            for record in batch:
                key = record["external_id"]
                answer = simulated_answer(
                    intended.get(key, []), labels, profile, seed=seed, annotator=name, record=f"{pushed.round}:{key}"
                )
                values = {question: value for question, value in answer["values"].items() if question in questions}
                items.append({"record_id": record["id"], "status": answer["status"], "values": values})
                counts[answer["status"]] += 1
            _submit(connection, items)
            bar.update(len(items))
    return AnnotatorCounts(name, counts["submitted"], counts["discarded"])


def _pending(connection: Connection, dataset_id: str) -> Iterator[list[dict[str, Any]]]:
    """The pending records of the signed-in user, in batches. Always the first page is read, because answered records
    leave the queue."""
    scope = {"entity": "response", "property": "status"}
    query = {"filters": {"and": [{"type": "terms", "scope": scope, "values": ["pending"]}]}}
    path = f"/me/datasets/{dataset_id}/records/search"
    seen: set[str] = set()
    while True:
        page = [item["record"] for item in connection.post(path, query, offset=0, limit=BATCH)["items"]]
        batch = [record for record in page if record["id"] not in seen]
        if not batch:
            return
        yield batch
        seen |= {record["id"] for record in batch}


def _submit(connection: Connection, items: list[dict[str, Any]]) -> None:
    answers = connection.post("/me/responses/bulk", {"items": items})["items"]
    errors = [answer["error"]["detail"] for answer in answers if answer.get("error")]
    if errors:
        raise ServiceError(f"Argilla refused {len(errors)} of {len(items)} simulated answers: {errors[0]}")


def _sign_in(url: str, account: Account | None, name: str) -> Connection:
    if account is None:
        raise InputError(
            f"'{name}' has no account on the local Argilla", hint="push creates the accounts of annotation.team"
        )
    return Connection(url, account.api_key, key_hint="the local server's credentials.json", is_local=True)


def _require_simulated(run: Run) -> None:
    if not run.config.simulated:
        raise InputError.at(
            run.folder / "config.yaml",
            "simulated annotators answer only in a run with 'simulated: true'",
            hint=f"people annotate after: marginalia argilla up --run {run.folder}",
        )
    if run.config.annotation.url is not None:
        raise InputError.at(
            run.folder / "config.yaml",
            "simulated annotators answer only in the run's own local Argilla, but annotation.url is set",
            hint="remove annotation.url",
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line of this module; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m marginalia.pipeline.annotating.simulated_annotators",
        description="Simulated annotators answer in a run with `simulated: true`.",
        epilog="Example: python -m marginalia.pipeline.annotating.simulated_annotators --run runs/try",
    )
    parser.add_argument("--run", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--round", choices=("annotate", "adjudicate"), default="annotate")
    options = parser.parse_args(arguments)

    def command() -> None:
        run = open_run(options.run)
        for counts in annotate(run, run.config.simulation, round=options.round):
            print(f"simulated annotator {counts.username}: {counts.submitted} submitted, {counts.discarded} discarded")

    return run_command(command)


if __name__ == "__main__":
    sys.exit(main())
