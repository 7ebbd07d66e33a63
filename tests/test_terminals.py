"""Every command on terminals that cannot show all characters: it prints replacements and otherwise works as usual."""

from __future__ import annotations

import io
import json
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import typer

from marginalia.pipeline.commands.cli import app, main
from marginalia.schemas.terminal import json_for_stdout, replace_unknown_characters
from marginalia.scoring.command import COMMANDS
from marginalia.scoring.command import main as scoring
from tests.pipeline.synthetic_run import Synthetic, write_run
from tests.scoring.tiny import save

ENCODINGS = ("ascii", "cp1252", "latin-1")
UNUSUAL_NAME = "nö–such/→日本"


def commands(group: Any, before: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command of a group, as (its words, the command)."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*before, name))
        else:
            yield (*before, name), command


MARGINALIA = dict(commands(typer.main.get_command(app)))


def run(command: Callable[[], int | None], encoding: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command on a terminal that cannot show characters outside this encoding."""
    streams = [io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict", newline="\n") for _ in range(2)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", streams[0])
        patch.setattr(sys, "stderr", streams[1])
        try:
            code = command() or 0
        except SystemExit as ended:
            code = int(ended.code or 0)
        texts = []
        for stream in streams:
            stream.flush()
            texts.append(stream.buffer.getvalue().decode(encoding))  # type: ignore[attr-defined]
    return code, texts[0], texts[1]


def marginalia(*words: str) -> Callable[[], None]:
    def call() -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["marginalia", *words])
            main()

    return call


def shown(text: str, encoding: str) -> str:
    """A text as the terminal shows it, in one line and without numbers, which may be durations and sizes."""
    return re.sub(r"[\d.]+|\s+", " ", text.encode(encoding, "replace").decode(encoding))


def needed(command: Any) -> list[str]:
    """A value for each required argument and option of the command."""
    words: list[str] = []
    for parameter in command.params:
        if parameter.required:
            value = UNUSUAL_NAME if parameter.bare_type in (str, Path) else "1"
            words += [value] if parameter.param_type_name == "argument" else [parameter.opts[0], value]
    return words


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("words", MARGINALIA, ids=" ".join)
def test_a_command_of_marginalia(
    words: tuple[str, ...], encoding: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its help (which typer writes as UTF-8 even on an ASCII terminal, so it must be ASCII), and its error about a file
    with such a name."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").touch()  # so that the demo cannot be created
    for options in (["--help"], needed(MARGINALIA[words])):
        expected = run(marginalia(*words, *options), "utf-8")
        result = run(marginalia(*words, *options), encoding)
        assert result[0] == expected[0]
        assert [shown(text, encoding) for text in result[1:]] == [shown(text, encoding) for text in expected[1:]]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Records, a model, and a run with every artifact up to `score` and a taxonomy that no terminal here can show."""
    root = tmp_path_factory.mktemp("terminals")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        assert run(marginalia("new", "before", "--taxonomy", "support-tickets"), "utf-8")[0] == 0
    folder = root / "runs" / "before"
    folder = folder.rename(root / "runs" / "prüfung-→")
    taxonomy = folder / "taxonomy.yaml"
    taxonomy.write_text(taxonomy.read_text("utf-8").replace("Late delivery", "Verspätung – 日本"), "utf-8")
    config = folder / "config.yaml"
    guards = "  guards: [{name: smollm2, guard: instruct, model: bundled}]\n"
    config.write_text(re.sub(r"(?m)^  guards:(.*\n)(?:  - .*\n|    .*\n)*", guards, config.read_text("utf-8")), "utf-8")
    write_run(folder, Synthetic(texts=["Wo ist mein Päckchen – 日本 →?"]))
    (root / "records.jsonl").write_text(json.dumps({"id": "r→", "text": "Größe"}) + "\n")
    save(root / "model", 4, sharpness=3.0)
    return root


PRINTED = [
    ["status", "--run", "RUN"],
    ["config", "--run", "RUN"],
    ["plan", "--run", "RUN", "--show", "--force"],
    ["simulate", "--run", "RUN", "--overlap", "2", "--records", "5"],
    ["verify", "--run", "RUN"],
]
OPTIONS = ["--guard", "instruct", "--taxonomy", "support-tickets", "--tolerance", "0.3", "--node-budget", "8"]
SCORING = {
    "": ["records.jsonl", "--model", "model", *OPTIONS, "--out", "ö.parquet"],
    "explain": ["records.jsonl", "--model", "model", *OPTIONS],
    "merge": ["→.jsonl", "--out", "ö.parquet"],
}


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("words", PRINTED, ids=lambda words: words[0])
def test_what_a_command_prints_about_a_run(
    words: list[str], encoding: str, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    texts = []
    for terminal in ("utf-8", encoding):
        folder = Path("prüfung-→")
        shutil.copytree(files / "runs" / "prüfung-→", folder)
        texts.append(run(marginalia(*(str(folder) if word == "RUN" else word for word in words)), terminal))
        shutil.rmtree(folder)
    assert texts[1][0] == texts[0][0]
    assert shown(texts[1][1], encoding) == shown(texts[0][1], encoding)


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("name", COMMANDS, ids=lambda name: name or "score")
def test_a_command_of_scoring(
    name: str, encoding: str, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in files.iterdir():
        (tmp_path / path.name).symlink_to(path)
    monkeypatch.chdir(tmp_path)

    def of(words: Sequence[str]) -> Callable[[], int]:
        return lambda: scoring([name, *words] if name else list(words))

    for words in (["--help"], SCORING.get(name, [UNUSUAL_NAME])):
        code, out, _ = run(of(words), "utf-8")
        result = run(of(words), encoding)
        assert (result[0], shown(result[1], encoding)) == (code, shown(out, encoding))


def test_json_keeps_all_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    for encoding in ("utf-8", *ENCODINGS):
        raw = io.BytesIO()
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding=encoding))
        replace_unknown_characters()
        print(json_for_stdout({"name": "Größe → 日本 😀"}), flush=True)
        assert json.loads(raw.getvalue().decode(encoding)) == {"name": "Größe → 日本 😀"}
