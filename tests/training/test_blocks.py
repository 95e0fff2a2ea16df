"""Gradient checkpointing changes the memory and nothing else."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.distributed._tools.mem_tracker import MemTracker
from training_kit import LOSS, Trial, make_settings, make_task, regression

from hpo.errors import TrialFailed
from hpo.training.blocks import checkpointed_blocks
from hpo.training.checks.tensor_tracker import tensor_tracker
from hpo.training.task import Split, build_model
from hpo.trial import Goal


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """More threads than free cores cost seconds here, and win nothing."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Block(nn.Module):
    """A residual layer with everything that could go wrong when it is computed twice."""

    calls = 0

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(width, 4 * width),
            nn.BatchNorm1d(4 * width),
            nn.GELU(),
            nn.Dropout(0.3),
            nn.Linear(4 * width, width),
        )

    def forward(self, x: Tensor, *, scale: float = 1.0) -> Tensor:
        self.calls += 1
        return x + scale * self.body(x)


class Stack(nn.Module):
    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Block(width) for _ in range(depth))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x, scale=0.5)
        return x

    def calls(self) -> list[int]:
        return [layer.calls for layer in self.layers]


def stack(width: int = 8, depth: int = 3) -> Stack:
    model = build_model(lambda: Stack(width, depth), seed=1)
    assert isinstance(model, Stack)
    return model


def blocks_of(model: nn.Module) -> list[nn.Module]:
    return list(model.get_submodule("layers").children())


def trained(model: nn.Module, x: Tensor, *, wanted: bool, bf16: bool = False) -> dict[str, Tensor]:
    """Gradients and state after two forward and backward passes."""
    torch.manual_seed(5)
    with checkpointed_blocks(blocks_of(model), wanted=wanted):
        for _ in range(2):
            with torch.autocast("cpu", torch.bfloat16) if bf16 else nullcontext():
                output = model(x)
            output.float().square().mean().backward()
    grads = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return {**grads, **{f"state.{name}": value for name, value in model.state_dict().items()}}


def assert_same(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    """Equal bit for bit."""
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


def peak_bytes(model: nn.Module, x: Tensor, *, wanted: bool) -> int:
    tracker = MemTracker()
    tracker.track_external(model, x)
    with checkpointed_blocks(blocks_of(model), wanted=wanted), tracker:
        model(x).square().mean().backward()
    return sum(peak["Total"] for peak in tracker.get_tracker_snapshot("peak").values())


@pytest.mark.parametrize("bf16", [False, True])
def test_gradients_and_state_are_the_same_bit_for_bit(bf16: bool) -> None:
    x = torch.randn(16, 8, generator=torch.Generator().manual_seed(2))
    plain, again = stack(), stack()
    expected = trained(plain, x, wanted=False, bf16=bf16)
    assert_same(trained(again, x, wanted=True, bf16=bf16), expected)
    assert plain.calls() == [2, 2, 2]
    assert again.calls() == [4, 4, 4]


@pytest.fixture
def transformer() -> nn.Module:
    layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.1, batch_first=True)
    return nn.TransformerEncoder(layer, 5, enable_nested_tensor=False)


def test_a_transformers_gradients_are_the_same_and_its_memory_falls(transformer: nn.Module) -> None:
    x = torch.randn(4, 48, 16, generator=torch.Generator().manual_seed(2))
    plain, again = copy.deepcopy(transformer), copy.deepcopy(transformer)
    assert_same(trained(again, x, wanted=True), trained(plain, x, wanted=False))
    assert peak_bytes(again, x, wanted=True) < 0.5 * peak_bytes(plain, x, wanted=False)


def test_the_peak_memory_of_a_deep_network_falls_by_more_than_half() -> None:
    x = torch.randn(512, 16)
    model = stack(16, 12)
    kept = peak_bytes(model, x, wanted=False)
    assert peak_bytes(model, x, wanted=True) < 0.5 * kept


