"""Use cases that bring trials in from elsewhere, and take them out."""

from __future__ import annotations

import io
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from ruamel.yaml import YAML

from hpo import durable
from hpo.constraints import Constraint, violations
from hpo.creation import create
from hpo.errors import DataError, SpaceError, UserError
from hpo.pareto import reference_point
from hpo.plan import Plan
from hpo.resolve import resolve
from hpo.spec import StudySpec
from hpo.trial import StopKind, StopReason, TrialState, goal_values
from storage import codec
from storage.database import Database
from storage.exchange import files, ours, sources
from storage.exchange.optuna_database import OptunaDatabase
from storage.exchange.portable import PortableStudy, PortableTrial
from storage.studies import Studies

Form = Literal["optuna", "csv", "jsonl"]
_NAMED = 5  # trials outside a space that an error tells one by one


@dataclass(frozen=True)
class Imported:
    """What an import came to; ``left_out`` counts what had no place."""

    name: str
    goals: tuple[str, ...]
    states: Counter[TrialState]
    notes: tuple[str, ...]
    left_out: Counter[str]
    path: Path | None = None  # the study file that the trials went into


@dataclass(frozen=True)
class Exported:
    """What an export came to; ``text`` where nobody said where to write it."""

    name: str
    trials: int
    left_out: Counter[str]
    text: str | None = None


def import_trials(
    source: str,
    *,
    storage: str,
    runs: Path,
    study: str | None = None,
    name: str | None = None,
    into: Path | None = None,
    skip_outside: bool = False,
    maximize: Sequence[str] = (),
) -> Imported:
    """Make a study of the finished trials of a source; all of it is written, or nothing.

    Args:
        study: which study of the source, where it has several.
        name: of the new study; that of the source by default.
        into: a study file that says what the study is; the trials become its first ones.
            Without it the study is one of objective ``recorded``.
        skip_outside: leave out, and count, the trials whose parameters are not in the file's space.
        maximize: goals for which more is better, where the source does not say.

    Raises:
        UserError: the source cannot be read, the study exists already, or the trials do
            not fit the file.
    """
    if into is not None and name is not None:
        raise UserError("--as names a study without a file; with --into the file has its name.")
    if skip_outside and into is None:
        raise UserError("--skip-outside belongs to --into: only a study file can leave a trial outside its space.")
    found = sources.read(source, study, tuple(maximize))
    if into is None:
        found, names = _aligned(found)
        text = _recorded_file(name or _study_name(found.name), source, found)
        plan = resolve(StudySpec.parse(text, "hpo import"), "hpo import")
        plan = replace(plan, constraints=tuple(Constraint(name, "<=", 0.0) for name in names))
    else:
        spec, text = StudySpec.load(into)
        plan = resolve(spec, str(into), str(into.resolve().parent))
        found = _fitted(found, plan, skip_outside)
    with Database(storage, create=True) as database:
        studies = Studies(database)
        if studies.find(plan.name) is not None:
            other = "Give the study file another name" if into else "Give another name with --as"
            raise UserError(f"{database.name} has a study {plan.name!r} already. {other}, or delete that one.")
        made = create(studies, plan, text, runs, found)
        if into is None:
            values = [t.values for t in found.trials if t.values is not None and np.isfinite(t.values).all()]
            if len(plan.goals) > 1 and len(values) > 1:
                studies.set_reference_point(made, reference_point(np.array(values), plan.goals))
    return Imported(
        plan.name, tuple(map(str, plan.goals)), Counter(trial.state for trial in found.trials), found.notes,
        found.left_out, into,
    )  # fmt: skip


def export_trials(
    storage: str, name: str, *, to: Form, out: str | None = None, new_name: str | None = None, overwrite: bool = False
) -> Exported:
    """Write a study's finished trials elsewhere.

    Args:
        to: ``optuna`` (``out`` is a database URL), ``csv`` or ``jsonl`` (``out`` is a file; without it, the text
            is returned).
        new_name: of the study there.
        overwrite: replace a file that is there.

    Raises:
        UserError: there is no such study, ``out`` is missing, is there already or cannot be written, or a study of
            that name is there.
    """
    with Database(storage) as database:
        stored = Studies(database).get(name)
        with database.read() as conn:
            found = ours.read(conn, stored.id, new_name or name, stored.goals, stored.space)
    left_out = Counter(found.left_out)
    if to == "optuna":
        if out is None:
            raise UserError("--to optuna needs --out with the URL of a database, such as sqlite:///optuna.db.")
        target = OptunaDatabase(out, create=True)
        try:
            target.write_study(found)
        finally:
            target.close()
        return Exported(name, len(found.trials), left_out)
    if to == "csv":
        left_out["curves (CSV has no place for them; JSON lines has)"] += sum(bool(t.curve) for t in found.trials)
        text = files.to_csv(found)
    else:
        text = "".join(line + "\n" for line in files.to_json_lines(found))
    if out is None:
        return Exported(name, len(found.trials), +left_out, text)
    path = Path(out)
    content = codec.storable(text).encode()
    try:
        if path.exists() and not overwrite:
            raise UserError(f"{path} exists; use --overwrite or name another file.")
        durable.write(path, lambda temporary: temporary.write_bytes(content))
    except OSError as error:
        raise UserError(f"Cannot write {path}: {error.strerror}. Give --out another.") from error
    return Exported(name, len(found.trials), +left_out)


