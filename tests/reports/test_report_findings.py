"""What the report finds: improvements and their cost, savings, luck, slices, maps, failures; figures by hand."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import moocore
import numpy as np
import pytest
from make_snapshot import at, make_snapshot

from hpo import pareto
from hpo.reports import notes, progress, promises, record, savings, slices, stops, summary, tables
from hpo.reports.facts import Ending, Facts
from hpo.reports.failed import failed
from hpo.reports.forest import Evidence
from hpo.reports.importance import importances
from hpo.reports.luck import expected_luck
from hpo.reports.progress import Progress
from hpo.reports.thinning import evenly, thinned
from hpo.reports.timeline import Bar, Timeline, joined
from hpo.trial import Direction, Goal, Point, StopKind, StopReason, TrialRecord, TrialState
from storage.records import RETRAIN, Annotations, ArtifactRecord, EventRecord, LaunchRecord, Snapshot

LOSS = Goal("loss")
DONE = StopReason(StopKind.FINISHED, "ran all its epochs")


def trial(
    number: int, values: tuple[float, ...] | None, *, curve: tuple[float, ...] = (), **more: object
) -> TrialRecord:
    points = tuple(Point(step, {"loss": value}) for step, value in enumerate(curve, start=1))
    made = TrialRecord(
        number, TrialState.COMPLETE, {"x": float(number)}, number, values, reason=DONE, points=points,
        last_step=len(curve), started_at=at(10 * number), finished_at=at(10 * number + 10),
    )  # fmt: skip
    return replace(made, **more)  # type: ignore[arg-type]


def study(
    *trials: TrialRecord, goals: tuple[Goal, ...] = (LOSS,), spec: str = "budget: {epochs: 4}\n", **more: object
) -> Facts:
    made = make_snapshot(1, 0, extras=False)
    record_ = replace(made.study, goals=goals, monitor=goals[0], spec_yaml=spec, reference_point=None)
    launch = LaunchRecord(at(0), None, None, "tower", 1, "ray", 1)
    return Facts(Snapshot(record_, trials, launches=(launch,), **more))  # type: ignore[arg-type]


def test_an_improvement_costs_what_all_trials_spent_since_the_one_before() -> None:
    stopped = trial(1, None, curve=(8.0, 7.0), state=TrialState.PRUNED, reason=StopReason(StopKind.PRUNED, "p"))
    facts = study(
        trial(0, (5.0,), curve=(6.0, 5.0, 5.0, 5.0)), stopped, trial(2, (6.0,), curve=(6.0,) * 4),
        trial(3, (2.0,), curve=(2.0,) * 4), trial(4, (3.0,), curve=(3.0,) * 4),
    )  # fmt: skip
    spent = Progress.of(facts)
    assert spent.epochs == (4, 10, 14, 18)  # the pruned trial's two epochs count, though it is no place
    assert spent.seconds == (10, 30, 40, 50)
    assert progress.rows(spent) == [("0", "5", "–", "4", "10 s"), ("3", "2", "3", "10", "30 s")]
    text = progress.caption(spent)
    assert "the best loss improved 1 time; the last time, by trial 3, took 10 epochs and 30 s" in text.replace(
        "The", "the"
    )
    assert "Since then 1 completed trial (4 epochs and 10 s) brought nothing" in text


def test_the_last_ten_trials_are_told_with_what_they_bought() -> None:
    facts = study(*(trial(n, (20.0 - n,), curve=(1.0,) * 4) for n in range(12)))
    # From 19 to 9, ten trials later: 10 of 19.
    assert "The last 10 completed trials cost 40 epochs and 1 min 40 s and bought 53 %." in progress.caption(
        Progress.of(facts)
    )


def test_the_hypervolume_is_that_of_every_prefix_and_thins_between() -> None:
    draw = np.random.default_rng(0)
    goals = (Goal("a"), Goal("b", Direction.MAXIMIZE))
    values = draw.random((60, 2))
    expected = [moocore.hypervolume(values[:n] * [1, -1], ref=[1, 0]) for n in range(1, 61)]
    assert pareto.volumes(values, goals, (1.0, 0.0)) == pytest.approx(expected)
    few = pareto.volumes(values, goals, (1.0, 0.0), most=2)
    assert few[0] == pytest.approx(expected[0]) and few[-1] == pytest.approx(expected[-1])
    assert len(set(few)) == 2


def with_pruned(last: float) -> Facts:
    """Six whole trials that gain 1 to 6 after epoch 1 and end at 10; one pruned there at ``last``."""
    whole = [trial(n, (10.0,), curve=(11.0 + n, 10.5, 10.2, 10.0)) for n in range(6)]
    reason = StopReason(StopKind.PRUNED, "worse than the median")
    cut = trial(6, None, curve=(last,), state=TrialState.PRUNED, reason=reason)
    event = EventRecord(at(70), "search", 6, "pruned", "", {"rule": "median", "step": 1})
    return study(*whole, cut, events=(event,))


def test_what_pruning_saved_by_rule_in_epochs_and_in_each_trials_own_seconds() -> None:
    told = savings.savings(with_pruned(20.0))
    assert told is not None
    # 3 of 4 epochs left, and its one epoch took 10 s; 7 trials of 4 epochs were planned.
    assert told.rows == (("pruner median", "1", "1", "3", "30 s"),)
    assert "saved 3 epochs of 28 planned (11 %), about 30 s of work" in told.saved


def test_what_pruning_may_have_cost_is_judged_by_the_luckiest_tenth_of_the_others() -> None:
    # Nine tenths of six trials gained at most 6: from 15.9 it could have reached 9.9, from 16.1 only 10.1.
    could, could_not = savings.savings(with_pruned(15.9)), savings.savings(with_pruned(16.1))
    assert could is not None and "1 of 1 pruned trials would have beaten the best loss (trial 6)" in could.cost
    assert could_not is not None and "It probably cost nothing" in could_not.cost


def test_nothing_stopped_early_is_no_section() -> None:
    assert savings.savings(study(trial(0, (1.0,), curve=(1.0,) * 4))) is None


def searched(n: int, value: object, seed: int = 0, goals: tuple[Goal, ...] = (LOSS,)) -> Facts:
    """``n`` random trials over a and b, of the value that ``value(params, draw)`` gives."""
    draw = random.Random(seed)
    trials = []
    for number in range(n):
        params = {"a": draw.random(), "b": 10 ** draw.uniform(-4, 0)}
        found = value(params, draw)  # type: ignore[operator]
        trials.append(trial(number, found if isinstance(found, tuple) else (found,), params=params))
    return study(*trials, goals=goals)


def luck_of(facts: Facts) -> list[float]:
    return [one.bound for one in expected_luck(facts, Evidence.of(facts), importances(facts))]


def test_the_luck_of_pure_chance_is_that_of_order_statistics() -> None:
    # The smallest of 60 standard normal draws is expected at -2.32 (Harter 1961, doi:10.2307/2333139).
    bounds = [luck_of(searched(60, lambda _, draw: draw.gauss(5, 0.1), seed))[0] for seed in range(3)]
    assert np.mean(bounds) == pytest.approx(0.232, rel=0.2)


def test_luck_has_the_sign_of_the_goal_and_is_small_where_parameters_decide() -> None:
    up = (Goal("r", Direction.MAXIMIZE),)
    facts = searched(60, lambda params, _: params["a"], goals=up)
    (luck,) = expected_luck(facts, Evidence.of(facts), importances(facts))
    assert luck.value > 0.9 and luck.honest == pytest.approx(luck.value - luck.bound)
    assert 0 <= luck.bound < 0.15  # the range is 1, and chance has no part in it
    words = promises.luck_sentence(facts, [replace(luck, bound=0.05, value=0.95)])
    assert "no run with fresh seeds has measured it" in words and "r by 0.05 (0.9 instead of 0.95)" in words


def test_retrained_seeds_say_how_far_chance_goes() -> None:
    facts = searched(40, lambda params, _: params["a"])
    runs = tuple(
        trial(n, (value,), subject=subject) for n, (subject, value) in enumerate(((1, 0.1), (1, 0.3), (2, 5.0)))
    )
    facts = Facts(replace(facts.snapshot, others={RETRAIN: runs}))
    (luck,) = expected_luck(facts, Evidence.of(facts), importances(facts))
    # Two seeds of trial 1 at 0.2 ± 0.1: sqrt(0.02 / 1); a single seed of trial 2 says nothing.
    assert luck.is_seeds and luck.scatter == pytest.approx(math.sqrt(0.02))
    assert "scatter as the retrained seeds did" in promises.luck_sentence(facts, [luck])


def test_too_few_trials_say_nothing_of_luck() -> None:
    facts = searched(5, lambda params, _: params["a"])
    assert luck_of(facts) == []
    assert "cannot be said from so few trials" in promises.luck_sentence(facts)


def test_a_slice_tells_where_the_best_tenth_lies_and_scales_as_the_space_does() -> None:
    facts = searched(40, lambda params, _: abs(math.log10(params["b"]) + 2))
    best = sorted(facts.trials, key=lambda t: t.values or ())[:4]
    low, high = (f"{pick(t.params['b'] for t in best):.4g}" for pick in (min, max))
    drawn = slices.slices(facts, importances(facts))
    assert f"The 4 trials of the lowest loss have b {low} to {high}" in drawn[0].caption
    assert [figure.title for figure in drawn] == ["b", "a"]  # the one that matters first
    assert drawn[0].views["loss"]["layout"]["xaxis"]["type"] == "log"
    assert "type" not in drawn[1].views["loss"]["layout"]["xaxis"]


def test_few_whole_numbers_and_words_have_a_place_each() -> None:
    made = searched(20, lambda params, _: params["a"])
    trials = [replace(t, params={"depth": 1 + t.number % 3, "kind": "xy"[t.number % 2]}) for t in made.trials]
    facts = study(*trials)
    depth, kind = slices.Scale.of(facts, "depth"), slices.Scale.of(facts, "kind")
    assert (depth.kinds, depth.place(3)) == (("1", "2", "3"), 2.0)
    assert (kind.kinds, kind.layout["ticktext"]) == (("x", "y"), ["x", "y"])


def test_a_map_finds_the_hollow_of_a_known_function_and_stays_near_trials() -> None:
    facts = searched(150, lambda p, _: (p["a"] - 0.7) ** 2 + 0.1 * (math.log10(p["b"]) + 2) ** 2)
    (drawn,) = slices.maps(facts, Evidence.of(facts), importances(facts))
    ground = drawn.views["loss"]["data"][0]
    places = np.array(ground["z"], dtype=float)
    row, column = np.unravel_index(np.nanargmin(places), places.shape)
    found = dict(zip(drawn.title.split(" × "), (ground["x"][column], ground["y"][row]), strict=True))
    assert found["a"] == pytest.approx(0.7, abs=0.12)
    assert math.log10(found["b"]) == pytest.approx(-2, abs=0.6)
    assert 0 <= np.nanmin(places) < 0.2 and 0.7 < np.nanmax(places) <= 1


def test_noise_has_no_map() -> None:
    facts = searched(60, lambda _, draw: draw.random())
    (told,) = slices.maps(facts, Evidence.of(facts), importances(facts))
    assert not told.views and "no map of two parameters would be honest" in told.caption


def test_failures_of_one_kind_are_one_row_with_what_helps() -> None:
    def broke(number: int, message: str, kind: StopKind = StopKind.ERROR) -> TrialRecord:
        return trial(number, None, state=TrialState.FAIL, reason=StopReason(kind, message))

    facts = study(
        broke(0, "CUDA out of memory: tried 512 MB", StopKind.OUT_OF_MEMORY),
        broke(1, "CUDA out of memory: tried 1024 MB", StopKind.OUT_OF_MEMORY), broke(2, "KeyError: 'x'"),
    )  # fmt: skip
    told = failed(facts)
    assert told is not None and told.sentence == "Every trial failed, in 2 different ways."
    assert [(kind.n_trials, kind.which) for kind in told.kinds] == [(2, "trial 0 and trial 1"), (1, "trial 2")]
    assert "smaller batch" in told.kinds[0].remedy
    assert "see what failed" in summary.status(facts)


def test_why_trials_stopped_is_a_row_per_reason_whatever_the_numbers_in_it() -> None:
    def cut(number: int, epoch: int) -> TrialRecord:
        reason = StopReason(StopKind.PRUNED, f"pruned at step {epoch}: 0.{epoch} is worse than the median")
        return trial(number, None, curve=(1.0,) * epoch, state=TrialState.PRUNED, reason=reason)

    rows = stops.rows(study(cut(0, 1), cut(1, 3), trial(2, (1.0,), curve=(1.0,) * 4), cut(3, 2)))
    assert rows[0] == ("pruned", "3", "75 %", "2", "10 s", "pruned at step 2: 0.2 is worse than the median")
    assert rows[1][:4] == ("complete", "1", "25 %", "4")


def test_retraining_is_held_against_the_promise_with_students_interval() -> None:
    runs = tuple(trial(n, (value,), subject=0) for n, value in enumerate((1.0, 1.1, 1.2)))
    facts = study(trial(0, (1.05,)), others={RETRAIN: runs})
    (row,) = promises.repeated(facts, RETRAIN)
    # t(0.975, 2) = 4.303; 0.1 / sqrt(3) = 0.0577: 1.1 ± 0.2484.
    assert row.interval == pytest.approx((0.8516, 1.3484), abs=1e-4)
    assert "loss was kept" in promises.kept_promise([row])
    assert "loss came out worse" in promises.kept_promise([replace(row, promised=0.5)])
    assert "loss came out better" in promises.kept_promise([replace(row, promised=1.5)])
    assert row.verdict == "4.8 % worse"  # 0.05 of 1.05
    assert replace(row, promised=1.1).verdict == "no different"


def test_what_a_retrained_model_reached_is_told_of_the_newest_runs_that_came_through() -> None:
    def run(number: int, value: float, epochs: int, state: TrialState = TrialState.COMPLETE) -> TrialRecord:
        made = trial(number, (value,), subject=0, state=state)
        return replace(made, epochs=epochs, metrics={"loss": value, "test_loss": value})

    runs = (run(0, 9.0, 5), run(1, 9.2, 5), run(2, 1.0, 20), run(3, 1.2, 20), run(4, 7.0, 20, TrialState.QUEUED))
    facts = study(trial(0, (1.0,)), others={RETRAIN: runs})
    (row,) = promises.repeated(facts, RETRAIN)
    assert (row.n_seeds, row.mean) == (2, pytest.approx(1.1))
    told = summary.on_test_set(facts)
    assert told is not None and told.columns[1] == "mean ± std over 2 seeds"
    assert told.overall == (("test_loss", "1.1 ± 0.1414"),)


def test_notes_are_shown_without_markup_of_their_own_and_without_asking_anybody() -> None:
    shown = notes.rendered(
        "# Top\n<img src=x onerror=alert(1)> ![i](http://e.test/x.png) [j](javascript:alert(1)) **b**"
    )
    assert "<img" not in shown and "&lt;img" in shown
    assert 'href="javascript' not in shown
    assert "<h4>Top</h4>" in shown and "<strong>b</strong>" in shown
    assert len(notes.rendered("x" * 1_000_000)) < 25_000


def test_what_is_thinned_keeps_what_matters_and_spreads_the_rest() -> None:
    assert evenly(range(10), 4) == [0, 3, 6, 9]
    trials = [trial(n, (1.0,)) for n in range(100)]
    kept = [t.number for t in thinned(trials, 10, keep={7, 8})]
    assert len(kept) == 10 and {0, 7, 8, 99} <= set(kept) and kept == sorted(kept)


def test_short_bars_are_joined_and_look_as_most_of_their_time() -> None:
    start = joined.__globals__["datetime"].fromisoformat(at(0))
    bars = tuple(
        Bar(n, 1, 0, Ending.PRUNED if n % 3 == 0 else Ending.COMPLETE, float(n), 1.0, start) for n in range(3000)
    )
    drawn = joined(Timeline(bars, ("w",), (), 3000.0, True))
    assert len(drawn) == 1000 and {bar.joins for bar in drawn} == {3}
    assert {bar.ending for bar in drawn} == {Ending.COMPLETE}
    assert sum(bar.length for bar in drawn) == 3000


def test_a_long_study_has_pages_whose_cells_sort_as_their_rows_did() -> None:
    facts = study(*(trial(n, (1 / (n + 3),)) for n in range(501)))
    assert tables.is_paged(facts) and not tables.is_paged(study(trial(0, (1.0,))))
    rows = tables.packed(tables.trial_rows(facts))
    assert rows[1][:4] == [1, "complete", "complete", 0]
    assert rows[0][6] == ["0.3333", 1 / 3] and rows[1][6] == "0.25"  # a text that tells is enough


def test_tags_notes_and_files_of_a_trial_are_columns_only_where_there_are_any() -> None:
    assert not {"tags", "note", "files"} & set(tables.trial_columns(study(trial(0, (1.0,)))))
    picture = ArtifactRecord("i", "search", 0, "picture", "curves.png", 2**20, "s", at(0), "artifacts")
    told = Annotations("", (), {0: "look\nhere"}, {0: ("keep", "best")})
    facts = study(trial(0, (1.0,)), annotations=told, artifacts=(picture,))
    assert tables.trial_columns(facts)[-3:] == ["tags", "note", "files"]
    assert [cell.text for cell in tables.trial_rows(facts)[0].cells[-3:]] == ["keep, best", "look", "curves.png"]
    rows, sentence = tables.files(facts)
    assert rows == [("trial 0", "curves.png", "picture", "1.00 MB", "artifacts")] and sentence == "1 file, 1 MB in all."


def test_the_record_names_what_makes_the_study_the_same_and_what_each_launch_changed() -> None:
    launches = tuple(
        LaunchRecord(
            at(n), at(n + 5), "done", "tower", 1, "ray", 2, {"budget": {"trials": trials}}, {"python": "3.11.7"}
        )
        for n, trials in ((0, 20), (10, 40))
    )
    facts = study(trial(0, (1.0,)), spec="seed: 7\n")
    facts = Facts(replace(facts.snapshot, launches=launches))
    assert [row[-1] for row in record.launches(facts)] == ["the first", "budget.trials: was 20, is 40"]
    told = dict(record.identity(facts))
    assert told["seed of the study"] == "7" and told["seed of trial 0"] == "0" and told["Python"] == "3.11.7"


def test_the_summary_says_that_no_trial_keeps_to_the_constraints_and_which_comes_nearest() -> None:
    facts = study(trial(0, (1.0,), violations=(0.5,)), trial(1, (2.0,), violations=(0.25,)))
    constrained = replace(facts.snapshot.study, constraints=("loss <= 0.5",))
    facts = Facts(replace(facts.snapshot, study=constrained))
    told = " ".join(summary.sentences(facts))
    assert "2 of the completed break a constraint." in told
    assert "the nearest is trial 1, which breaks loss <= 0.5 by 0.25." in told
    assert next(card.note for card in summary.cards(facts)) == "no trial keeps to every constraint"
    assert not [line for line, _ in record.commands(facts) if line.startswith("hpo best")]


def test_failures_that_differ_in_a_path_alone_are_counted_as_one() -> None:
    def broke(number: int) -> TrialRecord:
        why = StopReason(StopKind.ERROR, f"ValueError: none (traceback: /runs/s/search-{number:05d}/error.txt)")
        return trial(number, None, state=TrialState.FAIL, reason=why)

    assert "The most common failure (2 of 2)" in " ".join(summary.sentences(study(broke(0), broke(1))))
