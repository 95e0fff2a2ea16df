"""language_modeling: masks counted, losses by hand, sizes as published, every task on a few texts, bad texts."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small import language_modeling as small
from torch import nn

from hpo.errors import DataError
from hpo.evaluation.language import PADDING
from hpo.training.settings import TrainerSettings
from hpo.training.task import Task
from hpo.trial import Goal, Job
from objectives.language_modeling import OBJECTIVE
from objectives.language_modeling.batches import Masking
from objectives.language_modeling.data import corpus, documents, split
from objectives.language_modeling.maker import make
from objectives.language_modeling.model import LanguageModel, build, greedy, logits_of
from objectives.language_modeling.presets import PRESETS, task_of
from objectives.language_modeling.task import count_tokens, tally, token_loss, token_metrics

TINY = {"causal": "gpt2-tiny", "masked": "bert-tiny", "classification": "bert-tiny", "encoder_decoder": "t5-tiny"}
OBJ = OBJECTIVE()


def job(data: dict[str, Any], **changes: Any) -> Job:
    goal = Goal("val_loss")
    fields = {"params": OBJ.default_params, "seed": 1, **changes}
    return Job(
        study="s", series="search", number=0, objective="language_modeling", data={**OBJ.default_data, **data},
        trainer=TrainerSettings(), goals=(goal,), monitor=goal, data_seed=2, epochs=1, folder="nowhere", **fields,
    )  # fmt: skip


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return small(tmp_path_factory.mktemp("texts"))


@pytest.fixture(params=TINY)
def task(request: pytest.FixtureRequest, texts: dict[str, Any]) -> tuple[str, Task]:
    return request.param, OBJ.task(job({**texts, "task": request.param, "model": TINY[request.param]}))


# Masks


def test_fifteen_in_a_hundred_tokens_are_asked_for_and_are_masked_replaced_or_kept_as_bert_does() -> None:
    masking = Masking(mask=4, tokens=1000, specials=(0, 2, 4))
    ids = torch.cat([torch.tensor([2]), torch.arange(100, 600), torch.tensor([0])])
    torch.manual_seed(0)
    asked = masked = kept = other = 0
    for _ in range(400):
        shown, labels = masking(ids)
        chosen = labels != PADDING
        assert torch.equal(labels[chosen], ids[chosen])
        assert torch.equal(shown[~chosen], ids[~chosen])
        assert not chosen[[0, -1]].any()
        asked += int(chosen.sum())
        masked += int((shown[chosen] == 4).sum())
        kept += int((shown[chosen] == ids[chosen]).sum())
        other += int(((shown[chosen] != ids[chosen]) & (shown[chosen] != 4)).sum())
    # 200,000 draws: standard deviations are 0.0008 of the share asked for, and 0.0023 within the 30,000 asked for.
    assert asked / 200_000 == pytest.approx(0.15, abs=0.004)
    assert masked / asked == pytest.approx(0.8, abs=0.012)
    assert kept / asked == pytest.approx(0.1, abs=0.01)
    assert other / asked == pytest.approx(0.1, abs=0.01)


def test_every_sequence_is_asked_for_something() -> None:
    masking = Masking(mask=4, tokens=50, specials=(0,))
    for seed in range(300):
        _, labels = masking(torch.tensor([7, 8]), torch.Generator().manual_seed(seed))
        assert (labels != PADDING).any()


def test_validation_masks_stay_and_training_masks_change(texts: dict[str, Any]) -> None:
    found = OBJ.task(job({**texts, "model": "bert-tiny"}))
    assert torch.equal(found.validation.data[0][0], found.validation.data[0][0])  # type: ignore[index]
    assert any(not torch.equal(found.train.data[i][0], found.train.data[i][0]) for i in range(5))  # type: ignore[index]


# Losses


def test_the_loss_is_the_mean_over_tokens_by_hand_with_padding_left_out() -> None:
    logits = torch.zeros(2, 3, 4)
    logits[0, 0, 1] = math.log(3)  # 3 / 6 for the right token
    logits[1, 1, 2] = math.log(5)  # 1 / 8 for another one
    labels = torch.tensor([[1, 0, PADDING], [0, 3, 3]])
    by_hand = -(math.log(3 / 6) + math.log(1 / 4) + math.log(1 / 4) + math.log(1 / 8) + math.log(1 / 4)) / 5
    assert token_loss(logits, labels).item() == pytest.approx(by_hand, rel=1e-6)
    assert count_tokens(labels).item() == 5
    sums, tokens = tally(logits, labels)
    assert tokens.tolist() == [2, 3]
    metrics = token_metrics(sums, tokens)
    assert metrics["val_perplexity"] == pytest.approx(math.exp(by_hand), rel=1e-5)
    assert metrics["val_token_accuracy"] == pytest.approx(3 / 5)  # argmax: 1 and 0; 0 (a tie goes to the first), 2, 0


def test_padding_changes_neither_the_logits_nor_the_loss_of_a_text(task: tuple[str, Task]) -> None:
    _, made = task
    made.model.eval()
    collate = made.validation.collate
    assert collate is not None
    items = [made.validation.data[i] for i in range(6)]  # type: ignore[index]
    with torch.no_grad():
        together = made.model(*collate(items)[:-1])
        for row, item in enumerate(items):
            *inputs, labels = collate([item])
            alone = made.model(*inputs)
            said = together[row : row + 1, : alone.shape[1]] if alone.ndim == 3 else together[row : row + 1]
            torch.testing.assert_close(said, alone, atol=2e-5, rtol=1e-4)
            assert made.loss(said, labels).item() == pytest.approx(made.loss(alone, labels).item(), rel=1e-4)


# Models


@pytest.mark.parametrize(
    ("preset", "weights"),
    # As released: huggingface.co/gpt2, bert-base-uncased (with its masked head), t5-small.
    [("gpt2", 124_439_808), ("bert-base", 109_514_298), ("t5-small", 60_506_624)],
)
def test_the_large_presets_have_as_many_weights_as_published(preset: str, weights: int) -> None:
    known = PRESETS[preset]
    config = {"model_type": known.kind, **known.config, "vocab_size": known.vocabulary, "decoder_start_token_id": 0}
    with torch.device("meta"):
        model = build({"task": known.task, "config": config}, None)
    assert sum(parameter.numel() for parameter in model.parameters()) == weights


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"architectures": ["LlamaForCausalLM"]}, "causal"),
        ({"architectures": ["GPT2LMHeadModel"]}, "causal"),
        ({"architectures": ["RobertaForMaskedLM"]}, "masked"),
        ({"architectures": ["BertForSequenceClassification"]}, "classification"),
        ({"architectures": ["T5ForConditionalGeneration"], "is_encoder_decoder": True}, "encoder_decoder"),
        ({"architectures": ["BertModel"]}, None),
    ],
)
def test_the_task_is_read_from_the_config(config: dict[str, Any], expected: str | None) -> None:
    assert task_of(config) == expected


@pytest.mark.parametrize("form", ["tensor", "tuple", "with a loss first", "dict", "ModelOutput"])
def test_logits_are_found_in_whatever_a_model_returns(form: str) -> None:
    from transformers.modeling_outputs import CausalLMOutput

    logits = torch.randn(2, 3, 5)
    output: Any = {
        "tensor": logits, "tuple": (logits,), "with a loss first": (torch.tensor(1.0), logits),
        "dict": {"logits": logits}, "ModelOutput": CausalLMOutput(loss=torch.tensor(1.0), logits=logits),
    }[form]  # fmt: skip
    assert logits_of(output) is logits
    with pytest.raises(TypeError, match="must return logits"):
        logits_of({"hidden": logits})


@pytest.mark.parametrize("preset", [name for name in PRESETS if "tiny" in name])
def test_the_special_tokens_of_a_preset_are_those_of_its_tokenizer(
    preset: str, texts: dict[str, Any], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """GPT-2's own numbers, 50256, lie outside a small vocabulary, and transformers warns of them."""
    wanted = job({**texts, "model": preset})
    model = OBJ.task(wanted).model
    OBJ.outline(wanted)
    assert isinstance(model, LanguageModel) and model.tokenizer is not None
    model.save_pretrained(str(tmp_path))
    config, tokenizer = json.loads((tmp_path / "config.json").read_text()), model.tokenizer
    assert (tokenizer.pad_token, tokenizer.bos_token, tokenizer.eos_token) == ("<pad>", "<s>", "</s>")
    for name in ("pad_token_id", "bos_token_id", "eos_token_id"):
        assert config[name] == getattr(tokenizer, name) < config["vocab_size"] == 300
    assert "token_id" not in "".join(capfd.readouterr())


