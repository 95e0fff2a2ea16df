"""Studies, trials and curves as pandas frames; docs/notebook.md describes every column.

Whole numbers are ``Int64``, texts ``string`` and truth values ``boolean``, which may be missing; times are in UTC;
metrics are ``float64``, NaN where there is none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hpo import costs
from hpo.reports.facts import Facts
from hpo.trial import TrialRecord, TrialState

if TYPE_CHECKING:
    from pandas import DataFrame, Series

    from storage.records import StudySummary

_WHOLE, _TEXT, _TRUTH, _NUMBER, _TIME = "Int64", "string", "boolean", "float64", "time"
_LARGEST = 2**63 - 1

# Of a trial itself: column -> type, and where its content comes from. The groups (params.*, ...) follow.
_OWN: Mapping[str, tuple[str, Callable[[TrialRecord], Any]]] = {
    "number": (_WHOLE, lambda trial: trial.number),
    "state": (_TEXT, lambda trial: str(trial.state)),
    "stopped": (_TEXT, lambda trial: str(trial.reason.kind) if trial.reason else None),
    "reason": (_TEXT, lambda trial: trial.reason.message if trial.reason else None),
    "feasible": (_TRUTH, lambda trial: trial.is_feasible if trial.state is TrialState.COMPLETE else None),
    "best_step": (_WHOLE, lambda trial: trial.best_step),
    "last_step": (_WHOLE, lambda trial: trial.last_step),
    "epochs": (_WHOLE, lambda trial: trial.epochs),
    "attempts": (_WHOLE, lambda trial: trial.attempts),
    "seed": (_WHOLE, lambda trial: trial.seed),
    "enqueued": (_TRUTH, lambda trial: trial.enqueued),
    "worker": (_TEXT, lambda trial: trial.worker),
    "started_at": (_TIME, lambda trial: trial.started_at),
    "finished_at": (_TIME, lambda trial: trial.finished_at),
}


def trials(facts: Facts, *, only_front: bool = False) -> DataFrame:
    """A row per trial of the search, in number order."""
    import pandas as pd

    goals = [goal.metric for goal in facts.goals]
    front = set(facts.front.numbers)
    rows = [trial for trial in facts.trials if not only_front or trial.number in front]
    # Columns are those of all trials, so that the front has the same as they.
    columns = {name: _column(map(content, rows), kind) for name, (kind, content) in _OWN.items()}
    spent, said = costs.of_trials(facts.snapshot), facts.snapshot.annotations
    for name in ("seconds", "cpu_s", "gpu_s"):
        columns[name] = _column((getattr(spent.get(trial.number), name, None) for trial in rows), _NUMBER)
    columns["note"] = _column((said.trial_notes.get(trial.number) for trial in rows), _TEXT)
    columns["tags"] = _column((", ".join(said.trial_tags.get(trial.number, ())) for trial in rows), _TEXT)
    for name in facts.param_names:
        kind = _kind(trial.params[name] for trial in facts.trials if name in trial.params)
        columns[f"params.{name}"] = _column((trial.params.get(name) for trial in rows), kind)
    for i, name in enumerate(goals):
        columns[f"values.{name}"] = _column((trial.values[i] if trial.values else None for trial in rows), _NUMBER)
    for name in _ordered(goals, (trial.metrics for trial in facts.trials)):
        columns[f"metrics.{name}"] = _column((trial.metrics.get(name) for trial in rows), _NUMBER)
    for i, name in enumerate(facts.snapshot.study.constraints):
        broken = (trial.violations[i] if trial.violations else None for trial in rows)
        columns[f"violations.{name}"] = _column(broken, _NUMBER)
    return pd.DataFrame(columns)


def curves(facts: Facts) -> DataFrame:
    """A row per trial and reported step: trials in number order, the steps of each upwards."""
    import pandas as pd

    points = [(trial.number, point) for trial in facts.trials for point in trial.points]
    columns = {
        "trial": _column((number for number, _ in points), _WHOLE),
        "step": _column((point.step for _, point in points), _WHOLE),
    }
    for name in facts.epoch_metrics:
        columns[f"metrics.{name}"] = _column((point.metrics.get(name) for _, point in points), _NUMBER)
    return pd.DataFrame(columns)


def studies(summaries: Sequence[StudySummary]) -> DataFrame:
    """A row per study, the oldest first; its search's trials by state."""
    import pandas as pd

    columns = {
        "study": _column((found.name for found in summaries), _TEXT),
        "objective": _column((found.objective for found in summaries), _TEXT),
        "goals": _column((", ".join(map(str, found.goals)) for found in summaries), _TEXT),
        **{str(state): _column((s.counts.get(state, 0) for s in summaries), _WHOLE) for state in TrialState},
        "tags": _column((", ".join(found.tags) for found in summaries), _TEXT),
        "created_at": _column((found.created_at for found in summaries), _TIME),
    }
    return pd.DataFrame(columns)


def _column(values: Iterable[Any], kind: str) -> Series[Any]:
    import pandas as pd

    if kind == _TIME:
        return pd.Series(pd.to_datetime(list(values), utc=True, format="ISO8601"))
    return pd.Series(list(values), dtype=kind)


def _kind(present: Iterable[Any]) -> str:
    """The type of a parameter's column: the narrowest that holds every value as it is."""
    found = list(present)
    if any(isinstance(value, bool) for value in found):
        return _TRUTH if all(isinstance(value, bool) for value in found) else "object"
    if all(isinstance(value, str) for value in found):
        return _TEXT
    if not all(isinstance(value, (int, float)) for value in found):
        return "object"
    if any(isinstance(value, float) for value in found):
        return _NUMBER
    return _WHOLE if all(abs(value) <= _LARGEST for value in found) else "object"


def _ordered(first: Sequence[str], metrics: Iterable[Mapping[str, float]]) -> list[str]:
    """Every metric's name: the goals, then the others in the order of the alphabet."""
    seen = {name for found in metrics for name in found}
    return [*(name for name in first if name in seen), *sorted(seen - set(first))]
