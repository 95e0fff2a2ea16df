"""Data small enough for a test, by objective; each function makes it in ``folder`` and gives the study's ``data``."""

from __future__ import annotations

import json
import random
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


def image_classification(folder: Path) -> Data:
    path = folder / "digits"
    registry.find("image_classification").make_data(path, seed=1, records=120, progress=False)
    return {"path": str(path)}


def multimodal(folder: Path) -> Data:
    path = folder / "planets"
    registry.find("multimodal").make_data(path, seed=1, records=100, nodes=8, progress=False)
    return {"path": str(path)}


def language_modeling(folder: Path) -> Data:
    """80 made-up texts of a few words each, in which every second word follows from the one before."""
    words = [f"{a}{b}" for a in "bdgklmn" for b in "aeiou"]
    rng = random.Random(1)
    rows = []
    for i in range(80):
        starts = [rng.randrange(len(words)) for _ in range(12)]
        text = " ".join(f"{words[n]} {words[(n + 7) % len(words)]}" for n in starts)
        rows.append({"id": f"text-{i}", "text": text, "label": "odd" if i % 2 else "even", "target": text[:20]})
    path = folder / "texts.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return {"path": str(path), "vocabulary": 300, "max_length": 32, "bleu_texts": 4}


def rf_localization(folder: Path) -> Data:
    path = folder / "rf"
    registry.find("rf_localization").make_data(path, seed=1, records=40, samples=4096, progress=False)
    return {"path": str(path)}


def none(folder: Path) -> Data:
    return {}


# Every objective but ``recorded``, whose trials were run elsewhere.
SMALL: dict[str, Callable[[Path], Data]] = {
    "analytic": none,
    DIGITS: none,
    "image_classification": image_classification,
    "multimodal": multimodal,
    "language_modeling": language_modeling,
    "quality_regression": quality_regression,
    "rf_localization": rf_localization,
}
