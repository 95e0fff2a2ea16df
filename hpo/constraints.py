"""What a trial must keep to besides being good: ``peak_memory_mb <= 8000``."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hpo.errors import UserError
from hpo.trial import TrialRecord

_FORM = re.compile(r"\s*([\w.\-]+)\s*(<=|>=)\s*(\S+)\s*")


@dataclass(frozen=True)
class Constraint:
    """One metric and its bound, an upper one (``<=``) or a lower one (``>=``)."""

    metric: str
    operator: str
    bound: float

    @classmethod
    def parse(cls, text: str) -> Constraint:
        """The constraint that ``text`` spells out.

        Raises:
            UserError: it is none.
        """
        match = _FORM.fullmatch(text)
        try:
            bound = float(match.group(3)) if match else math.nan
        except ValueError:
            bound = math.nan
        if match is None or not math.isfinite(bound):
            raise UserError(f"{text!r} is no constraint; write METRIC <= NUMBER or METRIC >= NUMBER.")
        return cls(match.group(1), match.group(2), bound)

    def violation(self, metrics: Mapping[str, float]) -> float:
        """By how much the bound is passed, in the metric's units: 0 or less when kept, infinite without a value."""
        value = metrics.get(self.metric, math.nan)
        if math.isnan(value):
            return math.inf
        return value - self.bound if self.operator == "<=" else self.bound - value

    def __str__(self) -> str:
        return f"{self.metric} {self.operator} {self.bound:g}"


def broken(names: Sequence[str], trial: TrialRecord) -> dict[str, float]:
    """The constraints that a trial breaks, by name, and by how much; infinite where its metric has no value."""
    return {name: violation for name, violation in zip(names, trial.violations, strict=False) if violation > 0}


def spoken(broken: Mapping[str, float]) -> str:
    """What is ``broken``, in words."""
    return ", ".join(
        f"{name} by {violation:.4g}" if math.isfinite(violation) else f"{name} (no value)"
        for name, violation in broken.items()
    )


def least_violated(trials: Sequence[TrialRecord]) -> TrialRecord:
    """The trial whose violations add up to least, as Optuna's samplers compare them; of equal ones the first."""
    return min(trials, key=lambda trial: (sum(v for v in trial.violations if v > 0), trial.number))


def violations(constraints: tuple[Constraint, ...], metrics: Mapping[str, float]) -> tuple[float, ...]:
    """One violation per constraint, in their order."""
    return tuple(constraint.violation(metrics) for constraint in constraints)
