"""Parameters as Optuna writes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from search_spaces import Choice, Int
from search_spaces.parameters import Parameter

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution


def distribution(parameter: Parameter) -> BaseDistribution:
    """The distribution that Optuna's ``suggest_*`` makes of ``parameter``."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(parameter, Choice):
        return CategoricalDistribution(parameter.choices)
    if isinstance(parameter, Int):
        return IntDistribution(parameter.low, parameter.high, log=parameter.log, step=parameter.step)
    return FloatDistribution(parameter.low, parameter.high, log=parameter.log, step=parameter.step)
