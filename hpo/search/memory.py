"""The in-memory Optuna study that samplers read: every trial's parameters, and how it ended.

Import it where Optuna is wanted; nothing else of this room loads it.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.samplers import BaseSampler
from optuna.storages import InMemoryStorage
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial
from optuna.trial import TrialState as OptunaState

from hpo.search.distributions import distribution
from hpo.search.points import within
from hpo.trial import Direction, Goal, Params, StopKind, TrialRecord
from search_spaces import SearchSpace

FITS = "fits into memory"  # what a trial that ran out of memory breaks in a study without constraints
_CONSTRAINT = "constraints:"  # Optuna's prefix in a trial's system attributes (``Trial.set_constraint``)
_NAME = "view"


class _OwnTrial(FrozenTrial):
    """A trial that nobody else holds. Copying each one deeply is most of what opening a study costs."""

    def __deepcopy__(self, memo: dict[int, Any]) -> _OwnTrial:
        return self


@dataclass(frozen=True)
class _Ending:
    """How a trial is told to have ended."""

    state: OptunaState
    values: Sequence[float] | None
    violations: Mapping[str, float]


class Memory:
    """What the sampler of one study may know.

    A trial that ran out of memory is told as one that is infeasible: COMPLETE with the
    worst values told so far, so that a sampler keeps away from where it was. Before any
    other has been told, there are no values, and it is PRUNED. Other failures are told as
    such, which samplers ignore.

    Args:
        constraints: the names of the study's, in the order of a record's violations.
        search_state: what samplers have kept of the study as a whole.
    """

    def __init__(
        self,
        space: SearchSpace,
        goals: Sequence[Goal],
        constraints: Sequence[str] = (),
        search_state: Mapping[str, Any] | None = None,
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._space = space
        self._goals = goals
        self._constraints = constraints
        self._distributions = {name: distribution(parameter) for name, parameter in space.items()}
        self._storage = InMemoryStorage()
        self._id = self._storage.create_new_study([StudyDirection[g.direction.name] for g in goals], _NAME)
        self._worst: tuple[float, ...] | None = None
        self._overflowed = False
        for key, value in (search_state or {}).items():
            self._storage.set_study_system_attr(self._id, key, value)
        self._given = self._storage.get_study_system_attrs(self._id)

    def changed_state(self) -> dict[str, Any] | None:
        """What samplers have kept of the study; None when it is what the last call gave.

        Genetic samplers keep the parents of every generation: too much to write with each trial.
        """
        state = self._storage.get_study_system_attrs(self._id)  # another object after every change
        if state is self._given:
            return None
        self._given = state
        return dict(state)

    def sampler_state(self, number: int) -> dict[str, Any]:
        """What samplers have kept of a trial."""
        return dict(self._storage.get_trial_system_attrs(number))

    def begin(self, number: int, fixed: Params | None = None) -> None:
        """A RUNNING trial, without parameters as yet.

        Optuna keeps what was ``fixed`` under this name, and its grid looks for it.
        """
        self._create(number, {}, {} if fixed is None else {"fixed_params": fixed})

    def draw(self, number: int, sampler: BaseSampler, fixed: Params | None = None) -> Params:
        """What ``sampler`` proposes for a RUNNING trial; the parameters are not kept yet.

        Asks the sampler what ``optuna.Trial`` asks, in the same order, so that a proposal
        can be thrown away: a trial's parameters, once suggested, stay.
        """
        study = optuna.load_study(study_name=_NAME, storage=self._storage, sampler=sampler)
        sampler.before_trial(study, self._storage.get_trial(number))
        relative: dict[str, Any] | None = None
        params: Params = {}
        for name, parameter in self._space.items():
            if not self._space.is_active(name, params):
                continue
            if fixed is not None and name in fixed:
                params[name] = fixed[name]
                continue
            if self._distributions[name].single():
                params[name] = (parameter.grid() or [None])[0]
                continue
            if relative is None:
                relative = self._relative(study, number, sampler)
            if name in relative and parameter.contains(relative[name]):
                value = relative[name]
            else:
                trial = copy(self._storage.get_trial(number))
                trial.params = dict(params)
                value = sampler.sample_independent(study, trial, name, self._distributions[name])
            params[name] = within(parameter, value)
        return params

    def keep(self, number: int, params: Params, **state: Any) -> None:
        """The parameters that a RUNNING trial got, and what else is to be remembered of it."""
        for name, value in params.items():
            found = self._distributions[name]
            self._storage.set_trial_param(number, name, found.to_internal_repr(value), found)
        for key, value in state.items():
            self._storage.set_trial_system_attr(number, key, value)

    def tell(self, record: TrialRecord) -> None:
        """How a RUNNING trial ended."""
        ending, number = self._ending(record), record.number
        for step, value in self._curve(record).items():
            self._storage.set_trial_intermediate_value(number, step, value)
        for name, violation in ending.violations.items():
            self._storage.set_trial_system_attr(number, _CONSTRAINT + name, violation)
        self._storage.set_trial_state_values(number, ending.state, ending.values)

    def restore(self, record: TrialRecord, *, told: bool) -> None:
        """A trial of an earlier launch: as ``tell`` would leave it, or else RUNNING."""
        if not told:
            self._create(record.number, record.params, record.sampler_state)
            return
        ending = self._ending(record)
        state = {**record.sampler_state, **{_CONSTRAINT + name: v for name, v in ending.violations.items()}}
        self._create(record.number, record.params, state, ending, self._curve(record))

    def _relative(self, study: Study, number: int, sampler: BaseSampler) -> dict[str, Any]:
        space = sampler.infer_relative_search_space(study, self._storage.get_trial(number))
        with warnings.catch_warnings():
            # The Gaussian process takes an infinite violation for the largest finite one, which is what we want.
            warnings.filterwarnings("ignore", "Clip non-finite values")
            return sampler.sample_relative(study, self._storage.get_trial(number), space)

    def _create(
        self,
        number: int,
        params: Params,
        state: Mapping[str, Any],
        ending: _Ending | None = None,
        curve: Mapping[int, float] | None = None,
    ) -> None:
        trial = _OwnTrial(
            number=number, trial_id=number, state=ending.state if ending else OptunaState.RUNNING, value=None,
            values=ending.values if ending else None, params=dict(params),
            distributions={name: self._distributions[name] for name in params}, user_attrs={},
            system_attrs=dict(state), intermediate_values=dict(curve or {}), datetime_start=None,
            datetime_complete=None,
        )  # fmt: skip
        created = self._storage.create_new_trial(self._id, template_trial=trial)
        if created != number:
            raise RuntimeError(f"The sampler's view is at trial {created}, the study at {number}.")

    def _ending(self, record: TrialRecord) -> _Ending:
        if record.reason is not None and record.reason.kind is StopKind.OUT_OF_MEMORY:
            return self._too_large()
        if record.values is None:
            return _Ending(OptunaState[record.state.name], None, {})
        self._worst = tuple(map(_worse, self._goals, self._worst or record.values, record.values))
        if self._constraints:
            violations = dict(zip(self._constraints, record.violations, strict=True))
        else:
            violations = {FITS: -1.0} if self._overflowed else {}
        return _Ending(OptunaState.COMPLETE, record.values, violations)

    def _too_large(self) -> _Ending:
        """How far it was from keeping to the constraints is unknown: infinitely, as for a missing metric."""
        if not self._constraints and not self._overflowed:
            self._overflowed = True
            # The Gaussian process wants every trial to have the same constraints.
            for trial in self._storage.get_all_trials(self._id, deepcopy=False, states=(OptunaState.COMPLETE,)):
                trial.system_attrs[_CONSTRAINT + FITS] = -1.0
        violations = dict.fromkeys(self._constraints, float("inf")) or {FITS: 1.0}
        state = OptunaState.PRUNED if self._worst is None else OptunaState.COMPLETE
        return _Ending(state, self._worst, violations)

    def _curve(self, record: TrialRecord) -> dict[int, float]:
        """TPE ranks pruned trials by their curve; with several goals it would crash on one."""
        if len(self._goals) > 1:
            return {}
        metric = self._goals[0].metric
        return {p.step: p.metrics[metric] for p in record.points if metric in p.metrics}


def _worse(goal: Goal, a: float, b: float) -> float:
    return max(a, b) if goal.direction is Direction.MINIMIZE else min(a, b)
