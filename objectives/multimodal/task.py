"""One trial's model and data, for the shared trainer."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from hpo.errors import UnknownName
from hpo.evaluation.classification import classification_metrics
from hpo.training.settings import TrainerSettings
from hpo.training.task import Outline, Split, Task, build_model
from hpo.trial import Job, Metrics, Params
from objectives.multimodal.batches import PlanetSet, scaling
from objectives.multimodal.data import Planets, load, split
from objectives.multimodal.fields import Fields, checked
from objectives.multimodal.format import TOKENIZER
from objectives.multimodal.model import PlanetModel, blocks_of, scaled
from objectives.multimodal.presets import PARTS, PRESETS, Dimensions
from objectives.multimodal.views import names
from objectives.multimodal.weights import load_parts

MIN_ROWS = 10  # of a group, for an accuracy of its own

# The parts of the loss beside the cross-entropy, by the modality that they belong to.
LOSSES = {"graph": ("graph_reconstruction", "graph_kl"), "cube": ("cube_reconstruction",)}

# Axes of the inputs, beside the batch, that may have another length in use.
FREE = {
    "tokens": {1: "tokens"},
    "token_mask": {1: "tokens"},
    "nodes": {1: "nodes"},
    "adjacency": {1: "nodes", 2: "nodes"},
    "node_mask": {1: "nodes"},
}


@dataclass(frozen=True)
class Choices:
    """What a trial's parameters say beside the trainer's settings; the defaults are the hand-picked ones.

    ``w_graph`` and ``w_cube`` weigh the auto-encoders' losses against the cross-entropy's 1;
    ``beta`` the graph's KL against its reconstruction (Higgins et al. 2017, beta-VAE).
    ``fusion_scale`` is the fusion's width over the preset's.
    """

    w_graph: float = 0.1
    w_cube: float = 0.1
    beta: float = 0.1
    dropout: float = 0.1
    fusion_scale: float = 1.0
    fusion_heads: int = 4


def build(job: Job) -> Task:
    """The task of ``job``: the model's inputs, then the class (B,); logits (B, classes) ship.

    What is learnt from data outside the model's weights, its standardisation, comes from
    the training rows: the fold's own, where there is one.

    Raises:
        DataError: the data or the weights cannot be used.
        UnknownName: a parameter is neither the model's nor the trainer's.
    """
    import torchmetrics.functional.classification  # noqa: F401  # 1.5 s once, which the first epoch is not to pay for

    choices, data = choices_of(job.params), checked(job.data)
    planets = load(data)
    parts = split(planets, job.data_seed, job.fold)
    facts = _facts(planets, data)
    model = build_model(lambda: empty_model(choices, facts), job.seed)
    if data.weights is not None:
        load_parts(model, data.weights)
    model.load_state_dict(scaling(planets, parts.train, data.modalities), strict=False)
    train = PlanetSet(planets, parts.train, data.modalities)
    return Task(
        model=model,
        train=Split(train.data),
        validation=_judged(planets, parts.validation, data),
        loss=partial(loss, choices=choices),
        example=tuple(part[None] for part in train[0][:-1]),
        test=partial(_judged, planets, parts.test, data) if job.use_test else None,
        inputs=names(data.modalities),
        outputs=("logits",),
        open_axes=[FREE.get(name, {}) for name in names(data.modalities)],
        facts={
            **facts,
            "padding": asdict(planets.padding),
            "max_nodes": data.max_nodes,
            "rows": {name: len(rows) for name, rows in vars(parts).items()},
        },
        assets=partial(_keep_tokenizer, data) if "text" in data.modalities else None,
        predicts="class",
        columns=len(planets.classes),
        keep=partial(keep, losses=losses_of(data.modalities)),
        blocks=blocks_of(model, data.modalities),
    )


def _keep_tokenizer(data: Fields, folder: Path) -> None:
    shutil.copyfile(Path(data.path) / TOKENIZER, folder / TOKENIZER)


def outline(job: Job) -> Outline:
    """The model of ``job`` on the meta device, with one sample of it."""
    choices, data = choices_of(job.params), checked(job.data)
    planets = load(data)
    sample = PlanetSet(planets, np.arange(1), data.modalities)[0]
    with torch.device("meta"):
        model = empty_model(choices, _facts(planets, data))
    shapes = tuple(part[None].to("meta") for part in sample)
    return Outline(model, shapes, partial(loss, choices=choices), blocks_of(model, data.modalities))


def choices_of(params: Params) -> Choices:
    """The objective's part of ``params``; the trainer's are passed over.

    Raises:
        UnknownName: a parameter belongs to neither.
    """
    ours = {field.name for field in fields(Choices)}
    known = ours | {"patience"} | set(TrainerSettings.model_fields)
    for name in params:
        if name not in known:
            raise UnknownName("parameter of multimodal", name, known)
    return Choices(**{name: value for name, value in params.items() if name in ours})


def empty_model(choices: Choices, facts: Mapping[str, Any]) -> PlanetModel:
    """The model that ``facts`` describe, with neutral standardisation."""
    preset, sizes = PRESETS[facts["preset"]], facts["dimensions"]
    return PlanetModel(
        preset,
        Dimensions(sizes["node_features"], tuple(sizes["cube"]), sizes["classes"]),
        modalities=facts["modalities"],
        frozen=facts["freeze"],
        dropout=choices.dropout,
        fusion=scaled(preset.fusion, choices.fusion_scale, choices.fusion_heads),
    )


def _facts(planets: Planets, data: Fields) -> dict[str, Any]:
    return {
        "preset": data.preset,
        "modalities": list(data.modalities),
        "freeze": list(data.freeze),
        "dimensions": asdict(planets.dimensions()),
        "classes": list(planets.classes),
        "data_fingerprint": planets.fingerprint,
    }


def losses_of(modalities: Sequence[str]) -> tuple[str, ...]:
    """The names of the loss's parts beside the cross-entropy."""
    return tuple(name for part in modalities for name in LOSSES.get(part, ()))


