"""Goals and a search space for a function that names none: guesses from its source, each marked as one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hpo.adoption.source import UNKNOWN, Reading, read
from hpo.errors import UserError
from objectives.function import FunctionObjective
from search_spaces import Choice, Float, Int, SearchSpace
from search_spaces.parameters import Parameter

_HIGHER_IS_BETTER = ("acc", "auc", "bleu", "dice", "f1", "iou", "map", "precision", "r2", "recall", "score")
_LOWER_IS_BETTER = ("loss", "error", "mape", "brier")  # whatever else is in the name
_SHARES = ("dropout", "drop", "momentum", "beta", "share", "ratio", "fraction", "prob", "smoothing")
_VALIDATION = ("val", "eval", "dev", "test")


@dataclass(frozen=True)
class Guessed:
    """An objective that is complete, and a remark for each parameter and goal that was guessed."""

    objective: FunctionObjective
    remarks: Mapping[str, str]
    epochs: int | None  # of its loop, where that is a plain number
    others: tuple[str, ...] = ()  # what it reports besides


def complete(objective: FunctionObjective) -> Guessed:
    """The objective with goals and a space, its own where it has them.

    Raises:
        UserError: the source shows no parameter, or no metric, to make them of.
    """
    name = objective.name
    try:
        reading = read(objective.function)
    except (OSError, StopIteration, SyntaxError) as error:
        raise UserError(f"adopt {name}: its source cannot be read, so nothing can be guessed: {error!r}.") from error
    remarks: dict[str, str] = {}
    if objective.default_goals:
        goals = {goal: objective.metrics[goal] for goal in objective.default_goals}
    else:
        goals = _goal(name, reading, remarks)
    space = objective.space if objective.has_space else _space(name, reading, remarks)
    known = {p: d for p, d in reading.params.items() if p in space and d is not UNKNOWN and space[p].contains(d)}
    made = FunctionObjective(
        objective.function, goals=goals, space=space, defaults=dict(objective.default_params or known)
    )
    others = tuple(m for m in (*reading.reported, *reading.returned) if m not in goals)
    return Guessed(made, remarks, reading.epochs, others)


def _goal(name: str, reading: Reading, remarks: dict[str, str]) -> dict[str, Any]:
    """One goal: the first that is measured on validation data, else the first that is told at all."""
    told = (*reading.reported, *reading.returned)
    if not told:
        raise UserError(
            f"adopt {name}: its source calls report with no name that can be read, so there is no goal to write down. "
            'Call report(epoch, val_loss=...) or report({"val_loss": ...}).'
        )
    metric = next((m for m in told if m.lower().startswith(_VALIDATION)), told[0])
    is_said, is_denied = (any(w in metric.lower() for w in words) for words in (_HIGHER_IS_BETTER, _LOWER_IS_BETTER))
    is_higher_better = is_said and not is_denied
    remarks[metric] = "guessed by its name"
    return {metric: "maximize" if is_higher_better else "minimize"}


def _space(name: str, reading: Reading, remarks: dict[str, str]) -> SearchSpace:
    if not reading.params:
        raise UserError(
            f"adopt {name}: its source reads no parameter such as params['lr'] that can be seen, so there is no search "
            "space to write down. See docs/adopt.md for one written by hand."
        )
    found: dict[str, Parameter] = {}
    for parameter, default in reading.params.items():
        found[parameter] = guess(parameter, default)
        seen = "nothing is known of it" if default is UNKNOWN else f"around {default!r}, as it is now"
        if isinstance(found[parameter], Choice) and len(found[parameter].grid() or ()) == 1:
            seen = "as it is now; add others, or leave it so"
        remarks[parameter] = f"a guess: {seen}"
    return SearchSpace(found)


def guess(name: str, default: Any) -> Parameter:
    """A range around a default: a factor of ten to both sides for real numbers, of four for whole ones.

    Shares (dropout, momentum and the like) go from 0 to below 1; text, and how long it trains,
    stay as they are. Without a default: from 0 to 1.
    """
    word = name.lower()
    if default is UNKNOWN:
        return Float(1e-5, 1e-1, log=True) if word in ("lr", "learning_rate") else Float(0.0, 1.0)
    if isinstance(default, bool):
        return Choice((False, True))
    if not isinstance(default, (int, float)) or not math.isfinite(default) or "epoch" in word or "seed" in word:
        return Choice((default if isinstance(default, (str, int, float)) or default is None else str(default),))
    if any(share in word for share in _SHARES) and 0 <= default < 1:
        return Float(0.0, max(0.5, round((1 + default) / 2, 3)))
    if isinstance(default, int):
        return Int(max(1, default // 4), default * 4, log=True) if default > 0 else Int(min(default, 0), 1)
    return Float(_short(default / 10), _short(default * 10), log=True) if default > 0 else Float(min(default, 0.0), 1.0)


def _short(value: float) -> float:
    return float(f"{value:.3g}")
