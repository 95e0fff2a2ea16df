"""Memory and time reckoned beforehand: against sums by hand, and against what optimisers really keep."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from hpo.errors import UnknownName
from hpo.training.batches import make_batches
from hpo.training.checks.estimate import (
    MemoryEstimate,
    data_mb,
    judge_memory,
    memory_by_count,
    memory_of,
    with_activations,
)
from hpo.training.checks.findings import Result
from hpo.training.checks.timing import TimeEstimate, estimate_time, spoken_time
from hpo.training.meters import Subject, peak_memory_mb
from hpo.training.optimizers import make_optimizer
from hpo.training.precision import Precision
from hpo.training.settings import TrainerSettings
from hpo.training.task import Split, Task
from hpo.training.update import Updater

MB = 2**20
CPU = torch.device("cpu")


def total_bytes(optimizer: str, trainable: int = 16_840_000_000, **more: float) -> float:
    return memory_by_count(16_840_000_000, trainable, optimizer, **more).total_mb * MB  # type: ignore[arg-type]


def test_a_model_of_17_billion_weights_is_counted_and_never_built() -> None:
    found = memory_by_count(16_840_000_000, 16_840_000_000, "adamw")
    assert found.parameters_mb * MB == pytest.approx(67.36e9)  # 16.84e9 · 4
    assert found.gradients_mb * MB == pytest.approx(67.36e9)
    assert found.optimizer_mb * MB == pytest.approx(134.72e9)  # two moments of 4 bytes
    assert found.activations_mb is None
    assert found.total_mb == pytest.approx(256_958.0, abs=0.1)  # 269.44e9 / 2^20


def test_8_bit_adamw_keeps_two_bytes_a_weight_and_a_scale_for_every_256() -> None:
    found = memory_by_count(16_840_000_000, 16_840_000_000, "adamw8bit")
    assert found.optimizer_mb * MB == pytest.approx(34.20625e9)  # 16.84e9 · (2 + 2 · 4 / 256)
    assert total_bytes("adamw8bit") == pytest.approx(168.92625e9)


def test_two_cards_of_24_gb_hold_the_17_billion_with_neither_optimiser_even_when_sharing() -> None:
    for optimizer in ("adamw", "adamw8bit", "sgd"):
        half = memory_by_count(16_840_000_000, 16_840_000_000, optimizer, shards=2)
        result, told = judge_memory(half, 24 * 1024, "cuda")
        assert result is Result.FAILED
        assert "does not fit" in told


def test_frozen_weights_have_no_gradient_and_no_state() -> None:
    found = memory_by_count(16_840_000_000, 3_700_000_000, "adamw")
    assert found.parameters_mb * MB == pytest.approx(67.36e9)
    assert found.gradients_mb * MB == pytest.approx(14.8e9)
    assert found.optimizer_mb * MB == pytest.approx(29.6e9)


def test_weights_of_two_bytes_halve_everything() -> None:
    assert total_bytes("adamw", bytes_per_weight=2) == pytest.approx(total_bytes("adamw") / 2)


def test_an_unknown_optimiser_is_refused() -> None:
    with pytest.raises(UnknownName, match="adamw8bit"):
        memory_by_count(10, 10, "adamw9bit")


def state_bytes(optimizer: torch.optim.Optimizer) -> int:
    """What an optimiser holds, its counters of steps left out."""
    tensors = [v for state in optimizer.state.values() for v in state.values() if isinstance(v, Tensor)]
    return sum(tensor.nbytes for tensor in tensors if tensor.numel() > 1)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("name", ["adamw", "adam", "nadam", "sgd", "rmsprop"])
def test_the_count_is_what_the_optimiser_keeps(name: str, momentum: float) -> None:
    model = nn.Sequential(nn.Linear(30, 20), nn.BatchNorm1d(20), nn.Linear(20, 5))
    model[0].weight.requires_grad_(False)
    settings = TrainerSettings(optimizer=name, momentum=momentum)  # type: ignore[arg-type]
    optimizer = make_optimizer(settings, model)
    model(torch.randn(4, 30)).sum().backward()
    gradients = sum(p.grad.nbytes for p in model.parameters() if p.grad is not None)
    optimizer.step()
    found = memory_of(model, settings)
    assert found.optimizer_mb * MB == state_bytes(optimizer)
    assert found.gradients_mb * MB == gradients
    # 30·20 + 20 + 2·20 + 20·5 + 5 weights and 2·20 running statistics of 4 bytes, and a counter of 8
    assert found.parameters_mb * MB == (765 + 40) * 4 + 8


def test_the_count_is_what_8_bit_adamw_keeps() -> None:
    bitsandbytes = pytest.importorskip("bitsandbytes")
    model = nn.Linear(512, 64)  # a bias below 4096 weights stays in float32
    optimizer = bitsandbytes.optim.AdamW8bit(model.parameters())
    model(torch.randn(2, 512)).sum().backward()
    optimizer.step()
    kept = [
        state[name].nbytes
        for state in optimizer.state.values()
        for name in ("state1", "state2", "absmax1", "absmax2")
        if name in state
    ]
    assert memory_of(model, TrainerSettings(optimizer="adamw8bit")).optimizer_mb * MB == sum(kept)


def test_fsdp_shares_everything_among_the_devices() -> None:
    model = nn.Linear(100, 100)
    whole = memory_of(model, TrainerSettings())
    shared = memory_of(model, TrainerSettings(devices=4, strategy="fsdp"))
    copied = memory_of(model, TrainerSettings(devices=4, strategy="ddp"))
    assert shared.total_mb == pytest.approx(whole.total_mb / 4)
    assert copied.total_mb == whole.total_mb


def task(model: nn.Module, samples: int, features: int) -> Task:
    x, y = torch.randn(samples, features), torch.randn(samples, 1)
    return Task(model, Split((x, y)), Split((x, y)), mse_loss, (x[:1],))


def measured(model: nn.Module, batch_size: int, features: int, **settings: object) -> MemoryEstimate:
    made = TrainerSettings(batch_size=batch_size, precision="fp32", **settings)  # type: ignore[arg-type]
    subject = task(model, batch_size, features)
    batches = make_batches(subject.train, "training", batch_size, CPU)
    updater = Subject(subject, batches, made, CPU).updater()
    batch = next(iter(batches.epoch(1)))
    updater.update([batch])
    return with_activations(memory_of(model, made), updater, batch, accumulation=made.accumulation)


def test_activations_are_what_the_forward_pass_leaves_for_the_backward_pass() -> None:
    found = measured(nn.Sequential(nn.Linear(100, 500), nn.ReLU(), nn.Linear(500, 1)), 64, 100)
    assert found.activations_mb is not None
    # ReLU's output (64, 500) and the prediction (64, 1) in float32; the loss keeps a few numbers a sample
    assert found.activations_mb * MB == pytest.approx(64 * 500 * 4 + 64 * 4, rel=0.01)


def test_activations_grow_with_the_batch_and_the_rest_does_not() -> None:
    def make() -> nn.Module:
        return nn.Sequential(nn.Linear(100, 500), nn.ReLU(), nn.Linear(500, 1))

    small, large = measured(make(), 64, 100), measured(make(), 256, 100)
    assert small.activations_mb and large.activations_mb
    assert large.activations_mb == pytest.approx(4 * small.activations_mb, rel=0.01)
    assert (small.parameters_mb, small.optimizer_mb) == (large.parameters_mb, large.optimizer_mb)


def test_the_peak_holds_all_parts_at_least_and_accumulated_gradients_too() -> None:
    def make() -> nn.Module:
        return nn.Sequential(nn.Linear(300, 400), nn.ReLU(), nn.Linear(400, 1))

    plain, accumulated = measured(make(), 512, 300), measured(make(), 512, 300, accumulation=4)
    assert plain.peak_mb and plain.activations_mb and accumulated.peak_mb
    assert plain.peak_mb >= plain.parameters_mb + plain.optimizer_mb + plain.activations_mb
    assert accumulated.peak_mb - plain.peak_mb >= 0.99 * plain.gradients_mb
    assert plain.total_mb == plain.peak_mb


def test_the_peak_is_the_one_that_a_trial_reports() -> None:
    model = nn.Sequential(nn.Linear(30, 40), nn.BatchNorm1d(40), nn.ReLU(), nn.Linear(40, 1))
    subject = task(model, 64, 30)
    batches = make_batches(subject.train, "training", 64, CPU)
    settings = TrainerSettings(batch_size=64, precision="fp32")
    assert measured(model, 64, 30).peak_mb == peak_memory_mb(Subject(subject, batches, settings, CPU))


def test_the_peak_on_a_gpu_has_no_data_set_in_it_which_is_counted_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = nn.Linear(1000, 1, bias=False), (torch.randn(50, 1000), torch.randn(50, 1))
    cuda = SimpleNamespace(type="cuda")  # the tensors are on the CPU all the same
    updater = Updater(model, mse_loss, torch.optim.SGD(model.parameters()), Precision("fp32", CPU))
    monkeypatch.setattr(updater.precision, "device", cuda)
    for name in ("reset_peak_memory_stats", "synchronize"):
        monkeypatch.setattr(torch.cuda, name, lambda device: None)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 700 * MB)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 703 * MB)  # so an update adds 3
    found = with_activations(memory_of(model, TrainerSettings()), updater, batch)
    # float32: 1000 weights, inputs 50 x 1000 and 50 targets lay there before
    assert found.peak_mb == pytest.approx(3 + (1000 + 50 * 1000 + 50) * 4 / MB)


def test_only_tensors_are_kept_on_a_gpu() -> None:
    class Images(torch.utils.data.Dataset[Tensor]):
        def __len__(self) -> int:
            return 10**9

    tensors = Split((torch.zeros(1024, 256), torch.zeros(1024)))
    assert data_mb((tensors, Split(Images())), torch.device("cuda")) == (1024 * 256 + 1024) * 4 / MB
    assert data_mb((tensors,), CPU) == 0.0


@pytest.mark.parametrize(
    ("total", "kind", "workers", "result", "word"),
    [
        (500.0, "cuda", 1, Result.OK, "50.0%"),
        (925.0, "cuda", 1, Result.OK, "healthy use"),
        (951.0, "cuda", 1, Result.WARNING, "Above 95%"),
        (1001.0, "cuda", 1, Result.FAILED, "does not fit"),
        (1001.0, "cpu", 1, Result.FAILED, "does not fit"),
        (400.0, "cpu", 3, Result.WARNING, "120.0%"),
    ],
)
def test_the_verdict_goes_by_the_share_of_the_device(
    total: float, kind: str, workers: int, result: Result, word: str
) -> None:
    estimate = MemoryEstimate(total / 2, total / 4, total / 4)
    found, told = judge_memory(estimate, 1000.0, kind, workers)
    assert found is result
    assert word in told


def test_what_a_smaller_batch_would_cure_is_a_warning_because_training_takes_one() -> None:
    curable, hopeless = MemoryEstimate(300, 300, 300, 200), MemoryEstimate(500, 500, 500, 200)
    assert judge_memory(curable, 1000.0, "cuda")[0] is Result.WARNING
    assert judge_memory(hopeless, 1000.0, "cuda")[0] is Result.FAILED
    assert judge_memory(MemoryEstimate(300, 300, 300, 200, data_mb=150), 1000.0, "cuda")[0] is Result.FAILED


def test_without_a_known_size_nothing_is_judged() -> None:
    assert judge_memory(MemoryEstimate(1, 1, 1), None, "cpu")[0] is Result.OK


@pytest.mark.parametrize(
    ("estimate", "way"),
    [
        (MemoryEstimate(1, 1, 1, activations_mb=5000), "halve batch_size"),
        (MemoryEstimate(1, 1, 5000), "adamw8bit"),
        (MemoryEstimate(5000, 1, 1), "make it smaller"),
        (MemoryEstimate(1, 1, 1, data_mb=5000), "as a Dataset"),
    ],
)
def test_what_does_not_fit_comes_with_a_way_out(estimate: MemoryEstimate, way: str) -> None:
    assert way in judge_memory(estimate, 100.0, "cuda")[1]


def test_a_study_takes_its_trials_by_rounds_of_its_workers() -> None:
    found = TimeEstimate(update_s=0.01, updates=90, validation_s=0.1)
    assert found.epoch_s == pytest.approx(1.0)
    assert found.study_s(epochs=20, trials=7, workers=2) == pytest.approx(80.0)  # 4 rounds of 20 s


def test_an_epochs_updates_are_counted_with_accumulation_and_with_a_limit() -> None:
    subject = task(nn.Linear(3, 1), 100, 3)
    settings = TrainerSettings(batch_size=8, accumulation=4)
    train = make_batches(subject.train, "training", 8, CPU, shuffle=True)
    updater = Subject(subject, train, settings, CPU).updater()
    found = estimate_time(updater, train, make_batches(subject.validation, "validation", 32, CPU), 4)
    assert found.updates == 4  # 13 batches in groups of 4
    assert 0 < found.update_s < found.epoch_s


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.0123, "12.3 ms"), (0.1334, "133 ms"), (3.44, "3.4 s"), (90, "1.5 min"), (7200, "2.0 h"), (259200, "3.0 d")],
)
def test_durations_are_said_as_people_do(seconds: float, said: str) -> None:
    assert spoken_time(seconds) == said
