"""Every optimiser by name, and what is peculiar about the 8-bit one."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hpo.errors import TrialFailed, UserError
from hpo.training import extras
from hpo.training.extras import check_installed
from hpo.training.optimizers import OPTIMIZERS, make_optimizer
from hpo.training.settings import TrainerSettings
from hpo.training.task import build_model

X = torch.randn(128, 64, generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """More threads than free cores cost seconds here, and win nothing."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def net() -> nn.Module:
    """Two layers of 16384 weights each, whose state is 8 bits wide, and small biases, whose is not."""
    return build_model(lambda: nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 64)), seed=1)


def make(model: nn.Module, name: str, **settings: Any) -> torch.optim.Optimizer:
    return make_optimizer(TrainerSettings(optimizer=name, lr=3e-3, **settings), model)


def train(model: nn.Module, optimizer: torch.optim.Optimizer, updates: int) -> float:
    """Learn the sine of the input; the last loss."""
    loss = torch.tensor(0.0)
    for _ in range(updates):
        loss = nn.functional.mse_loss(model(X), X.sin())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return loss.item()


def state_bytes(optimizer: torch.optim.Optimizer) -> int:
    values = [value for state in optimizer.state.values() for value in state.values()]
    return sum(value.nbytes for value in values if isinstance(value, Tensor))


def through_a_file(state: dict[str, Any]) -> dict[str, Any]:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    loaded: dict[str, Any] = torch.load(file, weights_only=True)
    return loaded


def test_settings_and_optimisers_know_the_same_names() -> None:
    for name in OPTIMIZERS:
        assert TrainerSettings(optimizer=name).optimizer == name
    assert set(TrainerSettings.model_fields["optimizer"].annotation.__args__) == set(OPTIMIZERS)  # type: ignore[union-attr]


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_an_optimiser_lowers_the_loss(name: str) -> None:
    model = net()
    optimizer = make_optimizer(TrainerSettings(optimizer=name, lr=1.0 if name == "sgd" else 3e-3), model)
    first = train(model, optimizer, 1)
    assert train(model, optimizer, 40) < 0.6 * first


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_an_optimisers_state_goes_on_from_a_file_bit_for_bit(name: str) -> None:
    whole, broken = net(), net()
    train(whole, make(whole, name, weight_decay=0.01), 10)

    before = make(broken, name, weight_decay=0.01)
    train(broken, before, 5)
    state = through_a_file({"model": broken.state_dict(), "optimizer": before.state_dict()})
    again = net()
    again.load_state_dict(state["model"])
    after = make(again, name, weight_decay=0.01)
    after.load_state_dict(state["optimizer"])
    train(again, after, 5)
    for key, value in whole.state_dict().items():
        assert torch.equal(again.state_dict()[key], value), key


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_frozen_parameters_are_left_out(name: str) -> None:
    model = net()
    model[0].requires_grad_(False)  # type: ignore[index]
    frozen = model[0].weight.clone()  # type: ignore[index]
    train(model, make(model, name, weight_decay=0.1), 3)
    assert torch.equal(model[0].weight, frozen)  # type: ignore[index]
    with pytest.raises(TrialFailed, match="at least one parameter with requires_grad"):
        make(model.requires_grad_(False), name)


def test_8_bit_state_takes_about_a_quarter() -> None:
    """Of 8 bytes a weight: 2 bytes, two float32 scales per 256 weights, two tables of 256 float32."""
    sizes = {}
    for name in ("adamw", "adamw8bit"):
        model = nn.Linear(256, 256, bias=False)
        optimizer = make(model, name)
        model(torch.ones(1, 256)).sum().backward()
        optimizer.step()
        sizes[name] = state_bytes(optimizer)
    weights = 256 * 256
    assert sizes["adamw"] == 8 * weights + 4  # and the number of steps
    assert sizes["adamw8bit"] == 2 * weights + 2 * 4 * weights // 256 + 2 * 4 * 256
    assert sizes["adamw8bit"] < 0.27 * sizes["adamw"]


def test_parameters_below_4096_values_keep_32_bits() -> None:
    model = net()
    optimizer = make(model, "adamw8bit")
    train(model, optimizer, 1)
    kinds = {p.numel(): optimizer.state[p]["state1"].dtype for p in model.parameters()}
    assert kinds == {16384: torch.uint8, 256: torch.float32, 64: torch.float32}


def test_8_bit_learns_as_adamw_does() -> None:
    losses = {}
    for name in ("adamw", "adamw8bit"):
        model = net()
        losses[name] = train(model, make(model, name), 100)
    assert losses["adamw8bit"] == pytest.approx(losses["adamw"], rel=0.15)


def test_8_bit_follows_adamw_exactly_where_nothing_is_8_bit() -> None:
    ours, theirs = nn.Linear(8, 8), nn.Linear(8, 8)
    theirs.load_state_dict(ours.state_dict())
    reference = torch.optim.AdamW(theirs.parameters(), lr=3e-3, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.1)
    optimizer = make(ours, "adamw8bit", beta1=0.8, beta2=0.95, eps=1e-6, weight_decay=0.1)
    for _ in range(5):
        for model, steps in ((ours, optimizer), (theirs, reference)):
            steps.zero_grad()
            model(X[:, :8]).square().sum().backward()
            steps.step()
    torch.testing.assert_close(ours.weight, theirs.weight, rtol=1e-5, atol=1e-6)


def test_a_missing_package_is_named_with_the_way_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda name: None)
    for name in OPTIMIZERS:
        if name != "adamw8bit":
            check_installed(TrainerSettings(optimizer=name))
    with pytest.raises(UserError, match=r"needs the package bitsandbytes.*pip install 'hpo\[8bit\]'"):
        check_installed(TrainerSettings(optimizer="adamw8bit"))
    with pytest.raises(UserError, match="bitsandbytes"):
        make(net(), "adamw8bit")


def test_a_package_that_does_not_load_fails_the_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes.optim", None)
    with pytest.raises(TrialFailed, match="cannot be used here.*Choose another optimizer"):
        make(net(), "adamw8bit")
