"""One trial's model and data, for the shared trainer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from hpo.errors import DataError, UnknownName
from hpo.evaluation.classification import classification_metrics
from hpo.training.settings import TrainerSettings
from hpo.training.task import Outline, Split, Task, build_model
from hpo.training.weights import load_weights, read_weights
from hpo.trial import Job, Metrics, Params, derive_seed
from objectives.image_classification.augment import AUGMENTS
from objectives.image_classification.data import load, split
from objectives.image_classification.fields import PRETRAINED, Fields
from objectives.image_classification.loading import Pictures, Pixels, mean_and_std
from objectives.image_classification.model import (
    ImageModel,
    Shape,
    architecture,
    blocks_of,
    build,
    head_names,
    pretrained,
)
from objectives.image_classification.presets import NORMALISATIONS

PROBED = 1000  # training images whose accuracy is looked at after every epoch
_PROBE_BATCH = 64


@dataclass(frozen=True)
class Training:
    """The searchable part of how images are learnt from, beside the trainer's own settings."""

    label_smoothing: float = 0.0
    augment: str = "small"


def build_task(job: Job) -> Task:
    """The task of ``job``: pixels (B, 3, S, S) uint8 in, logits (B, K) out, cross-entropy.

    The test set exists only for a job that may use it. What is learnt from the data,
    normalisation included, comes from the training images: the fold's own, where there is one.

    Raises:
        DataError: the data or the weights cannot be used.
        UnknownName: a parameter is neither the model's nor the trainer's.
    """
    import torchmetrics.functional.classification  # noqa: F401  # 1.5 s once a process, before the first epoch

    shape, training = split_params(job.params)
    given, images = load(job.data)
    parts = split(images, job.data_seed, job.fold)
    _check_batch(job, len(parts.train))
    pixels = Pixels(images, given.side_px, given.cache_mb)
    made = architecture(given)

    def make() -> ImageModel:
        model = build(made, len(images.classes), shape)
        _load_weights(model, given)
        model.normalise_with(*(NORMALISATIONS[given.normalise] or mean_and_std(pixels, parts.train)))
        return model

    model = build_model(make, job.seed)
    judge = Judge(Pictures(pixels, _some(parts.train, job.data_seed)))
    validation = Pictures(pixels, parts.validation)
    return Task(
        model=model,
        train=Split(
            Pictures(pixels, parts.train, augment=training.augment, flip=given.flip, smoothing=training.label_smoothing)
        ),
        validation=Split(validation, judge.with_gap, probe=judge.probe),
        loss=cross_entropy,
        example=(validation[0][0][None],),
        test=partial(_held_out, pixels, parts.test) if job.use_test else None,
        inputs=("pixels",),
        outputs=("logits",),
        facts={
            "architecture": made,
            "classes": list(images.classes),
            "side_px": given.side_px,
            "data_fingerprint": images.fingerprint,
            "rows": {name: len(rows) for name, rows in vars(parts).items()},
            "left_out": len(images.left_out),
        },
        predicts="class",
        blocks=blocks_of(model.get_submodule("net")),
    )


def outline_of(job: Job) -> Outline:
    """The model of ``job`` on the meta device, with an image and its class."""
    given, images = load(job.data)
    shape, _ = split_params(job.params)
    with torch.device("meta"):
        model = build(architecture(given), len(images.classes), shape)
        sample = torch.empty(1, 3, given.side_px, given.side_px, dtype=torch.uint8), torch.empty(1, dtype=torch.long)
    return Outline(model, sample, cross_entropy, blocks_of(model.net))


def empty_model(params: Params, facts: Mapping[str, Any]) -> ImageModel:
    """The network of ``params`` with neutral normalisation, to load weights (and theirs) into."""
    return build(facts["architecture"], len(facts["classes"]), split_params(params)[0])


def split_params(params: Params) -> tuple[Shape, Training]:
    """The model's and the images' part of ``params``; the trainer's are passed over.

    Raises:
        UnknownName: a parameter belongs to none, or there is no such augmentation.
    """
    ours = [{field.name for field in fields(kind)} for kind in (Shape, Training)]
    known = {*ours[0], *ours[1], *TrainerSettings.model_fields, "patience"}
    for name in params:
        if name not in known:
            raise UnknownName("parameter of image_classification", name, known)
    shape, training = ({name: value for name, value in params.items() if name in names} for names in ours)
    found = Training(**training)
    if found.augment not in AUGMENTS:
        raise UnknownName("augmentation", found.augment, AUGMENTS)
    return Shape(**shape), found


class Judge:
    """Metrics of the validation images, beside those of training images, as they are and fixed for a study.

    The trainer asks ``probe`` first, which leaves the training accuracy for the gap.
    """

    def __init__(self, seen: Pictures) -> None:
        self._seen = seen
        self._accuracy: float | None = None

    def probe(self, model: nn.Module) -> Metrics:
        """Accuracy on the training images without augmentation, in eval mode."""
        device = next(model.parameters()).device
        right = 0
        for first in range(0, len(self._seen), _PROBE_BATCH):
            items = [self._seen[i] for i in range(first, min(first + _PROBE_BATCH, len(self._seen)))]
            said = model(torch.stack([pixels for pixels, _ in items]).to(device)).argmax(1).cpu()
            right += int((said == torch.stack([label for _, label in items])).sum())
        self._accuracy = right / len(self._seen)
        return {"train_accuracy": self._accuracy}

    def with_gap(self, outputs: Tensor, targets: Tensor) -> Metrics:
        """The metrics of validation, and how much better the model is on what it has seen."""
        found = dict(_judged(outputs, targets))
        if self._accuracy is not None:
            found["accuracy_gap"] = self._accuracy - found["val_accuracy"]
        return found


def _judged(outputs: Tensor, targets: Tensor) -> Metrics:
    return classification_metrics(outputs, targets, prefix="val_")


def _of_rows(outputs: Tensor, targets: Tensor, rows: np.ndarray) -> Metrics:
    return _judged(outputs, targets)


def _held_out(pixels: Pixels, rows: np.ndarray) -> Split:
    return Split(Pictures(pixels, rows), _judged, metrics_of_rows=_of_rows, ids=pixels.images.paths[rows])


def _some(rows: np.ndarray, data_seed: int) -> np.ndarray:
    """At most ``PROBED`` of ``rows``, the same for all trials of a study."""
    generator = np.random.default_rng(derive_seed(data_seed, "probed"))
    return np.sort(generator.permutation(rows)[:PROBED])


def _check_batch(job: Job, samples: int) -> None:
    batch_size = job.trainer.with_params(job.params).batch_size
    if samples < batch_size:
        raise DataError(f"There are {samples} training images, fewer than a batch of {batch_size}. Lower batch_size.")


def _load_weights(model: ImageModel, given: Fields) -> None:
    """Weights from elsewhere, where they are asked for."""
    if given.weights is None:
        return
    found = pretrained(given) if given.weights == PRETRAINED else read_weights(Path(given.weights))
    # Of a model shipped by hpo the network without the normalisation around it.
    inner = {name.removeprefix("net."): value for name, value in found.items() if name.startswith("net.")}
    remedy = "Name the model that they belong to, and its image_size."
    load_weights(model.net, inner or found, given.weights, own=head_names(model.net), remedy=remedy)
