"""Each fault made really, one at a time: the finding names the check, the sample and the value."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from hpo.errors import DataError
from hpo.training.checks.findings import Preflight, Result
from hpo.training.checks.preflight import CHECKS, Extent
from hpo.training.task import Split, Task, build_model
from tests.training.preflight_kit import EXTENT, Items, classifier, finding, image_task, look, results
from tests.training.training_kit import assert_same, make_task, weights

OK, WARNING, FAILED, SKIPPED = Result.OK, Result.WARNING, Result.FAILED, Result.SKIPPED


# What is well


def test_a_good_task_passes_every_check() -> None:
    found = look(make_task())
    assert results(found) == dict.fromkeys(CHECKS[1:], OK)
    assert finding(found, "shapes").message.startswith("inputs (8, 4), target (8, 1), output (8, 1), loss ")
    assert "all 5 training batches" in finding(found, "batches").message
    assert "all 40 training samples and all 16 validation samples" in finding(found, "samples").message
    assert "6 trainable parameters" in finding(found, "gradients").message


def test_a_data_set_is_looked_at_by_samples_and_by_batches() -> None:
    found = look(image_task(Items(300), Items(120)))
    assert not found.failed
    assert "100 of 300 training samples and 100 of 120 validation" in finding(found, "samples").message
    assert "10 of 38 training batches" in finding(found, "batches").message


def test_time_counts_updates_and_trials() -> None:
    details = finding(look(make_task()), "time").details
    assert details["updates"] == 5
    assert details["study_s"] == pytest.approx(details["epoch_s"] * 5 * 3)  # 6 trials by 2 workers: 3 rounds
    endless = finding(look(make_task(), Extent(epochs=5)), "time")
    assert "study_s" not in endless.details


def test_nothing_is_changed_by_looking() -> None:
    task = make_task()
    task.model.train()
    before = weights(task.model)
    numpy_state, python_state, torch_state = np.random.get_state()[1].copy(), random.getstate(), torch.get_rng_state()  # type: ignore[index, union-attr] # fmt: skip
    threads, grads = torch.get_num_threads(), [p.grad for p in task.model.parameters()]
    look(task, threads=1, optimizer="sgd")
    assert_same(weights(task.model), before)
    assert grads == [None] * len(grads) == [p.grad for p in task.model.parameters()]
    assert task.model.training
    assert (np.random.get_state()[1] == numpy_state).all()  # type: ignore[index]
    assert random.getstate() == python_state
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert torch.get_num_threads() == threads


def test_it_looks_at_the_same_again() -> None:
    def told() -> list[str]:
        found = look(image_task(Items(300), model=build_model(classifier, 1)))
        return [finding(found, check).message for check in ("batches", "samples", "shapes")]

    assert told() == told()


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_every_precision_can_be_looked_at(precision: str) -> None:
    assert not look(make_task(), precision=precision).failed


def test_fp16_gradients_that_overflow_at_the_first_scale_are_no_fault() -> None:
    steep = make_task(loss=lambda output, target: 1e4 * mse_loss(output, target))
    assert finding(look(steep, precision="fp16"), "gradients").result is OK


def test_findings_survive_a_trip_through_json() -> None:
    found = look(make_task())
    assert Preflight.from_dict(found.to_dict()) == found


# task


def test_a_task_that_cannot_be_built_is_a_finding_with_the_reason() -> None:
    def build() -> Task:
        raise DataError("logos.parquet is missing. Make it with hpo make-data.")

    found = look(build)
    assert finding(found, "task").message == "logos.parquet is missing. Make it with hpo make-data."
    assert set(results(found).values()) == {FAILED, SKIPPED}


def test_a_task_whose_code_is_wrong_is_a_finding_too() -> None:
    def build() -> Task:
        return {}["width"]  # type: ignore[no-any-return]

    assert finding(look(build), "task").message == "KeyError: 'width'."


def test_a_model_with_nothing_to_train_is_refused() -> None:
    model = nn.Linear(4, 1).requires_grad_(False)
    assert "no parameter to train" in finding(look(make_task(model=model)), "task").message


def test_gradient_checkpointing_without_blocks_is_a_finding() -> None:
    assert "blocks" in finding(look(make_task(), gradient_checkpointing=True), "task").message


# shapes


def test_a_wrong_output_shape_names_all_shapes() -> None:
    model = nn.Sequential(nn.Linear(4, 1), nn.Flatten(0))
    said = finding(look(make_task(model=model)), "shapes")
    assert said.result is FAILED
    assert "training batch 1" in said.message
    assert "inputs (8, 4), target (8, 1), output (8,)" in said.message


def test_a_model_that_refuses_its_input_is_a_finding_that_names_the_shapes() -> None:
    said = finding(look(make_task(model=nn.Linear(5, 1))), "shapes")
    assert said.result is FAILED
    assert "inputs (8, 4)" in said.message


def test_a_loss_that_is_nan_is_named_with_its_batch() -> None:
    found = look(make_task(loss=lambda output, target: (output - target).mean() * torch.nan))
    assert "the loss of training batch 1 is nan" in finding(found, "shapes").message
    assert results(found)["gradients"] is results(found)["time"] is SKIPPED


# gradients


class Aside(nn.Module):
    """One layer is never used."""

    def __init__(self, layers: int = 1) -> None:
        super().__init__()
        self.used = nn.Linear(4, 1)
        self.unused = nn.ModuleList(nn.Linear(4, 1, bias=False) for _ in range(layers))

    def forward(self, x: Tensor) -> Tensor:
        return self.used(x)


def test_a_parameter_outside_the_graph_is_named() -> None:
    said = finding(look(make_task(model=Aside())), "gradients")
    assert said.result is FAILED
    assert "1 of 3 trainable parameters (unused.0.weight)" in said.message


def test_of_many_parameters_outside_the_graph_the_first_are_named_and_the_rest_counted() -> None:
    said = finding(look(make_task(model=Aside(5))), "gradients")
    assert "5 of 7 trainable parameters (unused.0.weight, unused.1.weight, unused.2.weight and 2 more)" in said.message


def test_a_frozen_parameter_needs_no_gradient() -> None:
    model = Aside()
    model.unused.requires_grad_(False)
    found = look(make_task(model=model))
    assert not found.failed
    assert finding(found, "memory").details["gradients_mb"] * 2**20 == 5 * 4


def test_a_gradient_of_zeros_is_a_warning() -> None:
    class Dead(Aside):
        def forward(self, x: Tensor) -> Tensor:
            return self.used(x) + 0 * self.unused[0](x)

    said = finding(look(make_task(model=Dead())), "gradients")
    assert said.result is WARNING
    assert "0 everywhere in 1 of 3 trainable parameters (unused.0.weight)" in said.message


def test_a_gradient_that_is_not_finite_names_its_parameter() -> None:
    class Root(Aside):
        def forward(self, x: Tensor) -> Tensor:
            return self.used(x) + self.unused[0](x).mul(0).sqrt()  # the slope of a root at 0

    said = finding(look(make_task(model=Root())), "gradients")
    assert said.result is FAILED
    assert "NaN or infinite in 1 of 3 trainable parameters (unused.0.weight)" in said.message


def test_rows_of_an_embedding_may_have_sparse_gradients() -> None:
    class Words(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(50, 1, sparse=True)

        def forward(self, x: Tensor) -> Tensor:
            return self.embed(x).mean(1)

    x, y = torch.randint(0, 50, (40, 6)), torch.rand(40, 1)
    task = make_task(model=Words(), train=Split((x, y)), validation=Split((x, y)), example=(x[:1],))
    found = look(task, optimizer="sgd", momentum=0.0)
    assert finding(found, "gradients").result is OK


# memory and the device


def test_the_parts_of_memory_are_told_apart() -> None:
    details = finding(look(make_task()), "memory").details
    # 4·8 + 8 + 2·8 + 8 + 1 = 65 weights; 2·8 running statistics of 4 bytes and a counter of 8
    assert details["gradients_mb"] * 2**20 == 65 * 4
    assert details["optimizer_mb"] * 2**20 == 2 * 65 * 4
    assert details["parameters_mb"] * 2**20 == (65 + 16) * 4 + 8
    assert details["activations_mb"] > 0
    assert details["peak_mb"] == details["total_mb"]


def test_a_model_beyond_the_memory_is_never_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hpo.training.checks.preflight.available_mb", lambda device, gpus: 0.0001)
    found = look(make_task())
    assert finding(found, "memory").result is FAILED
    assert "It does not fit" in finding(found, "memory").message
    assert results(found)["gradients"] is results(found)["time"] is SKIPPED


@pytest.mark.parametrize("check", ["shapes", "gradients"])
def test_memory_that_runs_out_is_told_as_that(check: str) -> None:
    def loss(output: Tensor, target: Tensor) -> Tensor:
        if check == "shapes" or torch.is_grad_enabled():
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB.")
        return mse_loss(output, target)

    said = finding(look(make_task(loss=loss)), check)
    assert said.result is FAILED
    assert said.message.startswith("memory ran out (OutOfMemoryError: CUDA out of memory.")
    assert "Halve batch_size" in said.message


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_wanted_and_not_there_is_a_warning() -> None:
    found = look(make_task(), replace(EXTENT, gpus=1))
    assert finding(found, "device").result is WARNING
    assert not found.failed


def test_an_accumulation_larger_than_the_data_and_a_warm_up_longer_than_training_are_named() -> None:
    found = finding(look(make_task(), accumulation=6), "batches")  # 40 samples in batches of 8
    assert found.result is FAILED
    assert "accumulation must not be larger than the 5 batches" in found.message
    found = finding(look(make_task(), warmup_steps=25), "batches")  # 5 epochs of 5 updates
    assert found.result is FAILED
    assert "25" in found.message
