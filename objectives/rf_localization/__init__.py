"""Where is the transmitter? Its position and how sure that is, from short IQ recordings of several receivers."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from hpo.training.conditions import Condition
from hpo.training.health import Rule
from hpo.trial import Direction, Job, Metric, Metrics, Params
from objectives.base import DataFacts, TrainingObjective
from objectives.given import known_options
from search_spaces import SearchSpace

if TYPE_CHECKING:
    from torch import nn

    from hpo.training.task import Outline, Task
    from objectives.prediction import Preparation

_UP, _DOWN = Direction.MAXIMIZE, Direction.MINIMIZE
_BASELINES = ("training_mean", "power_centroid", "least_squares")


class RfLocalization(TrainingObjective):
    """A ConvNeXt over mel spectrograms of every receiver, pooled into one position with its uncertainty."""

    summary: ClassVar[str] = "find a radio transmitter, and say how surely, from IQ recordings of several receivers"
    own_metrics: ClassVar[Mapping[str, Metric]] = {
        "val_mae_m": Metric(_DOWN, "mean great-circle error in metres"),
        "val_within_30m": Metric(_UP, "share of events found within 30 m"),
        "val_within_50m": Metric(_UP, "share of events found within 50 m"),
        "val_within_100m": Metric(_UP, "share of events found within 100 m"),
        "val_calibration_error_m": Metric(
            _DOWN, "|expected error - predicted σ| in metres: below 5 the target, above 15 poor"
        ),
        "val_log_sigma_term": Metric(_DOWN, "mean log σ, one of the two terms of the loss"),
        "val_squared_error_term": Metric(_DOWN, "mean (y - μ)² / 2σ², the other term; 0.5 where σ is right"),
    }
    health: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "converged",
            Condition("span", "val_loss", "<", 0.01, epochs=10),
            "{metric} moved by only {value} in {epochs} epochs, less than {threshold}, while training went on well",
            "More epochs, or a lower lr towards the end.",
            good=True,
            also=(
                Condition("change", "train_loss", "<", 0.0, epochs=10),
                Condition("not_finite", "*", "<", 1),
                Condition("last", "grad_norm", ">=", 0.01),
                Condition("last", "grad_norm", "<=", 10.0),
            ),
        ),
        Rule(
            "calibrated",
            Condition("best", "val_calibration_error_m", "<", 15.0),
            "the best {metric} is {value} m, below {threshold} m",
            "More validation events, which it is measured on; less overfitting.",
            good=True,
        ),
    )
    default_goals: ClassVar[tuple[str, ...]] = ("val_mae_m",)
    default_params: ClassVar[Params] = {
        "lr": 1e-3,
        "batch_size": 32,
        "dropout": 0.2,
        "weight_decay": 1e-4,
        "feature_dropout": 0.1,
        "scale_jitter": 0.05,
    }
    default_trainer: ClassVar[Mapping[str, Any]] = {
        "optimizer": "adam",
        "schedule": "cosine",
        "warmup_epochs": 5,
        "early_stopping": {"metric": "val_loss", "patience": 10, "min_delta": 1e-4},
        "keep_best": 3,
    }
    folds: ClassVar[bool] = True
    meanings: ClassVar[Mapping[str, str]] = {
        "features_db": "mel spectrograms of what each receiver heard (I, Q, magnitude), in dB of full scale, -100 to 0",
        "sites": "each receiver's place north and east of the training area's middle, in units of scale_m metres",
        "present": "1 for a receiver that has a recording, 0 for one that has none",
        "position_and_sigma": "the transmitter north and east of the training area's middle, then the standard "
        "deviation of each, 0.01 to 1, all in units of scale_m metres",
    }
    limits: ClassVar[Sequence[str]] = (
        "It knows the area in which it was trained, and one transmitter at a time: what it says of one outside, or of "
        "two at once, means nothing, and its sigma will not tell.",
        "Received power tells the distance. It holds for transmitters as strong, and for receivers with the sites, "
        "antennas and gains, of training; with others it can be far off and still give a small sigma.",
        "Sigma can be too small, most of all of a model trained with little dropout: test_calibration_error_m says by "
        "how much.",
        "Recordings of `hpo make-data` are simulated in free space, without buildings, terrain or echoes; a model of "
        "them has met no real recording.",
    )
    shared_facts: ClassVar[frozenset[str] | None] = frozenset(
        {"latitude", "longitude", "scale_m", "recipe", "single", "receivers", "sites"}
    )
    default_data: ClassVar[Mapping[str, Any]] = {"path": "data/rf"}

    @property
    def space(self) -> SearchSpace:
        from search_spaces.rf_localization import SPACE

        return SPACE

    def check_data(self, data: Mapping[str, Any]) -> DataFacts:
        """Every rule but whether samples are finite, which is looked at when features are computed."""
        from objectives.rf_localization.data import load
        from objectives.rf_localization.fields import checked, identity

        events = load(data)
        counts = {
            "events": len(events),
            "recordings": len(events.files),
            "sessions": len(set(events.sessions.tolist())),
            "receivers": len(events.receivers),
        }
        return DataFacts(identity(checked(data), events.fingerprint), counts)

    def task(self, job: Job) -> Task:
        from objectives.rf_localization.task import build

        return build(job)

    def outline(self, job: Job) -> Outline:
        from objectives.rf_localization.task import outline

        return outline(job)

    def model(self, params: Params, facts: Mapping[str, Any]) -> nn.Module:
        """The untrained network; the statistics of its features come with the weights."""
        from objectives.rf_localization.task import empty_model

        return empty_model(params, facts["preset"], facts["rows"])

    def preparation(self, params: Params, facts: Mapping[str, Any], assets: Path) -> Preparation:
        """Folders of recordings to positions in degrees with their uncertainty in metres."""
        from objectives.rf_localization.preparation import RecordingPreparation

        return RecordingPreparation.of(facts)

    def make_data(self, out: Path, *, seed: int, records: int = 400, progress: bool = True, **options: Any) -> Path:
        """Record ``records`` events into the folder ``out``; ``options`` are fields of ``world.World``.

        Raises:
            UnknownName: an option is none of these.
            DataError: see ``maker.make``.
        """
        from objectives.rf_localization.maker import make
        from objectives.rf_localization.world import World

        known = {field.name for field in dataclasses.fields(World)}
        known_options("rf_localization", options, {"records", "progress", *known})
        return make(out, records, World(seed=seed, **options), progress=progress)

    def baseline_names(self, data: Mapping[str, Any]) -> tuple[str, ...]:
        return _BASELINES

    def baselines(
        self, data: Mapping[str, Any], data_seed: int, part: str = "validation", names: Sequence[str] | None = None
    ) -> Mapping[str, Metrics]:
        """Metrics of every baseline, by its name; ``part`` is ``validation`` or ``test``."""
        from objectives.rf_localization.baselines import baselines

        return baselines(data, data_seed, part, self.chosen_baselines(data, part, names))

    def split_ids(self, data: Mapping[str, Any], data_seed: int) -> Mapping[str, Sequence[str]]:
        """The sessions of ``train``, ``validation`` and ``test``, as a split is stored."""
        from objectives.rf_localization.data import load, split_ids
        from objectives.rf_localization.fields import checked

        return split_ids(load(data), checked(data), data_seed)


OBJECTIVE = RfLocalization
