"""A trial as a ``Task``: model, texts, loss by tokens, metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from hpo.errors import UnknownName
from hpo.evaluation.classification import classification_metrics
from hpo.evaluation.language import PADDING, TokenTally
from hpo.training.settings import TrainerSettings
from hpo.training.task import Outline, Split, Task, build_model
from hpo.trial import Job, Metrics, Params
from objectives.language_modeling.batches import Collate, Texts
from objectives.language_modeling.data import Corpus, corpus, documents
from objectives.language_modeling.framing import INPUTS, Framing
from objectives.language_modeling.model import LanguageModel, blocks_of, build, description, fill
from objectives.language_modeling.presets import Task as Goal
from objectives.language_modeling.probe import Writing
from objectives.language_modeling.tokens import assets

Judge = Callable[[Tensor, Tensor], Metrics]
OPEN_AXES = {"input_ids": {1: "sequence"}, "attention_mask": {1: "sequence"}, "decoder_input_ids": {1: "target"}}


def build_task(job: Job) -> Task:
    """The task of a job.

    Raises:
        DataError: the texts or the model cannot be used. UnknownName: as ``dropout_of``.
    """
    found = corpus(job.data, job.data_seed, job.fold)
    told = description(found)
    model = build_model(lambda: _filled(told, dropout_of(job.params), found), job.seed)
    goal = found.fields.goal
    validation = _judged(found, "validation", job.data_seed)
    is_classes = goal == "classification"
    return Task(
        model=model,
        train=Split(Texts(found.parts["train"], found), collate=Collate(found)),
        validation=validation,
        loss=_loss(goal),
        example=tuple(part[None] for part in validation.data[0][:-1]),
        test=partial(_held_out, found, job) if job.use_test else None,
        inputs=INPUTS[goal],
        outputs=("logits",),
        facts={
            **told,
            "classes": list(found.classes),
            "framing": asdict(Framing.of(found.fields, found.tokenizer)),
            "columns": {"text": found.fields.text_column, "target": found.fields.target_column},
            "tokens": {name: sum(len(s.ids) for s in samples) for name, samples in found.parts.items()},
            "short": found.short,
            "cut": found.cut,
        },
        predicts="class" if is_classes else "other",
        blocks=blocks_of(model),
        weigh=len if is_classes else count_tokens,
        keep=None if is_classes else tally,
        open_axes=[OPEN_AXES[name] for name in INPUTS[goal]],
        assets=assets(found.tokenizer),
    )


def outline(job: Job) -> Outline:
    """The model of a job on the meta device, with a sample of the most tokens."""
    found = corpus(job.data, job.data_seed, job.fold)
    goal, length = found.fields.goal, found.fields.max_length
    with torch.device("meta"):
        model = build(description(found), dropout_of(job.params))
        inputs = [torch.zeros(1, length, dtype=torch.long) for _ in INPUTS[goal]]
        labels = torch.zeros((1,) if goal == "classification" else (1, length), dtype=torch.long)
    return Outline(model, (*inputs, labels), _loss(goal), blocks_of(model))


def dropout_of(params: Params) -> float | None:
    """The model's one parameter; the trainer's are passed over.

    Raises:
        UnknownName: a parameter belongs to neither.
    """
    known = {"dropout", "patience", *TrainerSettings.model_fields}
    for name in params:
        if name not in known:
            raise UnknownName("parameter of language_modeling", name, known)
    found = params.get("dropout")
    return None if found is None else float(found)


def _loss(goal: Goal) -> Callable[[Tensor, Tensor], Tensor]:
    return functional.cross_entropy if goal == "classification" else token_loss


def token_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean nats over the tokens that count; logits (B, L, V), labels (B, L)."""
    return functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=PADDING)


def count_tokens(labels: Tensor) -> Tensor:
    return (labels != PADDING).sum()


def tally(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Of each text its summed nats and its right tokens, (B, 2), and how many tokens count, (B,)."""
    losses = functional.cross_entropy(logits.transpose(1, 2), labels, ignore_index=PADDING, reduction="none")
    right = (logits.argmax(-1) == labels) & (labels != PADDING)
    return torch.stack([losses.sum(1), right.sum(1).to(losses.dtype)], 1), (labels != PADDING).sum(1).to(losses.dtype)


def token_metrics(tallies: Tensor, tokens: Tensor) -> Metrics:
    """Perplexity and token accuracy over all texts together."""
    total = TokenTally(float(tallies[:, 0].double().sum()), int(tallies[:, 1].sum()), int(tokens.sum()))
    found = total.metrics("val_")
    return {name: found[name] for name in ("val_perplexity", "val_token_accuracy")}


def _class_metrics(logits: Tensor, labels: Tensor) -> Metrics:
    return classification_metrics(logits, labels, "val_")


def _judged(found: Corpus, part: str, data_seed: int) -> Split:
    samples = found.parts[part]
    judge: Judge = _class_metrics if found.fields.goal == "classification" else token_metrics
    return Split(
        Texts(samples, found, fixed_seed=data_seed),
        metrics=judge,
        clusters=np.array([sample.document for sample in samples]),
        collate=Collate(found),
        probe=Writing.of(found, samples),
    )


def _held_out(found: Corpus, job: Job) -> Split:
    test, (_, texts) = _judged(found, "test", job.data_seed), documents(job.data)
    return replace(test, ids=np.array([texts[sample.document].id for sample in found.parts["test"]]))


def _filled(told: Mapping[str, Any], dropout: float | None, found: Corpus) -> LanguageModel:
    model = build(told, dropout)
    model.tokenizer = found.tokenizer
    fill(model, found)
    return model
