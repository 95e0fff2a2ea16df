"""torch.compile: what it gained is measured and told, and a compiler that fails stops nothing."""

from pathlib import Path

import pytest
import torch
from torch import nn
from training_kit import LOSS, Trial, assert_same, make_settings, make_task, weights

from hpo.training import meters
from hpo.trial import Event, Goal, StopKind


def events(trial: Trial) -> dict[str, Event]:
    return {event.kind: event for point in trial.points for event in point.events}


@pytest.mark.slow
def test_a_compiled_model_trains_alike_says_what_it_gained_and_is_kept_uncompiled(tmp_path: Path) -> None:
    plain_task, task = make_task(), make_task()
    plain, trial = Trial(tmp_path / "plain", epochs=3), Trial(tmp_path / "compiled", epochs=3)
    settings = make_settings(optimizer="sgd")
    plain.fit(plain_task, settings)
    outcome = trial.fit(task, settings.model_copy(update={"compile": True}))
    assert outcome.reason.kind is StopKind.FINISHED
    told = events(trial)["compiled"]
    assert told.details["gain"] == pytest.approx(told.details["before_ms"] / told.details["after_ms"])
    assert told.details["compile_s"] > 0
    assert f"{told.details['gain']:.2f} times as fast" in told.message
    assert weights(task.model).keys() == weights(plain_task.model).keys()  # no compiler's prefix
    # Fused kernels round differently, and dropout draws other numbers: close, not equal.
    assert trial.curve()[-1] == pytest.approx(plain.curve()[-1], rel=0.5)
    assert trial.curve()[-1] < trial.curve()[0]


def test_a_compiler_that_does_not_work_is_told_and_training_goes_on_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(model: nn.Module) -> nn.Module:
        raise RuntimeError("gcc: command not found\nand much more")

    monkeypatch.setattr(torch, "compile", broken)
    plain, task = make_task(), make_task()
    Trial(tmp_path / "plain").fit(plain)
    trial = Trial(tmp_path / "asked")
    trial.fit(task, make_settings(compile=True))
    told = events(trial)["compile_failed"]
    assert told.message == "torch.compile did not work here, so training goes on without it: gcc: command not found"
    assert_same(weights(task.model), weights(plain.model))


def test_the_speed_that_is_a_goal_is_that_of_the_compiled_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes: list[int] = []  # of each model that was compiled, in order

    def compiled(model: nn.Module) -> nn.Module:
        mine = len(passes)
        passes.append(0)

        def count(module: nn.Module, inputs: object) -> None:
            passes[mine] += 1

        wrapped = nn.Sequential(model)
        wrapped.register_forward_pre_hook(count)
        return wrapped

    monkeypatch.setattr(torch, "compile", compiled)
    monkeypatch.setattr(meters, "_BUDGET_S", 0.05)
    monkeypatch.setattr(meters, "_WARM_UP_S", 0.01)
    Trial(tmp_path, epochs=1, goals=(LOSS, Goal("samples_per_s"))).fit(make_task(), make_settings(compile=True))
    assert len(passes) == 3  # tried out, trained, measured
    assert passes[2] > 0
