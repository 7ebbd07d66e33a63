"""Runs the commands of docs/tutorial.md: `python -m tests.tutorial [--write]`.

Runs the whole tutorial in a temporary folder (about ten minutes; needs .venv-argilla) and prints how its output differs
from the page. `--write` updates the page: a line that differs in more than its numbers is replaced by the printed one.
Numbers stay, because the text of the page explains them and they vary by machine."""

from __future__ import annotations

import difflib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.code_blocks import ROOT, blocks

PAGE = ROOT / "docs/tutorial.md"
SERVER = "bundled_llm_server"  # runs in a second terminal
SET_UP = ("make setup", "source ")  # the environment that runs this program has it done
# what varies by machine and moment in the output of a command
MASKS = (
    (re.compile(r"\d[\d.,]* s\b"), "# s"),
    (re.compile(r"process \d+"), "process #"),
    (re.compile(r"127\.0\.0\.1:\d+"), "127.0.0.1:#"),
    (re.compile(r"\d+ (?:s|min|h) ago"), "# ago"),
    (re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC"), "TIME"),
    (re.compile(r"^(  \w+ +(?:owner|annotator)) +\S+$", re.MULTILINE), r"\1 PASSWORD"),
)
NUMBER = re.compile(r"\d(?:[\d.,]*\d)?(?:e-?\d+)?%?|–")
# $ marginalia and $ python are this interpreter's
_SHELL = 'marginalia() { "$PYTHON" -m marginalia "$@"; }; python() { "$PYTHON" "$@"; }\n'
_FILE = re.compile(r"(?:[Ss]ave [\w ]+ as|[Rr]eplace) `([^`]+)`")


@dataclass(frozen=True)
class Step:
    """A command with the output that the page shows, or (with `path`) a file that it lets the reader save."""

    text: str
    shown: str = ""
    path: str | None = None


def steps(page: Path = PAGE) -> list[Step]:
    """The files and commands of a page, in order. Raises ValueError for a file without a name."""
    found = []
    for block in blocks(page):
        if block.language == "console":
            for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
                command, _, shown = part.partition("\n")
                found.append(Step(command, shown))
        elif block.language in ("yaml", "python", "json", "csv"):
            names = _FILE.findall(block.before)
            if not names:
                raise ValueError(
                    f"{page}: line {block.line}: the text before this block does not say: Save this as `…`"
                )
            found.append(Step(block.text, path=names[-1]))
    return found


def masked(output: str) -> str:
    """`output` without what varies by machine and moment."""
    for pattern, replacement in MASKS:
        output = pattern.sub(replacement, output)
    return output


def form(output: str) -> str:
    """`output` without any number, and with single spaces: the widths of columns follow from the numbers."""
    return re.sub(r"[ \t]+", " ", NUMBER.sub("#", masked(output)))


def prepare(folder: Path) -> None:
    """Makes `folder` look like the project's folder to the commands."""
    (folder / "pipeline").symlink_to(ROOT / "pipeline")


def save(step: Step, folder: Path) -> None:
    assert step.path is not None
    path = folder / step.path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(step.text, encoding="utf-8")


def printed(command: str, folder: Path) -> str:
    """What the command prints on stdout. Raises CalledProcessError for an exit code other than 0."""
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", _SHELL + command],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise subprocess.CalledProcessError(done.returncode, command, done.stdout, done.stderr)
    return done.stdout


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHON": sys.executable, "PYTHONPATH": str(ROOT), "COLUMNS": "200"}


def updated(shown: str, output: str) -> str:
    """`output`, with the lines of `shown` where they differ only in what `form` leaves out."""
    old, new = shown.splitlines(keepends=True), output.splitlines(keepends=True)
    lines = []
    matcher = difflib.SequenceMatcher(None, [form(line) for line in old], [form(line) for line in new], autojunk=False)
    for change, start, end, new_start, new_end in matcher.get_opcodes():
        lines += old[start:end] if change == "equal" else new[new_start:new_end]
    return "".join(lines)


def main(arguments: list[str]) -> int:
    """Exit code 1 if the page shows anything else than the commands print and is not updated."""
    page = PAGE.read_text(encoding="utf-8")
    new_page, servers = page, []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder)
        try:
            for step in steps():
                if step.path is not None:
                    save(step, folder)
                    continue
                if step.text.startswith(SET_UP):
                    continue
                print(f"$ {step.text}", flush=True)
                if SERVER in step.text:
                    servers.append(_start(step.text, folder))
                    continue
                old = f"$ {step.text}\n{step.shown}"
                new = f"$ {step.text}\n{updated(step.shown, printed(step.text, folder))}"
                new_page = new_page.replace(old, new, 1)
        finally:
            for server in servers:
                os.killpg(server.pid, signal.SIGTERM)
                server.wait()
    sys.stdout.writelines(difflib.unified_diff(page.splitlines(True), new_page.splitlines(True), "page", "printed"))
    if "--write" in arguments:
        PAGE.write_text(new_page, encoding="utf-8")
        return 0
    return int(page != new_page)


def _start(command: str, folder: Path) -> subprocess.Popen[bytes]:
    server = subprocess.Popen(["bash", "-c", _SHELL + command], cwd=folder, env=environment(), start_new_session=True)
    time.sleep(20)  # it loads its model
    return server


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
