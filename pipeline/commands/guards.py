"""The commands `marginalia guards …`, for people who write guard files, and `marginalia explain`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from marginalia.pipeline.commands.shared_options import ApproveKeyOption, JsonOption, with_error_messages
from marginalia.schemas.key_approval import approve_hosts
from marginalia.schemas.taxonomy import load_taxonomy
from marginalia.schemas.terminal import json_for_stdout, table, wrapped

if TYPE_CHECKING:
    from marginalia.scoring.scorer import Scorer

guards = typer.Typer(
    help="List guards, and check guard files with a model.",
    epilog="Example: marginalia guards check my-guard.yaml --model ./my-model",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@guards.callback()
def _group() -> None:
    pass


FileArgument = Annotated[Path, typer.Argument(help="a guard file, or the name of a shipped guard")]
ModelOption = Annotated[
    str, typer.Option(help="a folder, a .gguf file, bundled, bundled-guard, a Hub id, or an endpoint's URL")
]
TaxonomyOption = Annotated[
    str | None, typer.Option(help="a shipped taxonomy or a YAML file, for guards without one of their own")
]
RevisionOption = Annotated[str | None, typer.Option(help="the Hub commit to load")]
DtypeOption = Annotated[Literal["float32", "bfloat16", "float16"], typer.Option(help="of the weights")]
DeviceOption = Annotated[str, typer.Option(help="cpu, cuda or cuda:1; auto uses a GPU if there is one")]
TokenizerOption = Annotated[
    str | None, typer.Option(help="for an endpoint: the model's tokenizer, a folder, a .gguf file or a Hub id")
]
EndpointModelOption = Annotated[str | None, typer.Option(help="for an endpoint: the model's name there")]
KeyOption = Annotated[
    str | None, typer.Option(help="for an endpoint: name of the environment variable that holds the key")
]
HttpOption = Annotated[
    bool, typer.Option("--allow-http", help="send the key unencrypted to an http:// address of another machine")
]


@guards.command(name="list", epilog="Example: marginalia guards list")
@with_error_messages
def list_guards(as_json: JsonOption = False) -> int:
    """List the shipped guard files: what each guard answers, whom it judges, whether it reasons first, and what of the
    file was confirmed by the guard's own publication.

    Reads and writes nothing else."""
    from marginalia.scoring.guard_facts import facts_table, shipped_guards

    facts = shipped_guards()
    if as_json:
        print(json_for_stdout([{**vars(one), "confirmed": one.confirmed} for one in facts]))
    else:
        rows = facts_table(facts)
        print(table(rows[0], rows[1:]))
    return 0


@guards.command(epilog="Example: marginalia guards show llama-guard-3")
@with_error_messages
def show(file: FileArgument, taxonomy: TaxonomyOption = None) -> int:
    """Show a guard file: its facts, its categories, and the prompt for an example, without a model. With a model,
    `guards check` shows the prompt as the model gets it.

    Reads the guard file. Writes nothing."""
    from marginalia.scoring.guard import guard_path, load_guard
    from marginalia.scoring.guard_facts import described, described_source
    from marginalia.scoring.guard_kinds import GENERATIVE, kind_of

    if kind_of(path := guard_path(str(file))) != GENERATIVE:
        print(*described_source(path), sep="\n")
        return 0
    print(*described(load_guard(str(file), load_taxonomy(taxonomy) if taxonomy else None)), sep="\n")
    return 0


@guards.command(epilog="Example: marginalia guards check my-guard.yaml --model ./my-model --records records.jsonl")
@with_error_messages
def check(
    file: FileArgument,
    model: ModelOption,
    taxonomy: TaxonomyOption = None,
    records: Annotated[
        Path | None,
        typer.Option(help="JSONL or Parquet; the first five records are used; default: examples of the taxonomy"),
    ] = None,
    revision: RevisionOption = None,
    dtype: DtypeOption = "float32",
    device: DeviceOption = "auto",
    tokenizer: TokenizerOption = None,
    endpoint_model: EndpointModelOption = None,
    api_key_env: KeyOption = None,
    allow_http: HttpOption = False,
    as_json: JsonOption = False,
    approve_key_host: ApproveKeyOption = None,
) -> int:
    """Check a guard file with a model. It shows the prompt with its control tokens, how the codes are tokenised, the
    answers to five records and the line of the file to change. The exit code is 1 when an answer is outside the format.

    Reads the guard file and the records. Writes nothing."""
    from marginalia.scoring.guard import guard_path, load_guard
    from marginalia.scoring.guard_check import check_data, check_guard, example_records, keeps_format, records_of

    guard = load_guard(str(file), load_taxonomy(taxonomy) if taxonomy else None)
    chosen = records_of(records) if records is not None else example_records(guard)
    options = {"model": model, "taxonomy": taxonomy, "revision": revision, "dtype": dtype, "device": device}
    options |= {"tokenizer": tokenizer, "endpoint_model": endpoint_model, "api_key_env": api_key_env}
    scorer = _scorer(file, "check", ("marginal",), allow_http, approve_key_host, options)
    results = list(scorer.score_records(chosen))
    path = guard_path(str(file))
    if as_json:
        print(json_for_stdout(check_data(scorer, path, chosen, results)))
    else:
        print(*map(wrapped, check_guard(scorer, path, chosen, results)), sep="\n")
    return 0 if keeps_format(guard, results) else 1


@guards.command(epilog="Example: marginalia guards probe llama-guard-3 --model ./Llama-Guard-3-8B")
@with_error_messages
def probe(
    file: FileArgument,
    model: ModelOption,
    taxonomy: TaxonomyOption = None,
    revision: RevisionOption = None,
    dtype: DtypeOption = "float32",
    device: DeviceOption = "auto",
    tokenizer: TokenizerOption = None,
    endpoint_model: EndpointModelOption = None,
    api_key_env: KeyOption = None,
    allow_http: HttpOption = False,
    approve_key_host: ApproveKeyOption = None,
    as_json: JsonOption = False,
) -> int:
    """Say whether a guard file fits a model's weights: fits, does not fit or cannot tell, with the reasons. It scores
    twenty texts, most of them harmless. The exit code is 0 only for a file that fits.

    Reads the guard file. Writes nothing."""
    from dataclasses import asdict

    from marginalia.scoring.guard_probe import probe as run_probe
    from marginalia.scoring.guard_probe import probe_records

    options = {"model": model, "taxonomy": taxonomy, "revision": revision, "dtype": dtype, "device": device}
    options |= {"tokenizer": tokenizer, "endpoint_model": endpoint_model, "api_key_env": api_key_env}
    scorer = _scorer(file, "probe", ("marginal", "greedy"), allow_http, approve_key_host, options)
    found = run_probe(scorer, list(scorer.score_records(probe_records(scorer.guard))))
    if as_json:
        findings = [asdict(finding) for finding in found.findings]
        print(
            json_for_stdout(
                {"guard": scorer.guard.name, "model": model, "verdict": found.verdict, "findings": findings}
            )
        )
    else:
        print(*map(wrapped, found.lines()), sep="\n")
    return 0 if found.verdict == "fits" else 1


def _scorer(
    file: Path,
    command: str,
    estimators: tuple[str, ...],
    allow_http: bool,
    approve_key_host: list[str] | None,
    options: dict[str, str | None],
) -> Scorer:
    """The scorer of a guard file on the model of the command line."""
    from marginalia.scoring.engines.start_engine import approve_endpoint_key
    from marginalia.scoring.request_options import checked_request
    from marginalia.scoring.scorer import Scorer

    approve_hosts(approve_key_host or ())
    request = checked_request(
        guard=str(file),
        estimators=estimators,
        tolerance=0.01,
        allow_http=allow_http,
        help_command=f"marginalia guards {command} --help",
        **options,
    )
    approve_endpoint_key(request, allow_http="--allow-http")
    return Scorer.from_request(request)


@with_error_messages
def explain(context: typer.Context) -> int:
    """The command `explain`: the options are those of the scoring command, which also prints the help."""
    from marginalia.scoring.command import explain_as

    return explain_as("marginalia explain", context.args)
