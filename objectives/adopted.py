"""What every objective has that was made from somebody's own training code, instead of written as a class."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any

from hpo.errors import SpaceError, UserError
from hpo.trial import Direction, Job, Metric, Outcome, Params, StopKind, StopReason, TrialContext
from objectives.base import Objective
from search_spaces import SearchSpace

Goals = Mapping[str, str | Metric]
Space = SearchSpace | Mapping[str, Any]


class AnyMetric(Mapping[str, Metric]):
    """The metrics of code that nobody has declared any of: it knows every name, and lists none."""

    def __getitem__(self, name: str) -> Metric:
        return Metric()

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


class Adopted(Objective):
    """Training code under ``name``, with what its adopter says of it.

    Args:
        goals: what is searched for, ``{"val_loss": "minimize"}``; a ``Metric`` says more, as that
            it is measured once. None: the study file must name goals and their directions.
        space: a ``SearchSpace``, or one as in a study file; None: the study file must have it.
        metrics: what else is reported and may be named in a study file, as ``goals``.
        defaults: the point that people pick by hand today.

    Raises:
        UserError: a goal, the space or the defaults break a rule; the message names it.
    """

    def __init__(
        self,
        name: str,
        summary: str,
        *,
        goals: Goals | None = None,
        space: Space | None = None,
        metrics: Goals | None = None,
        defaults: Params | None = None,
    ) -> None:
        self.name = name
        if goals is not None and not goals:
            raise UserError(f"adopt {name}: goals must name at least one metric, {{'val_loss': 'minimize'}}.")
        known = {**_metrics(name, "goals", goals or {}), **_metrics(name, "metrics", metrics or {})}
        self._space = _space(name, space)
        if defaults and self._space is not None:
            try:
                self._space.check(defaults, partial=True)
            except SpaceError as error:
                raise UserError(f"adopt {name}: defaults: {error}") from None
        # A written objective says these in its class; here each object has its own.
        vars(self).update(
            summary=summary,
            metrics=known if goals is not None else AnyMetric(),
            default_goals=tuple(goals or ()),
            default_params=dict(defaults or {}),
        )

    @property
    def has_space(self) -> bool:
        return self._space is not None

    @property
    def space(self) -> SearchSpace:
        if self._space is None:
            raise UserError(f"search_space: {self.name} brings none along; write it into the study file.")
        return self._space


def trial_process(job: Job, context: TrialContext) -> AbstractContextManager[None]:
    """The process as a trial finds it: seeded generators, its threads, its share of a GPU; put back afterwards."""
    import torch

    from hpo.training.process import process_state

    return process_state(
        torch.device(context.device),
        seed=job.seed,
        deterministic=job.deterministic,
        threads=job.trainer.threads,
        gpu_share=job.gpu_share,
    )


def asked_to_stop(goes_on: str) -> StopReason:
    return StopReason(StopKind.INTERRUPTED, f"asked to stop; goes on {goes_on}")


def ended(steps: int, epochs: int) -> Outcome:
    """The outcome of code that came to its own end after ``steps`` reported ones; 0 where it reports none."""
    if 0 < steps < epochs:
        return Outcome(StopReason(StopKind.EARLY, f"ended by itself after {steps} of {epochs} epochs"))
    return Outcome(StopReason(StopKind.FINISHED, f"ran all {epochs} epochs" if steps else "ran to its end"))


def _metrics(name: str, field: str, told: object) -> dict[str, Metric]:
    if not isinstance(told, Mapping):
        raise UserError(f"adopt {name}: {field} is a mapping such as {{'val_loss': 'minimize'}}; got {told!r}.")
    found = {}
    for metric, direction in told.items():
        if isinstance(direction, Metric):
            found[metric] = direction
        elif direction in tuple(Direction):
            found[metric] = Metric(Direction(direction))
        else:
            raise UserError(
                f"adopt {name}: {field}: {metric} must be 'minimize', 'maximize' or a Metric; got {direction!r}."
            )
    return found


def _space(name: str, space: Space | None) -> SearchSpace | None:
    if space is None or isinstance(space, SearchSpace):
        return space
    if not isinstance(space, Mapping):
        raise UserError(f"adopt {name}: space is a SearchSpace or a mapping as in a study file; got {space!r}.")
    try:
        return SearchSpace.from_dict(space)
    except SpaceError as error:
        raise UserError(f"adopt {name}: space: {error}") from None