def test_dropout_is_set_wherever_the_model_has_it(texts: dict[str, Any]) -> None:
    model = OBJ.task(job(texts, params={**OBJ.default_params, "dropout": 0.23})).model
    assert {module.p for module in model.modules() if isinstance(module, nn.Dropout)} == {0.23}


def test_greedy_writing_takes_the_likeliest_token_each_time() -> None:
    class Counting(nn.Module):
        def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            return nn.functional.one_hot((ids + 1) % 9, 9).float()

    assert greedy(Counting(), torch.tensor([[1, 2], [6, 7]]), 3).tolist() == [[3, 4, 5], [8, 0, 1]]


def test_a_folder_of_save_pretrained_is_a_model_again(
    task: tuple[str, Task], texts: dict[str, Any], tmp_path: Path
) -> None:
    name, made = task
    assert isinstance(made.model, LanguageModel)
    made.model.save_pretrained(str(tmp_path / "model"))
    data = {**texts, "model": str(tmp_path / "model"), "weights": "pretrained"}
    again = OBJ.task(job({**data, "task": name if name == "classification" else None}, seed=9))
    for key, value in made.model.inner.state_dict().items():
        assert torch.equal(value, again.model.inner.state_dict()[key]), key  # type: ignore[union-attr]


def test_a_tokenizer_larger_than_the_embedding_is_refused_and_a_far_smaller_one_told(
    texts: dict[str, Any], tmp_path: Path
) -> None:
    model = OBJ.task(job(texts)).model
    assert isinstance(model, LanguageModel)
    model.save_pretrained(str(tmp_path))
    config = json.loads((tmp_path / "config.json").read_text())
    for rows, expected in ((100, "300 tokens, and the model's embedding 100 rows"), (5000, "300 tokens for 5000 rows")):
        (tmp_path / "config.json").write_text(json.dumps({**config, "vocab_size": rows}))
        data = {**OBJ.default_data, **texts, "model": str(tmp_path)}
        if rows < 300:
            with pytest.raises(DataError, match=expected):
                OBJ.check_data(data)
        else:
            assert any(expected in note for note in OBJ.check_data(data).notes)


