"""Trials in files: CSV with a row per trial, JSON lines with their curves, too."""

from __future__ import annotations

import io
import json
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hpo.errors import DataError
from hpo.trial import Direction, Goal, Metrics, Params, StopKind, StopReason, TrialState
from search_spaces import SearchSpace
from storage import codec
from storage.exchange import inference
from storage.exchange.portable import PortableStudy, PortableTrial, goals_of, state_of

_OF_A_TRIAL = {"number", "params", "state", "values"}  # the first line has none of them where it is of the study
_WORDS = {"True": True, "False": False, "nan": float("nan"), "inf": float("inf"), "-inf": float("-inf")}


def to_json_lines(study: PortableStudy) -> Iterator[str]:
    """A line about the study, then one for each trial. Numbers that are not finite are ``{"float": "NaN"}``."""
    yield codec.dump(
        {
            "study": study.name,
            "goals": [[goal.metric, str(goal.direction)] for goal in study.goals],
            "search_space": study.space.to_dict(),
            "attributes": study.attributes,
        }
    )
    names = [goal.metric for goal in study.goals]
    for number, trial in enumerate(study.trials):
        yield codec.dump(
            {
                "number": number,
                "state": trial.state,
                "params": trial.params,
                "values": None if trial.values is None else dict(zip(names, trial.values, strict=True)),
                "metrics": trial.metrics,
                "best_step": trial.best_step,
                "stopped": trial.ending.kind,
                "reason": trial.ending.message,
                "started_at": trial.started_at,
                "finished_at": trial.finished_at,
                "violations": trial.violations,
                "attributes": trial.attributes,
                "curve": [[step, metrics] for step, metrics in trial.curve.items()],
            }
        )


def from_json_lines(path: Path, maximize: tuple[str, ...] = ()) -> PortableStudy:
    """The study of ``to_json_lines``, or trials that only have ``params`` and ``values`` by metric.

    Raises:
        DataError: a line is no JSON object, or a field is not what it must be.
    """
    rows: list[tuple[str, dict[str, Any]]] = []
    for i, line in enumerate(_text(path).split("\n"), 1):
        if line.strip():
            rows.append((f"{path}, line {i}", _object(line, f"{path}, line {i}")))
    head = _head(*rows.pop(0)) if rows and _OF_A_TRIAL.isdisjoint(rows[0][1]) else {}
    checked = [_checked(row, where) for where, row in rows]
    if "goals" in head:
        if maximize:
            raise DataError(f"--maximize: {path} says itself which way each goal is better.")
        goals = head["goals"]
    else:
        goals = goals_of(list(dict.fromkeys(name for row in checked for name in row["values"])), maximize)
    left_out: Counter[str] = Counter()
    trials = list(_finished(checked, goals, left_out))
    if "search_space" in head:
        return _study(path, head, goals, SearchSpace.from_dict(head["search_space"]), trials, [], left_out)
    space = inference.from_values(trial.params for trial in trials)
    return _study(path, head, goals, space, trials, _assumed(goals, space), left_out)


def to_csv(study: PortableStudy) -> str:
    """A row per trial: ``number``, ``state``, ..., ``params.NAME``, ``values.GOAL``, ``metrics.NAME``.

    A text that could be taken for a number, a truth value or nothing is in quotes, as JSON
    has it; an empty cell means that there is none. Curves have no place here.
    """
    import pandas as pd

    goals = [goal.metric for goal in study.goals]
    rows = [_cells(number, trial, goals) for number, trial in enumerate(study.trials)]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    groups = ("params.", "values.", "metrics.", "violations.", "attributes.")
    columns.sort(key=lambda name: next((i for i, group in enumerate(groups, 1) if name.startswith(group)), 0))
    return str(pd.DataFrame(rows, columns=columns, dtype=object).to_csv(index=False, lineterminator="\n"))


