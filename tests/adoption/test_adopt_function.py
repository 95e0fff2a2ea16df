"""A plain function as an objective: every way of telling, what it is given, how it ends, what is refused."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import hpo
from hpo.errors import TrialFailed, UserError
from hpo.trial import Direction, Goal, Metric, Outcome, StopKind, TrialContext, TrialStopped
from search_spaces import Float, SearchSpace
from tests.adoption.trial_kit import Line, make_job, run_here

SPACE = {"lr": {"type": "float", "low": 1e-4, "high": 1.0, "log": True}}


def adopted(function: Any, **options: Any) -> Any:
    return hpo.adopt(function, **{"goals": {"loss": "minimize"}, "space": SPACE, **options})


def run(function: Any, folder: Path, line: Line | None = None, **fields: Any) -> Outcome:
    return run_here(adopted(function), make_job(folder, **fields), line or Line())


def told(function: Any, folder: Path, **fields: Any) -> list[tuple[int, dict[str, float]]]:
    line = Line()
    run(function, folder, line, **fields)
    return line.told


def one_based(params: Any, report: Any) -> None:
    for epoch in (1, 2):
        report(epoch, loss=1 / epoch)


def zero_based(params: Any, report: Any) -> None:
    for epoch in range(2):
        report(epoch, {"loss": 1 / (epoch + 1)})


def unnumbered(params: Any, report: Any) -> None:
    report(loss=1)
    report({"loss": torch.tensor(0.5)})


def arrays(params: Any, report: Any) -> None:
    report(np.int64(1), loss=np.float32(1))
    report(np.int64(2), {}, loss=np.array([0.5]))


@pytest.mark.parametrize("function", [one_based, zero_based, unnumbered, arrays])
def test_every_way_of_telling_comes_to_the_same(function: Any, tmp_path: Path) -> None:
    assert told(function, tmp_path) == [(1, {"loss": 1.0}), (2, {"loss": 0.5})]


def test_it_stays_the_function_that_it_was() -> None:
    def train(params: Any, report: Any = print) -> float:
        """Train it.

        At length.
        """
        return 2 * params["lr"]  # type: ignore[no-any-return]

    objective = adopted(train, defaults={"lr": 0.1})
    assert objective({"lr": 0.25}) == 0.5
    assert (objective.__name__, objective.summary, objective.default_params) == ("train", "Train it.", {"lr": 0.1})


def test_as_a_decorator_it_knows_goals_metrics_and_space() -> None:
    @hpo.adopt(
        goals={"acc": "maximize", "mb": Metric(once=True)},
        metrics={"loss": "minimize"},
        space=SearchSpace({"lr": Float(0.1, 1.0)}),
    )
    def train(params: Any, report: Any) -> None: ...

    assert train.default_goals == ("acc", "mb")
    assert {name: metric.direction for name, metric in train.metrics.items()} == {
        "acc": Direction.MAXIMIZE, "mb": Direction.MINIMIZE, "loss": Direction.MINIMIZE,
    }  # fmt: skip
    assert train.metrics["mb"].once and list(train.space) == ["lr"]


def test_it_gets_what_it_has_arguments_for(tmp_path: Path) -> None:
    got: dict[str, Any] = {}

    def train(config, log, seed, epochs, *, folder, device, resume, data, data_seed, use_test, verbose=True):  # type: ignore[no-untyped-def]
        got.update({name: value for name, value in locals().items() if name not in ("got", "log")})
        log(loss=1)

    run_here(adopted(train), make_job(tmp_path, {"lr": 0.5}, data={"path": "x"}), Line())
    assert got == {
        "config": {"lr": 0.5}, "seed": 7, "epochs": 4, "folder": tmp_path, "device": "cpu", "resume": False,
        "data": {"path": "x"}, "data_seed": 1, "use_test": False, "verbose": True,
    }  # fmt: skip


def test_a_function_that_changes_its_parameters_changes_nobody_elses(tmp_path: Path) -> None:
    job = make_job(tmp_path, {"lr": 0.5})

    def train(params: Any, report: Any) -> None:
        report(loss=params.pop("lr"))

    run_here(adopted(train), job, Line())
    assert job.params == {"lr": 0.5}


def test_the_same_seed_draws_the_same_numbers_and_leaves_the_process_as_it_was(tmp_path: Path) -> None:
    def train(params: Any, report: Any) -> None:
        report(loss=random.random(), a=np.random.rand(), b=torch.rand(1))

    random.seed(1)
    state = random.getstate()
    first = told(train, tmp_path)
    assert told(train, tmp_path) == first
    assert told(train, tmp_path, seed=8) != first
    assert random.getstate() == state


def test_pruning_needs_no_code_of_its_own(tmp_path: Path) -> None:
    line = Line(prune_at=1)
    with pytest.raises(TrialStopped, match="worse than the others"):
        run(one_based, tmp_path, line)
    assert [point.step for point in line.points] == [1]


@pytest.mark.parametrize("then", ["goes on", "fails", "returns"])
def test_a_function_that_catches_everything_is_stopped_all_the_same(then: str, tmp_path: Path) -> None:
    def train(params: Any, report: Any) -> dict[str, float]:
        for epoch in range(3):
            try:
                report(epoch, loss=1)
            except BaseException as caught:
                if then == "fails":
                    raise RuntimeError("of its own") from caught
                if then == "returns":
                    break
        return {"loss": 0.0}

    line = Line(prune_at=1)
    with pytest.raises(TrialStopped, match="worse than the others"):
        run(train, tmp_path, line)
    assert [point.step for point in line.points] == [1]


def reporting(epochs: int) -> Any:
    def train(params: Any, report: Any) -> None:
        for epoch in range(epochs):
            report(epoch, loss=1)

    return train


@pytest.mark.parametrize(
    ("epochs", "kind", "why"),
    [(4, StopKind.FINISHED, "ran all 4 epochs"), (3, StopKind.EARLY, "ended by itself after 3 of 4 epochs")],
)
def test_it_ends_by_itself(epochs: int, kind: StopKind, why: str, tmp_path: Path) -> None:
    reason = run(reporting(epochs), tmp_path).reason
    assert (reason.kind, reason.message) == (kind, why)


def test_it_ends_with_the_budget(tmp_path: Path) -> None:
    line = Line()
    with pytest.raises(TrialStopped, match="ran all 4 epochs of the budget") as stopped:
        run(reporting(9), tmp_path, line)
    assert stopped.value.reason.kind is StopKind.FINISHED
    assert [point.step for point in line.points] == [1, 2, 3, 4]


def test_one_that_goes_on_counts_as_its_first_attempt_did(tmp_path: Path) -> None:
    def train(params: Any, report: Any, resume: bool) -> None:
        for epoch in range(2 if resume else 0, 4):
            report(epoch, loss=epoch)

    assert [step for step, _ in told(train, tmp_path)] == [1, 2, 3, 4]
    assert [step for step, _ in told(train, tmp_path, resume=True, reported=2)] == [3, 4]


@pytest.mark.parametrize(
    ("returned", "metrics", "left_out"),
    [
        (None, {}, ""),
        ({"loss": 0.25, "mb": torch.tensor(3)}, {"loss": 0.25, "mb": 3.0}, ""),
        (0.25, {"loss": 0.25}, ""),
        ({"loss": 0.25, "history": [1, 2]}, {"loss": 0.25}, "history"),
        (torch.nn.Linear(1, 1), {}, "a Linear"),
        ("done", {}, "a str"),
    ],
)
def test_numbers_that_it_returns_hold_for_the_whole_trial(
    returned: Any, metrics: dict[str, float], left_out: str, tmp_path: Path
) -> None:
    def train(params: Any, report: Any) -> Any:
        report(loss=1)
        return returned

    job = make_job(tmp_path)
    context = TrialContext(job, Line())
    assert adopted(train).run(job, context).metrics == metrics
    assert [event.message for event in context.take_events()] == (
        [f"{adopted(train).name} returned what is no metric: {left_out}"] if left_out else []
    )


def test_a_number_alone_is_nobodys_where_there_are_two_goals(tmp_path: Path) -> None:
    def train(params: Any, report: Any) -> float:
        report(loss=1, mb=2)
        return 0.25

    assert run_here(adopted(train), make_job(tmp_path, goals=(Goal("loss"), Goal("mb"))), Line()).metrics == {}


def test_a_goal_that_is_never_told_is_named_with_what_was_told_instead(tmp_path: Path) -> None:
    def train(params: Any, report: Any) -> dict[str, float]:
        report(los=1)
        return {"mb": 2}

    with pytest.raises(TrialFailed, match=r"train never reported loss, a goal\. It reported: los, mb\."):
        run(train, tmp_path)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda report: report(1, loss="0.5"), r"report: loss must be a number; got '0.5'\."),
        (lambda report: report(1, loss=torch.zeros(2)), r"report: loss must be a number; got tensor\(\[0., 0.\]\)"),
        (lambda report: report(1, loss=None), "report: loss must be a number; got None"),
        (lambda report: report(0.5), r"report is called as report\(epoch, val_loss=0.3\).*got report\(0.5\)"),
        (lambda report: report(1), "report is called as"),
        (lambda report: report(1, 0.5), r"got report\(1, 0.5\)"),
        (lambda report: report(), "report is called as"),
        (lambda report: report(-1, loss=1), "A step is a whole number of 1 or more"),
        (lambda report: [report(1, loss=1), report(1, loss=1)], r"larger than the one before \(1\); got 1"),
        (lambda report: report(500, loss=1), "the first step is 500, but the study gives a trial 4 epochs"),
    ],
)
def test_a_report_that_cannot_be_understood_is_one_clear_error(call: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        run(lambda params, report: call(report), tmp_path)


def no_report(params: Any) -> None: ...
def second_is_ours(params: Any, folder: Any) -> None: ...
def wants_more(params: Any, report: Any, loader: Any) -> None: ...
def by_keyword(*, params: Any, report: Any) -> None: ...
def yields(params: Any, report: Any) -> Any:
    yield 1


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (no_report, r"adopt no_report: its first two arguments must be params and report; it is no_report\(params"),
        (second_is_ours, "first two arguments must be params and report"),
        (by_keyword, "first two arguments must be params and report"),
        (wants_more, r"hpo cannot give the argument 'loader'; it gives data, data_seed, device, .*Give it a default"),
        (yields, "adopt yields: a generator or coroutine runs nothing when it is called"),
        ("train", "adopt takes a function"),
    ],
)
def test_a_function_that_cannot_be_called_is_refused_when_it_is_adopted(function: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        adopted(function)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"goals": {}}, "goals must name at least one metric"),
        ({"goals": ["loss"]}, "goals is a mapping such as"),
        ({"goals": {"loss": "min"}}, "goals: loss must be 'minimize', 'maximize' or a Metric; got 'min'"),
        ({"metrics": {"acc": "up"}}, "metrics: acc must be"),
        ({"space": {"lr": {"type": "flaot"}}}, "space: lr: Unknown type 'flaot'.*Did you mean 'float'"),
        ({"space": "lr"}, "space is a SearchSpace or a mapping as in a study file; got 'lr'"),
        ({"defaults": {"lr": 7.0}}, r"defaults: lr must be float in \[0.0001, 1\]"),
        ({"defaults": {"rl": 0.1}}, "defaults: Unknown parameter 'rl'"),
    ],
)
def test_what_is_said_of_it_is_held_against_the_rules(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        adopted(one_based, **options)
