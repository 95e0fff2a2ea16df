"""Will this logo survive vectorisation? SSIM after tracing, predicted from 2056 numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from hpo.training.conditions import Condition
from hpo.training.health import COMMON, Rule
from hpo.trial import Direction, Job, Metric, Metrics, Params
from objectives.base import DataFacts, TrainingObjective
from objectives.given import known_options
from search_spaces import SearchSpace

if TYPE_CHECKING:
    from torch import nn

    from hpo.training.task import Task
    from objectives.prediction import Preparation

_UP, _DOWN = Direction.MAXIMIZE, Direction.MINIMIZE
_NUMBERS: dict[str, Metric] = {
    "val_mse": Metric(_DOWN, "mean squared error of the predicted SSIM"),
    "val_mae": Metric(_DOWN, "mean absolute error"),
    "val_rmse": Metric(_DOWN, "root of the mean squared error"),
    "val_r2": Metric(_UP, "share of the variance explained"),
    "val_pearson_r": Metric(_UP, "correlation of predicted and true SSIM"),
    "val_pearson_p": Metric(_DOWN, "two-sided p of that correlation"),
    "val_within_0_1": Metric(_UP, "share of predictions at most 0.1 off"),
    "val_within_0_05": Metric(_UP, "share of predictions at most 0.05 off"),
    "val_max_abs_error": Metric(_DOWN, "largest absolute error"),
    "val_median_abs_error": Metric(_DOWN, "median absolute error"),
}
_TYPES = ("simple", "text", "gradient", "complex")
_BASELINES = ("random", "training_mean", "heuristic", "ridge_settings", "extra_trees")


class QualityRegression(TrainingObjective):
    """An MLP on an image descriptor and eight vtracer settings."""

    summary: ClassVar[str] = "predict a logo's SSIM after vectorisation, from its features and eight settings"
    own_metrics: ClassVar[Mapping[str, Metric]] = {
        **_NUMBERS,
        **{
            f"{name}_{kind}": Metric(metric.direction, f"{metric.help}, {kind} logos (absent below 10 rows)")
            for kind in _TYPES
            for name, metric in _NUMBERS.items()
        },
    }
    health: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "converged",
            Condition("best", "val_pearson_r", ">", 0.90),
            "{metric} reached {value}, above {threshold}",
            "More epochs or records; a search over lr, width and dropout.",
            good=True,
        ),
        Rule(
            "stable",
            Condition("std", "val_pearson_r", "<", 0.05, epochs=10),
            "the standard deviation of {metric} over {epochs} epochs is {value}, below {threshold}",
            "A lower lr, a longer warm-up or a larger batch.",
            good=True,
        ),
        COMMON["memory"].at(8 * 1024),
        COMMON["slow_epochs"].at(30),
        COMMON["large_model"].at(50),
    )
    default_goals: ClassVar[tuple[str, ...]] = ("val_loss", "samples_per_s", "peak_memory_mb")
    default_params: ClassVar[Params] = {
        "lr": 2e-3,
        "weight_decay": 1e-5,
        "batch_size": 128,
        "depth": 3,
        "width": 1024,
        "dropout": 0.3,
        "activation": "relu",
        "settings_gain": 1.0,
        "scale_floor": 1e-3,
        "input_dropout": 0.0,
        "squash": False,
        "modulate": False,
    }
    default_trainer: ClassVar[Mapping[str, Any]] = {
        "optimizer": "adamw",
        "schedule": "cosine",
        "warmup_epochs": 3,
        "grad_clip": 1.0,
        "checkpoint_every": 3,
        "early_stopping": {"metric": "val_pearson_r", "direction": "maximize", "patience": 8},
    }
    folds: ClassVar[bool] = True
    meanings: ClassVar[Mapping[str, str]] = {
        "features_and_settings": "2048 features of the logo, as features.describe gives them, about -1 to 10, then the "
        "8 settings of vtracer, each 0 to 1 over the range that it was varied in",
        "ssim": "SSIM of the logo after vtracer against the logo itself, 0 to 1, of which it may be out by a little",
    }
    limits: ClassVar[Sequence[str]] = (
        "Settings were varied in narrower ranges than vtracer allows (such as colour precision 3 to 8, filter "
        "speckle 0 to 12): outside of them nothing is known.",
        "The logos of `hpo make-data` are drawn by a program, at 256x256; scans, photographs and logos from real "
        "brands were not tried.",
        "Much of the correlation is the difference between kinds of logos: within simple and text logos, which hardly "
        "vary, it is clearly lower (test_pearson_r_simple, _text).",
        "Features must come from the descriptor that the facts name; those of another one are read as nonsense.",
    )
    shared_facts: ClassVar[frozenset[str] | None] = frozenset({"features"})
    default_data: ClassVar[Mapping[str, Any]] = {"path": "data/logos.parquet"}

    @property
    def space(self) -> SearchSpace:
        from search_spaces.quality_regression import SPACE

        return SPACE

    def check_data(self, data: Mapping[str, Any]) -> DataFacts:
        """Every rule of the format, in under a second for 1,200 records."""
        from objectives.quality_regression.data import load

        records = load(data)
        kinds = records.logo_types.tolist()
        counts = {"records": len(records), "logos": len(set(records.logo_ids.tolist()))}
        return DataFacts(records.fingerprint, {**counts, **{kind: kinds.count(kind) for kind in _TYPES}})

    def task(self, job: Job) -> Task:
        from objectives.quality_regression.task import build

        return build(job)

    def model(self, params: Params, facts: Mapping[str, Any]) -> nn.Module:
        """The untrained network; its standardisation comes with the weights."""
        from objectives.quality_regression.task import empty_model

        return empty_model(params)

    def preparation(self, params: Params, facts: Mapping[str, Any], assets: Path) -> Preparation:
        """Features and settings, from Parquet, npz or CSV, to SSIM."""
        from objectives.quality_regression.preparation import LogoPreparation

        return LogoPreparation.of(facts)

    def make_data(
        self,
        out: Path,
        *,
        seed: int,
        records: int = 1200,
        settings_per_logo: int = 1,
        workers: int = 2,
        progress: bool = True,
        **options: Any,
    ) -> Path:
        """Draw, trace and measure ``records`` logos into ``out``; see ``maker.make``.

        Raises:
            UnknownName: an option is none of these.
            DataError: see ``maker.make``.
        """
        from objectives.quality_regression.maker import make

        known = ("seed", "records", "settings_per_logo", "workers", "progress")
        known_options("quality_regression", options, known)
        return make(out, records, seed, settings_per_logo=settings_per_logo, workers=workers, progress=progress).path

    def baseline_names(self, data: Mapping[str, Any]) -> tuple[str, ...]:
        return _BASELINES

    def baselines(
        self, data: Mapping[str, Any], data_seed: int, part: str = "validation", names: Sequence[str] | None = None
    ) -> Mapping[str, Metrics]:
        """Metrics of every baseline, by its name; ``part`` is ``validation`` or ``test``."""
        from objectives.quality_regression.baselines import baselines

        return baselines(data, data_seed, part, self.chosen_baselines(data, part, names))

    def split_ids(self, data: Mapping[str, Any], data_seed: int) -> Mapping[str, Sequence[str]]:
        """The logo ids of ``train``, ``validation`` and ``test``, as a split is stored."""
        from objectives.quality_regression.data import load, split_ids

        return split_ids(load(data), data_seed)


OBJECTIVE = QualityRegression
