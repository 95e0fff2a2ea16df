"""From a study file to a plan: every name is looked up and every rule between fields is held.

Whatever is wrong is found here, before anything has been written.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from hpo import earlier, masking, runners, tracking
from hpo.constraints import Constraint
from hpo.errors import StudyFileError, UnknownName, UserError
from hpo.evaluation import gates
from hpo.evaluation.groups import split_by_group
from hpo.plan import Plan
from hpo.search.pruners import ALL_GOALS
from hpo.search.view import SearchSettings
from hpo.search.view import check as check_search
from hpo.spec import StudySpec
from hpo.trainer_fields import settle_trainer
from hpo.training import health
from hpo.training.health import Rule
from hpo.training.settings import TrainerSettings
from hpo.training.team.launching import refusal
from hpo.trial import Direction, Goal, Metric
from objectives import registry
from objectives.adopted import AnyMetric
from objectives.base import Objective, TrainingObjective, facts_of
from search_spaces import Choice, SearchSpace, presets

_NO_TEXT = re.compile("[\0\ud800-\udfff]")


def resolve(spec: StudySpec, source: str = "study file", import_from: str | None = None) -> Plan:
    """The plan of a study file. ``import_from`` is the file's folder, for the user's own modules.

    Raises:
        StudyFileError: something in the file does not fit; the message begins with ``source``.
    """
    try:
        tracking.check(spec.tracking)
        _check_texts(spec)
        plan = _plan(spec, import_from)
        check_search(search_settings(plan))
        _check_enqueued(plan)
        earlier.check(plan)
        _check_stop(plan)
    except UserError as error:
        raise StudyFileError(f"{source}: {error}") from error
    return plan


def _check_texts(spec: StudySpec) -> None:
    """The study file is kept with the study, word for word, and shown; and no path or database takes a NUL."""
    for field, value in spec:
        texts = list(_texts(value))
        if field != "warm_start" and any(map(masking.holds_secret, texts)):
            raise StudyFileError(
                f"{field}: a URL in it has a password or key, which would be kept with the study. Put the URL into an "
                "environment variable, and have it read from there."
            )
        for text in texts:
            if _NO_TEXT.search(text):
                raise StudyFileError(
                    f"{field}: {text!r} has a character that no path or database takes (NUL, or half of a pair). "
                    "Remove it."
                )


def _texts(value: Any, inside: frozenset[int] = frozenset()) -> Iterator[str]:
    """Every text in a value of a study file; what an alias puts into itself is passed over."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (Mapping, list, tuple, BaseModel)) and id(value) not in inside:
        inner = dict(value).values() if isinstance(value, (Mapping, BaseModel)) else value
        for part in inner:
            yield from _texts(part, inside | {id(value)})


def search_settings(plan: Plan) -> SearchSettings:
    """What the search room needs to know of a plan."""
    spec = plan.spec
    options = dict(spec.pruner.options)
    metrics = registry.find(spec.objective, plan.import_from).metrics_for(plan.data)
    watch = options.pop("watch", None)
    if watch is not None and spec.pruner.name in ALL_GOALS:
        raise StudyFileError(f"pruner.watch: {spec.pruner.name} judges all goals and watches none; leave watch out.")
    watched = _watched(watch, plan, metrics)
    return SearchSettings(
        space=plan.space,
        goals=plan.goals,
        seed=spec.seed,
        sampler=spec.sampler.name,
        sampler_options=spec.sampler.options,
        pruner=spec.pruner.name,
        pruner_options=options,
        watched=watched,
        once=frozenset(name for name, facts in metrics.items() if facts.once),
        epochs=spec.budget.epochs,
        concurrency=spec.concurrency,
        deterministic=spec.deterministic,
        constraints=tuple(map(str, plan.constraints)),
    )


