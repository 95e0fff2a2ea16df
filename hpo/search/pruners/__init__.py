"""WHO STOPS A TRIAL: every pruner by name, one function each, which builds a judge.

The options of a pruner are the keyword arguments of its function.
"""

# No "from __future__ import annotations": the options' types are read off the signatures.
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any

from pydantic import Field

from hpo.errors import StudyFileError, UserError
from hpo.search.options import checked
from hpo.search.pruners.hopeless import hopeless
from hpo.search.pruners.judge import Aims, Curve, Judge, Verdict
from hpo.search.pruners.ranking import pareto_median
from hpo.search.pruners.rungs import hyperband, pareto_asha, successive_halving
from hpo.search.pruners.watching import median, none, patient, percentile, threshold

__all__ = ["ALL_GOALS", "PRUNERS", "Aims", "Curve", "Judge", "Verdict", "build"]


def any_of(aims: Aims, *, of: Annotated[list[dict[str, Any]], Field(min_length=1)]) -> Judge:
    """Whatever one of several rules says; the first in the list that has a reason gives it."""
    rules: list[tuple[str, Judge]] = []
    for i, rule in enumerate(of):
        options = dict(rule)
        name = options.pop("name", None)
        if not isinstance(name, str):
            raise StudyFileError(f"pruner any: of[{i}] needs the name of a pruner; got {rule!r}.")
        if "watch" in options:
            raise StudyFileError(f"pruner any: of[{i}].watch: all its rules watch one metric; put watch beside of.")
        try:
            rules.append((name, build(name, options, aims)))
        except UserError as error:
            raise StudyFileError(f"pruner any: of[{i}]: {error}") from None

    def judge(trial: Curve, others: Sequence[Curve]) -> Verdict | None:
        for name, rule in rules:
            if (verdict := rule(trial, others)) is not None:
                return replace(verdict, facts={"rule": name, **verdict.facts})
        return None

    return judge


PRUNERS: Mapping[str, Callable[..., Judge]] = {
    "any": any_of,
    "hopeless": hopeless,
    "hyperband": hyperband,
    "median": median,
    "none": none,
    "pareto_asha": pareto_asha,
    "pareto_median": pareto_median,
    "patient": patient,
    "percentile": percentile,
    "successive_halving": successive_halving,
    "threshold": threshold,
}

ALL_GOALS = frozenset({"hopeless", "pareto_asha", "pareto_median"})  # these watch no single metric


def build(name: str, options: Mapping[str, Any], aims: Aims) -> Judge:
    """The judge called ``name``.

    Raises:
        UnknownName, StudyFileError: the pruner or one of its options is wrong.
    """
    values = checked("pruner", name, PRUNERS, options)
    return PRUNERS[name](aims, **values)
