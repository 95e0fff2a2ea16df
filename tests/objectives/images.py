"""Jobs of image_classification on a few handwritten digits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from hpo.training.settings import TrainerSettings
from hpo.trial import Direction, Goal, Job
from objectives.image_classification import OBJECTIVE


def job(digits: Path, **changes: Any) -> Job:
    goal = Goal("val_accuracy", Direction.MAXIMIZE)
    made = Job(
        study="study", series="search", number=0, objective="image_classification",
        params=dict(OBJECTIVE.default_params), data={"path": str(digits)},
        trainer=TrainerSettings.layered(OBJECTIVE.default_trainer, {"threads": 1}), goals=(goal,), monitor=goal,
        epochs=3, folder="nowhere", seed=3, data_seed=1,
    )  # fmt: skip
    return replace(made, **changes)


def with_params(digits: Path, **params: Any) -> Job:
    return job(digits, params={**OBJECTIVE.default_params, **params})
