"""CMA-ES whose state is rebuilt from the trials, where Optuna's own sampler unpickles it.

Each trial remembers the generation it was drawn in; the first trial of a generation also
remembers which trials the distribution had been told before. Telling those again, in the
same order, gives the same distribution: in a resumed study, and on any machine.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from cmaes import CMA, SepCMA
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from hpo.search.distributions import distribution
from hpo.search.samplers import numbers
from search_spaces import Float, Int, SearchSpace

GENERATION = "cmaes:generation"
TOLD = "cmaes:told"  # the numbers of the trials that closed the generation before


class ReplayedCmaEs(BaseSampler):
    """The parameters that are numbers in every trial, from one normal distribution; the others at random.

    As in Optuna's ``CmaEsSampler``, only completed trials are told, by their parameters
    after rounding to steps: pruned and failed ones are passed over, and so are enqueued ones.

    Args:
        population: trials that are told at a time; 4 + floor(3 ln n) for n numbers by default.
        sigma0: the first standard deviation, as a share of every parameter's range.
        separable: a diagonal covariance (Ros & Hansen 2008, doi:10.1007/978-3-540-87700-4_30),
            for many parameters.
    """

    def __init__(self, space: SearchSpace, *, population: int | None, sigma0: float, separable: bool) -> None:
        self._axes = {name: _Axis(space[name]) for name in numbers(space)}  # type: ignore[arg-type]
        self._distributions = {name: distribution(space[name]) for name in self._axes}
        self._optimizer = _optimizer(len(self._axes), population, sigma0, separable)
        self._started = 0  # the trial that the present generation began with
        self._read = 0  # trials below this number have been looked at
        self._seed = 0
        self._random: BaseSampler = RandomSampler(seed=0)

    def seeded(self, seed: int) -> ReplayedCmaEs:
        """This sampler, drawing from another seed on."""
        self._seed, self._random = seed, RandomSampler(seed=seed)
        return self

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return dict(self._distributions)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        trials = study.get_trials(deepcopy=False)
        self._catch_up(study, trials, trial.number)
        population = self._optimizer.population_size
        drawn = [t for t in trials[self._started : trial.number] if _of(t, self._optimizer.generation)]
        told = [t.number for t in drawn if t.state is TrialState.COMPLETE][:population]
        if len(told) == population:
            self._tell(study, trials, told, began=trial.number)
            study._storage.set_trial_system_attr(trial._trial_id, TOLD, told)
        study._storage.set_trial_system_attr(trial._trial_id, GENERATION, self._optimizer.generation)
        self._optimizer.reseed_rng(self._seed)
        drawn_at = self._optimizer.ask()
        return {name: axis.value(x) for (name, axis), x in zip(self._axes.items(), drawn_at, strict=True)}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._random.sample_independent(study, trial, param_name, param_distribution)

    def _catch_up(self, study: Study, trials: Sequence[FrozenTrial], below: int) -> None:
        """Tell what earlier trials say was told when they were drawn."""
        for trial in trials[self._read : below]:
            if trial.system_attrs.get(GENERATION, 0) > self._optimizer.generation:
                self._tell(study, trials, trial.system_attrs[TOLD], began=trial.number)
        self._read = max(self._read, below)

    def _tell(self, study: Study, trials: Sequence[FrozenTrial], numbers: Sequence[int], *, began: int) -> None:
        sign = 1.0 if study.direction is StudyDirection.MINIMIZE else -1.0
        solutions = []
        for trial in (trials[number] for number in numbers):
            if trial.value is None:
                raise RuntimeError(f"Trial {trial.number} closed a generation of CMA-ES without a value.")
            point = np.array([axis.place(trial.params[name]) for name, axis in self._axes.items()])
            solutions.append((point, sign * trial.value))
        self._optimizer.tell(solutions)
        self._started = began


class _Axis:
    """A parameter's range as [0, 1], on its own scale; a step is a cell of its own width, rounded to the middle."""

    def __init__(self, parameter: Float | Int) -> None:
        self._parameter = parameter
        half = (parameter.step or 0) / 2
        self._low, self._high = self._scaled(parameter.low - half), self._scaled(parameter.high + half)

    def place(self, value: float) -> float:
        return (self._scaled(value) - self._low) / (self._high - self._low)

    def value(self, place: float) -> float:
        low, high, step = self._parameter.low, self._parameter.high, self._parameter.step
        scaled = self._low + float(place) * (self._high - self._low)
        value = math.exp(scaled) if self._parameter.log else scaled
        if step:
            value = low + round((value - low) / step) * step
            high = low + math.floor((high - low) / step + 1e-9) * step  # the last that the steps reach
        return min(max(value, low), high)

    def _scaled(self, value: float) -> float:
        return math.log(value) if self._parameter.log else value


def _of(trial: FrozenTrial, generation: int) -> bool:
    return bool(trial.system_attrs.get(GENERATION) == generation)


def _optimizer(axes: int, population: int | None, sigma0: float, separable: bool) -> CMA | SepCMA:
    """The distribution that every study begins with, in the middle of the unit cube."""
    # With a single axis there is no covariance to leave out, and SepCMA takes none.
    return (SepCMA if separable and axes > 1 else CMA)(
        mean=np.full(axes, 0.5),
        sigma=sigma0,
        bounds=np.tile([0.0, 1.0], (axes, 1)),
        n_max_resampling=10 * axes,
        population_size=population,
        seed=0,  # every draw is seeded anew
    )