def test_compiled_blocks_count_a_batch_once_too() -> None:
    x = torch.randn(16, 8, generator=torch.Generator().manual_seed(2))
    model, plain = stack(depth=1), stack(depth=1)
    with checkpointed_blocks(blocks_of(model), wanted=True):
        torch.manual_seed(5)
        torch.compile(model, backend="eager")(x).sum().backward()
    torch.manual_seed(5)
    plain(x).sum().backward()
    assert_same(dict(model.named_buffers()), dict(plain.named_buffers()))


def test_a_deep_copy_checkpoints_its_own_blocks() -> None:
    model, x = stack(), torch.ones(4, 8)
    with checkpointed_blocks(blocks_of(model), wanted=True):
        twin = copy.deepcopy(model)
        twin(x).sum().backward()
    assert twin.calls() == [2, 2, 2]
    assert model.calls() == [0, 0, 0]
    assert all(p.grad is None for p in model.parameters())


def test_without_gradients_nothing_is_computed_twice() -> None:
    model, x = stack().eval(), torch.ones(4, 8)
    expected = model(x)
    with checkpointed_blocks(blocks_of(model), wanted=True), torch.no_grad():
        assert torch.equal(model(x), expected)
    assert model.calls() == [2, 2, 2]


def test_everything_is_put_back_even_after_an_error() -> None:
    model = stack()
    before = {name: value.clone() for name, value in model.state_dict().items()}

    def fail_inside() -> None:
        with checkpointed_blocks([*blocks_of(model), model.layers[0]], wanted=True):
            assert_same(model.state_dict(), before)
            assert isinstance(model.layers[0], Block)
            assert type(model.layers[0]) is not Block
            raise KeyError

    with pytest.raises(KeyError):
        fail_inside()
    assert all(type(layer) is Block for layer in model.layers)
    model(torch.ones(4, 8)).sum().backward()
    assert model.calls() == [1, 1, 1]


def test_not_wanted_changes_nothing() -> None:
    model = stack()
    with checkpointed_blocks(blocks_of(model), wanted=False):
        assert all(type(layer) is Block for layer in model.layers)
    with checkpointed_blocks([], wanted=False):
        pass


def test_wanted_without_blocks_says_what_to_do() -> None:
    with (
        pytest.raises(TrialFailed, match=r"names none\. Give them in the Task.*or set gradient_checkpointing: false"),
        checkpointed_blocks([], wanted=True),
    ):
        pass


def test_a_trial_learns_the_same_in_less_memory(tmp_path: Path) -> None:
    found = {}
    for wanted in (False, True):
        layers = build_model(lambda: nn.Sequential(nn.Linear(4, 16), Stack(16, 6), nn.Linear(16, 1)), seed=3)
        task = make_task(model=layers, train=Split(regression(512)), blocks=blocks_of(layers[1]))  # type: ignore[index]
        trial = Trial(tmp_path / str(wanted), epochs=2, goals=(LOSS, Goal("peak_memory_mb")))
        trial.fit(task, make_settings(batch_size=256, gradient_checkpointing=wanted))
        found[wanted] = trial
    assert found[True].curve() == found[False].curve()
    assert found[True].curve("peak_memory_mb")[0] < 0.5 * found[False].curve("peak_memory_mb")[0]


def test_a_trial_whose_task_names_no_blocks_fails_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(TrialFailed, match="names none"):
        Trial(tmp_path).fit(make_task(), make_settings(gradient_checkpointing=True))


def test_under_autocast_checkpointed_blocks_leave_no_narrow_copies_of_their_weights() -> None:
    blocks = nn.ModuleList(nn.Linear(64, 64, bias=False) for _ in range(8))
    x = torch.randn(1, 64)
    autocast = torch.autocast("cpu", dtype=torch.bfloat16)
    with checkpointed_blocks(list(blocks), wanted=True), tensor_tracker() as tracker, autocast:
        for block in blocks:
            x = block(x)
        left = sum(sizes["Total"] for sizes in tracker.get_tracker_snapshot("current").values())
        assert torch.is_autocast_cache_enabled()
    assert left < 64 * 64 * 2  # one weight in two bytes; all would be eight
    x.float().sum().backward()
    assert all(block.weight.grad is not None for block in blocks)
