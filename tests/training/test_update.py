import copy

import pytest
import torch
from torch import nn
from training_kit import assert_same, make_settings, regression, weights

from hpo.errors import TrialFailed
from hpo.training.optimizers import OPTIMIZERS, make_optimizer
from hpo.training.precision import Precision, resolve_precision
from hpo.training.update import Updater, groups

CPU = torch.device("cpu")


def updater(model: nn.Module, precision: str = "fp32", grad_clip: float | None = None, lr: float = 0.1) -> Updater:
    optimizer = make_optimizer(make_settings(optimizer="sgd", lr=lr, precision=precision), model)
    return Updater(model, nn.functional.mse_loss, optimizer, Precision(precision, CPU), grad_clip)


def test_micro_batches_of_unequal_size_equal_one_large_batch() -> None:
    x, y = regression(11)
    whole = nn.Linear(4, 1)
    parts = copy.deepcopy(whole)
    loss, norm = updater(whole).update([(x, y)])
    group = list(zip(x.split(4), y.split(4), strict=True))  # 4, 4 and 3 samples
    loss_parts, norm_parts = updater(parts).update(group)
    torch.testing.assert_close(loss_parts, loss)
    torch.testing.assert_close(norm_parts, norm)
    for a, b in zip(parts.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("clip", [0.5, 1e6])
def test_clipping_is_pytorchs_and_the_norm_is_the_one_before(clip: float) -> None:
    x, y = regression(8)
    model = nn.Linear(4, 1)
    theirs = copy.deepcopy(model)
    nn.functional.mse_loss(theirs(x), y).backward()
    expected = nn.utils.clip_grad_norm_(theirs.parameters(), clip)
    optimizer = make_optimizer(make_settings(optimizer="sgd", lr=0.1), theirs)
    optimizer.step()
    _, norm = updater(model, grad_clip=clip).update([(x, y)])
    torch.testing.assert_close(norm, expected)
    assert_same(weights(model), weights(theirs))


def test_an_fp16_update_that_overflows_is_dropped_and_its_norm_says_so() -> None:
    x, y = regression(8)
    model = nn.Linear(4, 1)
    before = weights(model)
    fp16 = updater(model, "fp16")
    _, norm = fp16.update([(x, y * 1000)])  # times the first scale, 65536, beyond fp16's 65504
    assert not norm.isfinite()
    assert_same(weights(model), before)
    norms = [fp16.update([(x, y)])[1] for _ in range(30)]
    assert norms[-1].isfinite()
    assert not torch.equal(model.weight, before["weight"])


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_a_first_fp16_update_that_is_dropped_leaves_nothing_behind_in_any_optimizer(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fresh memory is full of whatever was there; PyTorch's fused SGD took it for its momentum."""
    empty_like = torch.empty_like
    monkeypatch.setattr(torch, "empty_like", lambda *a, **k: empty_like(*a, **k).fill_(float("nan")))
    x, y = regression(8)
    model = nn.Linear(4, 1)
    settings = make_settings(optimizer=name, lr=0.01, precision="fp16")
    run = Updater(model, nn.functional.mse_loss, make_optimizer(settings, model), Precision("fp16", CPU))
    assert not run.update([(x, y * 1000)])[1].isfinite()
    losses = [run.update([(x, y)])[0].item() for _ in range(40)]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("parts", [2, 4, 16])
def test_a_batch_in_pieces_gives_the_same_update(parts: int) -> None:
    batches = [regression(7, 1), regression(3, 2)]  # pieces of unequal size, some of one sample
    whole = nn.Linear(4, 1)
    cut = copy.deepcopy(whole)
    seen: list[int] = []
    cut.register_forward_hook(lambda module, inputs, output: seen.append(len(output)))
    expected = updater(whole, grad_clip=0.5).update(batches)
    in_pieces = updater(cut, grad_clip=0.5)
    in_pieces.parts = parts
    torch.testing.assert_close(in_pieces.update(batches), expected)
    torch.testing.assert_close(cut.weight, whole.weight)
    assert sum(seen) == 10
    assert max(seen) == -(-7 // parts)


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_every_optimizer_takes_its_settings_and_lowers_the_loss(name: str) -> None:
    x, y = regression(32)
    model = nn.Linear(4, 1)
    optimizer = make_optimizer(make_settings(optimizer=name, lr=0.01, weight_decay=0.02), model)
    assert optimizer.defaults["lr"] == 0.01
    assert optimizer.defaults["weight_decay"] == 0.02
    assert type(optimizer).__name__.lower() == name
    run = Updater(model, nn.functional.mse_loss, optimizer, Precision("fp32", CPU))
    losses = [run.update([(x, y)])[0].item() for _ in range(60)]
    assert losses[-1] < losses[0]


def test_frozen_parameters_are_left_out_and_a_wholly_frozen_model_is_refused() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 1))
    model[0].requires_grad_(False)
    optimizer = make_optimizer(make_settings(), model)
    assert sum(len(group["params"]) for group in optimizer.param_groups) == 2
    with pytest.raises(TrialFailed, match="requires_grad"):
        make_optimizer(make_settings(), model.requires_grad_(False))


def test_automatic_precision_on_a_cpu_is_fp32_and_the_loss_is_computed_in_fp32_always() -> None:
    assert resolve_precision("auto", CPU) == "fp32"
    seen = []
    model = nn.Linear(4, 1)

    def loss(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        seen.append(output.dtype)
        return nn.functional.mse_loss(output, target)

    Updater(model, loss, torch.optim.SGD(model.parameters()), Precision("bf16", CPU)).update([regression(4)])
    assert seen == [torch.float32]


def test_groups_keep_every_batch_and_the_last_group_may_be_short() -> None:
    batches = [(torch.tensor([i]),) for i in range(5)]
    assert [[int(batch[0]) for batch in group] for group in groups(batches, 2)] == [[0, 1], [2, 3], [4]]
