"""A database, a bundle and a place, for what is published."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from storage.database import Database
from tests import bundles


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with all its tables and nothing in them: making those takes longer than most tests."""
    file = tmp_path_factory.mktemp("empty") / "hpo.db"
    Database(f"sqlite:///{file}", create=True).close()
    return file


@pytest.fixture
def sqlite_url(empty: Path, tmp_path: Path) -> str:
    return f"sqlite:///{shutil.copy(empty, tmp_path / 'hpo.db')}"


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that nobody changes."""
    return bundles.make(tmp_path_factory.mktemp("plain") / "b").folder


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where models go, as an environment would say it."""
    monkeypatch.setenv("HPO_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"
