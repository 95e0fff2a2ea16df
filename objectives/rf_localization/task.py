"""One trial's model and data, for the shared trainer."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hpo.errors import UnknownName
from hpo.evaluation.localization import gaussian_nll_terms, localization_metrics
from hpo.training.settings import TrainerSettings
from hpo.training.task import Outline, Split, Task, build_model
from hpo.trial import Job, Metrics, Params
from objectives.rf_localization.data import Events, load, split
from objectives.rf_localization.features import CHANNELS, FRAMES, Recipe, cached
from objectives.rf_localization.fields import Fields, checked
from objectives.rf_localization.geometry import Frame
from objectives.rf_localization.inputs import INPUTS, assembled, repeated
from objectives.rf_localization.model import Localizer, Shape, blocks_of, gaussian_nll, load_backbone

_LEAST_STD = 0.1  # dB; a band that is empty in every recording stays at 0


def build(job: Job) -> Task:
    """The task of ``job``: spectrograms of an event's receivers with their sites, to a position with its σ.

    The test set exists only for a job that may use it. Statistics and units come from the
    training events: the fold's own, where there is one.

    Raises:
        DataError: the data cannot be used.
        UnknownName: a parameter is neither the model's nor the trainer's.
    """
    shape, said = shape_of(job.params), checked(job.data)
    events = load(job.data)
    parts = split(events, said, job.data_seed, job.fold)
    frame = Frame.around(events.positions[parts.train])
    examples = Examples(events, cached(events, said), frame, said.receivers == "single")
    mean, std = examples.statistics(parts.train)
    model = build_model(lambda: _model(said, shape, mean, std), job.seed)
    train = examples.of(parts.train)
    judged = partial(_judged, examples, frame)
    return Task(
        model=model,
        train=Split(train),
        validation=judged(parts.validation),
        loss=gaussian_nll,
        example=tuple(part[:1] for part in train[:-1]),
        test=partial(judged, parts.test) if job.use_test else None,
        inputs=INPUTS,
        outputs=("position_and_sigma",),
        facts={
            **frame.facts,
            "preset": said.preset,
            "rows": Recipe.of(said).rows,
            "recipe": asdict(Recipe.of(said)),
            "samples": events.samples,
            "single": said.receivers == "single",
            "receivers": events.receivers.tolist(),
            "sites": examples.sites.tolist(),
            "data_fingerprint": events.fingerprint,
            "events": {name: len(rows) for name, rows in vars(parts).items()},
        },
        predicts="gaussian",
        blocks=blocks_of(model),
        open_axes=({1: "receivers"}, {1: "receivers"}, {1: "receivers"}),
    )


def shape_of(params: Params) -> Shape:
    """The model's part of ``params``; the trainer's are passed over.

    Raises:
        UnknownName: a parameter belongs to neither.
    """
    ours = {field.name for field in fields(Shape)}
    known = ours | set(TrainerSettings.model_fields)
    for name in params:
        if name not in known:
            raise UnknownName("parameter of rf_localization", name, known)
    return Shape(**{name: value for name, value in params.items() if name in ours})


def empty_model(params: Params, preset: str, rows: int) -> Localizer:
    """The network with neutral statistics, to load weights (and theirs) into."""
    return Localizer(preset, shape_of(params), torch.zeros(CHANNELS, rows, 1), torch.ones(CHANNELS, rows, 1))


def _model(said: Fields, shape: Shape, mean: Tensor, std: Tensor) -> Localizer:
    model = Localizer(said.preset, shape, mean, std)
    if said.weights is not None:
        load_backbone(model.backbone, said.weights)
    model.backbone.requires_grad_(not said.freeze)
    return model


@dataclass(frozen=True)
class Examples:
    """Events as tensors; ``features`` (N, W, 3, M, 32) are those of the N recordings.

    With ``single``, every recording is an example of its own, heard by one receiver.
    """

    events: Events
    features: np.ndarray
    frame: Frame
    single: bool

    @property
    def sites(self) -> np.ndarray:
        """(R, 2) in normalised units."""
        return self.frame.normalised(self.events.sites)

    def of(self, rows: np.ndarray) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Features (n, R, 3, M, 32), sites (n, R, 2), present (n, R) and targets (n, 2), float32."""
        event, recording = self._heard(rows)
        sites = self.sites[self._receiver(rows)] if self.single else np.broadcast_to(self.sites, (*recording.shape, 2))
        inputs = assembled(self.features, recording, sites)
        targets = repeated(self.frame.normalised(self.events.positions[event]), self.features.shape[1])
        return tuple(torch.from_numpy(part) for part in (*inputs, targets))  # type: ignore[return-value]

    def sessions(self, rows: np.ndarray) -> np.ndarray:
        """(n,) ids beside the examples of ``rows``."""
        return np.repeat(self.events.sessions[self._heard(rows)[0]], self.features.shape[1])

    def statistics(self, rows: np.ndarray) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of each channel's rows over the recordings of ``rows``: (3, M, 1) each."""
        recording = self.events.recording[rows]
        heard = self.features[recording[recording >= 0]]
        mean = heard.mean(axis=(0, 1, 4), dtype=np.float64)
        variance = np.square(heard).mean(axis=(0, 1, 4), dtype=np.float64) - mean**2  # no copy in float64
        found = (mean, np.sqrt(np.maximum(variance, _LEAST_STD**2)))
        return tuple(torch.from_numpy(part.astype(np.float32))[..., None] for part in found)  # type: ignore[return-value]

    def _heard(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The event (n,) of each example, and its receivers' recordings (n, R), -1 where absent."""
        recording = self.events.recording[rows]
        if not self.single:
            return rows, recording
        present = recording >= 0
        return rows[np.nonzero(present)[0]], recording[present][:, None]

    def _receiver(self, rows: np.ndarray) -> np.ndarray:
        """(n, 1) the receiver of each example of a single one."""
        return np.nonzero(self.events.recording[rows] >= 0)[1][:, None]


def judge(frame: Frame, prefix: str = "val_") -> Any:
    """A function from outputs (n, 4) and targets (n, 2), both normalised, to metrics in metres."""

    def metrics(outputs: Tensor, targets: Tensor) -> Metrics:
        said, wanted = outputs.numpy().astype(np.float64), targets.numpy().astype(np.float64)
        mean, sigma = said[:, :2], said[:, 2:]
        terms = gaussian_nll_terms(mean, sigma, wanted, prefix)
        found = localization_metrics(frame.degrees(mean), frame.degrees(wanted), prefix, sigma_m=sigma * frame.scale_m)
        return {**found, **{name: value for name, value in terms.items() if not name.endswith("nll")}}

    return metrics


def _judged(examples: Examples, frame: Frame, rows: np.ndarray) -> Split:
    return Split(examples.of(rows), metrics=judge(frame), clusters=examples.sessions(rows))


def outline(job: Job) -> Outline:
    """The model of ``job`` on the meta device, with an event and its position."""
    said, receivers = checked(job.data), len(load(job.data).receivers)
    rows, heard = Recipe.of(said).rows, 1 if said.receivers == "single" else receivers
    with torch.device("meta"):
        model = empty_model(job.params, said.preset, rows)
        shapes = ((heard, CHANNELS, rows, FRAMES), (heard, 2), (heard,), (2,))
        sample = tuple(torch.empty(1, *shape) for shape in shapes)
    model.backbone.requires_grad_(not said.freeze)
    return Outline(model, sample, gaussian_nll, blocks_of(model))
