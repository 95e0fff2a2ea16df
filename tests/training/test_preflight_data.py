"""Each fault of the data made really, one at a time: the finding names the batch, the sample and the value."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss
from torch.utils.data import Dataset

from hpo.training.checks.findings import Result
from hpo.training.task import Split
from tests.training.preflight_kit import Items, finding, image_task, look, results
from tests.training.training_kit import make_task, regression

OK, WARNING, FAILED, SKIPPED = Result.OK, Result.WARNING, Result.FAILED, Result.SKIPPED


def broken(row: int, value: float) -> tuple[Tensor, Tensor]:
    x, y = regression(40, 1)
    x[row, 2] = value
    return x, y


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_one_number_that_is_not_finite_is_named_in_its_batch_and_in_its_sample(value: float) -> None:
    found = look(make_task(train=Split(broken(17, value))))
    batch, sample = finding(found, "batches"), finding(found, "samples")
    assert batch.result is sample.result is FAILED
    assert "(sample 17 of the training data): the input holds" in batch.message
    assert f"training sample 17: the input holds {value} at [2]" in sample.message
    assert results(found)["shapes"] is SKIPPED


def test_a_nan_in_a_target_and_one_in_the_validation_data_are_found() -> None:
    x, y = regression(40, 1)
    y[3] = torch.nan
    said = finding(look(make_task(validation=Split((x, y)))), "samples")
    assert "validation sample 3: the target holds nan" in said.message


def test_a_nan_far_behind_the_batches_that_are_looked_at_is_found() -> None:
    x, y = regression(4000, 1)
    x[3999] = torch.inf
    assert "training sample 3999" in finding(look(make_task(train=Split((x, y)))), "samples").message


def test_an_image_of_another_size_is_named() -> None:
    found = look(image_task(Items(faults={23: (torch.rand(3, 8, 9), 1)})))
    assert "sample 23 of the data has the input of shape (3, 8, 9), not (3, 8, 8)" in finding(found, "batches").message
    assert "training sample 23 has the input of shape (3, 8, 9)" in finding(found, "samples").message


def test_an_image_of_another_size_in_the_validation_data_is_named() -> None:
    said = finding(look(image_task(validation=Items(12, {5: (torch.rand(3, 7, 8), 1)}))), "samples")
    assert "validation sample 5 has the input of shape (3, 7, 8), not (3, 8, 8)" in said.message


def test_a_sample_that_raises_is_named_with_what_it_raised() -> None:
    found = look(image_task(Items(faults={7: OSError("truncated JPEG")})))
    assert "training sample 7 cannot be loaded: OSError: truncated JPEG" in finding(found, "samples").message
    assert "training sample 7 cannot be loaded: OSError: truncated JPEG" in finding(found, "batches").message


def test_a_sample_that_leaves_the_process_is_named() -> None:
    found = look(image_task(validation=Items(12, {2: SystemExit("no licence")})))
    assert "validation sample 2 cannot be loaded: SystemExit: no licence" in finding(found, "samples").message


@pytest.mark.parametrize("item", [{"x": 1}, torch.zeros(3), (torch.zeros(3),), (torch.zeros(3), "cat")])
def test_a_sample_that_is_no_tuple_of_numbers_is_named(item: Any) -> None:
    said = finding(look(image_task(Items(faults={4: item}))), "samples")
    assert said.result is FAILED
    assert "training sample 4 must" in said.message


@pytest.mark.parametrize("label", [4, -1, 250])
def test_a_label_out_of_range_is_named_with_its_sample(label: int) -> None:
    found = look(image_task(Items(faults={11: (torch.rand(3, 8, 8), label)})))
    for check in ("batches", "samples"):
        said = finding(found, check)
        assert said.result is FAILED
        assert f"the label is {label}; with 4 outputs a label is 0 to 3" in said.message
    assert "(sample 11 of the training data)" in finding(found, "batches").message
    assert "training sample 11: " in finding(found, "samples").message


def test_minus_100_is_a_label_to_be_ignored() -> None:
    assert not look(image_task(Items(faults={11: (torch.rand(3, 8, 8), -100)}))).failed


@pytest.mark.parametrize("last", [True, False])
def test_labels_of_every_place_of_a_sequence_are_looked_at(last: bool) -> None:
    class Tagger(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Linear(1, 6)

        def forward(self, x: Tensor) -> Tensor:
            said = self.net(x[..., None])
            return said if last else said.transpose(1, 2)

    def loss(output: Tensor, target: Tensor) -> Tensor:
        return cross_entropy(output.transpose(1, 2) if last else output, target)

    x, y = torch.rand(40, 9), torch.randint(0, 6, (40, 9))
    good = make_task(model=Tagger(), train=Split((x, y)), validation=Split((x, y)), loss=loss, example=(x[:1],))
    assert not look(good).failed
    bad = y.clone()
    bad[30, 8] = 6
    said = finding(look(replace(good, train=Split((x, bad)))), "samples")
    assert "training sample 30: the label is 6 at [8]; with 6 outputs" in said.message


def test_whole_numbers_that_are_counted_and_not_classes_may_be_any() -> None:
    x, _ = regression(40, 1)
    counts = torch.randint(0, 900, (40, 1))
    task = make_task(train=Split((x, counts)), validation=Split((x, counts)))
    assert not look(replace(task, loss=lambda output, target: mse_loss(output, target.float()))).failed


def test_values_beyond_10000_and_constant_inputs_are_warnings() -> None:
    x, y = regression(40, 1)
    said = finding(look(make_task(train=Split((x * 1e6, y)))), "batches")
    assert said.result is WARNING
    assert "the input reaches" in said.message
    said = finding(look(make_task(train=Split((torch.full_like(x, 0.5), y)))), "batches")
    assert said.result is WARNING
    assert "the input is 0.5 in every sample" in said.message


class Masked(nn.Module):
    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        said: Tensor = self.net(x * mask)
        return said


def test_a_mask_with_nothing_missing_is_no_warning() -> None:
    x, y = regression(40, 1)
    mask = torch.ones_like(x)
    both = Split((x, mask, y))
    task = make_task(model=Masked(make_task().model), train=both, validation=both, example=(x[:1], mask[:1]))
    assert finding(look(task), "batches").result is OK


def test_the_smallest_and_the_largest_value_are_reported() -> None:
    x, y = regression(40, 1)
    x[8, 1], x[30, 3] = -77.5, 88.25
    assert "the input -77.5 to 88.25" in finding(look(make_task(train=Split((x, y)))), "batches").message


def test_sequences_of_varying_length_may_come_one_at_a_time() -> None:
    class Sequences(Dataset[Any]):
        def __len__(self) -> int:
            return 20

        def __getitem__(self, index: int) -> Any:
            return torch.rand(3 + index % 5, 1), torch.rand(1)

    class Mean(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Linear(1, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x).mean(1)

    task = make_task(
        model=Mean(), train=Split(Sequences()), validation=Split(Sequences()), example=(torch.rand(1, 4, 1),)
    )
    found = look(task, batch_size=1, eval_batch_size=1)
    assert not found.failed
    assert "the input of varying length" in finding(found, "batches").message
    assert finding(look(task, batch_size=4), "batches").result is FAILED


@pytest.mark.parametrize("name", ["train", "validation"])
def test_empty_data_is_named(name: str) -> None:
    x, y = regression(40, 1)
    found = look(make_task(**{name: Split((x[:0], y[:0]))}))
    assert f"the {'training' if name == 'train' else name} data is empty" in finding(found, "samples").message


def test_tensors_of_unequal_lengths_are_named() -> None:
    x, y = regression(40, 1)
    assert "[40, 39]" in finding(look(make_task(train=Split((x, y[:39])))), "samples").message


def test_a_data_set_may_be_read_by_processes_of_its_own() -> None:
    found = look(image_task(Items(100)), loader_workers=1, prefetch=2)
    assert set(results(found).values()) == {OK}
