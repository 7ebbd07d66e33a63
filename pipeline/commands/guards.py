"""The commands `marginalia guards …`, for people who write guard files, and `marginalia explain`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from marginalia.pipeline.commands.shared_options import ApproveKeyOption, JsonOption, with_error_messages
from marginalia.schemas.key_approval import approve_hosts
from marginalia.schemas.terminal import json_for_stdout, wrapped

guards = typer.Typer(
    help="Check guard files with a model.",
    epilog="Example: marginalia guards check my-guard.yaml --model ./my-model",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@guards.callback()
def _group() -> None:
    pass


@guards.command(epilog="Example: marginalia guards check my-guard.yaml --model ./my-model --records records.jsonl")
@with_error_messages
def check(
    file: Annotated[Path, typer.Argument(help="a guard file, or the name of a shipped guard")],
    model: Annotated[
        str, typer.Option(help="a folder, a .gguf file, bundled, bundled-guard, a Hub id, or an endpoint's URL")
    ],
    taxonomy: Annotated[
        str | None, typer.Option(help="a shipped taxonomy or a YAML file, for guards without one of their own")
    ] = None,
    records: Annotated[
        Path | None,
        typer.Option(help="JSONL or Parquet; the first five records are used; default: examples of the taxonomy"),
    ] = None,
    revision: Annotated[str | None, typer.Option(help="the Hub commit to load")] = None,
    dtype: Annotated[Literal["float32", "bfloat16", "float16"], typer.Option(help="of the weights")] = "float32",
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:1; auto uses a GPU if there is one")] = "auto",
    tokenizer: Annotated[
        str | None,
        typer.Option(help="for an endpoint: the model's tokenizer, a folder, a .gguf file or a Hub id"),
    ] = None,
    endpoint_model: Annotated[str | None, typer.Option(help="for an endpoint: the model's name there")] = None,
    api_key_env: Annotated[
        str | None, typer.Option(help="for an endpoint: name of the environment variable that holds the key")
    ] = None,
    allow_http: Annotated[
        bool, typer.Option("--allow-http", help="send the key unencrypted to an http:// address of another machine")
    ] = False,
    as_json: JsonOption = False,
    approve_key_host: ApproveKeyOption = None,
) -> int:
    """Check a guard file with a model. It shows the prompt with its control tokens, how the codes are tokenised, the
    answers to five records and the line of the file to change. The exit code is 1 when an answer is outside the format.

    Reads the guard file and the records. Writes nothing."""
    from marginalia.schemas.taxonomy import load_taxonomy
    from marginalia.scoring.engines.start_engine import approve_endpoint_key
    from marginalia.scoring.guard import guard_path, load_guard
    from marginalia.scoring.guard_check import check_data, check_guard, example_records, keeps_format, records_of
    from marginalia.scoring.request_options import checked_request
    from marginalia.scoring.scorer import Scorer

    approve_hosts(approve_key_host or ())
    guard = load_guard(str(file), load_taxonomy(taxonomy) if taxonomy else None)
    chosen = records_of(records) if records is not None else example_records(guard)
    request = checked_request(
        guard=str(file),
        model=model,
        taxonomy=taxonomy,
        revision=revision,
        dtype=dtype,
        device=device,
        tokenizer=tokenizer,
        endpoint_model=endpoint_model,
        api_key_env=api_key_env,
        allow_http=allow_http,
        estimators=("marginal",),
        tolerance=0.01,
        help_command="marginalia guards check --help",
    )
    approve_endpoint_key(request, allow_http="--allow-http")
    scorer = Scorer.from_request(request)
    results = list(scorer.score_records(chosen))
    path = guard_path(str(file))
    if as_json:
        print(json_for_stdout(check_data(scorer, path, chosen, results)))
    else:
        print(*map(wrapped, check_guard(scorer, path, chosen, results)), sep="\n")
    return 0 if keeps_format(guard, results) else 1


@with_error_messages
def explain(context: typer.Context) -> int:
    """The command `explain`: the options are those of the scoring command, which also prints the help."""
    from marginalia.scoring.command import explain_as

    return explain_as("marginalia explain", context.args)