def _plan(spec: StudySpec, import_from: str | None) -> Plan:
    runners.find_name(spec.runner)
    objective = registry.find(spec.objective, import_from)
    data = {**objective.default_data, **(spec.data or {})}
    facts = facts_of(objective, data)
    metrics = objective.metrics_for(data)
    goals = _goals(spec, objective, metrics)
    space = _space(spec, objective, data)
    for name in sorted(objective.needs(data) - set(space)):
        raise StudyFileError(f"search_space: {spec.objective} needs the parameter {name!r}; the space has not.")
    trainer = settle_trainer(spec, objective, space)
    monitor = _monitor(goals, trainer, metrics)
    plan = Plan(
        spec=spec,
        goals=goals,
        monitor=monitor,
        space=space,
        trainer=trainer,
        data=data,
        data_fingerprint=facts.fingerprint,
        import_from=import_from,
        rules=_rules(spec, objective, monitor, metrics),
        constraints=_constraints(spec, metrics),
        data_facts=facts,
    )
    _check_pick(plan)
    _check_determinism(plan, metrics)
    _check_devices(plan)
    _check_formats(spec)
    _check_gates(spec, objective, metrics)
    objective.chosen_baselines(data, "validation", spec.baselines)
    return plan


def _goals(spec: StudySpec, objective: Objective, metrics: Mapping[str, Metric]) -> tuple[Goal, ...]:
    if spec.goals is None:
        if not objective.default_goals:
            raise StudyFileError(
                f"goals: {spec.objective} is a function that names none; write goals: "
                "[{metric: val_loss, direction: minimize}], with what it reports."
            )
        return tuple(Goal(name, metrics[name].direction) for name in objective.default_goals)
    goals = []
    for goal in spec.goals:
        if goal.metric not in metrics:
            raise StudyFileError(
                f"goals: {spec.objective} does not report it. {UnknownName('metric', goal.metric, metrics)}"
            )
        if goal.direction is None and isinstance(metrics, AnyMetric):
            raise StudyFileError(
                f"goals: {goal.metric} needs its direction, minimize or maximize: {spec.objective} does not say it."
            )
        goals.append(Goal(goal.metric, goal.direction or metrics[goal.metric].direction))
    return tuple(goals)


def _space(spec: StudySpec, objective: Objective, data: Mapping[str, Any]) -> SearchSpace:
    if spec.search_space is None:
        return objective.space_for(data)
    if isinstance(spec.search_space, str):
        if spec.search_space == spec.objective and spec.search_space not in presets.names():
            return objective.space_for(data)
        return presets.named(spec.search_space)
    return SearchSpace.from_dict(spec.search_space)


def _monitor(goals: tuple[Goal, ...], trainer: TrainerSettings, metrics: Mapping[str, Metric]) -> Goal:
    """The metric that decides the best epoch: early stopping's, else the first goal reported per epoch."""
    stopping = trainer.early_stopping
    if stopping is not None:
        _check_epoch_metric("trainer.early_stopping", stopping.metric, metrics)
        return Goal(stopping.metric, type(goals[0].direction)(stopping.direction))
    for goal in goals:
        if not metrics[goal.metric].once:
            return goal
    name = "val_loss" if "val_loss" in metrics else next((n for n, m in metrics.items() if not m.once), goals[0].metric)
    return Goal(name, metrics[name].direction)


def _rules(spec: StudySpec, objective: Objective, monitor: Goal, metrics: Mapping[str, Metric]) -> tuple[Rule, ...]:
    """The health rules of the study; none where the shared trainer is not used, which alone looks at them."""
    if not isinstance(objective, TrainingObjective):
        if spec.health:
            raise StudyFileError(f"health: {spec.objective} does not train with the shared trainer; leave it out.")
        return ()
    maximized = {name for name, facts in metrics.items() if facts.direction is Direction.MAXIMIZE} - {monitor.metric}
    if monitor.direction is Direction.MAXIMIZE:
        maximized.add(monitor.metric)
    try:
        return health.settle(objective.health, spec.health, monitor=monitor.metric, maximized=maximized)
    except UserError as error:
        raise StudyFileError(f"health: {error}") from None


