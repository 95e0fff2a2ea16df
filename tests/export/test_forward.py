"""PyTorch's side of an export: which rows are stored, and how weights get in."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from hpo.errors import ExportFailed
from hpo.export.forward import first_rows, in_order, load_weights_strictly
from hpo.training.task import Split


class Rows(Dataset[Any]):
    def __len__(self) -> int:
        return 3

    def __getitem__(self, place: int) -> tuple[Tensor, int, Tensor]:
        return torch.full((2,), float(place), dtype=torch.float64), place, torch.zeros(())


def test_a_dataset_shorter_than_a_batch_is_gone_through_again() -> None:
    x, kind = first_rows(Split(Rows()), 5, ("x", "kind"))
    assert x.dtype == torch.float32 and x.shape == (5, 2)
    assert kind.tolist() == [0, 1, 2, 0, 1]


def test_a_split_of_tensors_gives_its_first_rows_without_the_target() -> None:
    (x,) = first_rows(Split((torch.arange(6.0).reshape(6, 1), torch.zeros(6))), 4, ("x",))
    assert x.flatten().tolist() == [0, 1, 2, 3]


def test_fp32_weights_of_a_bf16_model_keep_their_digits() -> None:
    model = nn.Linear(1, 1).bfloat16()
    load_weights_strictly(model, {"weight": torch.tensor([[1.0000001]]), "bias": torch.zeros(1)})
    assert model.weight.item() == torch.tensor(1.0000001).item() and not model.training


def test_a_dict_of_outputs_must_have_the_named_keys() -> None:
    with pytest.raises(ExportFailed, match=r"\['b'\]; it says \['a'\]"):
        in_order({"b": torch.zeros(1)}, ("a",))
