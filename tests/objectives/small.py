"""Data small enough for a test, by objective; each function makes it in ``folder`` and gives the study's ``data``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from objectives import registry

Data = dict[str, Any]


def quality_regression(folder: Path) -> Data:
    path = folder / "logos.parquet"
    registry.find("quality_regression").make_data(path, seed=1, records=60, workers=1, progress=False)
    return {"path": str(path), "min_records": 60}


SMALL: dict[str, Callable[[Path], Data]] = {
    "quality_regression": quality_regression,
}