def _constraints(spec: StudySpec, metrics: Mapping[str, Metric]) -> tuple[Constraint, ...]:
    """The constraints of the study, on metrics that its objective reports."""
    found: dict[tuple[str, str], Constraint] = {}
    for i, text in enumerate(spec.constraints):
        try:
            constraint = Constraint.parse(text)
        except UserError as error:
            raise StudyFileError(f"constraints[{i}]: {error}") from None
        if constraint.metric not in metrics:
            raise StudyFileError(f"constraints[{i}]: {UnknownName('metric', constraint.metric, metrics)}")
        if spec.deterministic and metrics[constraint.metric].timing:
            raise StudyFileError(
                f"deterministic: constraints[{i}] is on {constraint.metric}, which depends on the clock."
            )
        if (constraint.metric, constraint.operator) in found:
            raise StudyFileError(f"constraints[{i}]: {constraint.metric} has an earlier bound of the same side.")
        found[constraint.metric, constraint.operator] = constraint
    return tuple(found.values())


def _watched(watch: object, plan: Plan, metrics: Mapping[str, Metric]) -> Goal:
    if watch is None:
        return next((goal for goal in plan.goals if not metrics[goal.metric].once), plan.monitor)
    _check_epoch_metric("pruner.watch", watch, metrics)
    for goal in plan.goals:
        if goal.metric == watch:
            return goal
    return Goal(str(watch), metrics[str(watch)].direction)


def _check_epoch_metric(field: str, name: object, metrics: Mapping[str, Metric]) -> None:
    per_epoch = [metric for metric, facts in metrics.items() if not facts.once]
    if name not in metrics:
        raise StudyFileError(f"{field}: {UnknownName('metric', name, per_epoch)}")
    if metrics[str(name)].once:
        raise StudyFileError(f"{field}: {name} is measured once per trial, not every epoch; choose one that is.")


def _check_enqueued(plan: Plan) -> None:
    for i, point in enumerate(plan.spec.enqueue):
        for name in point:
            for other, _ in plan.space[name].when if name in plan.space else ():
                if other not in point:
                    # The sampler may choose otherwise, and the value would be lost without a word.
                    raise StudyFileError(
                        f"enqueue[{i}]: {name} depends on {other}, so the point must give {other}, too."
                    )
        try:
            # A grid cannot fill in what a point leaves open.
            plan.space.check(point, partial=plan.spec.sampler.name != "grid")
        except UserError as error:
            raise StudyFileError(f"enqueue[{i}]: {error}") from None


def _check_stop(plan: Plan) -> None:
    stop, goals = plan.spec.stop, [goal.metric for goal in plan.goals]
    for name, value in stop.target.items():
        if name not in goals:
            raise StudyFileError(f"stop.target: {UnknownName('goal', name, goals)}")
        if not math.isfinite(value):
            raise StudyFileError(f"stop.target: {name} must be a finite number; got {value}.")
    trials = plan.spec.budget.trials
    if stop.no_improvement is not None and trials is not None and stop.no_improvement >= trials - 1:
        raise StudyFileError(
            f"stop.no_improvement: {stop.no_improvement} trials without an improvement can never stop a search of "
            f"{trials} before its end; take fewer, or leave it out."
        )


def _check_pick(plan: Plan) -> None:
    metrics = [goal.metric for goal in plan.goals]
    pick = plan.spec.retrain.pick
    if isinstance(pick, str):
        if pick not in ("knee", *metrics):
            raise StudyFileError(f"retrain.pick: {UnknownName('pick policy', pick, ['knee', *metrics])}")
        return
    for name in pick:
        if name not in metrics:
            raise StudyFileError(f"retrain.pick: {UnknownName('goal', name, metrics)}")
    if not any(pick.values()):
        raise StudyFileError("retrain.pick: at least one weight must be above 0.")


