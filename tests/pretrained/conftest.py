"""The three models, loaded once, and a cache of its own for every test."""

from __future__ import annotations

from pathlib import Path

import pytest

from src import pretrained
from src.runtime import CACHE_VARIABLE


@pytest.fixture(scope="session")
def language() -> pretrained.LanguageModel:
    return pretrained.language_model(device="cpu")


@pytest.fixture(scope="session")
def sentences() -> pretrained.SentenceEncoder:
    return pretrained.sentence_encoder(device="cpu")


@pytest.fixture(scope="session")
def vision() -> pretrained.VisionEncoder:
    return pretrained.vision_encoder(device="cpu")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"
