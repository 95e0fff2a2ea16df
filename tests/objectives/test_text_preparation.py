"""New texts reach a shipped model as training's did, and its logits are told as PyTorch would judge them."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from pyarrow import parquet
from test_language_data import words
from torch.nn.functional import cross_entropy

from hpo.errors import BundleError, DataError
from objectives.language_modeling.batches import Collate, Texts
from objectives.language_modeling.data import Corpus, corpus, documents, split
from objectives.language_modeling.fields import Fields
from objectives.language_modeling.framing import INPUTS, Framing
from objectives.language_modeling.preparation import TextPreparation
from objectives.language_modeling.presets import Task
from objectives.language_modeling.tokens import assets
from objectives.prediction import Rows

MODELS: dict[Task, str] = {
    "causal": "gpt2-tiny", "masked": "bert-tiny", "classification": "bert-tiny", "encoder_decoder": "t5-tiny",
}  # fmt: skip
COLUMNS = {"text": "text", "target": "target"}


def preparation(made: Corpus, folder: Path) -> TextPreparation:
    """As a bundle has it: facts that went through JSON, and the tokenizer's file."""
    leave = assets(made.tokenizer)
    assert leave is not None
    leave(folder)
    framing = asdict(Framing.of(made.fields, made.tokenizer))
    facts = json.loads(json.dumps({"framing": framing, "columns": COLUMNS, "classes": made.classes}))
    return TextPreparation.of(facts, folder)


def of_words(folder: Path, task: Task, size: int = 60, **fields: Any) -> TextPreparation:
    """Over one token for each of w0, w1, ...: w7 has number 7 + 5."""
    told = Fields(path="a", model=MODELS[task], task=task, **fields)
    return preparation(Corpus(told, {}, words(size), size + 5, ("x", "y"), 0, 0, ()), folder)


def lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def all_rows(found: TextPreparation, path: Path, rows: int = 100) -> Rows:
    (one,) = found.read(path, rows)
    return one


@pytest.mark.parametrize("task", MODELS)
def test_texts_of_the_test_set_become_what_the_tasks_own_split_holds(
    task: Task, small_data: Callable[[str], dict[str, Any]], tmp_path: Path
) -> None:
    data = {**small_data("language_modeling"), "model": MODELS[task], "task": task}
    if task == "masked":
        rows = [json.loads(line) for line in Path(data["path"]).read_text().splitlines()]
        for row in rows:
            row["text"] = f"<mask> {row['text']}"
        data["path"] = str(lines(tmp_path / "masked.jsonl", rows))
    made, (_, texts) = corpus(data, 2), documents(data)
    held_out = [texts[i] for i in split(texts, 2)["test"]]
    asked = [{"id": d.id, "text": d.text} | ({"target": d.target} if d.target else {}) for d in held_out]
    found = all_rows(preparation(made, tmp_path), lines(tmp_path / "new.jsonl", asked))
    samples = made.parts["test"]
    items = [Texts(samples, made)[i] for i in range(len(samples))]
    assert len(items) >= 8
    counts = found.inputs["attention_mask"].sum(1)
    if task == "causal":  # each label is the token that stands next in the input, the last one's beyond it
        usable = [row[:n] for row, n in zip(found.inputs["input_ids"], counts, strict=True) if n >= 16]
        assert [row[:-1].tolist() for row in usable] == [item[0].tolist() for item in items]
        assert [row[1:].tolist() for row in usable] == [item[2].tolist() for item in items]
    elif task == "masked":  # training draws masks of its own; the tokens under them are the samples'
        usable = [row[:n] for row, n in zip(found.inputs["input_ids"], counts, strict=True) if n >= 18]
        with_mask = [sample.ids for sample in samples if made.tokenizer.mask_token_id in sample.ids]
        assert [tuple(row) for row in usable] == with_mask
    else:
        batch = Collate(made)(items)
        for name, tensor in zip(INPUTS[task], batch, strict=False):
            assert found.inputs[name].dtype == np.int64
            np.testing.assert_array_equal(found.inputs[name], tensor.numpy())


def test_a_long_text_gives_a_row_for_each_piece_and_a_short_end_is_kept(tmp_path: Path) -> None:
    found = of_words(tmp_path, "causal", max_length=20)
    path = lines(tmp_path / "a.jsonl", [{"id": "long", "text": " ".join(f"w{i}" for i in range(43))}, {"text": "w1"}])
    rows = all_rows(found, path)
    assert rows.ids == ["long part 1", "long part 2", "long part 3", "a.jsonl:line 2"]
    assert rows.inputs["attention_mask"].sum(1).tolist() == [20, 20, 3, 1]
    assert rows.inputs["input_ids"][2].tolist() == [45, 46, 47] + [0] * 17


def test_what_is_left_out_of_a_text_that_is_classified_is_told(tmp_path: Path) -> None:
    found = of_words(tmp_path, "classification", max_length=20)
    path = lines(tmp_path / "a.jsonl", [{"text": " ".join(f"w{i}" for i in range(25))}, {"text": "w1 w2"}])
    rows = all_rows(found, path)
    logits = np.log(np.array([[1.0, 3.0], [1.0, 1.0]], np.float32))
    first, second = found.tell(rows, {"logits": logits})
    assert (first["tokens"], first["left_out"], first["class"]) == (20, 7, "y")
    assert first["probabilities"] == {"y": pytest.approx(0.75), "x": pytest.approx(0.25)}
    assert (second["tokens"], second["left_out"]) == (4, 0)


