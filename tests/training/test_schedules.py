import math

import pytest
import torch
from torch.optim.lr_scheduler import ConstantLR, CosineAnnealingLR, LinearLR, SequentialLR

from hpo.errors import UnknownName
from hpo.training.schedules import Schedule

WARMUP, TOTAL = 4, 20


def by_pytorch(name: str) -> list[float]:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    room = TOTAL - WARMUP
    curve = {
        "constant": lambda: ConstantLR(optimizer, factor=1.0),
        "linear": lambda: LinearLR(optimizer, start_factor=1.0, end_factor=0.0, total_iters=room),
        "cosine": lambda: CosineAnnealingLR(optimizer, T_max=room),
    }[name]
    warm = LinearLR(optimizer, start_factor=1 / (WARMUP + 1), total_iters=WARMUP)
    schedule = SequentialLR(optimizer, [warm, curve()], milestones=[WARMUP])
    factors = []
    for _ in range(TOTAL):
        factors.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return factors


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", ["constant", "linear", "cosine"])
def test_every_schedule_with_warm_up_is_pytorchs(name: str) -> None:
    schedule = Schedule(name, TOTAL, WARMUP)
    assert [schedule(update) for update in range(TOTAL)] == pytest.approx(by_pytorch(name), abs=1e-12)


def test_warm_up_starts_above_zero_and_meets_the_base() -> None:
    schedule = Schedule("cosine", total=10, warmup=4)
    assert [schedule(update) for update in range(5)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])


def test_cosine_and_linear_are_half_way_down_in_the_middle_and_at_zero_past_the_end() -> None:
    for name in ("cosine", "linear"):
        assert Schedule(name, total=10)(5) == pytest.approx(0.5)
        assert Schedule(name, total=10)(10) == pytest.approx(0.0)
    assert Schedule("cosine", total=10)(2) == pytest.approx((1 + math.cos(math.pi / 5)) / 2)


def test_epochs_of_warm_up_are_counted_in_updates() -> None:
    schedule = Schedule.over("linear", epochs=10, updates_per_epoch=7, warmup_epochs=1.5)
    assert (schedule.total, schedule.warmup) == (70, 10)


def test_a_warm_up_longer_than_the_run_never_divides_by_zero() -> None:
    assert Schedule("cosine", total=4, warmup=4)(4) == 1.0


def test_an_unknown_schedule_is_named_with_the_nearest_one() -> None:
    with pytest.raises(UnknownName, match="Did you mean 'cosine'"):
        Schedule("cosin", 10)
