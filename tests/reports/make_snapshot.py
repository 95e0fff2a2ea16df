"""Fabricates plausible snapshots of studies, for tests and for looking at pages."""

from __future__ import annotations

import math
import random
from datetime import UTC, datetime, timedelta

from hpo.trial import Direction, Goal, Point, StopKind, StopReason, TrialRecord, TrialState
from storage.records import (
    CONFIRM,
    RETRAIN,
    AttemptRecord,
    EventRecord,
    LaunchRecord,
    ModelRecord,
    Snapshot,
    StudyRecord,
)

GOALS = (Goal("val_loss"), Goal("latency_ms"), Goal("val_accuracy", Direction.MAXIMIZE), Goal("peak_memory_mb"))
START = datetime(2026, 3, 1, 9, 0, tzinfo=UTC)
EPOCHS = 20

SPEC = """\
name: {name}
objective: quality_regression
goals:
{goals}
search_space:          # what is tuned
  lr: {{type: float, low: 1.0e-5, high: 0.1, log: true}}
  optimizer: {{type: categorical, choices: [adamw, sgd]}}
  momentum: {{type: float, low: 0.5, high: 0.99, when: {{optimizer: sgd}}}}
  width: {{type: int, low: 16, high: 512, log: true}}
  dropout: {{type: float, low: 0.0, high: 0.5}}
sampler: {{name: tpe}}
pruner: {{name: median, warmup: 2}}
budget: {{trials: {trials}, epochs: 20}}
seed: 7
concurrency: 2
"""


def make_study(n_goals: int, n_trials: int = 30, name: str = "logo-quality") -> StudyRecord:
    goals = GOALS[:n_goals]
    lines = "\n".join(f"  - {{metric: {g.metric}, direction: {g.direction}}}" for g in goals)
    reference = (1.5, 40.0, 0.3, 600.0)[:n_goals] if n_goals > 1 else None
    spec = SPEC.format(name=name, goals=lines, trials=n_trials)
    return StudyRecord(
        name, "quality_regression", spec, 4 * "9f2c41d7a0b3e5c8", goals, GOALS[0], "sha256:51ab77d0", at(0), reference
    )


def at(seconds: float) -> str:
    return (START + timedelta(seconds=seconds)).isoformat()


def make_params(rng: random.Random) -> dict[str, object]:
    params: dict[str, object] = {"lr": 10 ** rng.uniform(-5, -1), "optimizer": rng.choice(["adamw", "sgd"])}
    if params["optimizer"] == "sgd":
        params["momentum"] = rng.uniform(0.5, 0.99)
    return {**params, "width": int(2 ** rng.uniform(4, 9)), "dropout": rng.uniform(0, 0.5)}


def make_points(params: dict[str, object], rng: random.Random, epochs: int) -> list[Point]:
    lr, width = float(params["lr"]), int(params["width"])  # type: ignore[arg-type]
    floor = 0.02 + 0.08 * (math.log10(lr) + 2.6) ** 2 + 1.5 / width**0.8
    floor += 0.03 if params["optimizer"] == "sgd" else 0.0
    points = []
    for step in range(1, epochs + 1):
        loss = floor + 0.9 * math.exp(-step * (0.15 + lr * 4)) + rng.gauss(0, 0.008) * floor**0.5
        loss += 0.002 * max(0, step - 14)
        accuracy = 1 - 0.6 * loss / (0.4 + loss)
        metrics = {"val_loss": loss, "val_accuracy": accuracy, "train_loss": loss * 0.9, "lr": lr * (1 - step / 30)}
        points.append(Point(step, metrics, f"epoch-{step}.pt"))
    return points


