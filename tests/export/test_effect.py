"""What rounding does to the metrics, by hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import small_objectives as small
import torch
from small_objectives import task_of, text_task, weights_of
from torch import Tensor, nn

from hpo.export.effect import shifts
from hpo.export.release import _subject
from hpo.training.task import Split, Task


def found(task: Task, predict: Any) -> Any:
    subject, *_ = _subject(task, weights_of(task), "", {})
    return shifts(task, subject, predict)


class Doubled(nn.Module):
    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"twice": 2 * x, "thrice": 3 * x}


def judge(outputs: Tensor, targets: Tensor) -> dict[str, float]:
    return {"val_mean": outputs.mean().item()}


def squares(output: Mapping[str, Tensor], target: Tensor) -> Tensor:
    return output["twice"].square().mean()


def doubled(**fields: Any) -> Task:
    task = task_of(Doubled(), torch.arange(1.0, 5.0)[:, None], outputs=("twice",))
    split = Split(task.validation.data, judge, probe=lambda model: pytest.fail("asked of a format"))
    return replace(task, validation=split, loss=squares, keep=lambda o, t: (o["twice"], t), **fields)


def test_both_are_judged_on_the_whole_validation_set() -> None:
    # 2, 4, 6, 8: mean 5, mean square 30; one more each: mean 6, mean square (9 + 25 + 49 + 81) / 4 = 41
    shift = found(doubled(), lambda inputs: {"twice": 2 * inputs["in0"] + 1})
    assert (shift["val_loss"].pytorch, shift["val_loss"].rounded) == (30, 41)
    assert (shift["val_mean"].pytorch, shift["val_mean"].rounded) == (5, 6)


def test_a_metric_that_is_no_number_is_none() -> None:
    shift = found(doubled(), lambda inputs: {"twice": np.full_like(inputs["in0"], np.nan)})
    assert (shift["val_loss"].pytorch, shift["val_loss"].rounded) == (30, None)


def test_an_output_that_does_not_ship_is_pytorchs_on_both_sides() -> None:
    shift = found(doubled(outputs=("thrice",)), lambda inputs: {"thrice": 0 * inputs["in0"]})
    assert (shift["val_loss"].pytorch, shift["val_loss"].rounded) == (30, 30)


def test_texts_of_different_lengths_are_judged_by_tokens() -> None:
    task = text_task()
    shift = found(task, lambda inputs: {"logits": np.zeros((*inputs["ids"].shape, 6), np.float32)})
    assert shift["val_loss"].rounded == pytest.approx(np.log(6))  # six tags, none preferred
    texts = [small.Texts()[i] for i in range(70)]
    with torch.no_grad():
        parts = [
            nn.functional.cross_entropy(task.model(ids[None], mask[None])[0], tags, reduction="sum")
            for ids, mask, tags in texts
        ]
    by_hand = sum(parts) / sum(len(ids) for ids, *_ in texts)
    assert shift["val_loss"].pytorch == pytest.approx(float(by_hand), rel=1e-5)


def test_the_test_set_is_read_only_when_asked() -> None:
    # 2 and 4: mean 3, mean square 10; with one more each 3 and 5: mean 4, mean square 17
    rows = torch.tensor([[1.0], [2.0]])
    test = Split((rows, rows[:, 0]), judge)
    task = replace(doubled(), test=lambda: test)
    subject, *_ = _subject(task, weights_of(task), "", {})
    predict = lambda inputs: {"twice": 2 * inputs["in0"] + 1}  # noqa: E731 as short as what it stands for
    assert set(shifts(task, subject, predict)) == {"val_loss", "val_mean"}
    found = shifts(task, subject, predict, use_test=True)
    assert (found["test_loss"].pytorch, found["test_loss"].rounded) == (10, 17)
    assert (found["test_mean"].pytorch, found["test_mean"].rounded) == (3, 4)
