"""A comparison in words: who is better by how much, how sure that is, and what must be known to read it."""

from __future__ import annotations

from collections.abc import Iterable

from hpo.evaluation.differences import Difference
from hpo.reports.comparison.sides import Contest, Entrant, Rematch, SideBySide, Speed
from hpo.reports.spending import HYPERVOLUME, Unit
from hpo.reports.wording import count, listed, number, superlative
from hpo.trial import Goal


def title(side: SideBySide) -> str:
    """``tpe, random and cmaes``."""
    return listed([group.label for group in side.groups])


def aim(side: SideBySide) -> str:
    """What is compared, and at which spending."""
    goals = listed([f"the {superlative(goal)} {goal.metric}" for goal in side.goals])
    amounts = {unit: side.budget(unit) for unit in side.units}
    told = [unit.shown(amount) for unit, amount in amounts.items() if amount is not None]
    equal = f" Equal spending is what every study has spent: {listed(told)}." if told else ""
    return f"Compared by {goals}.{equal}"


def reference(side: SideBySide) -> str:
    """Where the hypervolume is measured from; empty without one."""
    if side.reference is None:
        return ""
    corner = listed([f"{goal.metric} {number(float(v))}" for goal, v in zip(side.goals, side.reference, strict=True)])
    whose = "which all studies keep" if side.is_stored else "just beyond the worst values of all studies together"
    return f"The hypervolume is measured from {corner}, {whose}."


def outcomes(side: SideBySide) -> list[str]:
    """One sentence per group on what matters most, the first measure; the table has all of them."""
    return [contest_sentence(side, contest) for contest in side.contests if contest.measure == side.measures[0]]


def contest_sentence(side: SideBySide, contest: Contest) -> str:
    found, name = contest.found, contest.measure.metric
    pair = f"{contest.second} beside {contest.first}"
    if found is None:
        return f"{pair}: nothing can be said of {name}, because {contest.why_not}."
    at = side.unit.shown(side.budget(side.unit) or 0.0)
    if found.mean == 0:
        return f"{pair}: the same {name} ({number(found.means[0])}) after {at}."
    who = _said(contest.measure, found)
    values = f"{number(found.means[1])} against {number(found.means[0])}"
    mean = "mean " if max(found.n) > 1 else ""
    start = f"{pair}: {mean}{name} {values} after {at}, {who}"
    return f"{start}. {sureness(side, contest)}"


def sureness(side: SideBySide, contest: Contest) -> str:
    """How far a difference can be trusted, as a sentence."""
    found = contest.found
    if found is None or not found.is_known:
        if contest.why_not == "one run each":
            return "One run each allows no interval: it may be the luck of a seed. Repeat both with other seeds."
        return f"There is no interval: {contest.why_not}."
    low_high = f"The 95 % interval over seeds is {interval(found)}"
    return {
        "clear": f"{low_high}: more than chance.",
        "chance": f"{low_high} and holds 0: it may be chance.",
        "among many": f"{low_high}, but among {side.n_intervals} comparisons that much may be chance.",
    }[verdict(contest)]


def verdict(each: Contest | Rematch) -> str:
    """``clear``, ``chance``, ``among many`` or ``–``: what the interval allows to say."""
    if each.found is None or not each.found.is_known:
        return "–"
    return "clear" if each.holds else "among many" if each.found.excludes_zero else "chance"


def interval(found: Difference) -> str:
    return f"{number(found.low)} to {number(found.high)}" if found.is_known else "–"


def better_share(measure: Goal, found: Difference) -> float:
    """In which share of all pairs of studies the second group is the better one, ties half."""
    return found.above if measure.is_better(1.0, 0.0) else 1 - found.above


def speed_sentence(speed: Speed) -> str:
    goal = speed.measure.metric
    target = f"{speed.first}'s final {'' if goal == HYPERVOLUME.metric else 'best '}{goal} ({number(speed.target)})"
    if speed.needed is None:
        return f"{speed.second} never reaches {target} within {speed.unit.shown(speed.within)}."
    if speed.ratio is None:
        return f"{speed.second} reaches {target} at {speed.unit.shown(speed.needed)}."
    took = f"{speed.unit.shown(speed.needed)} instead of {speed.unit.shown(speed.own)}"
    return f"{speed.second} reaches {target} after {ratio(speed.ratio)} of the {speed.unit.spelled}: {took}."


def ratio(share: float) -> str:
    """Two digits; a large one whole."""
    return f"{share:.2g}" if share < 100 else f"{share:,.0f}"


def rematch_sentence(side: SideBySide) -> str:
    """What the runs of the picked trials answer; empty without any."""
    if not side.rematches:
        return ""
    kinds = listed(sorted({{"retrain": "retrained", "confirm": "confirming"}[each.series] for each in side.rematches}))
    return (
        f"The picked trials were run again with fresh seeds ({kinds} runs). That says how far these two settings "
        "are apart, not whether one search is better than the other."
    )


def several(side: SideBySide) -> str:
    """How many intervals are looked at, and what that does to them; empty with one or none."""
    n = side.n_intervals
    if n < 2:
        return ""
    return (
        f"{n} intervals are looked at, each at 95 %: about 1 in 20 excludes 0 by chance alone. “Clear” are those that "
        f"exclude it at {100 * (1 - 0.05 / n):.4g} % too (Bonferroni)."
    )


