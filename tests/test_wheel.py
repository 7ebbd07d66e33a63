"""The wheel contains all files, and works in a folder that has its own schemas/, pipeline/ and scoring.py."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("marginalia", "schemas", "scoring", "annotation", "pipeline")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for name in FOLDERS:
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "README.md"):
        shutil.copy(ROOT / name, source / name)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-index"]
    command += ["--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_contains_every_file_of_the_packages(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        packed = set(archive.namelist())
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts and not (ROOT / folder / "x").is_relative_to(path):
                inside = path.relative_to(ROOT) if folder == "marginalia" else "marginalia" / path.relative_to(ROOT)
                assert inside.as_posix() in packed, path


@pytest.mark.slow
def test_it_scores_a_record_in_a_folder_with_folders_of_the_same_names(wheel: Path, tmp_path: Path) -> None:
    installed, work = tmp_path / "site", tmp_path / "work"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(installed)
    for name in ("schemas", "pipeline"):
        (work / name).mkdir(parents=True)
        (work / name / "__init__.py").write_text("raise ImportError('not this one')\n")
    (work / "scoring.py").write_text("raise ImportError('not this one')\n")
    code = (
        "import json, marginalia\n"
        "from marginalia import Scorer\n"
        "answer = Scorer.load('bundled-guard', 'support-tickets').score('Where is my parcel?')\n"
        "print(json.dumps([marginalia.__file__, answer]))"
    )
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=work, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    where, answer = json.loads(done.stdout)
    assert Path(where).is_relative_to(installed)
    assert all(0 <= lower <= probability <= upper <= 1 for probability, lower, upper in answer.values())
    assert set(answer) >= {"unsafe"}
    shown = subprocess.run(
        [sys.executable, "-m", "marginalia", "--version"],
        cwd=work,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout.startswith("marginalia 0.")