# Data


def test_near_copies_stay_on_one_side(tmp_path: Path) -> None:
    rows = [{"text": f"Text {'abcdefghij'[i % 10] * 3} number {i}"} for i in range(200)]
    path = tmp_path / "t.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    _, found = documents({**OBJ.default_data, "path": str(path)})
    parts = split(found, 1)
    kinds = [{found[i].text.split()[1] for i in numbers} for numbers in parts.values()]
    assert sum(map(len, kinds)) == 10


def test_short_texts_are_dropped_and_long_ones_cut_into_pieces_and_both_are_counted(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = [{"text": "".join(map(chr, rng.integers(97, 123, 40 if i % 4 else 4)))} for i in range(80)]
    path = tmp_path / "t.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    data = {**OBJ.default_data, "path": str(path), "vocabulary": 300, "max_length": 16, "min_tokens": 16}
    found = corpus(data, 0)
    lengths = {len(sample.ids) for part in found.parts.values() for sample in part}
    assert lengths == {16}
    assert found.short >= 20  # the four-letter ones, and ends of the others


@pytest.mark.parametrize("kind", ["txt", "csv", "json", "jsonl", "parquet", "folder"])
def test_texts_are_read_from_every_kind_of_file(kind: str, tmp_path: Path) -> None:
    import pandas as pd

    rows = [{"text": f"{'word ' * 5}{chr(97 + i % 26)} {i}", "label": i % 2} for i in range(30)]
    path = tmp_path / f"t.{kind}"
    if kind == "folder":
        path.mkdir()
        for i, row in enumerate(rows):
            (path / f"{i}.txt").write_text(str(row["text"]))
    elif kind == "txt":
        path.write_text("\n\n".join(str(row["text"]) for row in rows))
    elif kind == "json":
        path.write_text(json.dumps(rows))
    elif kind == "jsonl":
        path.write_text("\n".join(map(json.dumps, rows)))
    else:
        table = pd.DataFrame(rows)
        table.to_csv(path, index=False) if kind == "csv" else table.to_parquet(path)
    _, found = documents({**OBJ.default_data, "path": str(path)})
    assert sorted(document.text for document in found) == sorted(str(row["text"]) for row in rows)


def test_a_data_set_of_the_hub_comes_through_the_library_of_that_name(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("\n".join(json.dumps({"text": f"row {i}"}) for i in range(50)))
    data = {**OBJ.default_data, "dataset": {"name": str(tmp_path), "split": "train"}, "max_samples": 25}
    _, found = documents(data)
    assert [document.text for document in found] == [f"row {i}" for i in range(25)]


WORDS = [f"{a}{b}" for a in "bdgklm" for b in "aeiou"]
GOOD = [{"text": f"some words {WORDS[i]}", "label": i % 2, "target": "x"} for i in range(30)]


@pytest.mark.parametrize(
    ("name", "content", "data", "message"),
    [
        ("t.jsonl", "", {}, "no text in it"),
        ("t.jsonl", "\n".join(map(json.dumps, GOOD[:5])), {}, "at least 20 texts are needed .* there are 5"),
        ("t.jsonl", "{broken", {}, "line 1 is no JSON"),
        ("t.jsonl", '[1, 2]', {}, "row 1 must be an object"),
        ("t.jsonl", "\n".join(map(json.dumps, GOOD)), {"text_column": "body"}, "no column 'body'; it has 'text'"),
        ("t.jsonl", "\n".join(map(json.dumps, [*GOOD, {"text": None}, {"text": 3}])), {},
         r"2 have none: line 31 \(text: None\), line 32 \(text: 3\)"),
        ("t.jsonl", "\n".join(json.dumps({**row, "label": 1}) for row in GOOD),
         {"task": "classification", "model": "bert-tiny"}, "two classes or more; all 30 texts have '1'"),
        ("t.jsonl", "\n".join(json.dumps({**row, "label": f"of {i:02}"}) for i, row in enumerate(GOOD)),
         {"task": "classification", "model": "bert-tiny"},
         r"'label' must have 3 different texts or more of every class; 30 of 30 classes have fewer: of 00 \(1\), "
         r"of 01 \(1\), of 02 \(1\), of 03 \(1\), of 04 \(1\) and 25 more\. Add some"),
        ("t.jsonl", "\n".join(map(json.dumps, [*GOOD, *({"text": f"Copy {i}", "label": "rare"} for i in range(4))])),
         {"task": "classification", "model": "bert-tiny"}, r"1 of 3 classes have fewer: rare \(1\)"),
        ("t.jsonl", "\n".join(json.dumps({**row, "label": math.nan}) for row in GOOD),
         {"task": "classification", "model": "bert-tiny"}, "30 have none: .*label: nan"),
        ("t.csv", "a,b\n1,2\n", {}, "no column 'text'"),
        ("t.parquet", "not parquet", {}, "cannot be read as parquet"),
        ("t.pdf", "x", {}, "texts are files that end in"),
        ("t.txt", b"\xff\xfe\x00", {}, "must be UTF-8; the byte at 0"),
        ("t.jsonl", "\n".join(map(json.dumps, GOOD)), {"max_length": "long"}, "max_length must be a whole number"),
        ("t.jsonl", "\n".join(map(json.dumps, GOOD)), {"task": "poetry"}, "task must be one of"),
        ("t.jsonl", "\n".join(map(json.dumps, GOOD)), {"model": "gpt2-tinny"}, "Did you mean 'gpt2-tiny'"),
        ("t.jsonl", "\n".join(map(json.dumps, GOOD)), {"weights": "w.bin"}, "weights must be 'pretrained' or a file"),
        ("t.jsonl", "\n".join(map(json.dumps, GOOD)), {"weights": "pretrained"}, "the preset gpt2-tiny has no"),
        ("t.jsonl", "\n".join(map(json.dumps, GOOD)), {"min_tokens": 60}, "no train text has 60 tokens"),
    ],
)  # fmt: skip
def test_texts_that_cannot_be_used_are_one_clear_error(
    name: str, content: str | bytes, data: dict[str, Any], message: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=message):
        OBJ.check_data({**OBJ.default_data, "path": str(path), **data})


def test_a_file_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "t.txt"
    path.write_text("x")

    def refuse(self: Path, **_: Any) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(DataError, match=r"t\.txt: Permission denied"):
        documents({**OBJ.default_data, "path": str(path)})


# The maker


def test_the_maker_goes_on_after_an_interruption_and_gives_the_same_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("objectives.language_modeling.maker.AREAS", {"data": ("json", "csv"), "files": ("shutil",)})
    whole = make(tmp_path / "whole.jsonl", 12, 3, progress=False).read_bytes()
    import objectives.language_modeling.maker as maker

    read, calls = maker._functions, []

    def broken(source: Path, name: str, area: str) -> Any:
        calls.append(name)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return read(source, name, area)

    monkeypatch.setattr(maker, "_functions", broken)
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path / "broken.jsonl", 12, 3, progress=False)
    assert not (tmp_path / "broken.jsonl").exists()
    with (tmp_path / "broken.jsonl.parsed").open("a") as file:
        file.write('["torn')
    calls.append("past")
    assert make(tmp_path / "broken.jsonl", 12, 3, progress=False).read_bytes() == whole
    parsed = [name for name in calls if name != "past"]
    assert len(parsed) == len(set(parsed)) + 1  # the one that was interrupted, and no other, was begun again
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken.jsonl", "whole.jsonl"]
    rows = [json.loads(line) for line in whole.decode().splitlines()]
    assert len({row["id"] for row in rows}) == 12
    assert all(row["summary"] in row["text"] and row["area"] in ("data", "files") for row in rows)


def test_the_maker_refuses_what_it_cannot_make(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="whole number of at least 1"):
        make(tmp_path / "t.jsonl", 0, 1)
    (tmp_path / "t.jsonl").write_text("mine")
    with pytest.raises(DataError, match="exists already"):
        make(tmp_path / "t.jsonl", 10, 1)
    assert (tmp_path / "t.jsonl").read_text() == "mine"
