"""A study with every name resolved: the frozen description that runs, and its digest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hpo import places
from hpo.constraints import Constraint
from hpo.places import Place
from hpo.spec import StudySpec
from hpo.training.health import Rule
from hpo.training.settings import TrainerSettings
from hpo.trial import Goal, Params
from objectives.base import DataFacts
from search_spaces import SearchSpace


@dataclass(frozen=True)
class Plan:
    """What ``hpo.service`` makes of a study file: nothing is left to be looked up.

    ``spec`` keeps what may change between launches (budget, runner, retrain, export).
    """

    spec: StudySpec
    goals: tuple[Goal, ...]
    monitor: Goal
    space: SearchSpace
    trainer: TrainerSettings
    data: dict[str, Any]
    data_fingerprint: str
    import_from: str | None = None
    rules: tuple[Rule, ...] = ()
    constraints: tuple[Constraint, ...] = ()
    warm_points: tuple[Params, ...] = ()  # of an earlier study; known once this one is created
    data_facts: DataFacts | None = None

    @property
    def mirror(self) -> Place | None:
        """The study's own folder at the second place, where one is asked for."""
        return places.parse(self.spec.mirror) / self.name if self.spec.mirror else None

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def first_points(self) -> tuple[Params, ...]:
        """What is tried before the sampler proposes, in order: points of an earlier study, then ``enqueue``."""
        return (*self.warm_points, *self.spec.enqueue)

    @property
    def gpu_share(self) -> float:
        """The part of each GPU that a trial gets; 1 without any."""
        return min(1.0, self.spec.resources.gpus / self.trainer.devices) or 1.0

    @property
    def job_trainer(self) -> TrainerSettings:
        """The trainer's settings with the threads that a trial's share of the machine allows."""
        if self.trainer.threads is not None:
            return self.trainer
        return self.trainer.with_params({"threads": max(1, int(self.spec.resources.cpus) // self.trainer.devices)})

    def identity(self) -> dict[str, Any]:
        """The facts that make a study *the same*; everything else may change between launches."""
        spec = self.spec
        return {
            "objective": spec.objective,
            "data": self.data_fingerprint,
            "goals": [[goal.metric, str(goal.direction)] for goal in self.goals],
            # Left out where there are none, so that studies of before keep their digest.
            **({"constraints": [str(c) for c in self.constraints]} if self.constraints else {}),
            # Where the earlier study lies may change: it was read when this one was created.
            **({"warm_start": spec.warm_start.model_dump(exclude={"storage"})} if spec.warm_start else {}),
            "search_space": self.space.to_dict(),
            "sampler": spec.sampler.model_dump(),
            "pruner": spec.pruner.model_dump(),
            "epochs": spec.budget.epochs,
            "seed": spec.seed,
            "concurrency": spec.concurrency,
            "deterministic": spec.deterministic,
            "report": spec.report,
            # Another number of threads adds up in another order: last digits differ.
            **({"device": "gpu" if spec.resources.gpus else "cpu"} if spec.deterministic else {}),
            "trainer": (self.job_trainer if spec.deterministic else self.trainer).model_dump(),
        }

    @property
    def digest(self) -> str:
        """SHA-256 over ``identity()``."""
        text = json.dumps(self.identity(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def differences(self, stored: Mapping[str, Any]) -> list[str]:
        """What in ``stored`` (an earlier ``identity()``) is no longer so, one line each."""
        now = json.loads(json.dumps(self.identity()))
        return _differences("", stored, now)


def _differences(path: str, was: object, now: object) -> list[str]:
    """Where two JSON values differ, by the path to each leaf that does."""
    if isinstance(was, Mapping) and isinstance(now, Mapping):
        names = list(dict.fromkeys([*was, *now]))
        return [
            line
            for name in names
            for line in _differences(f"{path}.{name}" if path else name, was.get(name), now.get(name))
        ]
    return [] if was == now else [f"{path}: was {_short(was)}, is {_short(now)}"]


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 200 else text[:197] + "..."
