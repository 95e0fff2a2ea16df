"""The page and the plots of every kind of study: they come out, tell the truth, and load nothing from outside."""

from __future__ import annotations

import io
import json
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
import pytest
from make_snapshot import make_snapshot
from parsed import Page, write
from PIL import Image

from hpo.errors import UserError
from hpo.pareto import ParetoFront
from hpo.reports.html import script_json
from hpo.reports.page import write_report
from hpo.trial import Point, StopKind, StopReason, TrialRecord, TrialState
from storage.records import Annotations, ArtifactRecord, EventRecord, ModelRecord, Snapshot

NASTY = "</script><script>alert(1)</script><img src=http://evil.test/x>&amp;\u2028"
pytestmark = pytest.mark.usefixtures("light")


def failed(trial: TrialRecord) -> TrialRecord:
    reason = StopReason(StopKind.ERROR, "RuntimeError: boom")
    return replace(trial, state=TrialState.FAIL, values=None, reason=reason, best_step=None, points=(), metrics={})


def all_failed() -> Snapshot:
    made = make_snapshot(2, 5)
    return replace(made, trials=tuple(map(failed, made.trials)), others={})


def without_points() -> Snapshot:
    made = make_snapshot(1, 12)
    return replace(made, trials=tuple(replace(trial, points=()) for trial in made.trials))


def with_nan() -> Snapshot:
    made = make_snapshot(3, 12)
    spoilt = []
    for trial in made.trials:
        points = tuple(
            Point(p.step, {**p.metrics, "val_loss": math.nan if p.step % 2 else math.inf}) for p in trial.points
        )
        values = (math.nan, *trial.values[1:]) if trial.values and trial.number % 2 else trial.values
        spoilt.append(replace(trial, points=points, values=values, metrics={**trial.metrics, "val_loss": math.nan}))
    return replace(made, trials=tuple(spoilt))


def without_params() -> Snapshot:
    made = make_snapshot(1, 12)
    return replace(made, trials=tuple(replace(trial, params={}) for trial in made.trials))


def running_and_queued() -> Snapshot:
    made = make_snapshot(2, 10)
    rest = [
        replace(t, state=state, values=None, reason=None, finished_at=None)
        for t, state in zip(made.trials[-2:], (TrialState.RUNNING, TrialState.QUEUED), strict=True)
    ]
    attempts = tuple(replace(a, ended_at=None, ended_how=None) if a.number >= 8 else a for a in made.attempts)
    return replace(made, trials=(*made.trials[:-2], *rest), attempts=attempts)


def imported() -> Snapshot:
    made = make_snapshot(2, 12, extras=False)
    trials = tuple(
        replace(t, started_at=None, finished_at=None, worker=None, points=(), last_step=0) for t in made.trials
    )
    return replace(made, study=replace(made.study, objective="recorded", spec_yaml="name: x"), trials=trials)


def with_constraint() -> Snapshot:
    made = make_snapshot(3, 30)
    trials = tuple(replace(t, violations=(t.metrics.get("latency_ms", 0.0) - 8.0,)) for t in made.trials)
    return replace(made, study=replace(made.study, constraints=("latency_ms <= 8",)), trials=trials)


def mixed_choices() -> Snapshot:
    made = make_snapshot(1, 12)
    choices = [None, True, False, "a", 1, 2.5]
    trials = [replace(t, params={**t.params, "odd": choices[t.number % 6]}) for t in made.trials]
    return replace(made, trials=tuple(trials))


