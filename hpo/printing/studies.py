"""What commands print about studies: their lists, trials, front, winner, and the end of a launch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hpo.constraints import broken, least_violated, spoken
from hpo.masking import printable
from hpo.printing.launches import cost_fields, study_cost
from hpo.printing.tables import Row, cell, first_line, params_text, print_json, show
from hpo.reports.facts import newest_runs
from hpo.reports.warnings import health_warning
from hpo.reports.wording import count
from hpo.search.points import REPLACED
from hpo.trial import Direction, Goal, TrialRecord, TrialState, goal_values
from storage.records import CONFIRM, SEARCH, Annotations, Snapshot

if TYPE_CHECKING:
    from hpo.choice import Choice
    from hpo.export.retrain import Luck
    from hpo.service import Launched
    from storage.records import StudySummary

SHOWN = 50  # trials of a long study that a table has
NOTED = 5  # lines of a long note above it
_ENDED = {TrialState.FAIL: "failed"}  # the state as a sentence says it


def objective_rows() -> list[Row]:
    from objectives import registry

    rows = []
    for name in registry.names():
        objective = registry.find(name)
        rows.append({"objective": name, "goals": ", ".join(objective.default_goals), "summary": objective.summary})
    return rows


def summary_rows(summaries: Sequence[StudySummary], as_json: bool = False) -> list[Row]:
    """A row per study; a table for people has a column of tags where there are any."""
    is_tagged = any(summary.tags for summary in summaries)
    return [
        {
            "study": s.name,
            "objective": s.objective,
            "goals": ", ".join(map(str, s.goals)),
            **{str(state): s.counts.get(state, 0) for state in TrialState},
            "created": s.created_at[:16].replace("T", " "),
            **({"tags": list(s.tags)} if as_json else {"tags": printable(", ".join(s.tags))} if is_tagged else {}),
        }
        for s in summaries
    ]


def show_study(snapshot: Snapshot, as_json: bool, everything: bool = False) -> None:
    """The trials of a study: state, values, what each breaks, epochs, health warnings, and why it stopped.

    A table for people ends with the last ones unless ``everything`` is wanted.
    """
    shown = snapshot.trials if as_json or everything else snapshot.trials[-SHOWN:]
    names = [goal.metric for goal in snapshot.study.goals]
    constraints = snapshot.study.constraints
    warnings, said = _warnings(snapshot), snapshot.annotations
    rows = [
        {
            "trial": t.number,
            "state": str(t.state),
            **dict(zip(names, t.values or [t.metrics.get(n) for n in names], strict=True)),
            **({"breaks": _breaks(constraints, t, as_json)} if constraints else {}),
            "best epoch": t.best_step,
            "epochs": t.last_step,
            "attempts": t.attempts,
            "warnings": warnings[t.number] if as_json else len(warnings[t.number]),
            **({"params": t.params} if as_json else {"params": params_text(t.params)}),
            **_said_of(said, t.number, as_json),
            "why it stopped": t.reason.message if t.reason else None,
        }
        for t in shown
    ]
    broken = sorted({event.number or 0 for event in snapshot.events if event.kind == "promise_broken"})
    if as_json:
        print_json(
            {
                "study": snapshot.study.name,
                "goals": snapshot.study.goals,
                "note": said.note,
                "tags": said.tags,
                "constraints": constraints,
                "replaced": replaced(snapshot.trials),
                "promise_broken": broken,
                "cost": cost_fields(snapshot),
                "trials": rows,
            }
        )
        return
    print(f"{snapshot.study.name}: {snapshot.study.objective}, {counted(snapshot.trials)}")
    if snapshot.attempts:
        print(f"Cost so far: {study_cost(snapshot)}")
    for line in _note_lines(said, f"hpo note {snapshot.study.name}"):
        print(printable(line))
    if earlier := len(snapshot.trials) - len(shown):
        print(f"The last {len(shown)}; {earlier} earlier ones with --all.")
    show(rows)
    if broken:
        print(f"Deterministic but for trials {', '.join(map(str, broken))}, which may come out otherwise: see hpo why.")


def _said_of(said: Annotations, number: int, as_json: bool) -> dict[str, Any]:
    """What people said of a trial; of its note a table for people says only that there is one."""
    tags, note = said.trial_tags.get(number, ()), said.trial_notes.get(number, "")
    if as_json:
        return {"tags": tags, "note": note}
    columns: dict[str, Any] = {}
    if said.trial_tags:
        columns["tags"] = printable(", ".join(tags)) or None
    if said.trial_notes:
        columns["note"] = "yes" if note else None
    return columns


def _note_lines(said: Annotations, command: str) -> list[str]:
    """The study's tags and the beginning of its note; ``command`` prints all of it."""
    lines = said.note.splitlines()
    tags = [f"Tags: {', '.join(said.tags)}"] if said.tags else []
    more = [f"  (all {len(lines)} lines: {command})"] if len(lines) > NOTED else []
    return [*tags, *(f"  {line}" for line in lines[:NOTED]), *more]


