"""What ``hpo compare`` prints: tables side by side, and what has to be known to read them."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from hpo.printing.tables import print_json, show

if TYPE_CHECKING:
    from hpo.evaluation.differences import Difference
    from hpo.reports.comparison.sides import SideBySide

_MOST_ROWS = 25  # of what differs; the page and JSON have all


def show_side_by_side(side: SideBySide, as_json: bool) -> None:
    """The whole comparison: warnings first, then the tables, then how they were made."""
    from hpo.reports.comparison import tables, words

    if as_json:
        print_json(_facts(side))
        return
    print(f"{words.title(side)}. {words.aim(side)}")
    for warning in words.warnings(side):
        print(f"Note: {warning}")
    _section("Each at its own end", tables.studies(side))
    _section("At equal spending (mean ± standard deviation over the studies of a group)", tables.standings(side))
    budget = side.budget(side.unit)
    if budget is not None:
        _section(f"Differences after {side.unit.shown(budget)}", tables.differences(side))
        _section(f"How soon as good as {side.groups[0].label} at its end", tables.speeds(side))
    if side.rematches:
        _section("The picked trials over fresh seeds", tables.rematches(side))
        print(words.rematch_sentence(side))
    differing = tables.differing(side)
    _section("What differs", differing[:_MOST_ROWS])
    if len(differing) > _MOST_ROWS:
        print(f"{len(differing) - _MOST_ROWS} more with --json or on the page (--out).")
    _section("The picked trials", tables.picked(side))
    print()
    for sentence in (*words.outcomes(side), *words.notes(side)):
        print(sentence)


def _section(title: str, rows: list[dict[str, Any]]) -> None:
    if rows:
        print(f"\n{title}")
        show(rows)


def _facts(side: SideBySide) -> dict[str, Any]:
    """Everything, in full digits."""
    from hpo.reports.comparison import tables, words
    from hpo.reports.spending import Unit

    return {
        "groups": [{"group": g.label, "studies": [e.label for e in g.entrants]} for g in side.groups],
        "goals": side.goals,
        "reference_point": side.reference,
        "reference_point_is_stored": side.is_stored and side.reference is not None,
        "equal_spending": {unit.value: side.budget(unit) for unit in side.units},
        "told_at": side.unit,
        "warnings": words.warnings(side),
        "notes": words.notes(side),
        "studies": [
            {**row, **{f"{unit}_spent": tables.total(entrant, unit) for unit in Unit}}
            for row, entrant in zip(tables.studies(side), side.entrants, strict=True)
        ],
        "standings": [
            {
                "unit": unit, "measure": measure.metric,
                "values": {group.label: side.values(group, measure, unit) for group in side.groups},
            }
            for unit in side.units for measure in side.measures
        ],
        "differences": [
            {
                "first": contest.first, "second": contest.second, "measure": contest.measure.metric,
                **_difference(contest.found), "why_no_interval": contest.why_not or None,
                "verdict": words.verdict(contest),
            }
            for contest in side.contests
        ],
        "rematches": [
            {
                "first": each.first, "second": each.second, "series": each.series, "trials": each.trials,
                "epochs": each.epochs, "measure": each.measure.metric, **_difference(each.found),
                "verdict": words.verdict(each),
            }
            for each in side.rematches
        ],
        "speeds": [
            {**asdict(speed), "measure": speed.measure.metric, "ratio": speed.ratio}
            for unit in side.units for speed in side.speed(unit)
        ],
        "curves": [
            {"study": entrant.label, "measure": measure.metric, "unit": unit, **asdict(curve)}
            for entrant in side.entrants for measure in side.measures for unit in side.units
            if (curve := side.curve(entrant, measure, unit)) is not None
        ],
        "differs": tables.differing(side),
        "picked": tables.picked(side),
    }  # fmt: skip


def _difference(found: Difference | None) -> dict[str, Any]:
    if found is None:
        return {"difference": None}
    return {
        "runs": found.n, "means": found.means, "difference": found.mean, "low": found.low, "high": found.high,
        "level": found.level, "second_is_larger": found.above, "p_ranks": found.p_ranks, "paired": found.paired,
    }  # fmt: skip
