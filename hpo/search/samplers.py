"""Every sampler by name: one function each, which builds a fresh Optuna sampler for one ask.

A sampler keeps no state between asks: it is built anew, seeded by (study seed, trial
number), so a study that was resumed proposes what an unbroken one would have. ``qmc`` and
``grid`` keep the study's seed, because their sequence belongs to the whole study.
"""

# No "from __future__ import annotations": the options' types are read off the signatures.
import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from hpo.errors import StudyFileError
from hpo.search.distributions import distribution
from hpo.search.options import checked
from hpo.trial import derive_seed
from search_spaces import SearchSpace

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler

MAX_GRID = 100_000

Count = Annotated[int, Field(ge=1)]


@dataclass(frozen=True)
class Ask:
    """Where a sampler is used: the space, the study's seed, and the trial's own."""

    space: SearchSpace
    study_seed: int
    seed: int


def random(ask: Ask) -> "BaseSampler":
    from optuna.samplers import RandomSampler

    return RandomSampler(seed=ask.seed)


def tpe(ask: Ask, *, startup_trials: Count = 10, candidates: Count = 24, group: bool = False) -> "BaseSampler":
    """Tree-structured Parzen estimator (Bergstra et al. 2011), multivariate, with the constant liar."""
    from optuna.samplers import TPESampler

    return TPESampler(
        n_startup_trials=startup_trials,
        n_ei_candidates=candidates,
        multivariate=True,
        group=group,
        constant_liar=True,
        seed=ask.seed,
    )


def qmc(ask: Ask) -> "BaseSampler":
    """A scrambled Sobol sequence; what is conditional stands outside it, and is random."""
    from optuna.samplers import QMCSampler, RandomSampler

    class WholeStudyQMC(QMCSampler):
        """Optuna's learns its space from trials that have ended, so the first ones would be random."""

        def infer_relative_search_space(self, study: Any, trial: Any) -> dict[str, Any]:
            always = {name: distribution(p) for name, p in ask.space.items() if not p.when}
            return {name: found for name, found in always.items() if not found.single()}

    return WholeStudyQMC(
        seed=ask.study_seed,
        scramble=True,
        independent_sampler=RandomSampler(seed=ask.seed),
        warn_independent_sampling=False,
    )


def grid(ask: Ask) -> "BaseSampler":
    """Every combination once, in an order shuffled by the study's seed."""
    from optuna.samplers import GridSampler

    return GridSampler(_grid_values(ask.space), seed=ask.study_seed)


def gp(ask: Ask, *, startup_trials: Count = 10) -> "BaseSampler":
    """Gaussian process with expected (hypervolume) improvement."""
    from optuna.samplers import GPSampler

    return GPSampler(n_startup_trials=startup_trials, seed=ask.seed, deterministic_objective=False)


def nsga2(ask: Ask, *, population: Annotated[int, Field(ge=2)] = 20) -> "BaseSampler":
    """NSGA-II (Deb et al. 2002, doi:10.1109/4235.996017)."""
    from optuna.samplers import NSGAIISampler

    return NSGAIISampler(population_size=population, seed=ask.seed)


def nsga3(ask: Ask, *, population: Annotated[int, Field(ge=2)] = 20) -> "BaseSampler":
    """NSGA-III (Deb & Jain 2014, doi:10.1109/TEVC.2013.2281535), for three goals and more."""
    from optuna.samplers import NSGAIIISampler

    return NSGAIIISampler(population_size=population, seed=ask.seed)


SAMPLERS: "Mapping[str, Callable[..., BaseSampler]]" = {
    "gp": gp,
    "grid": grid,
    "nsga2": nsga2,
    "nsga3": nsga3,
    "qmc": qmc,
    "random": random,
    "tpe": tpe,
}
_FINITE_ONLY = {"grid"}


class SamplerFactory:
    """Builds the sampler of each ask.

    Raises:
        UnknownName, StudyFileError: the sampler or one of its options is wrong, or it
            cannot take this space; the samplers that can are named.
    """

    def __init__(self, name: str, options: Mapping[str, Any], space: SearchSpace, study_seed: int) -> None:
        self._options = checked("sampler", name, SAMPLERS, options)
        self._make = SAMPLERS[name]
        self._space = space
        self._study_seed = study_seed
        if name in _FINITE_ONLY:
            _check_finite(name, space)
        self.limit = grid_size(space) if name == "grid" else None

    def for_trial(self, number: int) -> "BaseSampler":
        ask = Ask(self._space, self._study_seed, derive_seed(self._study_seed, number, "sampler"))
        with warnings.catch_warnings():
            # Optuna marks most of what we use as experimental, in a warning per construction.
            warnings.simplefilter("ignore")
            return self._make(ask, **self._options)


def grid_size(space: SearchSpace) -> int:
    """How many points a finite space has."""
    return math.prod(parameter.count() or 0 for parameter in space.values())


def _grid_values(space: SearchSpace) -> dict[str, list[Any]]:
    return {name: list(parameter.grid() or ()) for name, parameter in space.items()}


def _check_finite(name: str, space: SearchSpace) -> None:
    others = ", ".join(sorted(set(SAMPLERS) - _FINITE_ONLY))
    for parameter in space:
        if space[parameter].count() is None:
            raise StudyFileError(
                f"Sampler {name!r} tries every value, but {parameter} is {space[parameter]} with no end of them. "
                f"Give it a step or choices, or use one of: {others}."
            )
        if space[parameter].when:
            raise StudyFileError(
                f"Sampler {name!r} cannot take conditions, but {parameter} has a 'when'. Use one of: {others}."
            )
    size = grid_size(space)
    if size > MAX_GRID:
        raise StudyFileError(
            f"Sampler {name!r} tries every combination, and this space has {size:,}; {MAX_GRID:,} are the most. "
            f"Give it larger steps or fewer choices, or use one of: {others}."
        )
