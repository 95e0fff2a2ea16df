"""Recorded trials under another pruner: what is pruned, what it saves, what is lost."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from hpo import service
from hpo.errors import UnknownName, UserError
from hpo.interrupt import Interrupt
from hpo.search.judging import Judging
from hpo.simulation.replay import replay
from hpo.simulation.savings import Savings, savings
from hpo.spec import Named
from hpo.trial import Direction, Goal, Point, StopKind, StopReason, TrialRecord, TrialState
from tests import studies

GOALS = (Goal("loss"), Goal("speed", Direction.MAXIMIZE))
DONE = StopReason(StopKind.FINISHED, "ran all")


def recorded(number: int, losses: list[float], speed: float) -> TrialRecord:
    points = tuple(Point(i + 1, {"loss": loss, "speed": speed}) for i, loss in enumerate(losses))
    return TrialRecord(
        number,
        TrialState.COMPLETE,
        {},
        0,
        values=(losses[-1], speed),
        last_step=len(points),
        points=points,
        reason=DONE,
    )


class StopAt:
    """Prunes the given trials at the given steps, and keeps what it was told."""

    def __init__(self, **steps: int) -> None:
        self.steps = {int(number[1:]): step for number, step in steps.items()}
        self.told: list[str] = []

    def begin(self, number: int) -> None:
        self.told.append(f"{number} begins")

    def report(self, number: int, point: Point) -> StopReason | None:
        return StopReason(StopKind.PRUNED, "enough") if self.steps.get(number) == point.step else None

    def finished(self, record: TrialRecord) -> None:
        self.told.append(f"{record.number} {record.state} {record.values}")


TRIALS = [
    recorded(0, [4.0, 2.0], 1.0),  # on the front
    recorded(1, [5.0, 3.0], 2.0),  # on the front
    recorded(2, [6.0, 4.0], 1.0),  # dominated by both
]


def test_a_stopped_trial_is_cut_and_the_others_end_as_they_are_recorded() -> None:
    judge = StopAt(t1=1)
    found = replay(TRIALS, judge)
    assert [trial.state for trial in found.trials] == [TrialState.COMPLETE, TrialState.PRUNED, TrialState.COMPLETE]
    assert found.trials[1].points == TRIALS[1].points[:1] and found.trials[1].last_step == 1
    assert found.trials[1].reason == StopReason(StopKind.PRUNED, "enough")
    assert (found.trials[0], found.trials[2]) == (TRIALS[0], TRIALS[2])
    assert found.wall_s == 5  # 2 + 1 + 2 steps of a second, one after the other
    assert judge.told == [
        "0 begins", "0 complete (2.0, 1.0)", "1 begins", "1 pruned None", "2 begins", "2 complete (4.0, 1.0)",
    ]  # fmt: skip


def saved(judge: StopAt) -> Savings:
    found = replay(TRIALS, judge, seconds={0: 1.0, 1: 10.0, 2: 100.0})
    return savings(TRIALS, found, GOALS, seconds={0: 1.0, 1: 10.0, 2: 100.0}, reference=(5.0, 0.0))


def test_what_is_saved_and_lost_as_worked_out_by_hand() -> None:
    # Up to (5, 0): trial 0 covers 3 x 1, trial 1 2 x 2, both 3 + 2 = 5 (their common part is 2 x 1).
    without_one = saved(StopAt(t1=1))
    assert (without_one.epochs, without_one.epochs_recorded) == (5, 6)
    assert without_one.kept == pytest.approx(3 / 5)
    assert (without_one.front, without_one.lost) == ((0, 1), (1,))
    assert (without_one.work_s, without_one.wall_s) == (212, 212)
    without_two = saved(StopAt(t2=1))
    assert (without_two.kept, without_two.lost, without_two.spent) == (1.0, (), pytest.approx(5 / 6))


def test_one_goal_is_told_by_its_best_value() -> None:
    found = savings(TRIALS_OF_ONE, replay(TRIALS_OF_ONE, StopAt(t0=1)), GOALS[:1], seconds={0: 1.0, 1: 1.0})
    assert (found.kept, found.best, found.lost) == (None, (2.0, 3.0), (0,))


TRIALS_OF_ONE = [
    TrialRecord(n, TrialState.COMPLETE, {}, 0, values=(v,), points=(Point(1, {"loss": v}),), last_step=1, reason=DONE)
    for n, v in ((0, 2.0), (1, 3.0))
]


def test_a_trial_that_had_been_pruned_is_pruned_where_its_curve_ends() -> None:
    old = StopReason(StopKind.PRUNED, "long ago")
    trial = TrialRecord(
        0, TrialState.PRUNED, {}, 0, points=(Point(1, {"loss": 1.0, "speed": 1.0}),), last_step=1, reason=old
    )
    assert replay([trial], StopAt()).trials == (trial,)


def test_a_deterministic_trial_begins_when_all_it_may_see_have_ended() -> None:
    # Concurrency 2: trial 2 may see trial 0 alone. Trial 0 is slow, so its worker's neighbour waits.
    seconds = {0: 10.0, 1: 1.0, 2: 1.0}
    for deterministic, wall in ((False, 20), (True, 22)):
        found = replay(TRIALS, StopAt(), workers=2, seconds=seconds, concurrency=2, deterministic=deterministic)
        assert found.wall_s == wall


def test_no_trial_begins_after_the_time_limit() -> None:
    assert [trial.number for trial in replay(TRIALS, StopAt(), timeout_s=3).trials] == [0, 1]


def test_any_judge_may_be_the_search_rooms_own() -> None:
    judge = Judging("median", {"startup_trials": 1}, goals=GOALS, epochs=2)
    assert [trial.number for trial in replay(TRIALS, judge).trials if trial.state is TrialState.PRUNED] == [1, 2]


ZDT = {
    "objective": "analytic",
    "data": {"function": "zdt1"},
    "goals": [{"metric": "f1"}, {"metric": "f2"}],
    "budget": {"trials": 25, "epochs": 6},
    "retrain": {"confirm": 0},
}
RULES = [
    {"name": "median", "startup_trials": 3, "watch": "f2"},
    {"name": "pareto_median", "startup_trials": 3},
    {"name": "pareto_asha"},
    {"name": "hopeless", "startup_trials": 3},
    {"name": "any", "of": [{"name": "pareto_median", "startup_trials": 3}, {"name": "hopeless", "startup_trials": 3}]},
]


@pytest.fixture(scope="module")
def zdt(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder and a database with a study that nothing was pruned in."""
    folder = tmp_path_factory.mktemp("zdt")
    url = f"sqlite:///{folder / 'hpo.db'}"
    studies.launch(folder, url, name="whole", **ZDT)
    return folder, url


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["name"])
def test_a_replay_prunes_exactly_what_a_launch_with_that_pruner_prunes(zdt: tuple[Path, str], rule: dict) -> None:
    folder, url = zdt
    launched = studies.launch(folder, url, name=f"with-{rule['name']}", pruner=rule, **ZDT)
    really = {t.number: (t.last_step, t.reason) for t in launched.snapshot.trials if t.state is TrialState.PRUNED}
    (_, before), (_, after) = service.compare_pruners(url, "whole", [Named.model_validate(rule)]).lines
    assert really and {t.number: (t.last_step, t.reason) for t in after.pruned} == really
    assert after.epochs == sum(trial.last_step for trial in launched.snapshot.trials)
    assert (before.pruned, before.spent, before.kept, before.lost) == ((), 1.0, 1.0, ())


