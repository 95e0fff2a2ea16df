"""What kind of planet is this? Its class, from a text, a metabolic network and a climate cube."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from hpo.training.conditions import Condition
from hpo.training.health import COMMON, Rule
from hpo.trial import Direction, Job, Metric, Metrics, Params
from objectives.base import DataFacts, TrainingObjective
from search_spaces import SearchSpace

if TYPE_CHECKING:
    from torch import nn

    from hpo.training.task import Outline, Task
    from objectives.prediction import Preparation

_UP, _DOWN = Direction.MAXIMIZE, Direction.MINIMIZE


class Multimodal(TrainingObjective):
    """A text encoder, a graph auto-encoder and a climate encoder, fused by cross-attention."""

    summary: ClassVar[str] = "tell the class of a planet from its text, metabolic network and climate cube"
    own_metrics: ClassVar[Mapping[str, Metric]] = {
        "val_accuracy": Metric(_UP, "share of validation planets told right"),
        "val_macro_f1": Metric(_UP, "mean over classes of F1, precision and recall in one"),
        "val_calibration_error": Metric(_DOWN, "mean distance of confidence and accuracy"),
        "val_cross_entropy": Metric(_DOWN, "the classification's part of the loss, nats; alike for all loss weights"),
        "val_graph_reconstruction": Metric(_DOWN, "edges' cross-entropy + node features' squared error, of the graphs"),
        "val_graph_kl": Metric(_DOWN, "nats a node between the graphs' codes and the standard normal distribution"),
        "val_cube_reconstruction": Metric(_DOWN, "mean squared error of the standardised cubes"),
        "val_accuracy_complete": Metric(_UP, "accuracy where no modality is missing (absent below 10 planets)"),
        **{
            f"val_accuracy_without_{part}": Metric(_UP, f"accuracy where the {part} is missing (absent below 10)")
            for part in ("text", "graph", "cube")
        },
    }
    health: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "converged",
            Condition("best", "val_accuracy", ">", 0.96),
            "{metric} reached {value}, above {threshold}",
            "More epochs or planets; a search over lr, dropout and the loss weights.",
            good=True,
        ),
        Rule(
            "collapsed_code",
            Condition("last", "val_graph_kl", "<", 0.01),
            "the graphs' codes say nothing: {metric} is {value} nats a node, below {threshold}",
            "A smaller beta, or a larger w_graph.",
        ),
        COMMON["first_epoch_loss"].at(2.0),  # nats: of four classes chance is 1.39, and the parts come on top
    )
    default_goals: ClassVar[tuple[str, ...]] = ("val_cross_entropy",)
    default_params: ClassVar[Params] = {
        "lr": 1e-4,
        "weight_decay": 0.01,
        "batch_size": 32,
        "w_graph": 0.1,
        "w_cube": 0.1,
        "beta": 0.1,
        "dropout": 0.1,
        "fusion_scale": 1.0,
        "fusion_heads": 4,
    }
    default_trainer: ClassVar[Mapping[str, Any]] = {
        "optimizer": "adamw",
        "schedule": "one_cycle",
        "warmup_share": 0.1,
        "grad_clip": 1.0,
        "time_limit": "672h",
        "checkpoint_minutes": 120,
        "keep_every": 10,
        "early_stopping": {"metric": "val_cross_entropy", "direction": "minimize", "patience": 20},
    }
    folds: ClassVar[bool] = True
    meanings: ClassVar[Mapping[str, str]] = {
        "tokens": "ids of the text's tokens, by the tokenizer in assets; what stands at padding does not matter",
        "token_mask": "true at tokens; all false: there is no text",
        "nodes": "features of the graph's nodes, in the units of the data",
        "adjacency": "true where an edge joins two nodes, both ways; never a node and itself",
        "node_mask": "true at nodes; all false: there is no graph",
        "cube": "the climate cube by variable, level, latitude and longitude, in the units of the data",
        "cube_mask": "true where there is a cube",
        "logits": "how much speaks for each class, before softmax, in the order of the facts' classes",
    }
    limits: ClassVar[Sequence[str]] = (
        "With a view missing it is right less often, and a single view leaves several classes open: go by the "
        "probabilities then, and by test_accuracy_without_text, _graph and _cube.",
        "It was judged on planets that it had not seen, but of the source that it learnt from: texts of other authors, "
        "graphs with other features and cubes of another climate model can look alike to it and mean something else.",
        "Words that the tokenizer does not know, and what comes after the longest text it takes, are not read.",
        "The planets of `hpo make-data` are drawn from a formula: figures on them say what the model can find, and "
        "nothing about planets.",
    )
    shared_facts: ClassVar[frozenset[str] | None] = frozenset({"modalities", "classes", "dimensions"})
    default_data: ClassVar[Mapping[str, Any]] = {
        "path": "data/planets",
        "preset": "tiny",
        "modalities": ["text", "graph", "cube"],
        "freeze": [],
        "weights": None,
        "min_planets": 100,
        "max_nodes": 256,
    }

    @property
    def space(self) -> SearchSpace:
        from search_spaces.multimodal import SPACE

        return SPACE

    def space_for(self, data: Mapping[str, Any]) -> SearchSpace:
        """Larger presets have smaller batches."""
        from objectives.multimodal.fields import checked
        from search_spaces.multimodal import space

        return space(checked(data).preset)

    def check_data(self, data: Mapping[str, Any]) -> DataFacts:
        """Every rule of the format; a second for 2,000 planets of the usual size."""
        from objectives.multimodal.data import facts
        from objectives.multimodal.fields import checked

        return facts(checked(data))

    def task(self, job: Job) -> Task:
        from objectives.multimodal.task import build

        return build(job)

    def outline(self, job: Job) -> Outline:
        from objectives.multimodal.task import outline

        return outline(job)

    def model(self, params: Params, facts: Mapping[str, Any]) -> nn.Module:
        """The untrained model; its standardisation comes with the weights."""
        from objectives.multimodal.task import choices_of, empty_model

        return empty_model(choices_of(params), facts)

    def preparation(self, params: Params, facts: Mapping[str, Any], assets: Path) -> Preparation:
        """A folder of planets, as for training but without labels, to classes with their probabilities."""
        from objectives.multimodal.preparation import PlanetPreparation

        return PlanetPreparation.of(facts, assets)

    def make_data(self, out: Path, *, seed: int, progress: bool = True, **options: Any) -> Path:
        """Make planets in the folder ``out``; see ``maker.make``.

        Raises:
            UnknownName: an option is not the maker's.
            DataError: see ``maker.make``.
        """
        from objectives.multimodal.maker import make

        return make(out, seed, progress=progress, **options).path

    def baseline_names(self, data: Mapping[str, Any]) -> tuple[str, ...]:
        from objectives.multimodal import baselines
        from objectives.multimodal.fields import checked

        return baselines.names(checked(data))

    def baselines(
        self, data: Mapping[str, Any], data_seed: int, part: str = "validation", names: Sequence[str] | None = None
    ) -> Mapping[str, Metrics]:
        """Metrics of every baseline, by its name; ``part`` is ``validation`` or ``test``."""
        from objectives.multimodal import baselines
        from objectives.multimodal.fields import checked

        return baselines.baselines(checked(data), data_seed, part, self.chosen_baselines(data, part, names))

    def split_ids(self, data: Mapping[str, Any], data_seed: int) -> Mapping[str, Sequence[str]]:
        """The planet ids of ``train``, ``validation`` and ``test``, as a split is stored."""
        from objectives.multimodal.data import load, split_ids
        from objectives.multimodal.fields import checked

        return split_ids(load(checked(data)), data_seed)


OBJECTIVE = Multimodal
