"""Simulated annotators: programs that answer through Argilla's API as the users that they stand for.

They perturb the intended labels, each with its own error rates, so that the demo has answers to reconcile. A demo
part, never a default: they refuse to touch a run that does not say `simulated: true`.

    python -m marginalia.pipeline.annotating.simulated_annotators --run runs/NAME  the team answers what was pushed
    python -m marginalia.pipeline.annotating.simulated_annotators --run runs/NAME --round adjudicate   the experts do"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from marginalia.annotation.client.connection import Connection
from marginalia.annotation.client.dataset_settings import LABELS, NONE, NOTE, UNSURE
from marginalia.annotation.gold.gold_questions import read_gold_questions
from marginalia.annotation.server.server_control import Account, accounts, up
from marginalia.annotation.simulated.annotator_profiles import AnnotatorProfile, SimulationSection
from marginalia.pipeline.annotating.pull_stage import datasets
from marginalia.pipeline.annotating.push_stage import HOME
from marginalia.pipeline.core.artifacts import GOLD_QUESTIONS, PROMPTS
from marginalia.pipeline.core.run import Run, open_run
from marginalia.schemas.errors import InputError, MarginaliaError, ServiceError
from marginalia.schemas.push_json import Pushed

BATCH = 100  # answers a request; Argilla takes no more
NOTES = ("Simulated note: borderline.", "Simulated note: two readings.", "Simulated note: hard to tell.")


@dataclass(frozen=True)
class AnnotatorCounts:
    """What one simulated annotator did in one call."""

    username: str
    submitted: int
    discarded: int


def annotate(run: Run, section: SimulationSection, *, round: str = "annotate") -> list[AnnotatorCounts]:
    """Answers everything that is pending for each member of annotation.team (or, in the round `adjudicate`, of
    annotation.experts), and nothing twice, so that it can be repeated after a kill.

    Raises InputError for a run that is not simulated, or whose Argilla is not its own local one."""
    _refuse_real(run)
    pushed = next((item for item in datasets(run) if item.round == round), None)
    if pushed is None:
        raise InputError(f"{run.folder}: nothing was pushed for the round '{round}'", hint=run.command("adjudicate"))
    prompts = PROMPTS.read(run)
    prompts = prompts.drop_nulls("intended_labels")  # of imported records that nobody labelled
    intended = dict(zip(prompts["id"].to_list(), prompts["intended_labels"].to_list(), strict=True))
    intended |= read_gold_questions(GOLD_QUESTIONS.path(run)).known
    home = run.path(HOME)
    server = up(home)
    known = {account.username: account for account in accounts(home)}
    done = []
    names = run.config.annotation.team if round == "annotate" else run.config.annotation.experts
    for place, name in enumerate(names):
        profile = section.profile(place) if round == "annotate" else section.expert
        with _sign_in(server.url, known.get(name), name) as connection:
            done.append(_answer_all(connection, run, pushed, profile, intended))
    return done


def simulated_answer(
    intended: Sequence[str], labels: Sequence[str], profile: AnnotatorProfile, *, seed: int, annotator: str, record: str
) -> dict[str, Any]:
    """One answer: status and values as Argilla's API takes them. Seeded by annotator and record, so that neither the
    order of the records nor a restart changes it."""
    chance = random.Random(f"{seed}:{annotator}:{record}")
    values: dict[str, Any] = {}
    skipped, noted, unsure = (chance.random() < rate for rate in (profile.skip, profile.note, profile.unsure))
    ticked = [label for label in labels if _ticks(label, label in intended, profile, chance)]
    if noted:
        values[NOTE] = {"value": chance.choice(NOTES)}
    if skipped:
        return {"status": "discarded", "values": values}
    if unsure:
        values[UNSURE] = {"value": "unsure"}
    values[LABELS] = {"value": ticked or [NONE]}
    return {"status": "submitted", "values": values}


def _ticks(label: str, is_intended: bool, profile: AnnotatorProfile, chance: random.Random) -> bool:
    drawn = chance.random()
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
    with tqdm(desc=f"simulated {name}", unit="record", disable=None) as bar:
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
    """The queue of the user that is signed in, from its head: answered records leave it."""
    scope = {"entity": "response", "property": "status"}
    query = {"filters": {"and": [{"type": "terms", "scope": scope, "values": ["pending"]}]}}
    path = f"/me/datasets/{dataset_id}/records/search"
    before: set[str] = set()
    while True:
        found = [item["record"] for item in connection.post(path, query, offset=0, limit=BATCH)["items"]]
        fresh = [record for record in found if record["id"] not in before]
        if not fresh:
            return
        yield fresh
        before |= {record["id"] for record in fresh}


def _submit(connection: Connection, items: list[dict[str, Any]]) -> None:
    answers = connection.post("/me/responses/bulk", {"items": items})["items"]
    errors = [answer["error"]["detail"] for answer in answers if answer.get("error")]
    if errors:
        raise ServiceError(f"Argilla refused {len(errors)} of {len(items)} simulated answers: {errors[0]}")


def _sign_in(url: str, account: Account | None, name: str) -> Connection:
    if account is None:
        raise InputError(f"'{name}' has no account on the local Argilla", hint="push makes those of annotation.team")
    return Connection(url, account.api_key, key_hint="the local server's credentials.json", here=True)


def _refuse_real(run: Run) -> None:
    if not run.config.simulated:
        raise InputError.at(
            run.folder / "config.yaml",
            "simulated annotators never answer in a run that does not say 'simulated: true'",
            hint="let people annotate: make argilla",
        )
    if run.config.annotation.url is not None:
        raise InputError.at(
            run.folder / "config.yaml",
            "simulated annotators answer in the run's own local Argilla only, and annotation.url is set",
            hint="take annotation.url out",
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """The command of the module's docstring. Exit codes as everywhere."""
    parser = argparse.ArgumentParser(
        prog="python -m marginalia.pipeline.annotating.simulated_annotators",
        description="Simulated annotators answer in a run that says `simulated: true`.",
        epilog="Example: python -m marginalia.pipeline.annotating.simulated_annotators --run runs/try",
    )
    parser.add_argument("--run", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--round", choices=("annotate", "adjudicate"), default="annotate")
    options = parser.parse_args(arguments)
    try:
        run = open_run(options.run)
        for one in annotate(run, run.config.simulation, round=options.round):
            print(f"simulated annotator {one.username}: {one.submitted} submitted, {one.discarded} discarded")
    except MarginaliaError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
