"""``adopt``: an existing ``train(params, report)`` becomes an objective and stays the function that it was."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, overload

from hpo.errors import UserError
from hpo.trial import Params
from objectives.adopted import Goals, Space
from objectives.function import FunctionObjective


@overload
def adopt(
    function: Callable[..., Any],
    *,
    goals: Goals,
    space: Space | None = None,
    metrics: Goals | None = None,
    defaults: Params | None = None,
) -> FunctionObjective: ...
@overload
def adopt(
    *,
    goals: Goals,
    space: Space | None = None,
    metrics: Goals | None = None,
    defaults: Params | None = None,
) -> Callable[[Callable[..., Any]], FunctionObjective]: ...
def adopt(
    function: Callable[..., Any] | None = None,
    *,
    goals: Goals,
    space: Space | None = None,
    metrics: Goals | None = None,
    defaults: Params | None = None,
) -> FunctionObjective | Callable[[Callable[..., Any]], FunctionObjective]:
    """Make a function an objective, as a decorator or in one line; a study file names it ``my_module:train``.

    ``function(params, report)`` gets a dict of the trial's parameters and calls ``report(epoch,
    val_loss=...)`` or ``report({"val_loss": ...})`` after every epoch. What it has arguments for
    is given to it by name: ``data``, ``data_seed``, ``device``, ``epochs``, ``folder``, ``resume``,
    ``seed``, ``use_test``. Numbers that it returns by name hold for the whole trial.

    Args:
        goals: ``{"val_loss": "minimize"}``; a ``hpo.trial.Metric`` says more of one.
        space: a ``SearchSpace``, or a mapping as in a study file; None leaves it to the study file.
        metrics: what else it reports and a study file may name, for constraints and the like.
        defaults: the point that people pick by hand today.

    Raises:
        UserError: the function cannot be called like this, or an argument breaks a rule.
    """
    if function is None:
        return functools.partial(adopt, goals=goals, space=space, metrics=metrics, defaults=defaults)
    if not callable(function):
        raise UserError(f"adopt takes a function train(params, report); got {function!r}.")
    return FunctionObjective(function, goals=goals, space=space, metrics=metrics, defaults=defaults)