def _fitted(found: PortableStudy, plan: Plan, skip_outside: bool) -> PortableStudy:
    """The trials as those of a study file: its goals, its space, its constraints.

    Raises:
        DataError: a goal is not measured, or trials are outside the space and may not be skipped.
    """
    renamed = _renamed(found, plan)
    trials, outside = [], []
    for number, trial in enumerate(found.trials):
        try:
            plan.space.check(trial.params)
        except SpaceError as error:
            outside.append(f"trial {number}: {error}")
            continue
        trials.append(_of_plan(trial, plan, renamed))
    if outside and not skip_outside:
        more = f"\n  and {len(outside) - _NAMED} more" if len(outside) > _NAMED else ""
        raise DataError(
            f"{len(outside)} of {len(found.trials)} trials are outside the search space of {plan.name!r}, so nothing "
            "was imported:\n  " + "\n  ".join(outside[:_NAMED]) + more
            + "\nWiden the space, or leave them out with --skip-outside."
        )  # fmt: skip
    left_out = Counter(found.left_out)
    left_out["trials outside the search space"] += len(outside)
    if not plan.constraints:
        left_out["trials' constraints (the study file has none)"] += sum(bool(t.violations) for t in trials)
        trials = [replace(trial, violations={}) for trial in trials]
    notes = [f"{old} of the source is {new} here." for old, new in renamed.items() if old != new]
    return replace(found, trials=tuple(trials), notes=tuple(notes), left_out=+left_out)


def _aligned(found: PortableStudy) -> tuple[PortableStudy, list[str]]:
    """The study with the same constraints, in the same order, in every trial that has any; their names."""
    names = list(dict.fromkeys(name for trial in found.trials for name in trial.violations))
    trials = tuple(
        replace(t, violations={name: t.violations.get(name, math.inf) for name in names} if t.violations else {})
        for t in found.trials
    )
    return replace(found, trials=trials), names


def _renamed(found: PortableStudy, plan: Plan) -> dict[str, str]:
    """metric of the source -> goal of the plan: by name, or by place where no name is the same.

    Raises:
        DataError: the goals are not the same ones.
    """
    theirs, wanted = {goal.metric: goal for goal in found.goals}, {goal.metric: goal for goal in plan.goals}
    known = set(theirs).union(*(trial.metrics for trial in found.trials))
    if known.isdisjoint(wanted) and len(theirs) == len(wanted):
        pairs = dict(zip(theirs, wanted, strict=True))
    elif missing := sorted(set(wanted) - known):
        raise DataError(
            f"The study file's goal {missing[0]} is not measured by the source, which has {', '.join(sorted(known))}."
        )
    else:
        pairs = {name: name for name in wanted if name in theirs}
    for old, new in pairs.items():
        if theirs[old].direction is not wanted[new].direction:
            raise DataError(
                f"The goal {new} is to {wanted[new].direction} in the study file, and {old} was to "
                f"{theirs[old].direction} in the source."
            )
    return pairs


def _of_plan(trial: PortableTrial, plan: Plan, renamed: dict[str, str]) -> PortableTrial:
    metrics = {renamed.get(name, name): value for name, value in trial.metrics.items()}
    curve = {
        step: {renamed.get(name, name): value for name, value in point.items()} for step, point in trial.curve.items()
    }
    values = goal_values(plan.goals, metrics) if trial.state is TrialState.COMPLETE else None
    state, reason = trial.state, trial.reason
    if state is TrialState.COMPLETE and values is None:
        state, reason = TrialState.FAIL, StopReason(StopKind.ERROR, "a goal has no finite value")
    broken = trial.violations
    if plan.constraints:
        found = violations(plan.constraints, metrics) if values is not None else ()
        broken = dict(zip(map(str, plan.constraints), found, strict=False))
    return replace(trial, state=state, reason=reason, values=values, metrics=metrics, curve=curve, violations=broken)


def _study_name(name: str) -> str:
    """``name`` as a study's name may be: what a folder's name cannot hold becomes a dash."""
    return re.sub(r"[^\w.\-]+", "-", name).strip("-._")[:100] or "imported"


def _recorded_file(name: str, source: str, found: PortableStudy) -> str:
    """The study file of trials that were run elsewhere."""
    directions = {goal.metric: str(goal.direction) for goal in found.goals}
    others = sorted({n for t in found.trials for m in (t.metrics, *t.curve.values()) for n in m} - directions.keys())
    document = {
        "name": name,
        "objective": "recorded",
        "data": {"source": _shown(source), "metrics": {**directions, **dict.fromkeys(others, "minimize")}},
        "goals": [{"metric": goal.metric, "direction": str(goal.direction)} for goal in found.goals],
        "search_space": found.space.to_dict(),
        "sampler": {"name": "random"},
        "budget": {"trials": max(1, len(found.trials)), "epochs": max(1, *(t.last_step for t in found.trials), 1)},
        "retrain": {"confirm": 0},
    }
    text = io.StringIO()
    text.write("# Trials that were run elsewhere, as hpo import wrote them down.\n")
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = None
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.dump(document, text)
    return text.getvalue()


def _shown(source: str) -> str:
    from storage import urls

    return urls.shown(urls.parse(source)) if "://" in source else source
