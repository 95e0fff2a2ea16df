"""The sentence beside each figure: what it shows for this study, with this study's numbers."""

from __future__ import annotations

from hpo.reports.facts import Ending, Facts, History, last_vector
from hpo.reports.forest import TOO_FEW
from hpo.reports.importance import METHOD, Importance
from hpo.reports.thinning import CURVES, LINES, MARKS
from hpo.reports.timeline import Timeline
from hpo.reports.wording import count, duration, listed, number, percent

_LAST = 10
NO_TRIAL = "No trial has completed yet, so there is nothing to compare."


def front(facts: Facts) -> str:
    """The front of several goals."""
    if not facts.front.numbers:
        return NO_TRIAL
    size = len(facts.front)
    text = f"{size:,} of {count(len(facts.placed), 'completed trial')} {'is' if size == 1 else 'are'} on the front"
    ends = []
    for index, goal in enumerate(facts.goals):
        best = facts.front.pick(goal.metric)
        value = facts.front.values[facts.front.numbers.index(best)][index]
        ends.append(f"trial {best} for {goal.metric} ({number(float(value))})")
    text += f"; the best are {listed(ends)}."
    stopped = sum(last_vector(trial, facts.goals) is not None for trial in facts.ended(Ending.PRUNED))
    text += (
        f" {count(stopped, 'pruned trial')} stand{'s' if stopped == 1 else ''}, faint (×), at the last point."
        if stopped
        else ""
    )
    broke = len(facts.infeasible)
    text += (
        f" {broke:,} (hollow) break{'s' if broke == 1 else ''} a constraint and cannot be on the front."
        if broke
        else ""
    )
    return text + _drawn(MARKS, (len(facts.placed) - size, "dominated"), (stopped, "pruned"), (broke, "not feasible"))


def _drawn(most: int, *kinds: tuple[int, str]) -> str:
    """What is left out of a picture; nothing where all is drawn."""
    many = [f"{n:,} {word}" for n, word in kinds if n > most]
    return (
        f" Of {listed(many)} trials {most:,} each are drawn, evenly over the study; the table below has all."
        if many
        else ""
    )


def history(facts: Facts) -> str:
    """The best so far, or the hypervolume."""
    if not facts.placed:
        return NO_TRIAL
    if len(facts.goals) == 1:
        goal, best = facts.goals[0], facts.promising
        if best is None or best.values is None:
            return NO_TRIAL
        at = f" at epoch {best.best_step}" if best.best_step else ""
        text = f"Trial {best.number} found the best {goal.metric} ({number(best.values[0])}){at}"
        return text + _gain(facts.history(0), "improved it")
    volume = facts.hypervolume
    stored = facts.snapshot.study.reference_point is not None
    where = "the study's reference point" if stored else "a point just beyond the worst values"
    corner = zip(facts.goals, facts.reference or (), strict=True)
    reference = listed([f"{goal.metric} {number(float(value))}" for goal, value in corner])
    text = f"The front covers a hypervolume of {number(volume.best[-1])}, measured from {where} ({reference})"
    return text + _gain(volume, "enlarged it")


def _gain(history: History, verb: str) -> str:
    gain = history.gain_of_last(_LAST)
    if gain is None:
        return "."
    if gain == 0:
        return f"; the last {_LAST} completed trials have not {verb}."
    return f"; the last {_LAST} completed trials {verb}" + (f" by {percent(gain)}." if gain < 100 else ".")