def _breaks(constraints: Sequence[str], trial: TrialRecord, as_json: bool) -> dict[str, float] | str | None:
    found = broken(constraints, trial)
    return found if as_json else spoken(found) or None


def _warnings(snapshot: Snapshot) -> dict[int, list[str]]:
    """By trial of the search, the health rules that warned, each once, in the order they did."""
    found: dict[int, dict[str, None]] = {trial.number: {} for trial in snapshot.trials}
    for event in snapshot.events:
        rule = health_warning(event.kind, event.details)
        if rule is not None and event.series == SEARCH and event.number in found:
            found[event.number][rule] = None
    return {number: list(rules) for number, rules in found.items()}


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
        print(f"  {name} = {cell(value)}")
    print(f"  with {params_text(trial.params)}")
    if choice.unfinished:
        print("Confirmation is unfinished; hpo launch goes on with it.")
    if choice.luck is None:
        print(_unconfirmed(snapshot, choice.number))
        return
    print("With fresh seeds:")
    for line in choice.luck.lines:
        print(f"  {line}")
    for goal in snapshot.study.goals:
        print(f"  {_luck(choice.luck, goal)}")


def _unconfirmed(snapshot: Snapshot, number: int) -> str:
    """What is known of a winner where fresh seeds did not decide between the best of its policy."""
    runs = newest_runs(run for run in snapshot.others.get(CONFIRM, ()) if run.subject == number)
    again = [values for run in runs if (values := run.values or goal_values(snapshot.study.goals, run.metrics))]
    if not again:
        return "Not confirmed with fresh seeds: some of its value may be luck."
    means = [sum(column) / len(again) for column in zip(*again, strict=True)]
    told = ", ".join(f"{goal.metric} {cell(mean)}" for goal, mean in zip(snapshot.study.goals, means, strict=True))
    return (
        f"With {count(len(again), 'fresh seed')} it gave on average {told}. "
        "Not all of this choice's next best were run again, so fresh seeds did not decide between them."
    )


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
    lines = [f"Study {name}: {counted(snapshot.trials)}."]
    if launched.stop_rule is not None:
        lines.append(f"The search has ended early: {launched.stop_rule}.")
    if launched.how != "done":
        how = "Interrupted" if launched.how == "interrupted" else "Stopped by hpo stop"
        return "\n".join([*lines, f"{how}; nothing is lost. Go on with: {again}"])
    if launched.all_failed:
        why = first_line(snapshot.trials[0].reason.message) if snapshot.trials[0].reason else "no reason was kept"
        return "\n".join([*lines, f"Every trial failed. The first: {why}", f"Next: hpo show {study}"])
    if (choice := launched.choice) is not None:
        trial = next(t for t in snapshot.trials if t.number == choice.number)
        confirmed = choice.luck.spreads[choice.number] if choice.luck else {}
        means = {name: spread.mean for name, spread in confirmed.items()}
        values = ", ".join(f"{g.metric} {cell({**trial.metrics, **means}.get(g.metric))}" for g in snapshot.study.goals)
        how = ", the means of fresh seeds" if confirmed else ""
        front = f"Front: {count(len(choice.front), 'trial')}. " if len(snapshot.study.goals) > 1 else ""
        lines.append(f"{front}Picked: trial {choice.number} ({values}{how}).")
    elif (
        done := [trial for trial in snapshot.trials if trial.state is TrialState.COMPLETE]
    ) and launched.how == "done":
        nearest = least_violated(done)
        found = spoken(broken(snapshot.study.constraints, nearest))
        lines.append(
            f"No trial keeps to every constraint. The nearest is trial {nearest.number}, which breaks {found}."
        )
        return "\n".join([*lines, f"Next: hpo front {study} · hpo report {study}"])
    lines.append("Next: " + " · ".join(f"hpo {verb} {study}" for verb in ("front", "best", "report", "retrain")))
    return "\n".join(lines)


def counted(trials: Sequence[TrialRecord]) -> str:
    counts = {state: sum(t.state is state for t in trials) for state in TrialState}
    infeasible = sum(t.state is TrialState.COMPLETE and not t.is_feasible for t in trials)
    notes = {TrialState.COMPLETE: f" ({infeasible} of them not feasible)"} if infeasible else {}
    told = ", ".join(f"{n} {_ENDED.get(state, state)}{notes.get(state, '')}" for state, n in counts.items() if n)
    repeated = replaced(trials)
    return f"{count(len(trials), 'trial')}: {told}" + (
        f"; proposals of points already tried, replaced: {repeated}" if repeated else ""
    )


def replaced(trials: Sequence[TrialRecord]) -> int:
    """How many proposals were thrown away because their point had been tried."""
    return sum(trial.sampler_state.get(REPLACED, 0) for trial in trials)