def from_csv(path: Path, maximize: tuple[str, ...] = ()) -> PortableStudy:
    """The trials of ``to_csv``, or of Optuna's ``trials_dataframe().to_csv()``.

    Raises:
        DataError: the file is no CSV, or has no column of values or parameters.
    """
    import pandas as pd

    try:
        with warnings.catch_warnings():
            # Of rows that are longer than the line of names pandas makes an index, or drops what is too much.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            text = io.StringIO(_text(path), newline="")
            table = pd.read_csv(text, dtype=str, keep_default_na=False, index_col=False)
    except pd.errors.ParserWarning:
        raise DataError(f"{path}: its rows have more cells than its first line has names.") from None
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise DataError(f"{path} is no CSV file with a line of names: {error}") from error
    columns = [_ours(str(name)) for name in table.columns]
    values = [name for group, name in columns if group == "values"]
    if not values:
        raise DataError(f"{path} has no column values.NAME (or value, as Optuna writes it); it has {list(table)}.")
    goals, left_out = goals_of(values, maximize), Counter[str]()
    left_out.update(f"cells of column {name}" for group, name in columns if group == "unknown" for _ in table.index)
    rows = []
    for i, cells in enumerate(table.itertuples(index=False, name=None), 2):
        row: dict[str, Any] = {}
        for (group, name), cell in zip(columns, cells, strict=True):
            if cell != "" and group not in ("", "unknown"):
                row.setdefault(group, {})[name] = _value(cell)
            elif cell != "" and group == "":
                row[name] = cell
        rows.append(_checked({"params": {}, **row}, f"{path}, line {i}"))
    trials = list(_finished(rows, goals, left_out))
    space = inference.from_values(trial.params for trial in trials)
    return _study(path, {}, goals, space, trials, _assumed(goals, space), left_out)


def _study(
    path: Path,
    head: Mapping[str, Any],
    goals: tuple[Goal, ...],
    space: SearchSpace,
    trials: Sequence[PortableTrial],
    notes: list[str],
    left_out: Counter[str],
) -> PortableStudy:
    name, attributes = str(head.get("study", path.stem)), head.get("attributes", {})
    return PortableStudy(name, goals, space, tuple(trials), attributes, tuple(notes), +left_out)


def _assumed(goals: Sequence[Goal], space: SearchSpace) -> list[str]:
    """What a source without a study says nothing about."""
    return [
        *(f"{goal.metric} is taken for a goal to {goal.direction}." for goal in goals),
        *(f"{name} is taken for {parameter}." for name, parameter in space.items()),
    ]


def _finished(
    rows: Iterable[dict[str, Any]], goals: tuple[Goal, ...], left_out: Counter[str]
) -> Iterator[PortableTrial]:
    """The trials of rows that ``_checked`` gave; those without an end are counted."""
    for row in rows:
        state = row["state"]
        if state is None:
            left_out["trials that had not finished"] += 1
            continue
        values, found = row["values"], None
        if state is TrialState.COMPLETE:
            missing = [goal.metric for goal in goals if goal.metric not in values]
            if missing:
                raise DataError(
                    f"{row['where']}: a complete trial has a value for every goal; {missing[0]} is missing."
                )
            found = tuple(values[goal.metric] for goal in goals)
        elif values:
            left_out["values of trials that did not complete"] += 1
        reason = StopReason(row["stopped"], row["reason"]) if row["stopped"] and row["reason"] is not None else None
        yield PortableTrial(
            state, row["params"], found, {**row["metrics"], **(values if found else {})}, row["curve"],
            reason, row["best_step"], row["attributes"], row["violations"], row["started_at"], row["finished_at"],
        )  # fmt: skip


def _head(where: str, found: Mapping[str, Any]) -> dict[str, Any]:
    """What the line about the study says, each part of its type.

    Raises:
        DataError: one is not.
    """
    head = dict(found)
    for name in {"search_space", "attributes"} & head.keys():
        head[name] = _mapping(head[name], f"{where}: {name}")
    if "goals" in head:
        try:
            head["goals"] = tuple(Goal(str(metric), Direction(direction)) for metric, direction in head["goals"])
        except (ValueError, TypeError):
            raise DataError(
                f'{where}: goals must be written as [["NAME", "minimize"], ["NAME", "maximize"]]; '
                f"got {head['goals']!r}."
            ) from None
    return head


