"""The commands `marginalia profile …`: profiles of the moderator."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from marginalia.pipeline.commands.shared_options import JsonOption, RunOption, with_error_messages
from marginalia.schemas.errors import InputError
from marginalia.schemas.terminal import json_for_stdout, wrapped

if TYPE_CHECKING:
    from marginalia.scoring.moderation_profile import LabelRule

profiles = typer.Typer(
    help="Write and check profiles of the moderator.",
    epilog="Example: marginalia profile check profile.yaml",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@profiles.callback()
def _group() -> None:
    pass


@profiles.command(epilog="Example: marginalia profile suggest --run runs/refunds --aim 'precision>=0.9'")
@with_error_messages
def suggest(
    run: RunOption,
    guard: Annotated[str | None, typer.Option(help="a guard of the run; default: its first")] = None,
    aim: Annotated[str, typer.Option(help="what `block` must reach for each label")] = "precision>=0.9",
    review_share: Annotated[
        float, typer.Option(min=0, max=1, help="the largest share of records that people review")
    ] = 0.05,
    cost_miss: Annotated[float, typer.Option(min=0, help="of one missed label")] = 1.0,
    cost_false_alarm: Annotated[float, typer.Option(min=0, help="of one wrong flag, in the same unit")] = 1.0,
    out: Annotated[Path, typer.Option(help="the profile to write", metavar="FILE")] = Path("profile.yaml"),
    as_json: JsonOption = False,
) -> int:
    """Suggest a profile from a run's evaluation, with what the evaluation shows about each label and on how many
    records that rests. A label whose records do not show the aim is only reviewed, or ignored.

    Reads the run's evaluation, scores and gold. Writes the profile."""
    import json

    from marginalia.pipeline.serving.profile_text import profile_text
    from marginalia.pipeline.serving.suggest_profile import Aims, read_aim
    from marginalia.pipeline.serving.suggest_profile import suggest as suggest_profile
    from marginalia.schemas.storage.files import write_text

    if out.suffix not in (".yaml", ".yml"):
        raise InputError(f"--out {out}: expected a file name that ends in .yaml")
    if out.exists():
        raise InputError(f"--out {out}: the file exists", hint="choose another name, or delete it first")
    for option, cost in (("--cost-miss", cost_miss), ("--cost-false-alarm", cost_false_alarm)):
        if not 0 < cost < float("inf"):
            raise InputError(f"{option} {cost:g}: expected a number above 0")
    aims = Aims(read_aim(aim), review_share, cost_miss, cost_false_alarm)
    suggested = suggest_profile(run, guard, aims, out)
    write_text(out, profile_text(suggested.profile, suggested.warnings))
    if as_json:
        print(json_for_stdout(json.loads(suggested.profile.model_dump_json())))
    else:
        print(_summary(suggested.profile.labels))
    print(
        *(wrapped(f"warning: {warning}") for warning in suggested.warnings),
        f"written: {out}",
        sep="\n",
        file=sys.stderr,
    )
    return 0


@profiles.command(epilog="Example: marginalia profile check profile.yaml --json")
@with_error_messages
def check(
    file: Annotated[Path, typer.Argument(help="a profile", metavar="FILE")],
    as_json: JsonOption = False,
) -> int:
    """Check a profile: its keys, the hashes of calibration and thresholds, its labels, the order of thresholds, the
    promises and the model's name. The exit code is 2 when something is wrong.

    Reads the profile and the files that it names; loads no model. Writes nothing."""
    from marginalia.scoring.moderation_profile import profile_problems, read_profile

    read = read_profile(file)
    problems = [str(problem) for problem in profile_problems(read)]
    if as_json:
        print(json_for_stdout({"profile": str(file), "sha256": read.sha256, "problems": problems}))
    elif not problems:
        print(_summary(read.profile.labels), f"{file}: no problems found", sep="\n")
    if problems and not as_json:
        print(*(f"error: {problem}" for problem in problems), sep="\n", file=sys.stderr)
    return InputError.exit_code if problems else 0


def _summary(labels: dict[str, LabelRule]) -> str:
    from marginalia.pipeline.serving.profile_text import promise_sentence
    from marginalia.schemas.terminal import table

    rows = []
    for label, rule in labels.items():
        block, review = (f"{at:.4f}" if at is not None else "" for at in (rule.block, rule.review))
        about = promise_sentence(rule.promise) if rule.promise is not None else rule.reason or ""
        rows.append([label, block, "ignored" if rule.ignore else review, about.removeprefix("block: ")])
    return table(["label", "block at", "review from", "why"], rows)
