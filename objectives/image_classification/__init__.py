"""What is in this picture? A vision model, fine-tuned or trained on a folder of class folders."""

from __future__ import annotations

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


class ImageClassification(TrainingObjective):
    """A vision transformer or a convolutional network of ``transformers`` or ``timm``."""

    summary: ClassVar[str] = "tell the class of an image, with a vision model of transformers or timm"
    own_metrics: ClassVar[Mapping[str, Metric]] = {
        "val_accuracy": Metric(_UP, "share of validation images told right"),
        "val_macro_f1": Metric(_UP, "mean over classes of F1, precision and recall in one"),
        "val_calibration_error": Metric(_DOWN, "mean distance of confidence and accuracy"),
        "train_accuracy": Metric(_UP, "share of up to 1,000 fixed training images told right, without augmentation"),
        "accuracy_gap": Metric(_DOWN, "train_accuracy - val_accuracy"),
    }
    health: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "first_epoch_accuracy",
            Condition("first", "val_accuracy", "<", 0.90),
            "{metric} was {value} after the first epoch, below {threshold}",
            "Check labels, weights and normalisation, lr and warm-up; without pretrained weights set it lower.",
        ),
        Rule(
            "falling_accuracy",
            Condition("worse_running", "val_accuracy", ">=", 3),
            "{metric} has fallen {value} epochs running",
            "A lower lr or peak_factor, more augmentation, dropout or drop_path.",
        ),
        Rule(
            "accuracy_gap",
            Condition("last", "accuracy_gap", ">", 0.03),
            "training images are told right more often than validation images: the gap is {value}, above {threshold}",
            "More augmentation, weight decay, dropout or drop_path; more images.",
        ),
        Rule(
            "converged",
            Condition("best", "val_accuracy", ">", 0.96),
            "{metric} reached {value}, above {threshold}",
            "More epochs or images, pretrained weights, a search over lr and schedule.",
            good=True,
        ),
    )
    default_goals: ClassVar[tuple[str, ...]] = ("val_accuracy",)
    default_params: ClassVar[Params] = {
        "lr": 2e-5,
        "weight_decay": 0.05,
        "dropout": 0.15,
        "drop_path": 0.05,
        "label_smoothing": 0.0,
        "batch_size": 8,
        "accumulation": 8,
        "patience": 7,
        "warmup_epochs": 2,
        "schedule": "one_cycle",
        "peak_factor": 1.0,
        "augment": "small",
    }
    default_trainer: ClassVar[Mapping[str, Any]] = {
        "optimizer": "adamw",
        "final_lr_share": 0.01,
        "grad_clip": 1.0,
        "early_stopping": {"metric": "val_accuracy", "direction": "maximize", "patience": 7},
    }
    folds: ClassVar[bool] = True
    meanings: ClassVar[Mapping[str, str]] = {
        "pixels": "red, green and blue of the largest square in the middle of the image, resized, 0 to 255",
        "logits": "how much speaks for each class, before softmax, in the order of the facts' classes",
    }
    limits: ClassVar[Sequence[str]] = (
        "It always names one of the classes that it was trained on, and can be sure of it before a picture of none of "
        "them.",
        "It sees the square in the middle of a picture, at the size it was trained at: what lies outside or is smaller "
        "than a few of those pixels is lost.",
        "A probability is the softmax's and not a frequency: test_calibration_error says how far the two are apart, "
        "which label smoothing widens.",
        "The digits of `hpo make-data` are clean 8x8 scans of one collection; other handwriting, photographs and "
        "coloured backgrounds were not tried.",
    )
    shared_facts: ClassVar[frozenset[str] | None] = frozenset({"classes", "side_px"})
    default_data: ClassVar[Mapping[str, Any]] = {
        "path": "data/digits",
        "model": "convnext-mini",
        "weights": None,
        "image_size": None,
        "normalise": "data",
        "flip": False,
        "max_bad_share": 0.01,
        "cache_mb": 256,
    }

    @property
    def space(self) -> SearchSpace:
        from search_spaces.image_classification import SPACE

        return SPACE

    def check_data(self, data: Mapping[str, Any]) -> DataFacts:
        """Every file decoded once; after that, files that did not change are only listed."""
        from objectives.image_classification.data import facts

        return facts(data)

    def task(self, job: Job) -> Task:
        from objectives.image_classification.task import build_task

        return build_task(job)

    def outline(self, job: Job) -> Outline:
        from objectives.image_classification.task import outline_of

        return outline_of(job)

    def model(self, params: Params, facts: Mapping[str, Any]) -> nn.Module:
        """The untrained network; its normalisation comes with the weights."""
        from objectives.image_classification.task import empty_model

        return empty_model(params, facts)

    def preparation(self, params: Params, facts: Mapping[str, Any], assets: Path) -> Preparation:
        """An image, or a folder of images, to classes with their probabilities."""
        from objectives.image_classification.preparation import ImagePreparation

        return ImagePreparation.of(facts)

    def make_data(
        self,
        out: Path,
        *,
        seed: int,
        records: int | None = None,
        side_px: int = 32,
        broken: int = 0,
        progress: bool = True,
        **options: Any,
    ) -> Path:
        """Write scikit-learn's handwritten digits into ``out`` as PNG files in class folders; see ``maker.make``.

        Raises:
            UnknownName: an option is none of these.
            DataError: see ``maker.make``.
        """
        from objectives.image_classification.maker import make

        known_options("image_classification", options, ("seed", "records", "side_px", "broken", "progress"))
        return make(out, seed, records=records, side_px=side_px, broken=broken, progress=progress).path

    def baseline_names(self, data: Mapping[str, Any]) -> tuple[str, ...]:
        return ("majority", "logistic_regression", "k_nearest")

    def baselines(
        self, data: Mapping[str, Any], data_seed: int, part: str = "validation", names: Sequence[str] | None = None
    ) -> Mapping[str, Metrics]:
        """Metrics of every baseline, by its name; ``part`` is ``validation`` or ``test``."""
        from objectives.image_classification.baselines import baselines

        return baselines(data, data_seed, part, self.chosen_baselines(data, part, names))

    def split_ids(self, data: Mapping[str, Any], data_seed: int) -> Mapping[str, Sequence[str]]:
        """The paths of ``train``, ``validation`` and ``test``, as a split is stored."""
        from objectives.image_classification.data import load, split_ids

        return split_ids(load(data)[1], data_seed)


OBJECTIVE = ImageClassification
