from pathlib import Path

import pytest
import torch
from torch import nn
from training_kit import LOSS, Trial, assert_same, make_settings, make_task, regression, weights

from hpo.training import meters
from hpo.training.batches import make_batches
from hpo.training.meters import Subject, forward_gflops, latency_ms, parameter_mb, peak_memory_mb, samples_per_s
from hpo.training.task import Split
from hpo.trial import Goal

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meters, "_BUDGET_S", 0.1)
    monkeypatch.setattr(meters, "_WARM_UP_S", 0.02)


def subject(batch_size: int = 8, samples: int = 40, **settings: object) -> Subject:
    task = make_task(train=Split(regression(samples)))
    made = make_settings(batch_size=batch_size, **settings)
    return Subject(task, make_batches(task.train, "training", batch_size, CPU, shuffle=True), made, CPU)


def test_peak_memory_is_the_same_to_the_byte_and_does_not_depend_on_the_size_of_the_data() -> None:
    first = peak_memory_mb(subject())
    assert [peak_memory_mb(subject()) for _ in range(3)] == [first] * 3
    assert peak_memory_mb(subject(samples=4000)) == first
    assert peak_memory_mb(subject(batch_size=16)) > first


def test_peak_memory_holds_at_least_weights_gradients_optimizer_state_and_batch() -> None:
    model = nn.Linear(1000, 1, bias=False)
    x, y = torch.randn(50, 1000), torch.randn(50, 1)
    task = make_task(model=model, train=Split((x, y)), example=(x[:1],))
    measured = peak_memory_mb(Subject(task, make_batches(task.train, "t", 50, CPU), make_settings(batch_size=50), CPU))
    # float32: weights, gradients and AdamW's two moments of 1000; inputs 50 x 1000; targets and outputs 50 each
    expected = 4 * (4 * 1000 + 50 * 1000 + 2 * 50) / 2**20
    assert expected < measured < expected + 0.005


def test_gradient_accumulation_holds_gradients_while_the_next_micro_batch_runs() -> None:
    assert peak_memory_mb(subject(accumulation=2)) > peak_memory_mb(subject())


def test_operations_and_size_are_exact() -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
    assert forward_gflops(model, (torch.zeros(1, 4),), CPU) == 2 * (4 * 8 + 8 * 1) / 1e9
    assert parameter_mb(model) == 4 * (4 * 8 + 8 + 8 + 1) / 2**20


def test_operations_inside_a_transformer_layer_are_counted() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    counted = forward_gflops(layer, (torch.zeros(1, 5, 8),), CPU)
    # per token: q, k, v and out projections 4 x 8 x 8, feed-forward 2 x 8 x 16; attention 2 x 5 x 8
    assert counted == 2 * 5 * (4 * 64 + 2 * 128 + 2 * 5 * 8) / 1e9
    assert torch.backends.mha.get_fastpath_enabled()


def test_operations_are_counted_where_a_module_is_given_a_view_of_a_parameter() -> None:
    class Queries(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.queries, self.layer = nn.Parameter(torch.zeros(4, 8)), nn.Linear(8, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layer(self.queries.expand(len(x), -1, -1))

    model = Queries()
    assert forward_gflops(model, (torch.zeros(2, 8),), CPU) == 2 * (2 * 4 * 8 * 3) / 1e9
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_speed_and_latency_are_positive_and_come_with_a_spread() -> None:
    speed, spread = samples_per_s(subject())
    assert speed > 0
    assert spread >= 0
    task = make_task()
    median_ms, spread = latency_ms(task.model, task.example, CPU)
    assert 0 < median_ms < 1000 and 0 <= spread < 1


def test_the_spread_is_half_the_order_statistics_interval_over_the_median() -> None:
    # 25 values: ranks (25 - 9.8)/2 -> 7 and (25 + 9.8)/2 + 1 -> 19 of 1 ... 25, median 13
    assert meters._spread([float(value) for value in range(25, 0, -1)]) == (19 - 7) / (2 * 13)


def test_measuring_leaves_training_bit_for_bit_unchanged(tmp_path: Path) -> None:
    plain, measured = make_task(), make_task()
    Trial(tmp_path / "plain").fit(plain)
    everything = (LOSS, *(Goal(name) for name in ("samples_per_s", "latency_ms", "peak_memory_mb")))
    trial = Trial(tmp_path / "measured", goals=everything)
    outcome = trial.fit(measured)
    assert_same(weights(plain.model), weights(measured.model))
    for name in (*meters.MEASURED, *meters.SPREADS):
        assert trial.curve(name) == [outcome.metrics[name]] * 4  # measured once, told every time
    assert trial.points[0].metrics["peak_memory_mb"] == peak_memory_mb(subject())


def test_what_is_no_goal_is_not_measured_unless_it_is_free(tmp_path: Path) -> None:
    outcome = Trial(tmp_path, epochs=1).fit(make_task())
    assert set(outcome.metrics) == {"forward_gflops", "parameter_mb"}


def test_peak_memory_of_a_model_with_frozen_parameters_counts_no_gradient_for_them() -> None:
    def peak(freeze: bool) -> float:
        model = nn.Sequential(nn.Linear(256, 256), nn.Linear(256, 1))
        model[0].requires_grad_(not freeze)
        x = torch.randn(8, 256)
        task = make_task(model=model, train=Split((x, x[:, :1])))
        return peak_memory_mb(Subject(task, make_batches(task.train, "t", 8, CPU), make_settings(), CPU))

    frozen_mb = (256 * 256 + 256) * 4 / 2**20
    # gradient and two Adam moments less; rounding and small activations apart
    assert peak(False) - peak(True) == pytest.approx(3 * frozen_mb, rel=0.1)