def _checked(row: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The fields of a trial, each of its type.

    Raises:
        DataError: one is not.
    """
    if "params" not in row:
        raise DataError(f"{where}: a trial must have params; there is only {', '.join(row) or 'nothing'}.")
    values = _numbers(row.get("values") or {}, f"{where}: values")
    state = state_of(row["state"], where) if row.get("state") else None
    if "state" not in row:
        state = TrialState.COMPLETE if values else TrialState.FAIL
    try:
        stopped = StopKind(row["stopped"]) if row.get("stopped") else None
        curve = {
            int(step): _numbers(metrics, f"{where}: curve, step {step}") for step, metrics in row.get("curve") or ()
        }
        best_step = int(row["best_step"]) if row.get("best_step") is not None else None
    except (ValueError, TypeError, OverflowError) as error:
        raise DataError(f"{where}: {error}.") from error
    return {
        "where": where,
        "state": state,
        "params": _mapping(row["params"], f"{where}: params"),
        "values": values,
        "metrics": _numbers(row.get("metrics") or {}, f"{where}: metrics"),
        "curve": curve,
        "stopped": stopped,
        "reason": row.get("reason"),
        "best_step": best_step,
        "attributes": _mapping(row.get("attributes") or {}, f"{where}: attributes"),
        "violations": _numbers(row.get("violations") or {}, f"{where}: violations"),
        "started_at": _moment(row.get("started_at"), where),
        "finished_at": _moment(row.get("finished_at"), where),
    }


def _text(path: Path) -> str:
    """The text of a file, its line ends as they are."""
    try:
        return path.read_bytes().decode("utf-8-sig")  # Excel begins a file with a mark
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is no text in UTF-8: {error.reason} at byte {error.start}.") from error
    except OSError as error:
        raise DataError(f"Cannot read {path}: {error.strerror}.") from error


def _moment(text: object, where: str) -> str | None:
    try:
        return None if text is None else codec.moment(str(text))
    except ValueError:
        raise DataError(f"{where}: a time is written as 2026-01-31T12:00:00+00:00; got {text!r}.") from None


def _mapping(value: object, where: str) -> Params:
    if not isinstance(value, dict):
        raise DataError(f"{where} must be an object with a value by name; got {value!r}.")
    return value


def _numbers(value: object, where: str) -> Metrics:
    found = _mapping(value, where)
    for name, number in found.items():
        if isinstance(number, bool) or not isinstance(number, (int, float)):
            raise DataError(f"{where}: {name} must be a number; got {number!r}.")
    return {name: float(number) for name, number in found.items()}


def _object(line: str, where: str) -> dict[str, Any]:
    try:
        found = codec.load(line)
    except ValueError as error:
        raise DataError(f"{where}: no JSON: {error}.") from error
    if not isinstance(found, dict):
        raise DataError(f"{where}: must be an object in braces; got {line[:40]!r}.")
    return found


def _cells(number: int, trial: PortableTrial, goals: Sequence[str]) -> dict[str, str]:
    """The cells of a trial by column; those that are empty are left out."""
    plain = {
        "number": str(number),
        "state": str(trial.state),
        "stopped": str(trial.ending.kind),
        "reason": trial.ending.message,
        "best_step": trial.best_step,
        "started_at": trial.started_at,
        "finished_at": trial.finished_at,
    }
    groups: dict[str, Mapping[str, Any]] = {
        "params": trial.params,
        "values": dict(zip(goals, trial.values or (), strict=False)),
        "metrics": trial.metrics,
        "violations": trial.violations,
        "attributes": trial.attributes,
    }
    return {
        **{name: "" if value is None else str(value) for name, value in plain.items()},
        **{f"{group}.{name}": _cell(value) for group, found in groups.items() for name, value in found.items()},
    }


def _cell(value: Any) -> str:
    """``value`` such that ``_value`` gives it back."""
    if isinstance(value, str) and value != "" and _value(value) == value:
        return value
    return json.dumps(value, ensure_ascii=False)


def _value(cell: str) -> Any:
    if cell in _WORDS:
        return _WORDS[cell]
    try:
        return json.loads(cell)
    except ValueError:
        return cell


_OPTUNAS = {"datetime_start": "started_at", "datetime_complete": "finished_at", "number": "number", "state": "state"}
_PLAIN = {"number", "state", "stopped", "reason", "best_step", "started_at", "finished_at"}
_GROUPS = {"params", "values", "metrics", "violations", "attributes"}
_OPTUNAS_GROUPS = {"params": "params", "values": "values", "user_attrs": "attributes"}


def _ours(column: str) -> tuple[str, str]:
    """Group and name of a column: ("params", "lr"), ("", "state"), or ("unknown", ...)."""
    group, dot, name = column.partition(".")
    if dot and group in _GROUPS:
        return group, name
    if column in _PLAIN or column in _OPTUNAS:
        return "", _OPTUNAS.get(column, column)
    if column == "value":
        return "values", "value"
    for prefix, ours in _OPTUNAS_GROUPS.items():
        if column.startswith(prefix + "_"):
            rest = column.removeprefix(prefix + "_")
            return ours, f"value_{rest}" if prefix == "values" and rest.isdigit() else rest
    return "unknown", column
