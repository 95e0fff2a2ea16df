"""Samples, losses, models and metrics of the four tasks; expected values by hand or as published."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from test_language_data import lines, words
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer

from hpo.errors import DataError, UnknownName
from hpo.training.checks.outlined import estimate_outline
from hpo.training.settings import TrainerSettings
from hpo.training.trainer import Trainer
from hpo.trial import GO_ON, Goal, Job, Point, TrialContext
from objectives import registry
from objectives.language_modeling.baselines import baselines
from objectives.language_modeling.batches import Collate, Texts
from objectives.language_modeling.data import Corpus, Sample
from objectives.language_modeling.fields import Fields
from objectives.language_modeling.model import LanguageModel, blocks_of, build, description, fill
from objectives.language_modeling.presets import Task
from objectives.language_modeling.probe import Writing
from objectives.language_modeling.task import count_tokens, dropout_of, outline, tally, token_loss, token_metrics

OBJECTIVE = registry.find("language_modeling")
MODELS: dict[Task, str] = {
    "causal": "gpt2-tiny", "masked": "bert-tiny", "classification": "bert-tiny", "encoder_decoder": "t5-tiny",
}  # fmt: skip


def small(goal: Task, samples: list[Sample], size: int = 40, **fields: Any) -> Corpus:
    """A corpus of these samples in every part, over the tokens of ``words``."""
    told = Fields(path="a", model=MODELS[goal], task=goal, **fields)
    parts = dict.fromkeys(("train", "validation", "test"), samples)
    return Corpus(told, parts, words(size), size + 5, ("x", "y") if goal == "classification" else (), 0, 0, ())


# Samples


def test_labels_are_the_next_tokens() -> None:
    corpus = small("causal", [Sample((7, 8, 9), 0), Sample((5, 6), 1)])
    texts, collate = Texts(corpus.parts["train"], corpus), Collate(corpus)
    ids, mask, labels = collate([texts[0], texts[1]])
    assert ids.tolist() == [[7, 8], [5, 0]]
    assert mask.tolist() == [[1, 1], [1, 0]]
    assert labels.tolist() == [[8, 9], [6, -100]]


def test_a_decoder_sees_what_it_should_have_said_before() -> None:
    corpus = small("encoder_decoder", [Sample((7, 8, 3), 0, target=(20, 21, 3)), Sample((9, 3), 1, target=(22, 3))])
    texts, collate = Texts(corpus.parts["train"], corpus), Collate(corpus)
    ids, mask, shown, labels = collate([texts[0], texts[1]])
    assert ids.tolist() == [[7, 8, 3], [9, 3, 0]] and mask.tolist() == [[1, 1, 1], [1, 1, 0]]
    assert shown.tolist() == [[0, 20, 21], [0, 22, 0]]
    assert labels.tolist() == [[20, 21, 3], [22, 3, -100]]


# Losses and metrics


def test_texts_weighed_by_their_tokens_have_the_loss_of_the_batch() -> None:
    """By hand: ln 2, ln 4 and ln 4 in the first text, ln 2 in the second, whose rest is padding."""
    chances = torch.tensor([0.5, 0.25, 0.25]).log()
    logits, labels = chances.expand(2, 3, 3), torch.tensor([[0, 1, 2], [0, -100, -100]])
    together = (math.log(2) + 2 * math.log(4) + math.log(2)) / 4
    parts = [(token_loss(logits[i : i + 1], labels[i : i + 1]), count_tokens(labels[i : i + 1])) for i in range(2)]
    assert token_loss(logits, labels).item() == pytest.approx(together)
    assert (sum(loss * tokens for loss, tokens in parts) / 4).item() == pytest.approx(together)


def test_a_perplexity_beyond_all_numbers_is_capped() -> None:
    logits = torch.tensor([[[0.0, -1000.0]]])
    assert token_metrics(*tally(logits, torch.tensor([[1]])))["val_perplexity"] == pytest.approx(math.exp(100))


class Counts(nn.Module):
    """Says that the next token is the one with the next number."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, ids: Tensor, mask: Tensor, written: Tensor | None = None) -> Tensor:
        return nn.functional.one_hot((ids if written is None else written) + 1, 60).float()


def test_what_is_written_rightly_has_a_bleu_of_100() -> None:
    counting, still = Sample(tuple(range(5, 30)), 0), Sample((9,) * 25, 1)
    writing = Writing.of(small("causal", [counting]), [counting, Sample((5,) * 19, 2)])  # the second is too short
    assert writing is not None and len(writing.samples) == 1
    assert writing(Counts()) == pytest.approx({"val_bleu": 100.0})
    wrong = Writing.of(small("causal", [still]), [still])
    assert wrong is not None and wrong(Counts())["val_bleu"] < 10