def _check_determinism(plan: Plan, metrics: Mapping[str, Metric]) -> None:
    watched = _watched(plan.spec.pruner.options.get("watch"), plan, metrics)
    if not plan.spec.deterministic:
        return
    for goal in plan.goals:
        if metrics[goal.metric].timing:
            raise StudyFileError(
                f"deterministic: {goal.metric} depends on the clock and differs from run to run; "
                "choose one that does not (forward_gflops, parameter_mb, peak_memory_mb), or leave deterministic out."
            )
    for field, goal in (("the metric that decides the best epoch", plan.monitor), ("pruner.watch", watched)):
        if metrics[goal.metric].timing:
            raise StudyFileError(f"deterministic: {field} is {goal.metric}, which depends on the clock.")
    spec = plan.spec
    clocks = {
        "budget.timeout": spec.budget.timeout, "limits.time": spec.limits.time, "limits.silence": spec.limits.silence,
        "stop.hours": spec.stop.hours, "trainer.time_limit": plan.trainer.time_limit,
        "search_space: time_limit": plan.space.get("time_limit"),
    }  # fmt: skip
    for field, value in clocks.items():
        if value is not None:
            raise StudyFileError(
                f"deterministic: {field} goes by the clock, so it would end another trial, or the same one at another "
                "epoch, each time; leave one of the two out."
            )


def _check_devices(plan: Plan) -> None:
    """Several devices for one trial must be there, and go with the other settings."""
    settings, space, gpus = plan.trainer, plan.space, plan.spec.resources.gpus
    if "devices" in space:
        raise StudyFileError(
            "search_space: devices says what every trial gets, as resources do, and is not searched; "
            "set trainer.devices."
        )
    if settings.devices == 1:
        return
    if gpus and gpus < settings.devices:
        raise StudyFileError(
            f"resources.gpus: trainer.devices is {settings.devices}, and each needs a GPU of its own; got {gpus:g}."
        )
    variants = [settings]
    for name in ("compile", "optimizer", "strategy"):
        parameter = space.get(name)
        if isinstance(parameter, Choice):
            variants += [settings.with_params({name: value}) for value in parameter.choices]
    for variant in variants:
        refused = refusal(variant)
        if refused is not None:
            raise StudyFileError(f"trainer: {refused}")
        if variant.strategy == "fsdp" and not gpus and any(goal.metric == "peak_memory_mb" for goal in plan.goals):
            raise StudyFileError("goals: peak_memory_mb cannot be measured with strategy fsdp on a CPU; use ddp.")


def _check_formats(spec: StudySpec) -> None:
    from hpo.export import formats

    for name in spec.export.formats:
        if name not in formats.known():
            raise StudyFileError(f"export.formats: {UnknownName('format', name, formats.known())}")


def _check_gates(spec: StudySpec, objective: Objective, metrics: Mapping[str, Metric]) -> None:
    """Every gate must be able to be measured: its metric exists where it is looked for."""
    overall, grouped = split_by_group([gates.bare(name) for name in metrics if name.startswith("val_")])
    known = {
        "test": overall,
        "groups": overall if grouped else [],
        "folds": [*overall, *(n for n, m in metrics.items() if not m.once and not n.startswith("val_"))],
        "run": [gates.TRAINING_MINUTES, *metrics],
        "export": gates.EXPORT_FIGURES,
    }
    for i, gate in enumerate(spec.gates):
        where = f"gates[{i}]"
        if gate.over == "groups" and not grouped:
            raise StudyFileError(f"{where}: {spec.objective} reports no metrics of groups; leave over: groups out.")
        if gate.over == "folds" and not getattr(objective, "folds", False):
            raise StudyFileError(f"{where}: {spec.objective} knows no folds (folds = True), so none can be measured.")
        if gate.over == "export" and not isinstance(objective, TrainingObjective):
            raise StudyFileError(f"{where}: {spec.objective} trains no model, so nothing of it is exported.")
        name = gate.metric if gate.over in ("run", "export") else gates.bare(gate.metric)
        if name not in known[gate.over]:
            raise StudyFileError(f"{where}: {UnknownName(f'metric over {gate.over}', gate.metric, known[gate.over])}")
