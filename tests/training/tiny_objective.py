"""A training objective that is never run: for what is resolved from a study file."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from hpo.training.conditions import Condition
from hpo.training.health import Rule
from hpo.trial import Job
from objectives.base import TrainingObjective
from search_spaces import Float, SearchSpace

if TYPE_CHECKING:
    from hpo.training.task import Task


class Tiny(TrainingObjective):
    summary: ClassVar[str] = "nothing"
    health: ClassVar[tuple[Rule, ...]] = (Rule("own", Condition("last", "val_loss", "<", 0.25), "low", good=True),)

    @property
    def space(self) -> SearchSpace:
        return SearchSpace({"lr": Float(1e-4, 1e-1, log=True)})

    def task(self, job: Job) -> Task:
        raise NotImplementedError
