"""A model folder before its weights are read: models of one name are told apart."""

from __future__ import annotations

from pathlib import Path

import pytest

from ixc.inference import model_folder


def test_fingerprint_is_of_the_contents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_folder, "MAX_WHOLE_BYTES", 1000)
    monkeypatch.setattr(model_folder, "SAMPLES", 8)
    monkeypatch.setattr(model_folder, "SAMPLE_BYTES", 100)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
        (tmp_path / name / "model.safetensors").write_bytes(bytes(5000))
    one, two = tmp_path / "one", tmp_path / "two"
    same = model_folder.fingerprint(one)
    assert len(same) == 16
    assert model_folder.fingerprint(two) == same
    (two / "README.md").write_text("of no weight")
    assert model_folder.fingerprint(two) == same
    (two / "symbols.safetensors").write_bytes(b"read by nobody")
    assert model_folder.fingerprint(two) == same
    (two / "model.safetensors").write_bytes(bytes(4999) + b"1")
    assert model_folder.fingerprint(two) != same, "the end of a large file is not read"
    (two / "model.safetensors").write_bytes(bytes(5000))
    (two / "config.json").write_text("{ }")
    assert model_folder.fingerprint(two) != same
