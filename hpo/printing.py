"""What commands print: tables for people, JSON and CSV for programs."""

from __future__ import annotations

import csv as csv_module
import json
import math
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hpo.errors import UserError
from hpo.evaluation.groups import split_by_group
from hpo.trial import Direction, Goal, TrialRecord, TrialState
from storage.records import Snapshot

if TYPE_CHECKING:
    from hpo.choice import Choice
    from hpo.export.bundle import ModelBundle
    from hpo.export.retrain import Luck
    from hpo.export.verify import VerifyReport
    from hpo.service import Launched, Retrained
    from storage.studies import StudySummary

Row = dict[str, Any]


def show(rows: Sequence[Row], as_json: bool = False, as_csv: bool = False) -> None:
    """Print rows of equal keys: as a table, or as JSON or CSV on request."""
    if as_json:
        print_json(list(rows))
    elif as_csv:
        writer = csv_module.DictWriter(sys.stdout, list(rows[0]) if rows else [], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    elif not rows:
        print("Nothing there yet.")
    else:
        _table(rows)


def print_json(data: Any) -> None:
    """Strict JSON on stdout; NaN and infinities become null."""
    print(json.dumps(_plain(data), indent=2, ensure_ascii=False, allow_nan=False))


def policy(text: str | None) -> str | Mapping[str, float] | None:
    """What ``--pick`` means: a name, or weights written ``a=1,b=2``.

    Raises:
        UserError: a weight is no number of 0 or more.
    """
    if text is None or "=" not in text:
        return text
    weights = {}
    for part in text.split(","):
        name, _, value = part.partition("=")
        try:
            weights[name.strip()] = float(value)
        except ValueError:
            raise UserError(f"--pick: write weights as METRIC=NUMBER,...; got {part!r}.") from None
        if not 0 <= weights[name.strip()] < math.inf:
            raise UserError(f"--pick: a weight is a number of 0 or more; got {part!r}.")
    return weights


def whole_numbers(texts: Sequence[str]) -> dict[str, int]:
    """What ``--set NAME=NUMBER`` means.

    Raises:
        UserError: a text is not of that form.
    """
    numbers = {}
    for text in texts:
        name, _, value = text.partition("=")
        try:
            numbers[name.strip()] = int(value)
        except ValueError:
            raise UserError(f"--set: write NAME=WHOLE NUMBER; got {text!r}.") from None
    return numbers


def objective_rows() -> list[Row]:
    from objectives import registry

    rows = []
    for name in registry.names():
        objective = registry.find(name)
        rows.append({"objective": name, "goals": ", ".join(objective.default_goals), "summary": objective.summary})
    return rows


def summary_rows(summaries: Sequence[StudySummary]) -> list[Row]:
    return [
        {
            "study": s.name,
            "objective": s.objective,
            "goals": ", ".join(map(str, s.goals)),
            **{str(state): s.counts.get(state, 0) for state in TrialState},
            "created": s.created_at[:16].replace("T", " "),
        }
        for s in summaries
    ]


def show_study(snapshot: Snapshot, as_json: bool) -> None:
    """Every trial of a study: state, values, epochs, and why it stopped."""
    names = [goal.metric for goal in snapshot.study.goals]
    rows = [
        {
            "trial": t.number,
            "state": str(t.state),
            **dict(zip(names, t.values or [t.metrics.get(n) for n in names], strict=True)),
            "best epoch": t.best_step,
            "epochs": t.last_step,
            "attempts": t.attempts,
            **({"params": t.params} if as_json else {"params": _params(t.params)}),
            "why it stopped": t.reason.message if t.reason else None,
        }
        for t in snapshot.trials
    ]
    if as_json:
        print_json({"study": snapshot.study.name, "goals": snapshot.study.goals, "trials": rows})
        return
    print(f"{snapshot.study.name}: {snapshot.study.objective}, {_counted(snapshot.trials)}")
    show(rows)


def front_rows(snapshot: Snapshot) -> list[Row]:
    """One row per trial of the front: number, goals, best epoch, parameters."""
    from hpo.pareto import ParetoFront

    goals = snapshot.study.goals
    front = ParetoFront.of(snapshot.trials, goals)
    by_number = {t.number: t for t in snapshot.trials}
    names = list(dict.fromkeys(name for n in front.numbers for name in by_number[n].params))
    columns = _param_columns(names, {"trial", "best epoch", *(goal.metric for goal in goals)})
    return [
        {
            "trial": number,
            **{goal.metric: float(value) for goal, value in zip(goals, values, strict=True)},
            "best epoch": by_number[number].best_step,
            **{column: by_number[number].params.get(name) for name, column in columns.items()},
        }
        for number, values in zip(front.numbers, front.values, strict=True)
    ]


def _param_columns(names: Sequence[str], taken: set[str]) -> dict[str, str]:
    """parameter -> its column, with ``param.`` in front where the name is another column's."""
    columns = {name: name for name in names if name not in taken}
    for name in names:
        if name in taken:
            column = f"param.{name}"
            while column in names:
                column = f"param.{column}"
            columns[name] = column
    return {name: columns[name] for name in names}


def show_choice(snapshot: Snapshot, choice: Choice, as_json: bool) -> None:
    """The winner, its values, and how much of the promise the fresh seeds kept."""
    trial = next(t for t in snapshot.trials if t.number == choice.number)
    goals = {goal.metric: trial.metrics.get(goal.metric) for goal in snapshot.study.goals}
    confirmed = choice.luck.spreads[choice.number] if choice.luck else {}
    if as_json:
        print_json(
            {
                "trial": choice.number,
                "values": goals,
                "confirmed": {
                    name: {"mean": s.mean, "std": s.std, "runs": s.n} for name, s in confirmed.items() if name in goals
                },
                "params": trial.params,
                "best_epoch": trial.best_step,
            }
        )
        return
    print(f"Trial {choice.number} of {snapshot.study.name}, best at epoch {trial.best_step}")
    for name, value in goals.items():
        print(f"  {name} = {_cell(value)}")
    print(f"  with {_params(trial.params)}")
    if choice.unfinished:
        print("Confirmation is unfinished; hpo launch goes on with it.")
    if choice.luck is None:
        print("Not confirmed with fresh seeds: some of its value may be luck.")
        return
    print("With fresh seeds:")
    for line in choice.luck.lines:
        print(f"  {line}")
    for goal in snapshot.study.goals:
        print(f"  {_luck(choice.luck, goal)}")


def _luck(luck: Luck, goal: Goal) -> str:
    """How much of the best promise for one goal was luck."""
    spreads = {number: found[goal.metric] for number, found in luck.spreads.items() if goal.metric in found}
    promised = {number: s.promised for number, s in spreads.items() if s.promised is not None}
    if not promised:
        return f"{goal.metric}: no promise to compare."
    turn = -1 if goal.direction is Direction.MAXIMIZE else 1
    best = min(promised, key=lambda number: turn * promised[number])
    gap = turn * (spreads[best].mean - promised[best])
    if gap <= 0 or spreads[best].is_as_promised:
        verdict = "none of it was luck"
    elif gap <= abs(promised[best]):
        verdict = f"{100 * gap / abs(promised[best]):.2g} % of it was luck"
    else:  # a share above the whole would mean nothing
        verdict = f"{gap:.2g} worse"
    return (
        f"The best {goal.metric} promised, {promised[best]:.4g} (trial {best}), is {spreads[best].mean:.4g}: {verdict}."
    )


def launch_summary(launched: Launched, again: str, options: str = "") -> str:
    """The last words of a launch.

    ``again``: the command that goes on with it. ``options``: what further commands need to
    find the study, such as its ``--storage``; empty where the defaults do.
    """
    snapshot, name = launched.snapshot, launched.name
    study = f"{name} {options}".rstrip()
    lines = [f"Study {name}: {_counted(snapshot.trials)}."]
    if launched.how == "interrupted":
        return "\n".join([*lines, f"Interrupted; nothing is lost. Go on with: {again}"])
    if launched.all_failed:
        why = _first_line(snapshot.trials[0].reason.message) if snapshot.trials[0].reason else "no reason was kept"
        return "\n".join([*lines, f"Every trial failed. The first: {why}", f"Next: hpo show {study}"])
    if (choice := launched.choice) is not None:
        trial = next(t for t in snapshot.trials if t.number == choice.number)
        confirmed = choice.luck.spreads[choice.number] if choice.luck else {}
        means = {name: spread.mean for name, spread in confirmed.items()}
        values = ", ".join(
            f"{g.metric} {_cell({**trial.metrics, **means}.get(g.metric))}" for g in snapshot.study.goals
        )
        how = ", the means of fresh seeds" if confirmed else ""
        lines.append(f"Front: {len(choice.front)} trials. Picked: trial {choice.number} ({values}{how}).")
    lines.append("Next: " + " · ".join(f"hpo {verb} {study}" for verb in ("front", "best", "report", "retrain")))
    return "\n".join(lines)


def show_retrained(retrained: Retrained, as_json: bool) -> None:
    """The promise and what the seeds made of it, on validation and on the test set."""
    summary = retrained.summary
    if as_json:
        print_json({"study": retrained.name, "summary": summary, "baselines": retrained.baselines})
        return
    print(f"Trial {summary.trial} of {retrained.name}, retrained with {len(summary.seeds)} seeds:")
    for line in summary.lines:
        print(f"  {line}")
    if retrained.has_model:
        seed = next(run.seed for run in summary.seeds if run.number == summary.shipped)
        print(f"  The weights of seed {seed} ship: best on the validation data.")
    overall, grouped = split_by_group([name for name in summary.spreads if name.startswith("test_")])
    if overall:
        print("On the test set, which the search never read:")
        show(_against_baselines(retrained, overall))
    if grouped:
        print("By group:")
        show(_by_group(retrained, overall, grouped))
    if retrained.has_model:
        print(f"Next: hpo export {retrained.name}")


def _against_baselines(retrained: Retrained, names: Sequence[str]) -> list[Row]:
    """One row per test metric: mean and spread over the seeds, and each baseline."""
    rows = []
    for name in names:
        spread = retrained.summary.spreads[name]
        row: Row = {"metric": name, "mean": spread.mean, "std": spread.std}
        row.update({baseline: metrics.get(name) for baseline, metrics in retrained.baselines.items()})
        rows.append(row)
    return rows


def _by_group(retrained: Retrained, overall: Sequence[str], grouped: Sequence[str]) -> list[Row]:
    """One row per group, one column per metric that groups have: means over the seeds."""
    rows: dict[str, Row] = {}
    for name in grouped:
        metric = max((other for other in overall if name.startswith(f"{other}_")), key=len)
        group = name.removeprefix(f"{metric}_")
        rows.setdefault(group, {"group": group})[metric] = retrained.summary.spreads[name].mean
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    return [{column: row.get(column) for column in columns} for row in rows.values()]


def show_bundle(bundle: ModelBundle, as_json: bool) -> None:
    """What was made: each format, how far from PyTorch, how fast, how large."""
    if as_json:
        print_json({"path": str(bundle.folder), "digest": bundle.digest, **bundle.manifest.model_dump(mode="json")})
        return
    rows = []
    for name, entry in bundle.manifest.formats.items():
        row: Row = {"format": name, "released": "yes" if entry.released else "no", "MB": entry.size_mb}
        for latency in entry.latency:
            row[f"p50 ms at {latency.batch}"] = latency.p50_ms
            row[f"p95 ms at {latency.batch}"] = latency.p95_ms
            row[f"× eager at {latency.batch}"] = latency.speedup
        row["why not"] = entry.reason
        rows.append(row)
    names = list(dict.fromkeys(name for row in rows for name in row))
    show([{name: row.get(name) for name in names} for row in rows])
    module = bundle.manifest.objective.partition(":")[0] if ":" in bundle.manifest.objective else None
    option = f" --import-from FOLDER (the one with {module})" if module else ""
    print(f"Bundle: {bundle.folder}\nNext: hpo verify {bundle.folder}{option}")


def show_verified(report: VerifyReport, as_json: bool) -> bool:
    """What the check found; whether all is good."""
    if as_json:
        print_json({"good": report.is_good, "lines": report.lines})
    else:
        print("\n".join(report.lines))
    return report.is_good


def _counted(trials: Sequence[TrialRecord]) -> str:
    counts = {state: sum(t.state is state for t in trials) for state in TrialState}
    return f"{len(trials)} trials: " + ", ".join(f"{count} {state}" for state, count in counts.items() if count)


def _params(params: Mapping[str, Any]) -> str:
    return " ".join(f"{name}={_cell(value)}" for name, value in params.items())


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.6g}"
    return _first_line(str(value))


def _first_line(text: str) -> str:
    """What of a long reason fits a table; JSON keeps all of it."""
    return next(iter(text.splitlines()), "")


def _table(rows: Sequence[Row]) -> None:
    """A plain table as wide as it needs to be; the terminal may wrap, a pipe gets whole lines."""
    names = list(rows[0])
    cells = [[_cell(row[name]) for name in names] for row in rows]
    numeric = [all(isinstance(row[name], (int, float, type(None))) for row in rows) for name in names]
    widths = [max(len(name), *(len(line[i]) for line in cells)) for i, name in enumerate(names)]
    for line in [names, ["-" * width for width in widths], *cells]:
        parts = [c.rjust(w) if right else c.ljust(w) for c, w, right in zip(line, widths, numeric, strict=True)]
        print("  ".join(parts).rstrip())


def _plain(data: Any) -> Any:
    if isinstance(data, float):
        return data if math.isfinite(data) else None
    if isinstance(data, Mapping):
        return {str(key): _plain(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [_plain(value) for value in data]
    if hasattr(data, "__dataclass_fields__"):
        return {name: _plain(getattr(data, name)) for name in data.__dataclass_fields__}
    if data is None or isinstance(data, (str, int, bool)):
        return data
    return str(data)
