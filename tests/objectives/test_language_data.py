"""Texts from files, what is refused of them, their split, their tokens, and the maker."""

from __future__ import annotations

import ast
import errno
import json
import os
import random
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from hpo.errors import DataError, UserError
from objectives import registry
from objectives.language_modeling import maker, texts
from objectives.language_modeling.data import _Cutter, corpus, documents, fingerprint, split
from objectives.language_modeling.fields import Fields, checked
from objectives.language_modeling.texts import Document, read

TEXTS = [f"text number {i} of several words" for i in range(25)]


def lines(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def rows(**more: Any) -> list[dict[str, Any]]:
    return [{"text": text, **more} for text in TEXTS]


# What is read


def test_no_more_than_max_samples_are_read(tmp_path: Path) -> None:
    path = lines(tmp_path / "a.jsonl", [*rows(), {"text": None}])  # beyond them nothing is looked at
    assert len(read(Fields(path=str(path), max_samples=25))) == 25
    with pytest.raises(DataError, match="line 26"):
        read(Fields(path=str(path)))


def test_a_csv_keeps_its_texts_as_they_stand(tmp_path: Path) -> None:
    """A number, a missing value's usual spelling and a line break are texts too."""
    strange = ["1.50", "NA", "two\nlines", *TEXTS]
    quoted = "".join('"' + text + '",7\n' for text in strange)
    (tmp_path / "a.csv").write_text("text,label\n" + quoted)
    found = read(Fields(path=str(tmp_path / "a.csv")))
    assert [document.text for document in found[:3]] == strange[:3]


@pytest.mark.parametrize("streamed", [True, False])
def test_a_data_set_is_found_by_name(streamed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder has a name as the hub's data sets have; no network here."""
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(texts, "STREAMED_BELOW", 10_000 if streamed else 0)
    import datasets

    seen: list[bool] = []
    real = datasets.load_dataset
    monkeypatch.setattr(datasets, "load_dataset", lambda *a, **k: seen.append(k["streaming"]) or real(*a, **k))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "set").mkdir()
    lines(tmp_path / "set" / "train.jsonl", rows())
    found = read(Fields(dataset={"name": str(tmp_path / "set"), "split": "train"}, max_samples=22))
    assert [document.text for document in found] == TEXTS[:22]
    assert seen == [streamed]


def test_a_data_set_that_cannot_be_had_is_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    def gone(*args: Any, **options: Any) -> Any:
        raise ConnectionError("no route\nto the hub")

    monkeypatch.setattr(datasets, "load_dataset", gone)
    with pytest.raises(DataError, match=r"dataset 'a/b' \(config c, split train\) cannot be had: no route to the hub"):
        read(Fields(dataset={"name": "a/b", "config": "c"}))


# Refusals


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.json"])
def test_a_mark_before_the_text_is_no_part_of_it(name: str, tmp_path: Path) -> None:
    found = rows()
    text = {
        "a.txt": "\n\n".join(row["text"] for row in found),
        "a.jsonl": "\n".join(map(json.dumps, found)),
        "a.json": json.dumps(found),
    }[name]
    (tmp_path / name).write_text(text, encoding="utf-8-sig")
    assert [document.text for document in read(Fields(path=str(tmp_path / name)))] == [row["text"] for row in found]


@pytest.mark.parametrize("name", ["nothing-here", "empty", "a.docx"])
def test_a_path_that_holds_no_texts_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.docx").touch()
    with pytest.raises(DataError, match=name):
        read(Fields(path=str(tmp_path / name)))


def test_a_folder_without_permission_is_told_and_not_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines(tmp_path / "a.jsonl", rows())
    (tmp_path / "closed").mkdir()
    scandir = os.scandir

    def guarded(path: Any) -> Any:
        if Path(path).name == "closed":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    with pytest.raises(DataError, match=r"closed: Permission denied\. Choose one that you may read"):
        read(Fields(path=str(tmp_path)))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (json.dumps({"text": "cut in two: \ud83d"}), r"1 have none: line 1 \(text: half a character, '\\ud83d'\)"),
        ("[" * 100_000, "cannot be read as JSON: maximum recursion depth"),
        ('{"text": ' + "9" * 5_000 + "}", "line 1 cannot be read as JSON: .* integer string conversion"),
    ],
)
def test_json_that_is_out_of_bounds_is_refused(line: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(line + "\n")
    with pytest.raises(DataError, match=said):
        read(Fields(path=str(tmp_path / "a.jsonl")))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"max_samples": 0}, "max_samples must be a whole number of at least 1; got 0"),
        ({"max_length": True}, "max_length must be a whole number"),
        ({"min_tokens": 200}, "max_length must be at least min_tokens, 200; got 128"),
        ({"task": "translate"}, "task must be one of causal, masked"),
        ({"path": None}, "give either path"),
        ({"path": "mine.txt", "dataset": {"name": "a/b"}}, "give either path"),
        ({"dataset": {"nome": "a/b"}}, "dataset must be a mapping with a name"),
        ({"dataset": {"name": "a/b", "splits": "x"}}, "splits"),
        ({"weights": "pretrained"}, "the preset gpt2-tiny has no pretrained ones"),
        ({"weights": "nothing-here.safetensors"}, "nothing-here.safetensors"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_field_that_cannot_be_is_refused_by_name(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError, match=said):
        checked({**registry.find("language_modeling").default_data, **fields})


def test_a_model_that_is_not_there_is_refused_with_what_is(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{broken")
    with pytest.raises(DataError, match="cannot be had: .* Known: gpt2-tiny"):
        _ = Fields(path="a", model=str(tmp_path)).goal
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(DataError, match="does not say what it was trained for; give task"):
        _ = Fields(path="a", model=str(tmp_path)).goal


# Parts and sequences


def words(size: int) -> PreTrainedTokenizerFast:
    """One token for each of the words w0, w1, ...; w7 has number 7 + 5."""
    names = ["<pad>", "<unk>", "<s>", "</s>", "<mask>", *(f"w{i}" for i in range(size))]
    made = Tokenizer(models.WordLevel({name: i for i, name in enumerate(names)}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()  # type: ignore[assignment]
    return PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", unk_token="<unk>", bos_token="<s>", eos_token="</s>",
        cls_token="<s>", sep_token="</s>", mask_token="<mask>",
    )  # fmt: skip


def text_of(count: int) -> str:
    return " ".join(f"w{i}" for i in range(count))


def test_a_long_text_is_cut_into_pieces_and_a_short_end_is_counted() -> None:
    cutter = _Cutter(Fields(path="a", max_length=20, min_tokens=16), words(60), ())
    found = [Document("a", text_of(56)), Document("b", text_of(25)), Document("c", text_of(15))]
    made = cutter.sequences(found, split_all(3))
    # 56 = 20 + 20 + 16; 25 = 20 + an end of 5; 15 is too short.
    assert [(sample.document, len(sample.ids)) for sample in made] == [(0, 20), (0, 20), (0, 16), (1, 20)]
    assert made[1].ids == tuple(range(5 + 20, 5 + 40))
    assert (cutter.short, cutter.cut) == (2, 0)


def split_all(count: int) -> Any:
    import numpy as np

    return np.arange(count)


def test_a_classified_text_is_framed_and_its_end_left_out() -> None:
    fields = Fields(path="a", model="bert-tiny", task="classification", max_length=20)
    cutter = _Cutter(fields, words(60), ("x", "y"))
    (long, exact) = cutter.sequences(
        [Document("a", text_of(56), label="y"), Document("b", text_of(18), label="x")], split_all(2)
    )
    assert long.ids == (2, *range(5, 5 + 18), 3) and long.label == 1
    assert len(exact.ids) == 20 and exact.label == 0
    assert cutter.cut == 1


def test_what_is_written_from_a_text_ends_with_its_end() -> None:
    cutter = _Cutter(Fields(path="a", model="t5-tiny", min_tokens=2), words(9), ())
    (sample,) = cutter.sequences([Document("a", "w1 w2", target="w3")], split_all(1))
    assert (sample.ids, sample.target) == ((6, 7, 3), (8, 3))


def test_the_tokenizer_learns_from_the_training_texts_alone(tmp_path: Path) -> None:
    rng = random.Random(0)
    own = ["".join(rng.choice("abcdefghij") for _ in range(9)) for _ in range(40)]
    path = lines(tmp_path / "a.jsonl", [{"text": " ".join([word] * 30)} for word in own])
    data = {"path": str(path), "vocabulary": 700}
    made = corpus(data, 3)
    _, found = documents(data)
    parts = split(found, 3)
    whole = {number for number, word in enumerate(own) if len(made.tokenizer.tokenize(f" {word}")) == 1}
    assert whole == set(parts["train"].tolist())


def test_the_fingerprint_follows_the_texts_and_not_their_place(tmp_path: Path) -> None:
    fields = Fields(path="a")
    one = [Document("1", "a"), Document("2", "b")]
    assert fingerprint(one, fields) == fingerprint(one, Fields(path="elsewhere"))
    assert fingerprint(one, fields) != fingerprint([one[0], Document("2", "c")], fields)
    assert fingerprint(one, fields) != fingerprint(one, Fields(path="a", max_length=64))
    found = []
    for content in (b"first", b"second"):
        (tmp_path / "w.pt").write_bytes(content)
        found.append(fingerprint(one, Fields(path="a", weights=str(tmp_path / "w.pt"))))
    assert len({*found, fingerprint(one, fields)}) == 3


# The maker


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A standard library of one module."""
    root = tmp_path / "lib"
    root.mkdir()
    method = '    def two(self, x):\n        """Twice x."""\n' + "        x = x + 1\n" * 12 + "        return 2 * x\n"
    inner = method.replace("two", "inner").replace("\n", "\n    ")
    functions = [
        f'def f{i}(a, *, b={i}):\n    """Add {i}.\n\n    And more."""\n    return a + b  # {"." * 80}\n'
        for i in range(8)
    ]
    (root / "queue.py").write_text(
        "\n\n".join(functions) + f"\nclass Both:\n{method}\ndef outer():\n    x = 1\n{inner}\n" + "def g():\n    pass\n"
    )
    monkeypatch.setattr(maker.sysconfig, "get_paths", lambda: {"stdlib": str(root)})
    return tmp_path


def test_the_maker_takes_documented_functions_and_no_inner_ones(library: Path) -> None:
    maker.make(library / "out.jsonl", 9, 1, progress=False)
    found = {row["id"]: row for row in map(json.loads, (library / "out.jsonl").read_text().splitlines())}
    assert {name.split(":")[1] for name in found} == {"two", *(f"f{i}" for i in range(8))}
    row = found["queue:f0:1"]
    assert (row["signature"], row["summary"], row["area"]) == ("queue.f0(a, *, b=0)", "Add 0.", "concurrency")
    assert row["docstring"] == "Add 0.\n\nAnd more."
    assert all(ast.parse(one["text"]) for one in found.values())


@pytest.mark.parametrize(
    ("records", "said"), [(0, "at least 1; got 0"), (True, "got True"), (99, "has 9 such functions; 99 were asked for")]
)
def test_the_maker_refuses_what_it_cannot_make(records: Any, said: str, library: Path) -> None:
    with pytest.raises(UserError, match=said):
        maker.make(library / "out.jsonl", records, 1, progress=False)
    assert not (library / "out.jsonl").exists()
