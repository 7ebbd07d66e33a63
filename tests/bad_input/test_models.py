"""Models that are missing, damaged, or answer with NaN: the whole messages, and no probabilities."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl
import pytest
from safetensors.torch import load_file, save_file

from tests.bad_input.table import GOOD, Files, Row, check, jsonl, names, run_command, write
from tests.scoring.tiny import save, tokenizer

RECORDS: Files = {"r.jsonl": jsonl(GOOD)}
SCORE = "scoring r.jsonl --tolerance 0.9 --node-budget 2"


@contextlib.contextmanager
def offline() -> Iterator[None]:
    """Makes the Hub unreachable."""
    import huggingface_hub.constants

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
        yield


ROWS: list[Row] = [
    (
        "a name",
        RECORDS,
        f"{SCORE} --model bundld-guard",
        2,
        "no model 'bundld-guard': no such folder; did you mean 'bundled-guard'? (--model"
        " takes a folder with config.json, tokenizer and *.safetensors, a .gguf file, 'bundled-gu"
        "ard' or 'bundled' (both are installed with Marginalia), a Hub id with --revision, or a URL)",
    ),
    (
        "a folder that is not there",
        RECORDS,
        f"{SCORE} --model ./Llama-Guard-3-8B",
        2,
        "no model './Llama-Guard-3-8B': no such folder (--model takes a folder with config.json, "
        "tokenizer and *.safetensors, a .gguf file, 'bundled-guard' or 'bundled' (both are instal"
        "led with Marginalia), a Hub id with --revision, or a URL)",
    ),
    (
        "an empty folder",
        {**RECORDS, "m/README.md": ""},
        f"{SCORE} --model m",
        2,
        "m: no config.json in this folder (--model takes a folder with config.json, tokenizer and"
        " *.safetensors, a .gguf file, 'bundled-guard' or 'bundled' (both are installed with Marg"
        "inalia), a Hub id with --revision, or a URL)",
    ),
    (
        "a GGUF file that is not there",
        RECORDS,
        f"{SCORE} --model m.gguf",
        2,
        "m.gguf: no such GGUF file (--model takes a folder with config.json, tokenizer and *.safe"
        "tensors, a .gguf file, 'bundled-guard' or 'bundled' (both are installed with Marginalia), a"
        " Hub id with --revision, or a URL)",
    ),
    (
        "no GGUF file",
        {**RECORDS, "m.gguf": "hello"},
        f"{SCORE} --model m.gguf",
        3,
        "cannot load the model 'm.gguf': ./m.gguf does not start with the GGUF magic bytes, so it"
        " is not a GGUF file. (--model takes a folder with config.json, tokenizer and *.safetenso"
        "rs, a .gguf file, 'bundled-guard' or 'bundled' (both are installed with Marginalia), a Hub "
        "id with --revision, or a URL)",
    ),
    (
        "a Hub id without a commit",
        RECORDS,
        f"{SCORE} --model owner/guard",
        2,
        "no folder 'owner/guard', and a Hub model needs a pinned revision (set rev"
        "ision (--revision) to a commit id from the model's Hub page)",
    ),
    (
        "a Hub id without a network",
        RECORDS,
        f"{SCORE} --model owner/guard --revision 0123abc",
        3,
        "cannot load the model 'owner/guard': We couldn't connect to 'https://huggingface.co' to "
        "load the files, and couldn't find them in the cached files. (load it once with network a"
        "ccess (HF_TOKEN for a gated model), or give the folder it was downloaded to; 'bundled-gu"
        "ard' and 'bundled' are installed with Marginalia)",
    ),
    (
        "a URL without a tokenizer",
        RECORDS,
        f"{SCORE} --model http://127.0.0.1:9/v1",
        2,
        "a model behind a URL needs a local copy of its tokenizer (set tokenizer (--tokenizer) to"
        " the served model's folder, .gguf file or Hub id)",
    ),
    (
        "a key in the URL",
        RECORDS,
        f"{SCORE} --model http://me:sk-canary@127.0.0.1:9/v1 --tokenizer bundled",
        2,
        "the model's URL: expected an address and nothing more, such as http://127.0.0.1:8000/v1;"
        " a key belongs in an environment variable, which api_key_env names (--api-key-env)",
    ),
    (
        "no such estimator",
        RECORDS,
        f"{SCORE} --estimator marginl",
        2,
        "--estimator: unknown estimator 'marginl'; did you mean 'marginal'?",
    ),
    (
        "no budget",
        RECORDS,
        f"{SCORE} --node-budget 0",
        2,
        "--node-budget: Input should be greater than or equal to 1 (python -m marginalia.scoring --help)",
    ),
    (
        "a tolerance that is not a number",
        RECORDS,
        f"{SCORE} --tolerance nan",
        2,
        "--tolerance: Input should be less than or equal to 1 (python -m marginalia.scoring --help)",
    ),
    (
        "an output that is no Parquet",
        RECORDS,
        f"{SCORE} --out o.csv",
        2,
        "--out o.csv: expected a name that ends in .parquet",
    ),
    (
        "no calibration",
        RECORDS,
        f"{SCORE} --calibration c.json",
        2,
        "c.json: no such file (run marginalia evaluate --run RUN)",
    ),
]


@pytest.mark.parametrize("row", ROWS, ids=names(ROWS))
def test_the_whole_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, row: Row) -> None:
    monkeypatch.chdir(tmp_path)
    with offline():
        check(tmp_path, row)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("tiny") / "m", 4, sharpness=3.0)


WEIGHTS = "model.safetensors"


def without_weights(folder: Path) -> None:
    (folder / WEIGHTS).unlink()


def pickled(folder: Path) -> None:
    (folder / WEIGHTS).rename(folder / "pytorch_model.bin")


def cut(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:2000])


def without_tokenizer(folder: Path) -> None:
    for path in folder.glob("token*"):
        path.unlink()


def no_json(folder: Path) -> None:
    (folder / "config.json").write_text("{")


def with_code(folder: Path) -> None:
    """A repository that wants its own code run: it never is."""
    config = json.loads((folder / "config.json").read_bytes())
    (folder / "config.json").write_text(
        json.dumps({**config, "model_type": "evil", "auto_map": {"AutoConfig": "evil.C"}})
    )
    (folder / "evil.py").write_text("import pathlib; pathlib.Path('RAN').touch()")


def filled_with(value: float) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        weights = load_file(folder / WEIGHTS)
        weights["lm_head.weight"][:] = value
        save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})

    return change


TAKES = (
    "(--model takes a folder with config.json, tokenizer and *.safetensors, a .gguf file, 'bundled-guard' or 'bundled' "
    "(both are installed with Marginalia), a Hub id with --revision, or a URL)"
)
LOGITS = (
    "the model 'm' returns NaN or infinite logits (its weights are damaged, or too large for the dtype: try "
    "--dtype float32)"
)
DAMAGED: list[tuple[Callable[[Path], None], str]] = [
    (without_weights, f"cannot load the model 'm': Error no file named {WEIGHTS} found in directory m. {TAKES}"),
    (pickled, f"cannot load the model 'm': Error no file named {WEIGHTS} found in directory m. {TAKES}"),
    (cut, f"cannot load the model 'm': Error while deserializing header: invalid header length {TAKES}"),
    (without_tokenizer, f"cannot load the model 'm': Couldn't instantiate the backend tokenizer from one of:  {TAKES}"),
    (no_json, "cannot load the model 'm': It looks like the config file at 'm/config.json' is not a valid JSON file. "
     f"{TAKES}"),
    (with_code, "cannot load the model 'm': The repository m contains custom code which must be executed to correctly "
     f"load the model. You can inspect the repository content at {{folder}}/m . {TAKES}"),
    (filled_with(float("nan")), LOGITS),
    (filled_with(float("inf")), LOGITS),
    (filled_with(float("-inf")), LOGITS),
]  # fmt: skip


@pytest.mark.parametrize(("damage", "message"), DAMAGED)
def test_damaged_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: Path, damage: Callable[[Path], None], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(model, tmp_path / "m")
    damage(tmp_path / "m")
    write(tmp_path, RECORDS)
    assert run_command(f"{SCORE} --model m") == (3, f"error: {message}\n".replace("{folder}", str(tmp_path)))
    assert not list(tmp_path.glob("o.*")) and not (tmp_path / "RAN").exists()


@pytest.mark.parametrize("device", ["gpu", "cuda:77"])
def test_a_missing_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: Path, device: str) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, RECORDS)
    code, message = run_command(f"{SCORE} --model {model} --device {device}")
    assert code == 2
    # the middle is PyTorch's message, which depends on its build
    assert message.startswith(f"error: cannot use the device '{device}': ")
    assert message.endswith("(--device (device of score.guards) takes auto, cpu, cuda, cuda:1 …)\n")


GUARD = """\
guard: g
title: T
source: a test
taxonomy: support-tickets
codes: "S{n}"
prompt: {message: "judge {{ conversation[0].content }}"}
answer: [[safe], [{verdict: unsafe}, "\\n", {labels: [","]}]]
"""


def test_a_record_for_which_the_model_answers_nan_is_reported_and_has_no_probability(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(model, tmp_path / "m")
    weights = load_file(tmp_path / "m" / WEIGHTS)
    (letter,) = tokenizer()("Z")["input_ids"]
    weights["model.embed_tokens.weight"][letter] = float("nan")
    save_file(weights, tmp_path / "m" / WEIGHTS, metadata={"format": "pt"})
    write(tmp_path, {"r.jsonl": jsonl(GOOD, {"id": "b", "text": "Z"}), "g.yaml": GUARD})
    code, message = run_command(f"{SCORE} --model m --guard g.yaml")
    assert code == 1
    assert message.endswith(
        "\n1 record could not be scored, first 'b': the model answered NaN (try dtype float32); see the column error "
        "of o.records.parquet; after a fix, or later, the same command tries them again\n"
    )
    records = pl.read_parquet("o.records.parquet").select("record_id", "predicted", "off_language", "error").rows()
    assert records[1] == ("b", None, None, "the model answered NaN (try dtype float32)")
    assert records[0][3] is None
    assert set(pl.read_parquet("o.parquet")["record_id"]) == {"a"}
