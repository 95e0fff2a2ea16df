"""Every sampler by name: one function each, which builds a fresh Optuna sampler for one ask.

A sampler keeps no state between asks: it is built anew, seeded by (study seed, trial
number), so a study that was resumed proposes what an unbroken one would have. ``qmc`` and
``grid`` keep the study's seed, because their sequence belongs to the whole study. What is
``kept`` between asks is only a cache: it can be computed again from the trials.
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
from hpo.search.options import Count, checked
from hpo.trial import derive_seed
from search_spaces import Choice, SearchSpace

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler

MAX_GRID = 100_000

Population = Annotated[int, Field(ge=2)]


@dataclass(frozen=True)
class Ask:
    """Where a sampler is used: the space, the study's seed, the trial's own, and what may be found again."""

    space: SearchSpace
    study_seed: int
    seed: int
    kept: dict[str, Any]


def random(ask: Ask) -> "BaseSampler":
    from optuna.samplers import RandomSampler

    return RandomSampler(seed=ask.seed)


def tpe(ask: Ask, *, startup_trials: Count = 10, candidates: Count = 24, group: bool = False) -> "BaseSampler":
    """Tree-structured Parzen estimator (Bergstra et al. 2011), multivariate, with the constant liar."""
    from optuna.samplers import TPESampler

    return (TPESampler if group else _knowing_the_space(TPESampler, ask, include_pruned=True))(
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

    sampler = _knowing_the_space(GPSampler, ask)
    return sampler(n_startup_trials=startup_trials, seed=ask.seed, deterministic_objective=False)


def cmaes(
    ask: Ask,
    *,
    population: Population | None = None,
    sigma0: Annotated[float, Field(gt=0, le=1)] = 1 / 6,
    separable: bool = False,
) -> "BaseSampler":
    """CMA-ES (Hansen 2016, arXiv:1604.00772), for one goal; what is no number, or conditional, is random."""
    from hpo.search.cmaes import ReplayedCmaEs

    if "cmaes" not in ask.kept:
        ask.kept["cmaes"] = ReplayedCmaEs(ask.space, population=population, sigma0=sigma0, separable=separable)
    sampler: ReplayedCmaEs = ask.kept["cmaes"]
    return sampler.seeded(ask.seed)


def nsga2(ask: Ask, *, population: Population = 20) -> "BaseSampler":
    """NSGA-II (Deb et al. 2002, doi:10.1109/4235.996017)."""
    from optuna.samplers import NSGAIISampler

    return _knowing_the_space(NSGAIISampler, ask)(population_size=population, seed=ask.seed)


def nsga3(ask: Ask, *, population: Population = 20) -> "BaseSampler":
    """NSGA-III (Deb & Jain 2014, doi:10.1109/TEVC.2013.2281535), for three goals and more."""
    from optuna.samplers import NSGAIIISampler

    return _knowing_the_space(NSGAIIISampler, ask)(population_size=population, seed=ask.seed)


SAMPLERS: "Mapping[str, Callable[..., BaseSampler]]" = {
    "cmaes": cmaes,
    "gp": gp,
    "grid": grid,
    "nsga2": nsga2,
    "nsga3": nsga3,
    "qmc": qmc,
    "random": random,
    "tpe": tpe,
}
LEARN_FROM_CONSTRAINTS = {"gp", "nsga2", "nsga3", "tpe"}
_FINITE_ONLY = {"grid"}
_ONE_GOAL_ONLY = {"cmaes"}
_NUMBERS_ONLY = {"cmaes"}


class SamplerFactory:
    """Builds the sampler of each ask.

    Raises:
        UnknownName, StudyFileError: the sampler or one of its options is wrong, or it
            cannot take this space or so many goals; the samplers that can are named.
    """

    def __init__(
        self, name: str, options: Mapping[str, Any], space: SearchSpace, study_seed: int, *, goals: int = 1
    ) -> None:
        self._options = checked("sampler", name, SAMPLERS, options)
        self._make = SAMPLERS[name]
        self._space = space
        self._study_seed = study_seed
        self._kept: dict[str, Any] = {}
        if name in _FINITE_ONLY:
            _check_finite(name, space)
        if name in _ONE_GOAL_ONLY and goals > 1:
            raise StudyFileError(
                f"Sampler {name!r} takes one goal, and this study has {goals}. Use one of: {_others(_ONE_GOAL_ONLY)}."
            )
        if name in _NUMBERS_ONLY and not numbers(space):
            raise StudyFileError(
                f"Sampler {name!r} searches numbers, and this space has none that is always there. "
                f"Use one of: {_others(_NUMBERS_ONLY)}."
            )

    def for_trial(self, number: int, again: int = 0) -> "BaseSampler":
        """The sampler of a trial; with another seed each time it is asked ``again``."""
        seed = derive_seed(self._study_seed, number, "sampler", *(("again", again) if again else ()))
        return self._built(self._make, seed, self._options)

    def chance(self, number: int, again: int) -> "BaseSampler":
        """Chance instead of the sampler."""
        return self._built(random, derive_seed(self._study_seed, number, "chance", again), {})

    def _built(self, make: "Callable[..., BaseSampler]", seed: int, options: Mapping[str, Any]) -> "BaseSampler":
        with warnings.catch_warnings():
            # Optuna marks most of what we use as experimental, in a warning per construction.
            warnings.simplefilter("ignore")
            return make(Ask(self._space, self._study_seed, seed, self._kept), **options)


def numbers(space: SearchSpace) -> list[str]:
    """The parameters that are numbers in every trial."""
    return [name for name, parameter in space.items() if not isinstance(parameter, Choice) and not parameter.when]


def _knowing_the_space(sampler: "type[BaseSampler]", ask: Ask, *, include_pruned: bool = False) -> Any:
    """``sampler``, with the parameters that all trials share looked up and not compared anew.

    Optuna keeps them from ask to ask in its sampler, which is built anew here: at 5,000
    trials that comparison would be most of an ask.
    """
    from optuna.search_space import IntersectionSearchSpace

    shared: IntersectionSearchSpace = ask.kept.setdefault("shared", IntersectionSearchSpace(include_pruned))

    def infer_relative_search_space(self: Any, study: Any, trial: Any) -> dict[str, Any]:
        return {name: found for name, found in shared.calculate(study).items() if not found.single()}

    # By Optuna's own name: its genetic samplers keep what they know of a trial under it.
    return type(sampler.__name__, (sampler,), {"infer_relative_search_space": infer_relative_search_space})


def _others(but: set[str]) -> str:
    """The samplers that take any space, and any number of goals, besides these."""
    return ", ".join(sorted(set(SAMPLERS) - but - _FINITE_ONLY))


def grid_size(space: SearchSpace) -> int:
    """How many points a finite space has."""
    return math.prod(parameter.count() or 0 for parameter in space.values())


def _grid_values(space: SearchSpace) -> dict[str, list[Any]]:
    return {name: list(parameter.grid() or ()) for name, parameter in space.items()}


def _check_finite(name: str, space: SearchSpace) -> None:
    others = _others(_NUMBERS_ONLY)
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