def test_a_text_that_goes_on_is_told_with_the_loss_that_pytorch_gives(tmp_path: Path) -> None:
    found = of_words(tmp_path, "causal")
    rows = all_rows(found, lines(tmp_path / "a.jsonl", [{"text": "w1 w2 w3 w4"}, {"text": "w9 w8"}, {"text": "w5"}]))
    logits = torch.randn(3, 4, 65, generator=torch.Generator().manual_seed(1))
    told = found.tell(rows, {"logits": logits.numpy()})
    for number, tokens in enumerate(([1, 2, 3, 4], [9, 8])):
        labels = torch.tensor(tokens[1:]) + 5
        expected = float(cross_entropy(logits[number, : len(labels)], labels))
        assert told[number]["loss"] == pytest.approx(expected, rel=1e-5)
        assert told[number]["perplexity"] == pytest.approx(np.exp(expected), rel=1e-5)
    assert (told[2]["loss"], told[2]["perplexity"]) == (None, None)
    chances = logits[1, 1].softmax(-1)
    assert told[1]["next_probability"] == pytest.approx(float(chances.max()), rel=1e-5)
    assert [one["probability"] for one in told[1]["likeliest"]] == pytest.approx(chances.topk(5).values.tolist())
    assert told[0].keys() == told[2].keys()


def test_masks_are_filled_and_a_text_without_one_is_refused(tmp_path: Path) -> None:
    found = of_words(tmp_path, "masked")
    rows = all_rows(found, lines(tmp_path / "a.jsonl", [{"text": "w1 <mask> w3"}]))
    assert rows.inputs["input_ids"].tolist() == [[2, 6, 4, 8, 3]]
    logits = np.zeros((1, 5, 65), np.float32)
    logits[0, 2, 7 + 5] = 9
    (told,) = found.tell(rows, {"logits": logits})
    assert told["filled"] == "w1 w7 w3" and [mask[0]["token"] for mask in told["masks"]] == ["w7"]
    with pytest.raises(DataError, match="a.jsonl:line 1 must have a <mask> for the model to fill"):
        all_rows(found, lines(tmp_path / "a.jsonl", [{"text": "w1 w3"}]))


def test_of_a_target_so_far_the_loss_is_told_and_what_comes_next(tmp_path: Path) -> None:
    found = of_words(tmp_path, "encoder_decoder")
    path = lines(
        tmp_path / "a.jsonl", [{"text": "w1", "target": "w2 w3"}, {"text": "w4"}, {"text": "w4", "target": ""}]
    )
    rows = all_rows(found, path)
    assert rows.inputs["decoder_input_ids"].tolist() == [[0, 7, 8], [0, 0, 0], [0, 0, 0]]
    logits = torch.randn(3, 3, 65, generator=torch.Generator().manual_seed(1))
    told = found.tell(rows, {"logits": logits.numpy()})
    assert told[0]["loss"] == pytest.approx(float(cross_entropy(logits[0], torch.tensor([7, 8, 3]))), rel=1e-5)
    assert told[1]["loss"] is None
    assert told[1]["next_probability"] == pytest.approx(float(logits[1, 0].softmax(-1).max()), rel=1e-5)


@pytest.mark.parametrize("suffix", [".txt", ".jsonl", ".csv", ".parquet"])
def test_every_kind_of_file_gives_the_same_rows(suffix: str, tmp_path: Path) -> None:
    texts = ["w1 w2", "w3, or ☃ 漢字", "w4"]
    path = tmp_path / f"new{suffix}"
    if suffix == ".txt":
        path.write_text("\n\n".join(texts), encoding="utf-8")
    elif suffix == ".jsonl":
        lines(path, [{"text": text} for text in texts])
    elif suffix == ".csv":
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([["text"], *([text] for text in texts)])
    else:
        parquet.write_table(pa.table({"text": texts}), path)
    rows = all_rows(of_words(tmp_path, "causal"), path)
    assert rows.inputs["input_ids"][:, :2].tolist() == [[6, 7], [1, 1], [9, 0]]  # 1 is <unk>
    assert rows.ids[2] == f"new{suffix}:" + {".txt": "block 3", ".jsonl": "line 3"}.get(suffix, "row 3")


def test_rows_come_some_at_a_time(tmp_path: Path) -> None:
    path = lines(tmp_path / "a.jsonl", [{"text": f"w{i}"} for i in range(5)])
    parts = list(of_words(tmp_path, "causal").read(path, 2))
    assert [len(part.ids) for part in parts] == [2, 2, 1]


def test_unusable_texts_are_refused_with_their_place(tmp_path: Path) -> None:
    found = of_words(tmp_path, "causal")
    for rows, said in (
        ([{"text": "w1"}, {"text": "  "}], r"a.jsonl: every row needs a text that is not empty in 'text'; line 2 has"),
        ([{"txt": "w1"}], "line 1 has no column 'text', where the model's texts stood in training; it has 'txt'"),
        ([{"text": 5}], "line 1 has 5"),
    ):
        with pytest.raises(DataError, match=said):
            list(found.read(lines(tmp_path / "a.jsonl", rows), 8))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="the folder has none"):
        list(found.read(tmp_path / "empty", 8))


def test_an_older_bundle_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no 'columns'.*older hpo"):
        TextPreparation.of({"task": "causal", "classes": []}, tmp_path)
    found = of_words(tmp_path, "causal")
    facts = {"framing": asdict(found.framing), "columns": COLUMNS, "classes": []}
    with pytest.raises(BundleError, match="tokenizer.json"):
        TextPreparation.of(facts, tmp_path / "nowhere")
