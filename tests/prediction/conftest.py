"""A small bundle, and a folder with code of somebody's own that can read files for it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

HERE = str(Path(__file__).parent)
if HERE not in sys.path:
    sys.path.append(HERE)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    from small_bundle import bundle

    return bundle(tmp_path / "small").folder


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """The folder with ``small_reading.py``."""
    from small_bundle import OBJECTIVE

    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "small_reading.py").write_text(OBJECTIVE)
    return tmp_path / "code"