def test_of_an_encoder_decoder_the_beginning_of_the_target_is_judged() -> None:
    corpus = small("encoder_decoder", [Sample((7, 3), 0, target=tuple(range(1, 25)))], bleu_reference=12)
    writing = Writing.of(corpus, corpus.parts["test"])
    assert writing is not None and writing(Counts()) == pytest.approx({"val_bleu": 100.0})
    assert Writing.of(small("masked", [Sample((2, 5, 3), 0)]), [Sample((2, 5, 3), 0)]) is None


# Models


@pytest.mark.parametrize(
    ("goal", "layers"), [("causal", 2), ("masked", 2), ("classification", 2), ("encoder_decoder", 4)]
)
def test_the_dropout_of_the_search_is_that_of_every_layer(goal: Task, layers: int) -> None:
    told = description(small(goal, [Sample((5, 6), 0)]))
    model = build(told, 0.25)
    found = {module.p for module in model.modules() if isinstance(module, nn.Dropout)}
    assert found == {0.25}
    assert len(blocks_of(model)) == layers


def test_the_task_that_is_given_comes_first() -> None:
    assert Fields(path="a", model="bert-tiny").goal == "masked"
    assert Fields(path="a", model="bert-tiny", task="classification").goal == "classification"


def test_a_parameter_of_nobody_is_refused() -> None:
    with pytest.raises(UnknownName, match="heads"):
        dropout_of({"lr": 1e-3, "heads": 2})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with its tokenizer, as ``save_pretrained`` leaves it."""
    found = small("causal", [Sample((5, 6), 0)])
    model = build(description(found), 0.0)
    model.tokenizer = found.tokenizer
    path = tmp_path_factory.mktemp("model")
    model.save_pretrained(str(path))
    return path


def test_the_saved_folder_gives_the_same_logits_by_from_pretrained(folder: Path) -> None:
    again = AutoModelForCausalLM.from_pretrained(folder).eval()
    ids = torch.tensor(AutoTokenizer.from_pretrained(folder)("w0 w1 w2")["input_ids"])[None]
    assert ids.tolist() == [[5, 6, 7]]
    ours = LanguageModel(again, ("input_ids", "attention_mask"))(ids, torch.ones_like(ids))
    with torch.no_grad():
        torch.testing.assert_close(again(input_ids=ids).logits, ours)


@pytest.mark.parametrize("weights", ["pretrained", "file"])
def test_training_begins_from_the_weights_that_are_named(weights: str, folder: Path) -> None:
    found = small("causal", [Sample((5, 6), 0)])
    named = "pretrained" if weights == "pretrained" else str(folder / "model.safetensors")
    found = replace(found, fields=replace(found.fields, model=str(folder), weights=named))
    model = build(description(found), 0.0)
    fill(model, found)
    wanted = AutoModelForCausalLM.from_pretrained(folder).state_dict()
    assert all(torch.equal(value, wanted[name]) for name, value in model.inner.state_dict().items())


def test_a_body_is_taken_over_under_another_head(tmp_path: Path) -> None:
    masked = build(description(small("masked", [Sample((2, 5, 3), 0)])), 0.0)
    save_file({n: v.clone() for n, v in masked.inner.state_dict().items()}, tmp_path / "body.safetensors")
    found = small("classification", [Sample((2, 5, 3), 0, 1)], weights=str(tmp_path / "body.safetensors"))
    model = build(description(found), 0.0)
    head = model.inner.classifier.weight.clone()  # type: ignore[union-attr]
    fill(model, found)
    body = masked.inner.state_dict()
    own = model.inner.state_dict()
    assert torch.equal(own["bert.encoder.layer.0.attention.self.query.weight"],
                       body["bert.encoder.layer.0.attention.self.query.weight"])  # fmt: skip
    assert torch.equal(own["classifier.weight"], head)


@pytest.mark.parametrize(("goal", "name"), [("causal", "transformer.wte.weight"), ("encoder_decoder", "shared.weight")])
def test_weights_of_another_model_are_refused(goal: Task, name: str, tmp_path: Path) -> None:
    save_file({name: torch.zeros(3, 3)}, tmp_path / "w.safetensors")
    found = small(goal, [Sample((5, 6), 0)], weights=str(tmp_path / "w.safetensors"))
    with pytest.raises(DataError, match=rf"missing .* 1 of another shape \({name}\)"):
        fill(build(description(found), 0.0), found)


# Baselines, by hand


def test_the_unigram_and_bigram_baselines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = small("causal", [Sample((5, 6, 5, 6, 5), 0)], size=1)  # 6 tokens in all: five special ones and w0 ...
    found = replace(found, rows=7)  # ... and one more
    monkeypatch.setattr("objectives.language_modeling.baselines.corpus", lambda *a: found)
    monkeypatch.setattr("objectives.language_modeling.baselines.documents", lambda data: (found.fields, ()))
    said = baselines({}, 1, "validation", ["unigram", "bigram"])
    # Asked for: 6 5 6 5. Add one: (2 + 1) / (4 + 7) each, so either is said, and half is right.
    assert said["unigram"] == pytest.approx(
        {"val_loss": -math.log(3 / 11), "val_perplexity": 11 / 3, "val_token_accuracy": 0.5}
    )
    # After 5 always 6, after 6 always 5: half of 3/11 and half of 1.
    assert said["bigram"] == pytest.approx(
        {"val_loss": -math.log(7 / 11), "val_perplexity": 11 / 7, "val_token_accuracy": 1.0}
    )


# Training


def grammar(path: Path, goal: Task) -> dict[str, Any]:
    """Walks round one of two rings of six words, in steps of one or two; pairs of words do not tell which steps."""
    rng = np.random.default_rng(0)
    rows = []
    for _ in range(300):
        ring, step, start = (int(rng.integers(0, most)) for most in (2, 2, 6))
        walk = [f"{'abcdefghijkl'[6 * ring + (start + (step + 1) * i) % 6]}x" for i in range(16)]
        rows.append({"text": " ".join(walk), "label": ("left", "right")[ring], "target": f"it is {'ab'[ring] * 2} now"})
    data = {"path": str(lines(path, rows)), "model": MODELS[goal], "task": goal, "vocabulary": 300, "bleu_texts": 8}
    return {**OBJECTIVE.default_data, **data}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("goal", "epochs", "metric", "baseline"),
    [
        ("causal", 4, "val_loss", "bigram"),
        ("masked", 16, "val_loss", "unigram"),  # slower: one token in seven is asked for
        ("classification", 4, "val_accuracy", "majority"),
        ("encoder_decoder", 8, "val_loss", "bigram"),
    ],
)
def test_a_tiny_model_learns_a_rule_that_its_baselines_miss(
    goal: Task, epochs: int, metric: str, baseline: str, tmp_path: Path
) -> None:
    data = grammar(tmp_path / "walks.jsonl", goal)
    params = {**OBJECTIVE.default_params, "lr": 1e-3, "dropout": 0.0}
    settings = TrainerSettings.layered(OBJECTIVE.default_trainer, {"threads": 1, "batch_size": 8})
    goals = (Goal("val_loss"),)
    job = Job(
        study="s", series="search", number=0, objective="language_modeling", params=params, data=data,
        trainer=settings, goals=goals, monitor=goals[0], epochs=epochs, folder=str(tmp_path), seed=5, data_seed=2,
    )  # fmt: skip
    points: list[Point] = []

    def send(point: Point) -> Any:
        points.append(point)
        return GO_ON

    Trainer(settings.with_params(params)).fit(OBJECTIVE.task(job), TrialContext(job, send))
    reached = points[-1].metrics[metric]
    simple = OBJECTIVE.baselines(data, 2)[baseline][metric]
    assert reached > simple + 0.2 if metric == "val_accuracy" else reached < 0.8 * simple


def test_an_outline_has_the_longest_sample(tmp_path: Path) -> None:
    data = grammar(tmp_path / "walks.jsonl", "encoder_decoder")
    goals = (Goal("val_loss"),)
    job = Job(
        study="s", series="search", number=0, objective="language_modeling", params={}, data=data,
        trainer=TrainerSettings(), goals=goals, monitor=goals[0], epochs=1, folder=str(tmp_path), seed=5, data_seed=2,
    )  # fmt: skip
    found = outline(job)
    assert [tuple(part.shape) for part in found.sample] == [(1, 128)] * 4
    assert all(part.is_meta for part in (*found.sample, *found.model.parameters()))
    # Logits of a batch in single precision alone are 4 texts of 128 tokens and 300 of the vocabulary.
    estimate = estimate_outline(found, TrainerSettings(batch_size=4), torch.device("cpu"))
    assert estimate.activations_mb > 4 * 128 * 300 * 4 / 2**20


def test_facts_survive_json() -> None:
    told = description(small("classification", [Sample((2, 5, 3), 0, 1)]))
    model = build(json.loads(json.dumps(told)), None)
    assert model.inner.config.id2label == {0: "x", 1: "y"}  # type: ignore[union-attr]