Run = Callable[..., tuple[int, str, str]]


def test_the_command_prints_a_line_for_each_pruner(zdt: tuple[Path, str], run_cli: Run) -> None:
    url = zdt[1]
    pruners = ["--pruner", "hopeless", "--pruner", "{name: median, watch: f2}"]
    code, out, _ = run_cli("replay", "whole", *pruners, "--storage", url)
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()[2:5]] == ["as", "hopeless", "median"]
    assert "Simulated on 1 worker, over the parameters that the sampler proposed" in out
    code, out, _ = run_cli(
        "replay", "whole", "--pruner", "pareto_median", "--set", "keep=0.6", "--storage", url, "--json"
    )
    found = json.loads(out)
    assert code == 0 and found["pruners"][0]["pruner"] == {"name": "pareto_median", "keep": 0.6}
    assert found["as_recorded"]["epochs"] == 25 * 6 and found["as_recorded"]["hypervolume_kept"] == 1


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--pruner", "mediam"], "Unknown pruner 'mediam'.*Did you mean 'median'"),
        (["--pruner", "median", "--set", "watc=f2"], "Unknown option of pruner median 'watc'"),
        (["--pruner", "median", "--set", "watch=speed"], "pruner.watch: Unknown metric 'speed'"),
        (["--pruner", "median", "--pruner", "none", "--set", "watch=f2"], "--set belongs to one --pruner"),
        (["--pruner", "{nam: median}"], "--pruner: write a name, or a pruner as a study file has it"),
        (["--pruner", "none", "--workers", "2"], "--workers must be between 1 and the study's concurrency"),
    ],
)
def test_a_mistake_is_one_message(zdt: tuple[Path, str], run_cli: Run, arguments: list[str], told: str) -> None:
    code, out, err = run_cli("replay", "whole", *arguments, "--storage", zdt[1])
    assert (code, out) == (2, "") and re.search(told, err), err


def test_an_unknown_study_is_told(zdt: tuple[Path, str]) -> None:
    with pytest.raises(UnknownName, match="nobody"):
        service.compare_pruners(zdt[1], "nobody", [Named(name="none")])


def test_a_study_without_an_ended_trial_is_told(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'hpo.db'}"
    interrupt = Interrupt()
    listeners = lambda plan, ended: [studies.StopAfter(interrupt, 1)]  # noqa: E731
    studies.launch(tmp_path, url, name="begun", interrupt=interrupt, listeners=listeners, **ZDT)
    with pytest.raises(UserError, match="'begun' has no ended trial with a curve yet"):
        service.compare_pruners(url, "begun", [Named(name="none")])