def curves(facts: Facts) -> str:
    """Learning curves of the monitored metric."""
    metric = facts.snapshot.study.monitor.metric
    drawn = [trial for trial in facts.trials if any(metric in point.metrics for point in trial.points)]
    if not drawn:
        return "No trial has reported a point yet." if facts.trials else NO_TRIAL
    if not facts.finite_values(metric):
        return f"{count(len(drawn), 'trial')} reported {metric}, but never as a finite number."
    text = f"{metric} by epoch for {count(len(drawn), 'trial')}"
    pruned = sorted(trial.last_step for trial in facts.ended(Ending.PRUNED) if trial.last_step)
    if pruned:
        middle = pruned[len(pruned) // 2]
        text += f"; {len(pruned)} pruned (×), half of them by epoch {middle}"
    early = facts.ended(Ending.EARLY)
    if early:
        text += f"; {len(early)} stopped early (◇)"
    best = facts.recommended
    if best is not None and best.best_step:
        text += f". Trial {best.number}, recommended, was at its best at epoch {best.best_step}"
    kinds = [(sum(1 for t in facts.ended(ending) if t.points), ending.value) for ending in Ending]
    thin = _drawn(CURVES, *kinds).replace("the table below has all", "hpo export-trials writes all")
    return text + "." + thin


def importance(facts: Facts, found: list[Importance]) -> str:
    """Parameter importance per goal."""
    if len(facts.placed) < TOO_FEW:
        have = count(len(facts.placed), "completed trial")
        return f"Too early to say: {have}, and importance needs at least {TOO_FEW}."
    if not found:
        return "Nothing to explain: the parameters, or the goals, are the same in every completed trial."
    told = [f"{i.names[0]} for {i.goal.metric} ({percent(i.shares[0])})" for i in found if i.is_telling]
    mute = [i.goal.metric for i in found if not i.is_telling]
    text = f"What mattered most: {listed(told)}. " if told else ""
    if mute:
        whose = "its bars" if len(mute) == 1 else "their bars"
        text += f"{listed(mute)} cannot be predicted from {found[0].n_trials} trials: read nothing into {whose}. "
    idle = sum(all(i.shares[i.names.index(name)] < 0.005 for i in found) for name in found[0].names)
    text += f"{count(idle, 'parameter')} without any share {'is' if idle == 1 else 'are'} left out. " if idle else ""
    return text + METHOD


def parallel(facts: Facts) -> str:
    """Parallel coordinates."""
    if len(facts.placed) < 2:
        return "One completed trial has nothing to be compared with yet." if facts.placed else NO_TRIAL
    text = f"Each line is one of {len(facts.placed):,} completed trials"
    text += f", coloured by its rank in {facts.goals[0].metric} (the best stand out)"
    missing = [n for n in facts.param_names if any(n not in trial.params for trial in facts.placed)]
    if missing:
        text += f"; where {listed(missing)} did not apply, the line passes “not set”"
    thin = _drawn(LINES, (len(facts.placed), "completed"))
    return text + f". Drag along an axis to keep only the lines that pass there.{thin}"


def timeline(facts: Facts, shown: Timeline) -> str:
    """Who worked when."""
    if not shown.bars:
        return "No trial has started yet, or no times were recorded."
    n = len(shown.lanes)
    if shown.by_worker:
        text = f"{count(n, 'worker')} {'was' if n == 1 else 'were'} busy"
    else:
        text = f"Up to {count(n, 'trial')} at a time ran, busy"
    text += f" {percent(shown.busy)} of {duration(shown.length)}"
    if shown.cuts:
        gone = sum(cut.seconds for cut in shown.cuts)
        verb = "is" if len(shown.cuts) == 1 else "are"
        text += f"; {count(len(shown.cuts), 'pause')} ({duration(gone)}) in which nothing ran {verb} cut out (dotted)"
    took = sorted((seconds, number) for number, seconds in facts.worked_s.items())
    if len(took) > 2:
        (middle, _), (longest, whose) = took[len(took) // 2], took[-1]
        text += (
            f". Half of the trials worked no longer than {duration(middle)}, trial {whose} longest: {duration(longest)}"
        )
    again = len(shown.bars) - len({bar.number for bar in shown.bars})
    text += f"; {count(again, 'stretch', 'stretches')} went on with an interrupted trial" if again else ""
    many = (
        f" {len(shown.bars):,} stretches of work: short neighbours are drawn as one." if len(shown.bars) > MARKS else ""
    )
    return f"{text}.{many}"
