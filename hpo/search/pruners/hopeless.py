"""The rule that asks how good a trial could still become."""

# No "from __future__ import annotations": the options' types are read off the signatures.
import math
from collections.abc import Sequence
from typing import Annotated

import numpy as np
from pydantic import Field

from hpo.pareto import signs
from hpo.search.options import Count, Natural
from hpo.search.pruners.judge import Aims, Curve, Judge, Verdict, completed, named
from hpo.search.pruners.ranking import dominators, is_dominated, told
from hpo.trial import Goal


def hopeless(
    aims: Aims,
    *,
    quantile: Annotated[float, Field(gt=0, le=1)] = 0.9,
    startup_trials: Count = 10,
    warmup_steps: Natural = 0,
) -> Judge:
    """Dominated by a completed trial however much better it could still become.

    A goal that is measured once stays as it is. Any other is assumed to end at its best value so
    far, improved by as much as the share ``quantile`` of the completed trials at most improved
    from this step on. A goal that has not been told yet could become anything, and so could
    the trial.
    """

    def judge(trial: Curve, others: Sequence[Curve]) -> Verdict | None:
        step = trial.last_step
        finished = completed(others)
        if step <= warmup_steps or len(finished) < startup_trials:
            return None
        now = [trial.best(goal, step) for goal in aims.goals]
        present = tuple(value for value in now if value is not None)
        measures = {o.number: o.values for o in finished if o.is_feasible and o.values is not None}
        ends = list(measures.values())
        # Whom nobody dominates now, nobody dominates when it is better.
        if len(present) < len(now) or not is_dominated(present, ends, aims.goals):
            return None
        gains = tuple(0.0 if goal.metric in aims.once else _gain(goal, step, finished, quantile) for goal in aims.goals)
        if any(map(math.isnan, gains)):
            return None  # nobody has been here and gone on
        assumed = tuple(float(v) for v in np.array(present) - np.array(gains) * signs(aims.goals))
        over = [list(measures)[i] for i in dominators(assumed, ends, aims.goals)]
        if not over:
            return None
        why = (
            f"even with the largest improvement that {100 * quantile:g} % of {len(finished)} completed trials made "
            f"from step {step} on, it would end at {told(aims.goals, assumed)}, "
            f"which {_numbers(over)} dominate{'s' if len(over) == 1 else ''}"
        )
        against = {number: named(aims.goals, measures[number]) for number in over}
        facts = {
            "assumed": named(aims.goals, assumed),
            "improvement": named(aims.goals, gains),
            "quantile": quantile,
            "completed": len(finished),
        }
        return Verdict(why, named(aims.goals, present), against, over, facts)

    return judge


def _gain(goal: Goal, step: int, finished: Sequence[Curve], quantile: float) -> float:
    """What the share ``quantile`` of completed trials at most improved from a step on; NaN where there is none."""
    gains = []
    for curve in finished:
        then, end = curve.best(goal, step), curve.best(goal)
        if then is not None and end is not None and math.isfinite(end - then):
            gains.append(abs(end - then))
    return float(np.quantile(gains, quantile, method="inverted_cdf")) if gains else math.nan


def _numbers(numbers: Sequence[int]) -> str:
    shown = ", ".join(map(str, numbers[:3])) + (", ..." if len(numbers) > 3 else "")
    return f"trial{'' if len(numbers) == 1 else 's'} {shown}"