def loss(output: Mapping[str, Tensor], target: Tensor, choices: Choices) -> Tensor:
    """Cross-entropy + w_graph (reconstruction + beta KL) + w_cube cube reconstruction, the mean over a batch.

    A modality that a planet lacks adds nothing.
    """
    total = cross_entropy(output["logits"], target)
    if "graph_kl" in output:
        total = total + choices.w_graph * (output["graph_reconstruction"] + choices.beta * output["graph_kl"]).mean()
    if "cube_reconstruction" in output:
        total = total + choices.w_cube * output["cube_reconstruction"].mean()
    return total


def keep(output: Mapping[str, Tensor], target: Tensor, losses: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Logits and, in further columns, each planet's part losses: (B, classes + parts)."""
    return torch.cat([output["logits"], *(output[name][:, None] for name in losses)], dim=1), target


def judge(present: Mapping[str, np.ndarray], losses: Sequence[str]) -> Callable[[Tensor, Tensor], Metrics]:
    """A function from what ``keep`` gave (n, classes + parts) and classes (n,) to all metrics.

    ``present`` (n,) bool, by modality. A part's loss is the mean over the planets that have
    the modality. Accuracies by missing modality are absent below ``MIN_ROWS`` planets.
    """
    owner = {name: part for part, owned in LOSSES.items() for name in owned}

    def metrics(outputs: Tensor, targets: Tensor) -> Metrics:
        logits = outputs[:, : outputs.shape[1] - len(losses)]
        found = classification_metrics(logits.numpy(), targets.numpy(), "val_")
        found["val_cross_entropy"] = cross_entropy(logits, targets).item()
        for column, name in enumerate(losses, logits.shape[1]):
            there = present[owner[name]]
            if there.any():
                found[f"val_{name}"] = outputs[torch.from_numpy(there), column].mean().item()
        right = (logits.argmax(1) == targets).numpy()
        groups = {f"without_{part}": ~present[part] for part in PARTS}
        groups["complete"] = np.all([present[part] for part in PARTS], axis=0)
        for name, rows in groups.items():
            if rows.sum() >= MIN_ROWS:
                found[f"val_accuracy_{name}"] = float(right[rows].mean())
        return found

    return metrics


def _judged(planets: Planets, rows: np.ndarray, data: Fields) -> Split:
    present = {part: planets.present(part)[rows] for part in PARTS}
    losses = losses_of(data.modalities)

    def of_some(outputs: Tensor, targets: Tensor, some: np.ndarray) -> Metrics:
        return judge({part: there[some] for part, there in present.items()}, losses)(outputs, targets)

    return Split(
        PlanetSet(planets, rows, data.modalities).data,
        metrics=judge(present, losses),
        metrics_of_rows=of_some,
        clusters=planets.ids[rows],
    )
