"""The command `marginalia paper`: the table of arXiv 2511.22312 and ours, on the user's records."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from marginalia.schemas.errors import InputError
from marginalia.schemas.terminal import json_for_stdout
from marginalia.scoring.score_request import GuardModel, Settings

EXAMPLE = (
    "marginalia paper records.jsonl --model ./Llama-Guard-3-8B --guard llama-guard-3 --mapping paper-llama-guard-3"
)
DEFAULTS = Settings()
TOP_P, INSTRUCT_TOP_P = 0.99, 0.9
THRESHOLD, INSTRUCT_THRESHOLD = (
    0.2,
    0.3,
)  # as in scoring/paper/published_procedures.py, which is slow to import, so --help does not


def paper(
    records: Annotated[Path, typer.Argument(help="CSV, JSON, JSONL or Parquet with id, text (or messages) and labels")],
    model: Annotated[
        str, typer.Option(help="a folder, a .gguf file, a Hub id with --revision, 'bundled' or 'bundled-guard'")
    ] = "bundled-guard",
    guard: Annotated[str, typer.Option(help="a name in scoring/guards, or a YAML file")] = "support-tickets",
    taxonomy: Annotated[
        str | None, typer.Option(help="for guards without a taxonomy of their own: a shipped one or a file")
    ] = None,
    mapping: Annotated[
        str | None,
        typer.Option(help="for files with other columns or labels: name of a shipped mapping, or a YAML file"),
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--records", min=1, help="use only the first N labelled records", metavar="N")
    ] = None,
    top_p: Annotated[
        float | None, typer.Option(min=0, max=1, help="the paper's nucleus; default 0.99, for guard instruct 0.9")
    ] = None,
    eps: Annotated[
        float, typer.Option(min=0, max=1, help="ignore prefixes less probable than this, as the paper does")
    ] = 0.01,
    threshold: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="a label is predicted from this score on; default 0.2, for guard instruct 0.3"),
    ] = None,
    tolerance: Annotated[
        float, typer.Option(min=0, max=1, help="search until the bounds of our marginals are at most this wide")
    ] = (DEFAULTS.tolerance),
    node_budget: Annotated[
        int, typer.Option(min=1, help="most answer prefixes that our search evaluates per record")
    ] = DEFAULTS.node_budget,
    revision: Annotated[str | None, typer.Option(help="commit of a Hub model")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1 ...")] = GuardModel.model_fields["device"].default,
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or float16")] = GuardModel.model_fields["dtype"].default,
    out: Annotated[Path, typer.Option(help="folder of the journals, paper.json and paper.csv")] = Path("runs/paper"),
    as_json: Annotated[bool, typer.Option("--json", help="print paper.json instead of the table")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="print paper.csv instead of the table")] = False,
) -> int:
    """Reproduce the paper's table on your records. It has F1, Hamming loss and ROC AUC of each strategy and of ours.

    A stopped command continues when it is run again. Reads labelled records. Writes the journals, paper.json and
    paper.csv to --out."""
    from marginalia.pipeline.core.stage_summary import incomplete
    from marginalia.pipeline.paper.labelled_records import read_labelled
    from marginalia.schemas.manifest_json import Missing
    from marginalia.schemas.storage.files import cannot_write
    from marginalia.schemas.storage.overwriting import refuse_overwriting
    from marginalia.schemas.storage.run_lock import run_lock
    from marginalia.schemas.taxonomy import load_taxonomy
    from marginalia.scoring.guard import guard_path, load_guard

    if model.startswith(("http://", "https://")):
        raise InputError(
            "the paper's procedures need the probability of every token, which an endpoint does not report",
            hint="give the path of a model on this machine, or a Hub id",
        )
    chosen = None if taxonomy is None else load_taxonomy(taxonomy)
    compiled = load_guard(guard, chosen)
    if chosen is None:
        chosen = load_taxonomy(str(compiled.file.taxonomy), relative_to=guard_path(guard).parent)
    labelled = read_labelled(records, chosen, compiled, mapping=mapping, limit=limit)
    # imported here, so that wrong input is reported before the slow libraries of models are loaded
    from marginalia.pipeline.paper.run_strategies import OURS, PaperSettings, compare, written_files
    from marginalia.scoring.scorer import Scorer

    inputs = (records, guard, taxonomy, mapping, model)
    refuse_overwriting(written_files(out), inputs, hint="choose another folder for --out")
    instruct = compiled.name == "instruct"
    paper_settings = PaperSettings(
        top_p=top_p if top_p is not None else INSTRUCT_TOP_P if instruct else TOP_P,
        eps=eps,
        threshold=threshold if threshold is not None else INSTRUCT_THRESHOLD if instruct else THRESHOLD,
    )
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(out, error) from error
    with run_lock(out, "marginalia paper"):
        settings = Settings(estimators=OURS, tolerance=tolerance, node_budget=node_budget)
        scorer = Scorer.load(
            model, guard, taxonomy=chosen, revision=revision, device=device, dtype=dtype, settings=settings
        )
        table = compare(scorer, labelled.records, paper_settings, out, notes=labelled.notes)
    print(json_for_stdout(json.loads(table.model_dump_json())) if as_json else table.csv() if as_csv else table)
    if not table.failed:
        return 0
    total = table.records + table.failed
    what = f"{table.failed:,} of {total:,} records could not be scored and are left out; the notes say why"
    print(incomplete([Missing(what=what, how="run the same command to try them again")]), file=sys.stderr)
    return 1
