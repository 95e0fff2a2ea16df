"""Data that several files of tests read; nobody writes into it."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from small import SMALL, Data

from objectives.image_classification import OBJECTIVE as IMAGES


@pytest.fixture(scope="session")
def small_data(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Data]:
    """By objective, data small enough for a test; made once."""
    return cache(lambda name: SMALL[name](tmp_path_factory.mktemp("small")))


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """200 handwritten digits in folders by class."""
    return IMAGES().make_data(tmp_path_factory.mktemp("data") / "digits", seed=2, records=200, progress=False)


@pytest.fixture
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of decoded images of the test's own."""
    monkeypatch.setenv("HPO_CACHE", str(tmp_path_factory.mktemp("cache")))