def make_trial(number: int, goals: tuple[Goal, ...], rng: random.Random, worker: int, start_s: float) -> TrialRecord:
    params = make_params(rng)
    points = make_points(params, rng, EPOCHS)
    state, reason, stop = TrialState.COMPLETE, StopReason(StopKind.FINISHED, f"ran all {EPOCHS} epochs"), EPOCHS
    draw = rng.random()
    if number % 13 == 6:
        stop = rng.randint(0, 3)
        state = TrialState.FAIL
        reason = StopReason(StopKind.ERROR, "RuntimeError: loss is NaN after update 212\nTraceback: …")
    elif draw < 0.45 and number > 4 and points[5].metrics["val_loss"] > 0.35:
        stop = rng.randint(2, 9)
        state = TrialState.PRUNED
        message = f"val_loss {points[stop - 1].metrics['val_loss']:.3f} at epoch {stop} is worse than the median 0.312"
        reason = StopReason(StopKind.PRUNED, message)
    elif draw > 0.8:
        stop = rng.randint(15, 19)
        reason = StopReason(StopKind.EARLY, "val_loss has not improved for 4 epochs")
    points = points[:stop]
    once = {
        "latency_ms": 0.8 + int(str(params["width"])) ** 0.6 * 0.4 + rng.gauss(0, 0.05),
        "peak_memory_mb": 40 + int(str(params["width"])) * 0.9 + rng.gauss(0, 2),
    }
    best = min(points, key=lambda p: p.metrics["val_loss"]) if points else None
    metrics = {**(best.metrics if best else {}), **(once if points else {})}
    values = tuple(metrics[g.metric] for g in goals) if state is TrialState.COMPLETE else None
    seconds = 1.5 + stop * (0.6 + rng.random() * 0.2)
    return TrialRecord(
        number, state, params, 1000 + number, values, metrics, best.step if best else None, stop, reason, number == 0,
        1, f"worker-{worker}", at(start_s), at(start_s + seconds), {}, tuple(points),
    )  # fmt: skip


def make_snapshot(
    n_goals: int = 1, n_trials: int = 30, *, seed: int = 3, workers: int = 2, extras: bool = True, pause_s: float = 0
) -> Snapshot:
    """A finished study of ``n_goals`` goals; ``extras`` adds confirm, retrain, models, events and launches."""
    rng = random.Random(seed)
    study = make_study(n_goals, n_trials)
    free = [0.0] * workers
    trials, attempts = [], []
    for number in range(n_trials):
        worker = free.index(min(free))
        if pause_s and number == n_trials // 2:
            free = [max(free) + pause_s] * workers
        trial = make_trial(number, study.goals, rng, worker, free[worker] + 0.2)
        trials.append(trial)
        end = (datetime.fromisoformat(trial.finished_at or "") - START).total_seconds()
        if number == 9:  # interrupted once, then taken up again
            middle = (free[worker] + end) / 2
            attempts.append(AttemptRecord(number, 1, trial.worker, trial.started_at or "", at(middle), "interrupted"))
            attempts.append(AttemptRecord(number, 2, trial.worker, at(middle + 0.5), trial.finished_at, "finished"))
        else:
            how = trial.reason.kind.value if trial.reason else None
            attempts.append(AttemptRecord(number, 1, trial.worker, trial.started_at or "", trial.finished_at, how))
        free[worker] = end
    if not extras:
        return Snapshot(study, tuple(trials))
    return Snapshot(
        study, tuple(trials), others=make_others(trials, study, rng), launches=make_launches(max(free)),
        attempts=tuple(attempts), events=make_events(), models=make_models(),
    )  # fmt: skip