def method(side: SideBySide) -> str:
    """How the intervals were made; empty without any."""
    if not side.n_intervals:
        return ""
    found = [*(contest.found for contest in side.contests), *(rematch.found for rematch in side.rematches)]
    known = [each for each in found if each is not None and each.is_known]
    kinds = [
        *(["Welch's"] if any(not each.paired for each in known) else []),
        *(["Student's of pairs of equal seeds"] if any(each.paired for each in known) else []),
    ]
    return (
        f"Intervals are of the difference of means: {listed(kinds)}. With few runs they trust that values scatter "
        "evenly about their mean; the share of pairs (Mann-Whitney) asks for no such thing."
    )


def warnings(side: SideBySide) -> list[str]:
    """What makes the comparison weaker than it looks."""
    said = [*_other_data(side), *_unable(side), *_unended(side), *_mixed(side), *_meanings(side), *_same_seeds(side)]
    return said + _times(side)


def notes(side: SideBySide) -> list[str]:
    """What was done, to be known by who reads the figures."""
    said = [
        f"{group.label} is {listed([entrant.label for entrant in group.entrants])}."
        for group in side.groups if len(group.entrants) > 1
    ]  # fmt: skip
    if side.left_out:
        said.append(f"Left out, because not all studies have them or others were named: {listed(side.left_out)}.")
    missing = [unit.spelled for unit in Unit if unit not in side.units]
    if missing and side.able:
        said.append(f"Not every study has its {listed(missing)} recorded, so nothing is said against that.")
    return [*said, *filter(None, [reference(side), several(side), method(side)])]


def _said(measure: Goal, found: Difference) -> str:
    word = "better" if measure.is_better(found.means[1], found.means[0]) else "worse"
    return f"{word} by {number(abs(found.mean))}"


def _other_data(side: SideBySide) -> list[str]:
    if len({entrant.data for entrant in side.entrants}) == 1:
        return []
    objectives = {entrant.data[0] for entrant in side.entrants}
    what = f"objectives ({listed(sorted(objectives))})" if len(objectives) > 1 else "data"
    return [
        f"These studies were measured on different {what}: their values are not comparable. They stand side by side, "
        "but no difference is told between those that are not of the same data."
    ]


def _unable(side: SideBySide) -> list[str]:
    said = []
    for entrant in side.entrants:
        if not entrant.is_able:
            trials = entrant.facts.trials
            failed = sum(trial.state.value == "fail" for trial in trials)
            why = "no trial yet" if not trials else f"no completed trial that can be compared, of {len(trials)}"
            why += f" ({failed} failed)" if failed else ""
            said.append(f"{entrant.label} has {why}; it does not count for the equal spending.")
    return said


def _unended(side: SideBySide) -> list[str]:
    said = []
    for entrant in side.entrants:
        if entrant.unended or entrant.is_open:
            left = f"{count(entrant.unended, 'trial')} that {'has' if entrant.unended == 1 else 'have'} not ended"
            still = "still runs, or died without a word" if entrant.is_open else "is not at its end"
            said.append(f"{entrant.label} {still}{', with ' + left if entrant.unended else ''}: what it found so far.")
    return said


def _mixed(side: SideBySide) -> list[str]:
    """Groups whose studies differ in more than their seed."""
    said = []
    for group in side.groups:
        names = {name for entrant in group.entrants for name in entrant.identity}
        mixed = [name for name in sorted(names - {"seed"}) if not _agree(group.entrants, name)]
        if mixed:
            said.append(f"{group.label} is no repetition of one setting: its studies differ in {listed(mixed)}.")
    return said


def _agree(entrants: Iterable[Entrant], name: str) -> bool:
    found = [entrant.identity.get(name) for entrant in entrants]
    return all(value == found[0] for value in found)


def _meanings(side: SideBySide) -> list[str]:
    said = []
    if not _agree(side.entrants, "epochs"):
        told = listed([f"{entrant.identity.get('epochs')} epochs in {entrant.label}" for entrant in side.entrants])
        said.append(f"A trial is {told}: against trials they have not spent the same.")
    if not _agree(side.entrants, "report"):
        said.append("Some studies value a trial at its best epoch, others at its last (report).")
    if not _agree(side.entrants, "constraints"):
        said.append("The studies have different constraints: what counts as a result of one may not of the other.")
    return said


def _same_seeds(side: SideBySide) -> list[str]:
    """Two studies of one group and seed are no two draws."""
    said = []
    for group in side.groups:
        seeds = [entrant.identity.get("seed") for entrant in group.entrants]
        twice = sorted({str(seed) for seed in seeds if seeds.count(seed) > 1})
        if twice:
            said.append(f"Studies of {group.label} share seed {listed(twice)}: they are no independent repetitions.")
    return said


def _times(side: SideBySide) -> list[str]:
    """Times of other machines or workers compare these too."""
    if Unit.TIME not in side.units:
        return []
    machines = {
        (launch.host, launch.workers, str(launch.environment.get("cpu")), str(launch.environment.get("gpus")))
        for entrant in side.able for launch in entrant.snapshot.launches
    }  # fmt: skip
    return (
        ["Times come from different machines or numbers of workers, and compare those too."]
        if len(machines) > 1
        else []
    )
