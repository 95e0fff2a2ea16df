"""One trial of an objective without a study: what it reported, and how it ended."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from hpo.runners.worker import run_job
from hpo.training.settings import TrainerSettings
from hpo.trial import GO_ON, Decision, Goal, Job, Outcome, Point, StopKind, StopReason, TrialContext
from objectives.base import Objective

PRUNED = StopReason(StopKind.PRUNED, "worse than the others")


class Line:
    """The other end of ``context.report``: keeps every point, and prunes at the step ``prune_at``."""

    def __init__(self, prune_at: int | None = None) -> None:
        self.points: list[Point] = []
        self._prune_at = prune_at

    def __call__(self, point: Point) -> Decision:
        self.points.append(point)
        return Decision(PRUNED) if point.step == self._prune_at else GO_ON

    @property
    def told(self) -> list[tuple[int, dict[str, float]]]:
        return [(point.step, point.metrics) for point in self.points]


def make_job(folder: Path, params: dict[str, Any] | None = None, **fields: Any) -> Job:
    goal = fields.pop("goal", Goal("loss"))
    return Job(**{
        "study": "s", "series": "search", "number": 0, "objective": "in this process", "params": params or {},
        "data": {}, "trainer": TrainerSettings(threads=1), "goals": (goal,), "monitor": goal, "seed": 7,
        "data_seed": 1, "epochs": 4, "folder": str(folder), **fields,
    })  # fmt: skip


def run_here(objective: Objective, job: Job, line: Line, **context: Any) -> Outcome:
    """The objective itself; what it raises passes through."""
    Path(job.folder).mkdir(parents=True, exist_ok=True)
    return objective.run(job, TrialContext(job, line, **context))


def run_found(
    objective: str, folder: Path, params: dict[str, Any], line: Line, *, beside: Path, **fields: Any
) -> Outcome:
    """The objective as a worker finds and runs it."""
    stop_requested: Callable[[], bool] = fields.pop("stop_requested", lambda: False)
    job = make_job(folder, params, objective=objective, import_from=str(beside), **fields)
    return run_job(job, line, stop_requested=stop_requested)
