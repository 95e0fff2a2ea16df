"""Data small enough for a test, by objective; each function makes it in ``folder`` and gives the study's ``data``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from objectives import registry
from objectives.base import Objective

Data = dict[str, Any]

EXAMPLES = str(Path(__file__).parents[2] / "examples")
DIGITS = "my_digits:Digits"  # the README's example


def find(name: str) -> Objective:
    return registry.find(name, EXAMPLES)


def quality_regression(folder: Path) -> Data:
    path = folder / "logos.parquet"
    registry.find("quality_regression").make_data(path, seed=1, records=40, workers=1, progress=False)
    return {"path": str(path), "min_records": 40}


def none(folder: Path) -> Data:
    return {}


# Every objective but ``recorded``, whose trials were run elsewhere.
SMALL: dict[str, Callable[[Path], Data]] = {
    "analytic": none,
    DIGITS: none,
    "quality_regression": quality_regression,
}