KINDS = {
    "empty": lambda: make_snapshot(1, 0),
    "empty, several goals": lambda: replace(make_snapshot(3, 0, extras=False), others={}),
    "single trial": lambda: make_snapshot(1, 1),
    "single trial, several goals": lambda: make_snapshot(2, 1, extras=False),
    "all failed": all_failed,
    "one goal": lambda: make_snapshot(1, 30),
    "two goals": lambda: make_snapshot(2, 18),
    "three goals": lambda: make_snapshot(3, 18),
    "four goals": lambda: make_snapshot(4, 12),
    "no points": without_points,
    "NaN": with_nan,
    "no parameters": without_params,
    "running and queued": running_and_queued,
    "mixed choices": mixed_choices,
    "imported": imported,
    "constrained": with_constraint,
    "bare": lambda: make_snapshot(2, 12, extras=False),
    "long pause": lambda: make_snapshot(2, 12, pause_s=40_000),
    "unreadable study file": lambda: replace(
        make_snapshot(1, 4), study=replace(make_snapshot(1, 4).study, spec_yaml="a: [1\n: :")
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_study_gives_a_page_whose_figures_plotly_accepts(kind: str, tmp_path: Path) -> None:
    snapshot = KINDS[kind]()
    page, paths = write(snapshot, tmp_path / "report")
    assert set(page.rows) == {trial.number for trial in snapshot.trials}
    for name, views in page.figures.items():
        for view in views:
            go.Figure(data=view["data"], layout=view["layout"])  # raises on what plotly does not know
        assert any(tag.get("data-figure") == name for _, tag in page.tags) == bool(views)
    for path in paths[1:]:
        picture = np.asarray(Image.open(io.BytesIO(path.read_bytes())).convert("L"))
        assert min(picture.shape) > 250
        assert picture.std() > 5, f"{path.name} shows next to nothing"
    assert {path.name for path in tmp_path.joinpath("report").iterdir()} == {path.name for path in paths}


def test_the_plots_are_those_that_have_something_to_show(tmp_path: Path) -> None:
    everything = ["index.html", "history.png", "curves.png", "front.png", "importance.png", "timeline.png"]
    assert [p.name for p in write_report(make_snapshot(2, 30), tmp_path)] == everything
    # Written again for a study with less: what no longer applies is gone, other files stay.
    (tmp_path / "notes.txt").write_text("mine")
    assert [p.name for p in write_report(make_snapshot(1, 0), tmp_path)] == ["index.html"]
    assert {p.name for p in tmp_path.iterdir()} == {"index.html", "notes.txt"}


@pytest.mark.usefixtures("no_plots")
def test_the_numbers_on_the_page_are_those_of_the_snapshot(tmp_path: Path) -> None:
    snapshot = make_snapshot(2, 30)
    page, _ = write(snapshot, tmp_path)
    by_state = {state: [t for t in snapshot.trials if t.state is state] for state in TrialState}
    complete, pruned = by_state[TrialState.COMPLETE], by_state[TrialState.PRUNED]
    early = [t for t in complete if t.reason is not None and t.reason.kind is StopKind.EARLY]
    assert (
        f"Of 30 trials, {len(complete)} completed ({len(early)} ended by early stopping), "
        f"{len(pruned)} pruned and {len(by_state[TrialState.FAIL])} failed."
    ) in page.text
    run, saved = sum(t.last_step for t in snapshot.trials), sum(20 - t.last_step for t in pruned)
    assert f"{run} of 600 epochs were run (20 epochs each): pruning saved {saved} ({saved / 6:.0f} %)" in page.text
    front = ParetoFront.of(snapshot.trials, snapshot.study.goals)
    assert f"{len(front)} of {len(complete)} completed trials are on the front" in page.text
    assert f"Recommended: trial {front.knee()}" in page.text
    volume = front.hypervolume(snapshot.study.reference_point or ())
    assert f"hypervolume of {volume:.4g}" in page.text
    assert page.figures["history"][0]["data"][0]["y"][-1] == pytest.approx(volume, rel=1e-5)
    for trial in complete:
        row = page.rows[trial.number]
        assert [float(cell.replace(",", "")) for cell in row[4:6]] == pytest.approx(trial.values, rel=1e-3)
        assert row[2:4] == [str(trial.best_step), str(trial.last_step)]
    for trial in pruned:
        assert page.rows[trial.number][1] == "pruned"
        assert page.rows[trial.number][4:6] == ["–", "–"]
    assert "9f2c41d7a0b3e5c8" in page.text


@pytest.mark.usefixtures("no_plots")
def test_one_goal_recommends_its_best_trial(tmp_path: Path) -> None:
    snapshot = make_snapshot(1, 30)
    best = min((t for t in snapshot.trials if t.values), key=lambda t: t.values)
    page, _ = write(snapshot, tmp_path)
    assert f"Trial {best.number} found the best val_loss ({best.values[0]:.4g})" in page.text
    assert f"hpo best {snapshot.study.name} --pick val_loss" in page.text


@pytest.mark.usefixtures("no_plots")
def test_the_study_files_own_policy_picks_the_recommended_trial(tmp_path: Path) -> None:
    made = make_snapshot(2, 30)
    front = ParetoFront.of(made.trials, made.study.goals)
    assert front.pick("latency_ms") != front.knee()
    spec = made.study.spec_yaml + "retrain: {pick: latency_ms}\n"
    page, _ = write(replace(made, study=replace(made.study, spec_yaml=spec)), tmp_path)
    assert f"Recommended: trial {front.pick('latency_ms')}" in page.text


@pytest.mark.usefixtures("no_plots")
def test_confirmation_tells_how_much_was_luck(tmp_path: Path) -> None:
    made = make_snapshot(1, 30)
    best = min((t for t in made.trials if t.values), key=lambda t: t.values)
    promised = best.values[0]
    seeds = [replace(best, number=i, values=(promised * factor,)) for i, factor in enumerate((1.2, 1.3))]
    page, _ = write(replace(made, others={"confirm": tuple(seeds)}), tmp_path)
    assert f"came out at {promised * 1.25:.4g} over 2 fresh seeds, 25 % worse: that much of it was luck" in page.text
    assert f"{promised:.4g} {promised * 1.25:.4g} ± {promised * 0.1 / math.sqrt(2):.4g} – 2 25 % worse" in page.text


@pytest.mark.usefixtures("no_plots")
def test_luck_beyond_the_whole_promise_is_told_as_a_gap(tmp_path: Path) -> None:
    made = make_snapshot(1, 30)
    best = min((t for t in made.trials if t.values), key=lambda t: t.values)
    promised = best.values[0]
    seeds = [replace(best, number=i, values=(promised * 20,)) for i in range(2)]
    page, _ = write(replace(made, others={"confirm": tuple(seeds)}), tmp_path)
    assert f"over 2 fresh seeds, {promised * 19:.4g} worse than promised" in page.text
    assert "900 %" not in page.text


@pytest.mark.usefixtures("no_plots")
def test_a_trial_chosen_by_fresh_seeds_is_recommended_and_says_so(tmp_path: Path) -> None:
    made = make_snapshot(1, 12)
    order = [t.number for t in sorted((t for t in made.trials if t.values), key=lambda t: t.values)]
    page = Page(write_report(made, tmp_path, chosen=order[1])[0].read_text(encoding="utf-8"))
    assert f"Recommended: trial {order[1]}" in page.text
    assert f"Trial {order[1]} held up best with fresh seeds" in page.text
    assert f"by first values alone it would be trial {order[0]}" in page.text
    assert f"Trial {order[0]} found the best val_loss" in page.text


@pytest.mark.usefixtures("no_plots")
def test_a_repeated_trial_is_known_by_its_subject(tmp_path: Path) -> None:
    made = make_snapshot(1, 12)
    origin = next(t for t in made.trials if t.values)
    twin = replace(origin, number=11, values=(origin.values[0] * 2,), reason=None, state=TrialState.COMPLETE)
    run = replace(origin, number=0, subject=11)
    page, _ = write(replace(made, trials=(*made.trials[:-1], twin), others={"confirm": (run,)}), tmp_path)
    assert f"11 val_loss {twin.values[0]:.4g} {run.values[0]:.4g} – 1" in page.text


@pytest.mark.usefixtures("no_plots")
def test_retraining_shows_mean_and_spread_of_the_test_metrics(tmp_path: Path) -> None:
    made = make_snapshot(1, 12)
    origin = next(t for t in made.trials if t.values)
    runs = [replace(origin, number=i, metrics={"test_pearson": v}) for i, v in enumerate((0.9, 0.92, 0.94))]
    metrics = {"tree": {"test_pearson": 0.81}}
    event = EventRecord(made.study.created_at, "retrain", None, "baselines", "tree", {"metrics": metrics})
    page, _ = write(replace(made, others={"retrain": tuple(runs)}, events=(*made.events, event)), tmp_path)
    assert "mean ± std over 3 seeds tree test_pearson 0.92 ± 0.02 0.81" in page.text


def test_text_from_outside_is_shown_as_text(tmp_path: Path) -> None:
    made = make_snapshot(2, 12)
    study = replace(made.study, name=NASTY, objective=NASTY, spec_yaml=NASTY, digest=NASTY)
    reason = StopReason(StopKind.ERROR, NASTY)
    trials = tuple(
        replace(t, params={**t.params, NASTY: NASTY}, worker=NASTY, reason=reason if t.reason else None)
        for t in made.trials
    )
    events = tuple(replace(e, kind=NASTY, message=NASTY) for e in made.events)
    warning = next(e for e in made.events if e.kind == "health")
    events += (replace(warning, message=NASTY, details={**warning.details, "rule": NASTY, "remedy": NASTY}),)
    attempts = tuple(replace(a, worker=NASTY) for a in made.attempts)
    models = (ModelRecord(NASTY, NASTY, 1, {"verdict": NASTY, "formats": {NASTY: {NASTY: NASTY}}, NASTY: [NASTY]}),)
    told = Annotations(NASTY, (NASTY,), {1: NASTY}, {1: (NASTY,)})
    kept = (ArtifactRecord("i", "search", 1, NASTY, NASTY, 1, "s", NASTY, NASTY),)
    snapshot = replace(
        made, study=study, trials=trials, events=events, attempts=attempts, models=models, annotations=told,
        artifacts=kept,
    )  # fmt: skip
    page, _ = write(snapshot, tmp_path)
    clean, _ = write(made, tmp_path)
    assert len(page.scripts) == len(clean.scripts) == 4
    assert not [tag for tag, _ in page.tags if tag == "img"]
    assert "</script><script>alert(1)</script>" in page.text
    # plotly reads a subset of HTML in labels: there, too, it must be text.
    assert "<img" not in json.dumps(page.figures)


@pytest.mark.usefixtures("no_plots")
def test_nothing_is_loaded_from_outside(tmp_path: Path) -> None:
    page, paths = write(make_snapshot(3, 12), tmp_path)
    assert len(page.scripts[2]) > 1_000_000  # plotly.js itself stands in the page
    loading = {"src", "href", "srcset", "data", "action", "poster", "background"}
    addresses = [value for _, tag in page.tags for name, value in tag.items() if name in loading]
    assert [a for a in addresses if not a.startswith("#") and a != "data:,"] == []
    style = re.search(r"<style>(.*?)</style>", paths[0].read_text(encoding="utf-8"), re.DOTALL)
    assert style is not None
    assert "url(" not in style[1]
    assert "@import" not in style[1]


@pytest.mark.usefixtures("no_plots")
def test_a_study_without_a_result_says_why_and_what_to_do_next(tmp_path: Path) -> None:
    page, _ = write(make_snapshot(1, 0, extras=False), tmp_path / "empty")
    assert "No trial has been started yet." in page.text and "hpo launch study.yaml begins the search" in page.text
    assert not any(found.get("href") in ("#slices", "#importance", "#history") for _, found in page.tags)
    page, _ = write(all_failed(), tmp_path / "failed")
    assert "Every trial failed, each in the same way." in page.text and "hpo why logo-quality 4" in page.text
    page, _ = write(running_and_queued(), tmp_path / "running")
    assert "Still running, with 1 trial at work" in page.text
    page, _ = write(imported(), tmp_path / "imported")
    assert "were run elsewhere and imported" in page.text and "No launch is recorded: the trials" in page.text


@pytest.mark.usefixtures("no_plots")
def test_trials_that_break_a_constraint_stand_apart(tmp_path: Path) -> None:
    snapshot = with_constraint()
    broke = sum(bool(trial.values) and not trial.is_feasible for trial in snapshot.trials)
    page, _ = write(snapshot, tmp_path)
    assert broke and f"{broke} (hollow) break a constraint and cannot be on the front" in page.text
    layers = {trace["name"]: len(trace["x"]) for trace in page.figures["front-0-1"][0]["data"]}
    assert layers["not feasible"] == broke
    assert layers["pruned, where it stopped"] == sum(t.state is TrialState.PRUNED for t in snapshot.trials)


@pytest.mark.usefixtures("no_plots")
def test_notes_tags_and_files_are_on_the_page(tmp_path: Path) -> None:
    made = make_snapshot(1, 6, extras=False)
    kept = (ArtifactRecord("i", "search", 2, "picture", "curves.png", 2**19, "s", "2026-03-01T10:00:00+00:00", "kept"),)
    told = Annotations("**Good** enough", ("paper",), {2: "odd start"}, {2: ("look",)})
    page, _ = write(replace(made, annotations=told, artifacts=kept), tmp_path)
    assert any(tag == "strong" for tag, _ in page.tags)
    assert "paper" in page.text and "Trial 2 odd start" in page.text
    assert "trial 2 curves.png picture 0.50 MB kept" in page.text
    assert page.rows[2][-3:] == ["look", "odd start", "curves.png"]


def test_nan_is_null_in_the_figures() -> None:
    assert script_json({"y": [1.0, math.nan, math.inf, None], "text": "</script>"}) == (
        '{"y":[1.0,null,null,null],"text":"\\u003c/script\\u003e"}'
    )


def test_a_folder_that_cannot_be_written_is_the_users_mistake(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="Cannot write the report into"):
        write_report(make_snapshot(1, 0), tmp_path / "file")


def test_the_same_study_gives_the_same_plots(tmp_path: Path) -> None:
    first = [p.read_bytes() for p in write_report(make_snapshot(2, 12), tmp_path / "a")[1:]]
    assert first == [p.read_bytes() for p in write_report(make_snapshot(2, 12), tmp_path / "b")[1:]]