def make_others(
    trials: list[TrialRecord], study: StudyRecord, rng: random.Random
) -> dict[str, tuple[TrialRecord, ...]]:
    best = sorted((t for t in trials if t.values), key=lambda t: t.metrics["val_loss"])[:3]
    others: dict[str, tuple[TrialRecord, ...]] = {}
    for series, picked, seeds in ((CONFIRM, best, 2), (RETRAIN, best[:1], 3)):
        records = []
        for trial in picked:
            for _ in range(seeds):
                metrics = {name: value * (1.04 + rng.gauss(0, 0.02)) for name, value in trial.metrics.items()}
                if series == RETRAIN:
                    metrics |= {"test_loss": metrics["val_loss"] * 1.1, "test_pearson": 0.93 + rng.gauss(0, 0.004)}
                values = tuple(metrics[g.metric] for g in study.goals)
                reason = StopReason(StopKind.FINISHED, "ran all 20 epochs")
                n, done = len(records), TrialState.COMPLETE
                records.append(TrialRecord(n, done, trial.params, 77 + n, values, metrics, 18, 20, reason))
        others[series] = tuple(records)
    return others


def make_launches(end_s: float) -> tuple[LaunchRecord, ...]:
    environment = {
        "python": "3.11.7", "os": "Linux 6.1", "cpu": "2 × x86_64", "gpu": None,
        "packages": {"torch": "2.13.0", "optuna": "5.0.0"}, "git": {"commit": "a1b2c3d", "dirty": False},
    }  # fmt: skip
    return (LaunchRecord(at(0), at(end_s), "budget spent", "tower", 4711, "ray", 2, {"trials": 30}, environment),)


def make_events() -> tuple[EventRecord, ...]:
    recovered = {"cause": "out of memory", "epoch": 2, "lr": 0.01, "parts": 2}
    return (
        EventRecord(at(12), "search", 3, "recovery", "Out of memory at a physical batch of 256. Physical batch 128, "
                    "2 times the accumulation.", recovered),
        EventRecord(at(40), "search", 9, "interrupted", "driver stopped by the user (SIGINT)"),
        EventRecord(at(55), "search", None, "resumed", "1 running trial was queued again from its checkpoint"),
        *(make_warning(60 + n, n, "overfitting") for n in (2, 5, 8)),
        make_warning(80, 5, "unstable"),
        make_warning(85, 5, "converged", good=True),
        *(make_flags(90 + n, "search", n) for n in range(30)),
        *(make_flags(300 + n, "retrain", n) for n in range(3)),
    )  # fmt: skip


def make_warning(at_s: float, number: int, rule: str, *, good: bool = False, series: str = "search") -> EventRecord:
    details = {
        "rule": rule, "condition": "train_loss / val_loss < 0.5", "value": 0.3, "threshold": 0.5, "epoch": 4,
        "good": good, "remedy": f"What helps against {rule}.",
    }  # fmt: skip
    return EventRecord(at(at_s), series, number, "health", f"epoch 4: {rule} said of {number}", details)


def make_flags(at_s: float, series: str, number: int) -> EventRecord:
    flags = [
        {
            "rule": "overfitting",
            "condition": "train_loss / val_loss < 0.5",
            "value": 0.31,
            "good": False,
            "holds": True,
        },
        {"rule": "worsening", "condition": "epochs running >= 3", "value": 0.0, "good": False, "holds": False},
        {
            "rule": "converged",
            "condition": "best val_r > 0.9",
            "value": 0.9 + number / 1e3,
            "good": True,
            "holds": True,
        },
    ]
    return EventRecord(at(at_s), series, number, "health_flags", "met: converged", {"flags": flags})


def make_models() -> tuple[ModelRecord, ...]:
    manifest = {
        "version": 1, "metrics": {"test_pearson": 0.931},
        "formats": {
            "onnx": {
                "released": True, "reason": None, "files": ["model.onnx"], "size_mb": 0.13,
                "comparison": {"output": "y", "difference": 2.4e-7, "allowed": 1e-4, "bound_share": 0.0024},
                "latency": [{"batch": 1, "p50_ms": 0.41, "p95_ms": 0.5}, {"batch": 32, "p50_ms": 2.3, "p95_ms": 2.9}],
            },
            "coreml": {"released": False, "reason": "converted, not verified", "files": [], "size_mb": 0.14},
        },
    }  # fmt: skip
    return (ModelRecord(at(400), "bundles/logo-quality-v1", 17, manifest),)
