"""What texts and models of several parts need: ragged batches, losses by tokens, outputs by name, probes."""

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset
from training_kit import Trial, make_settings, make_task

from hpo.errors import OutOfMemory, TrialFailed
from hpo.training.checks.data import check_batches, check_samples
from hpo.training.checks.outlined import check_outline
from hpo.training.evaluate import evaluate
from hpo.training.optimizers import make_optimizer
from hpo.training.outputs import check
from hpo.training.precision import Precision
from hpo.training.task import Outline, Split, Task
from hpo.training.update import Updater

CPU = torch.device("cpu")
IGNORED = -100
TEXTS = ([1, 2, 3, 4, 5], [2, 1], [3, 3, 4], [5, 4, 3, 2])


class Texts(Dataset[tuple[Tensor, Tensor]]):
    """Texts of different lengths; each token is to be named itself."""

    def __len__(self) -> int:
        return len(TEXTS)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        tokens = torch.tensor(TEXTS[index])
        return tokens, tokens


def padded(items: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    pad = nn.utils.rnn.pad_sequence
    tokens, labels = zip(*items, strict=True)
    return pad(list(tokens), batch_first=True), pad(list(labels), batch_first=True, padding_value=IGNORED)


def by_tokens(logits: Tensor, labels: Tensor) -> Tensor:
    return nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED)


def tokens(labels: Tensor) -> Tensor:
    return (labels != IGNORED).sum()


def tagger() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Embedding(6, 8), nn.Linear(8, 6))


def text_task() -> Task:
    split = Split(Texts(), collate=padded)
    return make_task(
        model=tagger(),
        train=split,
        validation=split,
        loss=by_tokens,
        weigh=tokens,
        keep=lambda logits, labels: ((logits.argmax(2) == labels).sum(1).float(), (labels != IGNORED).sum(1).float()),
        example=(torch.tensor([[1, 2]]),),
    )


def loss_by_hand(model: nn.Module) -> Tensor:
    """The mean over all 14 tokens of all texts, one text at a time, without padding."""
    parts = [
        nn.functional.cross_entropy(model(torch.tensor(text)), torch.tensor(text), reduction="sum") for text in TEXTS
    ]
    return torch.stack(parts).sum() / sum(map(len, TEXTS))


@pytest.mark.parametrize(("batch_size", "parts"), [(4, 1), (3, 1), (1, 1), (4, 2)])
def test_an_update_weighs_tokens_and_not_texts_however_they_are_cut(batch_size: int, parts: int) -> None:
    model = tagger()
    theirs = copy.deepcopy(model)
    expected = loss_by_hand(theirs)
    expected.backward()
    updater = Updater(
        model,
        by_tokens,
        make_optimizer(make_settings(optimizer="sgd"), model),
        Precision("fp32", CPU),
        parts=parts,
        weigh=tokens,
    )
    items = [Texts()[i] for i in range(4)]
    group = [padded(items[i : i + batch_size]) for i in range(0, 4, batch_size)]
    loss = updater.backward(group)
    torch.testing.assert_close(loss, expected.detach())
    for own, other in zip(model.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(own.grad, other.grad)


@pytest.mark.parametrize("batch_size", [1, 3, 4])
def test_a_validation_loss_is_the_mean_over_tokens_and_keep_says_what_metrics_see(batch_size: int) -> None:
    task = text_task()
    split = Split(Texts(), metrics=lambda right, of: {"val_right": (right.sum() / of.sum()).item()}, collate=padded)
    metrics, right, of = evaluate(task.model, split, task.loss, CPU, batch_size, weigh=task.weigh, keep=task.keep)
    assert metrics["loss"] == pytest.approx(loss_by_hand(task.model).item(), rel=1e-6)
    assert of.tolist() == [5, 2, 3, 4]
    assert metrics["val_right"] == pytest.approx(right.sum().item() / 14)


def test_a_text_task_trains_and_its_training_loss_weighs_tokens(tmp_path: Path) -> None:
    trial = Trial(tmp_path, epochs=1)
    expected = loss_by_hand(tagger()).item()  # one update an epoch, so the loss is that before it
    outcome = trial.fit(text_task(), make_settings(batch_size=1, accumulation=4))
    assert outcome.reason.kind.value == "finished"
    assert trial.points[0].metrics["train_loss"] == pytest.approx(expected, rel=1e-6)
    assert 0 <= trial.points[0].metrics["data_wait_share"] <= 1


def test_a_probe_asks_the_model_itself_in_eval_mode(tmp_path: Path) -> None:
    modes = []

    def probe(model: nn.Module) -> dict[str, float]:
        modes.append((model.training, torch.is_grad_enabled()))
        return {"val_first": float(model(torch.tensor([1])).argmax())}

    task = replace(text_task(), validation=Split(Texts(), collate=padded, probe=probe))
    trial = Trial(tmp_path, epochs=2)
    trial.fit(task, make_settings(batch_size=2))
    assert trial.points[-1].metrics["val_first"] == float(task.model(torch.tensor([1])).argmax())
    assert modes == [(False, False)] * 2


class TwoHeaded(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 1), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"value": self.first(x), "off": (self.second(x) - x).square().mean(1, keepdim=True)}


def two_losses(output: dict[str, Tensor], target: Tensor) -> Tensor:
    return nn.functional.mse_loss(output["value"], target) + 0.5 * output["off"].mean()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_model_may_give_tensors_by_name(tmp_path: Path, precision: str) -> None:
    def judge(outputs: Tensor, targets: Tensor) -> dict[str, float]:
        return {"val_off": outputs[:, 1].mean().item()}

    task = make_task(model=TwoHeaded(), loss=two_losses, keep=lambda o, t: (torch.cat([o["value"], o["off"]], 1), t))
    task = replace(task, validation=Split(task.validation.data, judge))
    trial = Trial(tmp_path, epochs=2)
    trial.fit(task, make_settings(precision=precision))
    assert trial.points[-1].metrics["val_off"] < trial.points[0].metrics["val_off"]


def test_tensors_by_name_without_keep_are_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(TrialFailed, match=r"Task\.keep must say .* output value \(8, 1\), off \(8, 1\)"):
        Trial(tmp_path).fit(make_task(model=TwoHeaded(), loss=two_losses), make_settings())


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ([torch.zeros(2)], "not list"),
        ({"a": 1.0}, "not dict of float"),
        ({}, "not dict"),
        (torch.zeros(3, 1), "one output per sample, 2 of them"),
        ({"a": torch.zeros(2), "b": torch.zeros(())}, "one output per sample"),
    ],
)
def test_what_is_not_one_row_a_sample_is_refused(output: object, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        check(output, 2)


def test_the_pre_flight_makes_ragged_batches_as_training_does() -> None:
    split = Split(Texts(), collate=padded)
    assert "of varying length" in check_batches(split, 2, 0, 6).message
    assert check_samples(split, "training", 2, 0, 6) == "all 4"


def test_an_outline_that_cannot_fit_is_refused_without_being_built() -> None:
    with torch.device("meta"):
        outline = nn.Linear(10**6, 10**6)  # 4 TB of weights
    with pytest.raises(OutOfMemory, match="Refused before its first update: parameters 3 814 701"):
        check_outline(Outline(outline), make_settings(), CPU, 1.0)
