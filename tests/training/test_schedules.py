"""Every schedule against PyTorch's and Hugging Face's own, where the definitions agree."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import (
    ConstantLR,
    CosineAnnealingLR,
    LinearLR,
    LRScheduler,
    OneCycleLR,
    PolynomialLR,
    SequentialLR,
)

from hpo.errors import TrialFailed, UnknownName, UserError
from hpo.training.schedules import SCHEDULES, Schedule, check_warm_up
from hpo.training.settings import TrainerSettings

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

EPOCHS, PER_EPOCH = 5, 4
TOTAL = EPOCHS * PER_EPOCH
NAMES = ["constant", "linear", "cosine", "cosine_with_restarts", "polynomial", "one_cycle"]


def factors(**settings: Any) -> list[float]:
    schedule = Schedule.over(TrainerSettings(**settings), epochs=EPOCHS, updates_per_epoch=PER_EPOCH)
    return [schedule(update) for update in range(TOTAL)]


def theirs(make: Callable[[Optimizer], LRScheduler], updates: int = TOTAL) -> list[float]:
    """The learning rates that a foreign scheduler gives to an optimiser with base 1."""
    optimizer = SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = make(optimizer)
    rates = []
    for _ in range(updates):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def pytorch_curve(name: str, optimizer: Optimizer, room: int, final: float) -> LRScheduler:
    return {
        "constant": lambda: ConstantLR(optimizer, factor=1.0),
        "linear": lambda: LinearLR(optimizer, start_factor=1.0, end_factor=final, total_iters=room),
        "cosine": lambda: CosineAnnealingLR(optimizer, T_max=room, eta_min=final),
        "polynomial": lambda: PolynomialLR(optimizer, total_iters=room, power=1.5),
    }[name]()


@pytest.mark.parametrize("warmup", [0, 1, 4, TOTAL - 1])
@pytest.mark.parametrize(
    ("name", "final"),
    [("constant", 0.0), ("linear", 0.0), ("linear", 0.25), ("cosine", 0.0), ("cosine", 0.01), ("polynomial", 0.0)],
)
def test_a_schedule_with_warm_up_is_pytorchs(name: str, final: float, warmup: int) -> None:
    def make(optimizer: Optimizer) -> LRScheduler:
        if warmup == 0:
            return pytorch_curve(name, optimizer, TOTAL, final)
        rise = LinearLR(optimizer, start_factor=1 / (warmup + 1), total_iters=warmup)
        fall = pytorch_curve(name, optimizer, TOTAL - warmup, final)
        return SequentialLR(optimizer, [rise, fall], milestones=[warmup])

    ours = factors(schedule=name, warmup_steps=warmup, final_lr_share=final, power=1.5)
    assert ours == pytest.approx(theirs(make), abs=1e-12)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.3, 0.33, 0.9])
@pytest.mark.parametrize("peak", [1.0, 8.0])
def test_one_cycle_is_pytorchs(share: float, peak: float) -> None:
    def make(optimizer: Optimizer) -> LRScheduler:
        return OneCycleLR(
            optimizer,
            max_lr=peak,
            total_steps=TOTAL,
            pct_start=share,
            div_factor=10,
            final_div_factor=10,
            anneal_strategy="cos",
            cycle_momentum=False,
        )

    expected = theirs(make)
    assert factors(schedule="one_cycle", warmup_share=share, peak_factor=peak) == pytest.approx(expected, abs=1e-12)
    assert expected[-1] == pytest.approx(peak / 100)


def test_one_cycle_starts_at_a_tenth_peaks_at_the_base_and_ends_at_a_hundredth() -> None:
    rates = factors(schedule="one_cycle", warmup_steps=5)
    assert (rates[0], rates[4], rates[-1]) == pytest.approx((0.1, 1.0, 0.01))
    assert max(rates) == rates[4]


def test_one_cycle_without_a_warm_up_takes_three_tenths_as_pytorch_does() -> None:
    assert factors(schedule="one_cycle") == factors(schedule="one_cycle", warmup_share=0.3)


def test_one_cycle_has_an_end_of_its_own() -> None:
    assert factors(schedule="one_cycle", final_lr_share=0.5) == factors(schedule="one_cycle")


def test_a_one_cycle_whose_peak_is_the_first_update_falls_from_there() -> None:
    """PyTorch divides by zero here (pct_start * total_steps = 1)."""
    rates = factors(schedule="one_cycle", warmup_steps=1)
    assert rates[0] == 1.0
    assert rates == sorted(rates, reverse=True)


@pytest.mark.parametrize("warmup", [0, 4])
@pytest.mark.parametrize("name", ["linear", "cosine_with_restarts", "polynomial"])
def test_after_its_warm_up_a_schedule_is_hugging_faces(name: str, warmup: int) -> None:
    from transformers import (
        get_cosine_with_hard_restarts_schedule_with_warmup,
        get_linear_schedule_with_warmup,
        get_polynomial_decay_schedule_with_warmup,
    )

    steps = {"num_warmup_steps": warmup, "num_training_steps": TOTAL}
    final = 0.05 if name == "polynomial" else 0.0
    make: dict[str, Callable[[Optimizer], LRScheduler]] = {
        "linear": lambda optimizer: get_linear_schedule_with_warmup(optimizer, **steps),
        "cosine_with_restarts": lambda optimizer: get_cosine_with_hard_restarts_schedule_with_warmup(
            optimizer, **steps, num_cycles=3
        ),
        "polynomial": lambda optimizer: get_polynomial_decay_schedule_with_warmup(
            optimizer, **steps, lr_end=final, power=3.0
        ),
    }
    ours = factors(schedule=name, warmup_steps=warmup, restarts=2, power=3.0, final_lr_share=final)
    assert ours[warmup:] == pytest.approx(theirs(make[name])[warmup:], abs=1e-12)
    if warmup:  # theirs begins at 0
        assert ours[:warmup] == pytest.approx([0.2, 0.4, 0.6, 0.8])


def test_each_restart_returns_to_the_base() -> None:
    rates = factors(schedule="cosine_with_restarts", restarts=1)
    assert [update for update, rate in enumerate(rates) if rate == 1.0] == [0, TOTAL // 2]
    assert factors(schedule="cosine_with_restarts", restarts=3).count(1.0) == 4
    many = Schedule("cosine_with_restarts", total=98, restarts=48)  # 49 * (1 / 49) < 1 in floating point
    assert [many(update) for update in range(98)] == pytest.approx([1.0, 0.5] * 49)


@pytest.mark.parametrize("name", ["linear", "cosine", "cosine_with_restarts", "polynomial"])
def test_a_falling_curve_ends_at_its_final_share(name: str) -> None:
    settings = TrainerSettings(schedule=name, final_lr_share=0.1, warmup_steps=3)
    schedule = Schedule.over(settings, epochs=EPOCHS, updates_per_epoch=PER_EPOCH)
    assert schedule(TOTAL) == schedule(TOTAL + 100) == pytest.approx(0.1)
    assert min(schedule(update) for update in range(3, TOTAL)) >= 0.1


def test_a_constant_has_no_end_to_fall_to() -> None:
    assert factors(schedule="constant", final_lr_share=0.1) == [1.0] * TOTAL


def test_cosine_and_linear_are_half_way_down_in_the_middle() -> None:
    for name in ("cosine", "linear"):
        assert Schedule(name, total=10)(5) == pytest.approx(0.5)
        assert Schedule(name, total=10)(10) == pytest.approx(0.0)
    assert Schedule("cosine", total=10)(2) == pytest.approx((1 + math.cos(math.pi / 5)) / 2)


@pytest.mark.parametrize("name", NAMES)
def test_the_same_warm_up_by_epochs_steps_and_share_is_the_same_schedule(name: str) -> None:
    by_steps = factors(schedule=name, warmup_steps=6)
    assert factors(schedule=name, warmup_epochs=1.5) == pytest.approx(by_steps)
    assert factors(schedule=name, warmup_share=0.3) == pytest.approx(by_steps)


@pytest.mark.parametrize("name", NAMES)
def test_a_rate_is_never_zero_negative_or_nan_before_the_end(name: str) -> None:
    for epochs, per_epoch in ((1, 1), (1, 2), (3, 7)):
        for warm_up in ({}, {"warmup_share": 0.0}, {"warmup_share": 0.1}, {"warmup_share": 0.99}):
            settings = TrainerSettings(schedule=name, peak_factor=2.0, **warm_up)
            schedule = Schedule.over(settings, epochs=epochs, updates_per_epoch=per_epoch)
            assert all(0 < schedule(update) <= 2 for update in range(epochs * per_epoch))


def test_part_of_an_update_is_rounded() -> None:
    settings = TrainerSettings(schedule="linear", warmup_epochs=1.6)
    schedule = Schedule.over(settings, epochs=10, updates_per_epoch=7)
    assert (schedule.total, schedule.warmup) == (70, 11)


def test_rounding_never_takes_the_last_update() -> None:
    settings = TrainerSettings(schedule="cosine", warmup_epochs=0.9)
    assert Schedule.over(settings, epochs=1, updates_per_epoch=3).warmup == 2


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("warm_up", [{"warmup_steps": 20}, {"warmup_steps": 21}, {"warmup_epochs": 5}])
def test_a_warm_up_as_long_as_the_training_fails_the_trial(name: str, warm_up: dict[str, int]) -> None:
    with pytest.raises(TrialFailed, match=r"shorter than the training; it takes 2[01] updates of 20\. Give"):
        factors(schedule=name, **warm_up)


def test_a_warm_up_of_all_epochs_is_refused_before_anything_runs() -> None:
    with pytest.raises(UserError, match=r"warmup_epochs must be below retrain.epochs, which is 3; got 3\."):
        check_warm_up(TrainerSettings(warmup_epochs=3), 3, "retrain.epochs")
    for fine in ({}, {"warmup_epochs": 0}, {"warmup_epochs": 2.9}, {"warmup_steps": 100}):
        check_warm_up(TrainerSettings(**fine), 3)


def test_settings_and_schedules_know_the_same_names() -> None:
    assert sorted(SCHEDULES) == sorted(NAMES)
    for name in NAMES:
        assert TrainerSettings(schedule=name).schedule == name
    with pytest.raises(ValidationError, match="cosine_with_restarts"):
        TrainerSettings(schedule="cosin")


def test_an_unknown_schedule_is_named_with_the_nearest_one() -> None:
    with pytest.raises(UnknownName, match="Did you mean 'cosine'"):
        Schedule("cosin", 10)
