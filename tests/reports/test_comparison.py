"""Studies side by side, on made-up studies whose figures are worked out by hand."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import pytest

from hpo.reports.comparison import figures as comparison_figures
from hpo.reports.comparison import tables as comparison_tables
from hpo.reports.comparison import words as comparison_words
from hpo.reports.comparison.page import write_page
from hpo.reports.comparison.sides import Entrant, SideBySide, grouped, labelled
from hpo.reports.spending import HYPERVOLUME, Unit, spent
from hpo.trial import Direction, Goal, StopKind, StopReason, TrialRecord, TrialState
from storage.records import CONFIRM, RETRAIN, LaunchRecord, Snapshot, StudyRecord

F1, F2 = Goal("f1"), Goal("f2")
START = datetime(2026, 3, 1, tzinfo=UTC)


def at(seconds: float) -> str:
    return (START + timedelta(seconds=seconds)).isoformat()


def trial(number: int, values: Any, epochs: int = 10, end_s: float | None = None) -> TrialRecord:
    """A trial that worked for ``epochs`` seconds; ``values`` None: it was pruned."""
    end_s = 10.0 * (number + 1) if end_s is None else end_s
    done = values is not None
    reason = StopReason(StopKind.FINISHED if done else StopKind.PRUNED, "")
    return TrialRecord(
        number, TrialState.COMPLETE if done else TrialState.PRUNED, {"x": number / 10}, number,
        values=values if isinstance(values, tuple) or not done else (float(values),), last_step=epochs, reason=reason,
        started_at=at(end_s - epochs), finished_at=at(end_s), epochs=10,
    )  # fmt: skip


def launch(start_s: float, end_s: float | None) -> LaunchRecord:
    end = None if end_s is None else at(end_s)
    return LaunchRecord(at(start_s), end, "done", "tower", 1, "inline", 1, environment={"cpu": "one", "python": "3.11"})


def entrant(name: str, trials: list[TrialRecord], **fields: Any) -> Entrant:
    goals = fields.pop("goals", (F1,))
    launches = fields.pop("launches", (launch(0, 1000),))
    others, picked = fields.pop("others", {}), fields.pop("picked", None)
    reference, data = fields.pop("reference", None), fields.pop("data", "d1")
    study = StudyRecord(name, "analytic", f"name: {name}\n", name, goals, goals[0], data, at(0), reference)
    identity = {
        "objective": "analytic",
        "sampler": {"name": "tpe"},
        "seed": 1,
        "epochs": 10,
        "report": "best",
        **fields,
    }
    return Entrant(name, Snapshot(study, tuple(trials), others, launches), identity, picked)


def alone(*entrants: Entrant, **fields: Any) -> SideBySide:
    return SideBySide(labelled([[each] for each in entrants]), **fields)


A = entrant("a", [trial(0, 5), trial(1, 4), trial(2, 6), trial(3, 2)])
B = entrant("b", [trial(0, 4.5, 5), trial(1, None, 2), trial(2, 2), trial(3, 1)], sampler={"name": "random"})


def test_values_stand_at_what_both_have_spent() -> None:
    side = alone(A, B)
    assert {unit: side.budget(unit) for unit in side.units} == {
        Unit.TRIALS: 4, Unit.EPOCHS: 27, Unit.TIME: 40, Unit.WORK: 27,
    }  # fmt: skip
    a, b = side.groups
    # After 27 epochs a's third trial (30 in all) had not ended, and all of b had.
    assert (side.values(a, F1, Unit.EPOCHS), side.values(b, F1, Unit.EPOCHS)) == ([4], [1])
    assert (side.values(a, F1, Unit.TRIALS), side.values(b, F1, Unit.TRIALS)) == ([2], [1])


def test_curves_are_steps_that_begin_with_the_first_completed_trial() -> None:
    curve = alone(A, B).curve(A, F1, Unit.EPOCHS)
    assert curve is not None
    assert (curve.at, curve.values, curve.end) == ((10, 20, 40), (5, 4, 2), 40)
    assert [curve.value(spending) for spending in (9.99, 10, 39, 40)] == [None, 5, 4, 2]


def test_speed_is_what_was_needed_for_the_others_final_best() -> None:
    (by_epochs,), (by_trials,) = (alone(A, B).speed(unit) for unit in (Unit.EPOCHS, Unit.TRIALS))
    assert (by_epochs.target, by_epochs.own, by_epochs.needed, by_epochs.ratio) == (2, 40, 17, 17 / 40)
    assert (by_trials.own, by_trials.needed) == (4, 3)
    (never,) = alone(B, A).speed(Unit.EPOCHS)
    assert (never.needed, never.ratio, never.within) == (None, None, 40)
    assert comparison_words.speed_sentence(never) == "a never reaches b's final best f1 (1) within 40 epochs."
    assert "0.42 of the epochs: 17 epochs instead of 40 epochs" in comparison_words.speed_sentence(by_epochs)


def test_wall_clock_leaves_out_the_time_between_launches() -> None:
    trials = [trial(0, 5, end_s=10), trial(1, 4, end_s=20), trial(2, 3, end_s=1030)]
    asleep = entrant("a", trials, launches=(launch(0, 25), launch(1000, None)))
    assert spent(asleep.facts, Unit.TIME) == [10, 20, 1030 - (1000 - 25)]
    killed = entrant("a", trials, launches=(launch(0, None), launch(1000, 1040)))  # its last trial ended after 20 s
    assert spent(killed.facts, Unit.TIME) == [10, 20, 1030 - (1000 - 20)]
    imported = entrant("a", trials, launches=(launch(500, 1040),))
    assert spent(imported.facts, Unit.TIME) is None
    side = alone(A, entrant("b", trials, launches=()))
    assert Unit.TIME not in side.units
    assert any("wall-clock time recorded" in note for note in comparison_words.notes(side))


def test_hypervolume_is_measured_from_one_point() -> None:
    goals = (F1, F2)
    trials = [trial(0, (1.0, 3.0)), trial(1, (3.0, 1.0))]
    a = entrant("a", trials, goals=goals, reference=(4.0, 4.0))
    b = entrant("b", [trial(0, (2.0, 2.0))], goals=goals, reference=(4.0, 4.0))
    side = alone(a, b)
    curve = side.curve(a, HYPERVOLUME, Unit.TRIALS)
    assert curve is not None
    assert (curve.at, curve.values) == ((0, 1, 2), (0, 3, 5))  # 3 x 1, then 3 x 1 + 1 x 3 less the shared 1 x 1
    assert side.values(side.groups[1], HYPERVOLUME, Unit.TRIALS) == [4]
    assert "which all studies keep" in comparison_words.reference(side)
    other = alone(
        a, replace(b, snapshot=replace(b.snapshot, study=replace(b.snapshot.study, reference_point=(9.0, 9.0))))
    )
    # A tenth of the range (1 to 3) worse than the worst of both studies.
    assert other.reference == pytest.approx((3.2, 3.2))
    assert "worst values of all studies" in comparison_words.reference(other)


def repeated(name: str, finals: list[float], sampler: str, goal: Goal = F1) -> list[Entrant]:
    return [
        entrant(f"{name}-{seed}", [trial(0, value)], sampler={"name": sampler}, seed=seed, goals=(goal,))
        for seed, value in enumerate(finals, 1)
    ]


def test_groups_over_seeds_have_welchs_interval() -> None:
    first, second = repeated("tpe", [0, 1, 2], "tpe"), repeated("random", [2.5, 3.5, 4.5], "random")
    side = SideBySide(labelled([first, second]))
    (contest,) = side.contests
    assert (contest.first, contest.second) == ("tpe", "random")
    assert contest.found is not None
    assert (contest.found.low, contest.found.high) == pytest.approx((0.2334, 4.7666), abs=1e-3)
    assert comparison_words.verdict(contest) == "clear"
    assert "worse by 2.5" in comparison_words.contest_sentence(side, contest)
    assert comparison_words.better_share(F1, contest.found) == 0


def test_a_difference_that_only_one_of_several_intervals_shows_is_no_clear_one() -> None:
    first = repeated("tpe", [0, 1, 2], "tpe")
    others = [repeated(name, [2.5, 3.5, 4.5], name) for name in ("random", "qmc", "gp")]
    side = SideBySide(labelled([first, *others]))
    assert side.n_intervals == 3
    # t of 4 degrees of freedom at 1 - 0.05 / 6 is 3.96: the interval then reaches to 2.5 - 3.23.
    assert {comparison_words.verdict(contest) for contest in side.contests} == {"among many"}
    assert "3 intervals are looked at" in comparison_words.several(side)
    assert "98.33 %" in comparison_words.several(side)


def test_higher_is_better_where_the_goal_says_so() -> None:
    goal = Goal("accuracy", Direction.MAXIMIZE)
    side = SideBySide(labelled([repeated("a", [0.1, 0.2], "tpe", goal), repeated("b", [0.8, 0.9], "random", goal)]))
    (contest,) = side.contests
    assert contest.found is not None
    assert comparison_words.better_share(goal, contest.found) == 1
    assert "better by 0.7" in comparison_words.contest_sentence(side, contest)
    (speed,) = side.speed(Unit.TRIALS)
    assert (speed.target, speed.needed) == (0.2, 1)


def test_of_a_group_half_of_the_studies_count_for_speed() -> None:
    trials = [[trial(0, 9), trial(1, value)] for value in (1, 2, 3, 4)]
    first = [entrant(f"a-{i}", each, seed=i) for i, each in enumerate(trials)]
    second = [entrant(f"b-{i}", [trial(0, value), trial(1, 9)], seed=i) for i, value in enumerate((2, 2, 5, 5))]
    (speed,) = SideBySide(labelled([first, second])).speed(Unit.TRIALS)
    assert (speed.target, speed.own, speed.needed) == (2, 2, 1)


def test_one_run_each_says_that_it_allows_no_interval() -> None:
    side = alone(A, B)
    (contest,) = side.contests
    assert contest.why_not == "one run each"
    assert contest.found is not None
    assert not contest.found.is_known
    assert "One run each allows no interval" in comparison_words.outcomes(side)[0]
    assert comparison_words.several(side) == ""


def runs(series: str, values: list[float], seeds: list[int]) -> dict[str, tuple[TrialRecord, ...]]:
    made = [
        replace(trial(n, value), seed=seed, subject=0, metrics={"f1": value, "test_f1": value + 1})
        for n, (value, seed) in enumerate(zip(values, seeds, strict=True))
    ]
    return {series: tuple(made)}


def test_single_studies_are_held_by_the_runs_of_their_picked_trials() -> None:
    ends = [trial(0, 5)]
    a = entrant("a", ends, picked=0, others=runs(RETRAIN, [1.0, 2.0, 3.0], [0, 1, 2]))
    b = entrant("b", ends, picked=0, others=runs(RETRAIN, [1.5, 2.4, 3.6], [0, 1, 2]))
    side = alone(a, b)
    goal, test = side.rematches
    assert (goal.measure.metric, test.measure.metric) == ("f1", "test_f1")
    assert goal.found.paired
    # Differences 0.5, 0.4, 0.6: mean 0.5, standard error 0.1 / sqrt(3), t of 2 degrees of freedom 4.303.
    assert (goal.found.low, goal.found.high) == pytest.approx((0.5 - 4.303 * 0.05774, 0.5 + 4.303 * 0.05774), abs=1e-3)
    fresh = entrant("b", ends, picked=0, others=runs(CONFIRM, [1.5, 2.4], [8, 9]))
    confirmed = entrant("a", ends, picked=0, others=runs(CONFIRM, [1.0, 2.0], [6, 7]))
    (other, _) = alone(confirmed, fresh).rematches
    assert not other.found.paired
    assert alone(a, fresh).rematches == []  # of different series


def test_values_of_other_data_stand_beside_each_other_and_no_more() -> None:
    side = alone(A, entrant("b", B.snapshot.trials, data="d2"))
    (contest,) = side.contests
    assert contest.found is None
    assert side.speed(Unit.EPOCHS) == []
    assert "not comparable" in comparison_words.warnings(side)[0]
    assert "nothing can be said of f1" in comparison_words.outcomes(side)[0]


def test_studies_that_differ_in_seed_alone_are_found() -> None:
    tpe, random = repeated("tpe", [1, 2], "tpe"), repeated("random", [3, 4], "random")
    groups = grouped([tpe[0], random[0], tpe[1], random[1]])
    assert {g.label: [e.label for e in g.entrants] for g in groups} == {
        "tpe": ["tpe-1", "tpe-2"], "random": ["random-1", "random-2"],
    }  # fmt: skip
    assert [len(group.entrants) for group in grouped(tpe)] == [1, 1]  # else nothing would be left to compare


def test_what_weakens_a_comparison_is_said() -> None:
    mixed = [A, entrant("a2", A.snapshot.trials, sampler={"name": "random"})]
    running = replace(trial(1, 4), state=TrialState.RUNNING, values=None, finished_at=None)
    still = entrant("c", [trial(0, 3), running], epochs=20, launches=(launch(0, None),))
    said = " ".join(comparison_words.warnings(SideBySide(labelled([mixed, [still]]))))
    assert "its studies differ in sampler" in said
    assert "share seed 1" in said
    assert "c still runs, or died without a word, with 1 trial that has not ended" in said
    assert "20 epochs in c" in said


FAILED = [replace(trial(n, None), state=TrialState.FAIL, reason=StopReason(StopKind.ERROR, "boom")) for n in range(3)]


@pytest.mark.parametrize("other", [[], FAILED], ids=["empty", "all failed"])
def test_a_study_with_nothing_to_compare_still_gives_a_page(
    other: list[TrialRecord], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("plotly.offline.get_plotlyjs", lambda: "/* plotly.js */")
    side = alone(A, entrant("b", other))
    assert side.budget(Unit.TRIALS) == 4  # it does not count for the equal spending
    assert side.contests[0].why_not == "b has no completed trial by then"
    assert any(warning.startswith("b has no") for warning in comparison_words.warnings(side))
    page = write_page(side, tmp_path / "one")[0].read_text(encoding="utf-8")
    assert "b has no" in page
    both = write_page(alone(entrant("a", other), entrant("b", FAILED)), tmp_path / "none")
    assert [path.name for path in both] == ["index.html"]
    assert "No study has a completed trial" in both[0].read_text(encoding="utf-8")


def test_the_page_draws_valid_figures_and_asks_for_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("plotly.offline.get_plotlyjs", lambda: "/* plotly.js */")
    goals = (F1, F2)
    first = [
        entrant(f"a<b>-{n}", [trial(0, (1.0, 3.0 + n)), trial(1, (3.0, 1.0))], goals=goals, seed=n) for n in (1, 2)
    ]
    side = SideBySide(labelled([first, [entrant("c", [trial(0, (2.0, 2.0))], goals=goals)]]))
    for figure in (comparison_figures.curves(side), comparison_figures.finals(side)):
        for view in figure.views.values():
            for trace in go.Figure(view["data"], view["layout"]).data:  # plotly's own validation
                assert trace.mode != "lines" or trace.line.shape == "hv"
    paths = write_page(side, tmp_path)
    page = paths[0].read_text(encoding="utf-8")
    assert {path.name for path in paths} == {"index.html", *(f"against-{unit}.png" for unit in Unit)}
    assert "a<b>" not in page
    assert not re.search(r"""(src|href)=["']?https?:""", page)
    held = json.loads(re.search(r'id="figures">(.*?)</script>', page, re.S)[1])  # type: ignore[index]
    assert len(held["curves"]) == 3 * 4


def test_only_what_differs_is_told() -> None:
    rows = comparison_tables.differing(alone(A, B))
    assert rows == [{"what": "sampler.name", "a": "tpe", "b": "random"}]
