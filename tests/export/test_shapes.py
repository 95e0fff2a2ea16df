"""Open axes: what a task may say of them, what is stored of them, and what the manifest tells."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_objectives as small
import torch
from small_objectives import noise, task_of, text_task, weights_of
from torch import Tensor, nn

from hpo.errors import ExportFailed
from hpo.export.example import StoredExample
from hpo.export.release import _subject
from hpo.export.shapes import input_facts, open_axes, output_facts


def stored(task: Any) -> tuple[StoredExample, Any]:
    _, example, axes = _subject(task, weights_of(task), "", {})
    return example, axes


class Halved(nn.Module):
    """Every second step and the sum of all; the third says nothing of the batch."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return x[:, ::2], x.sum(1), x.mean((0, 1))


def test_every_axis_says_whether_its_length_is_free() -> None:
    task = task_of(Halved(), noise(70, 6, 5), outputs=("half", "sum", "mean"), open_axes=({1: "time"},))
    example, axes = stored(task)
    assert [fact.shape for fact in input_facts(example, axes)] == [("batch", "time", 5)]
    assert [fact.shape for fact in output_facts(example, axes)] == [("batch", "by time", 5), ("batch", 5), (5,)]


def test_texts_of_different_lengths_are_padded_and_cut() -> None:
    example, axes = stored(text_task())
    assert [fact.shape for fact in input_facts(example, axes)] == [("batch", "sequence")] * 2
    assert [fact.shape for fact in output_facts(example, axes)] == [("batch", "sequence", 6)]
    assert [case.label for case in example.cases] == ["batch 1", "batch 3", "batch 64", "batch 3, sequence 6"]
    (cut,) = example.cuts
    np.testing.assert_array_equal(cut.inputs["ids"], example.inputs["ids"][:3, :6])
    model = text_task().model.eval()
    with torch.no_grad():
        expected = model(*(torch.from_numpy(value) for value in cut.inputs.values())).numpy()
    np.testing.assert_allclose(cut.outputs["logits"], expected, atol=1e-6)


def test_each_name_is_cut_alone(tmp_path: Path) -> None:
    class Outer(nn.Module):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return x[:, :, None] * y[:, None, :]

    task = task_of(Outer(), noise(70, 8), noise(70, 5), open_axes=({1: "rows"}, {1: "columns"}))
    example, axes = stored(task)
    example.save(tmp_path)
    again = StoredExample.load(tmp_path)
    assert [(case.lengths, case.outputs["output"].shape) for case in again.cuts] == [
        ({"rows": 4}, (3, 4, 5)),
        ({"columns": 2}, (3, 8, 2)),
    ]
    assert output_facts(again, axes)[0].shape == ("batch", "rows", "columns")


def test_large_outputs_are_stored_for_fewer_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hpo.export.example.OUTPUT_BYTES", 20 * 5 * 4)
    task = task_of(nn.Identity(), noise(70, 5))  # 5 numbers of 4 bytes a row
    assert list(stored(task)[0].outputs) == [1, 3, 20]
    monkeypatch.setattr("hpo.export.example.OUTPUT_BYTES", 1)
    example, axes = stored(task)
    assert list(example.outputs) == [1, 3] and example.inputs["in0"].shape == (3, 5)
    assert output_facts(example, axes)[0].shape == ("batch", 5)


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        (({1: "time"},), "an entry for each of the 2 inputs"),
        (({0: "time"}, {}), "input 'x' has axes up to 2, got 0"),
        (({3: "time"}, {}), "input 'x' has axes up to 2, got 3"),
        (({1: "my time"}, {}), "must be an identifier other than 'batch'; got 'my time'"),
        (({1: "batch"}, {}), "other than 'batch'; got 'batch'"),
        (({1: "time"}, {1: "time"}), "'time' is 4 in 'x' and 5 in another input"),
    ],
)
def test_axes_that_make_no_sense_are_refused(axes: Any, message: str) -> None:
    with pytest.raises(ExportFailed, match=message):
        open_axes({"x": np.zeros((8, 4, 2)), "y": np.zeros((8, 5))}, axes)


def test_a_model_that_takes_one_length_alone_is_told_so() -> None:
    task = task_of(small.FixedLength(), noise(70, 6, 3), open_axes=({1: "steps"},))
    with pytest.raises(ExportFailed, match="any length of 'steps' will do; the model fails at 3: .*must match"):
        stored(task)
