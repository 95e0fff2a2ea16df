"""What comes next, what is missing, what kind of text is it, what is written from it? Transformers of any shape."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from hpo.training.conditions import Condition
from hpo.training.health import COMMON, Rule
from hpo.trial import Direction, Job, Metric, Metrics, Params
from objectives.base import TRAINER_METRICS, DataFacts, TrainingObjective, UsualBudget
from objectives.given import known_options
from search_spaces import SearchSpace

if TYPE_CHECKING:
    from torch import nn

    from hpo.training.task import Outline, Task
    from objectives.prediction import Preparation

_UP, _DOWN = Direction.MAXIMIZE, Direction.MINIMIZE
_OF_TOKENS: Mapping[str, Metric] = {
    "val_perplexity": Metric(_DOWN, "exp of the loss in nats per token, the exponent capped at 100"),
    "val_token_accuracy": Metric(_UP, "share of tokens that were the likeliest; padding left out"),
}
_OF_WRITING: Mapping[str, Metric] = {
    "val_bleu": Metric(_UP, "BLEU, 0 to 100, of what is written greedily for some held-out texts"),
}
_OF_CLASSES: Mapping[str, Metric] = {
    "val_accuracy": Metric(_UP, "share of texts told right"),
    "val_macro_f1": Metric(_UP, "mean over classes of F1, precision and recall in one"),
    "val_calibration_error": Metric(_DOWN, "mean distance of confidence and accuracy"),
}


class LanguageModeling(TrainingObjective):
    """A transformer with the loss that fits it: causal, masked, classification or encoder–decoder."""

    summary: ClassVar[str] = "train or fine-tune a transformer on text: next token, masked, classes, text to text"
    own_metrics: ClassVar[Mapping[str, Metric]] = {**_OF_TOKENS, **_OF_WRITING, **_OF_CLASSES}
    health: ClassVar[tuple[Rule, ...]] = (
        COMMON["first_epoch_loss"].at(8.0),
        Rule(
            "learns_tokens",
            Condition("best", "val_token_accuracy", ">", 0.25),
            "{metric} reached {value}, above {threshold}",
            "More epochs or text, a higher lr, a smaller vocabulary.",
            good=True,
        ),
    )
    default_goals: ClassVar[tuple[str, ...]] = ("val_loss",)
    default_params: ClassVar[Params] = {
        "lr": 5e-5,
        "warmup_share": 0.1,
        "weight_decay": 0.01,
        "grad_clip": 1.0,
        "accumulation": 1,
        "schedule": "cosine",
        "beta1": 0.9,
        "beta2": 0.999,
        "eps": 1e-8,
        "dropout": 0.1,
    }
    default_trainer: ClassVar[Mapping[str, Any]] = {
        "optimizer": "adamw",
        "batch_size": 4,
        "eval_batch_size": 32,
        "early_stopping": {"metric": "val_loss", "direction": "minimize", "patience": 3},
    }
    folds: ClassVar[bool] = True
    meanings: ClassVar[Mapping[str, str]] = {
        "input_ids": "ids of the text's tokens, 0 to the vocabulary's size - 1; what stands at padding does not matter",
        "attention_mask": "1 at tokens, 0 at padding",
        "decoder_input_ids": "ids of the target's tokens so far, from the one that begins it",
        "logits": "how much speaks for each class, or at every position for each token of the vocabulary (the next "
        "one, or the one behind the mask), before softmax",
    }
    limits: ClassVar[Sequence[str]] = (
        "It knows the kind of texts it was trained on, in their language; others are cut into many small tokens that "
        "mean little to it.",
        "No more than max_length tokens are seen at once, and nothing of what stood before them.",
        "The tiny presets learn from a few hundred functions of Python's library: they tell tokens better than their "
        "frequency does, not better than a table of pairs, and do not write code that works.",
        "What it writes repeats what its texts say, true or not; nobody has looked for what else is in them.",
    )
    shared_facts: ClassVar[frozenset[str] | None] = frozenset({"task", "classes"})
    usual_budgets: ClassVar[tuple[UsualBudget, ...]] = (
        UsualBudget(100e6, trials=20, epochs=5, batch_size=(8, 16)),
        UsualBudget(500e6, trials=15, epochs=3, batch_size=(4, 8)),
        UsualBudget(math.inf, trials=10, epochs=2, batch_size=(2, 4)),
    )
    default_data: ClassVar[Mapping[str, Any]] = {
        "path": "data/stdlib.jsonl",
        "dataset": None,
        "text_column": "text",
        "label_column": "label",
        "target_column": "target",
        "max_samples": 1000,
        "min_tokens": 16,
        "max_length": 128,
        "model": "gpt2-tiny",
        "weights": None,
        "task": None,
        "vocabulary": 2000,
        "bleu_texts": 32,
        "bleu_prompt": 10,
        "bleu_reference": 10,
    }

    @property
    def space(self) -> SearchSpace:
        from search_spaces.language_modeling import SPACE

        return SPACE

    def space_for(self, data: Mapping[str, Any]) -> SearchSpace:
        """Without ``dropout`` where the model takes none."""
        from objectives.language_modeling.fields import checked

        if checked(data).has_dropout:
            return self.space
        return SearchSpace({name: parameter for name, parameter in self.space.items() if name != "dropout"})

    def metrics_for(self, data: Mapping[str, Any]) -> Mapping[str, Metric]:
        """Those of the training task."""
        from objectives.language_modeling.fields import checked

        goal = checked(data).goal
        if goal == "classification":
            return {**TRAINER_METRICS, **_OF_CLASSES}
        writing = _OF_WRITING if goal in ("causal", "encoder_decoder") else {}
        return {**TRAINER_METRICS, **_OF_TOKENS, **writing}

    def check_data(self, data: Mapping[str, Any]) -> DataFacts:
        """Every rule of the texts, and the tokens that come of them."""
        from objectives.language_modeling.data import corpus, documents, fingerprint

        fields, found = documents(data)
        made = corpus(data, 0)
        samples = [sample for part in made.parts.values() for sample in part]
        counts = {
            "texts": len(found),
            "sequences": len(samples),
            "tokens": sum(len(sample.ids) for sample in samples),
            "vocabulary": len(made.tokenizer),
            "short": made.short,
            "cut": made.cut,
        }
        if fields.goal == "classification":
            counts |= {f"label {label}": sum(d.label == label for d in found) for label in made.classes}
        notes = [f"{made.short} texts or ends of texts have fewer than {fields.min_tokens} tokens and were left out."]
        return DataFacts(fingerprint(found, fields), counts, notes=(*(notes if made.short else ()), *made.notes))

    def task(self, job: Job) -> Task:
        from objectives.language_modeling.task import build_task

        return build_task(job)

    def outline(self, job: Job) -> Outline:
        from objectives.language_modeling.task import outline

        return outline(job)

    def model(self, params: Params, facts: Mapping[str, Any]) -> nn.Module:
        from objectives.language_modeling.model import build
        from objectives.language_modeling.task import dropout_of

        return build(facts, dropout_of(params))

    def preparation(self, params: Params, facts: Mapping[str, Any], assets: Path) -> Preparation:
        """Texts to what comes next, what is missing, a class, or what is written."""
        from objectives.language_modeling.preparation import TextPreparation

        return TextPreparation.of(facts, assets)

    def make_data(self, out: Path, *, seed: int, records: int = 1500, progress: bool = True, **options: Any) -> Path:
        """Functions of Python's standard library, with their docstrings; see ``maker.make``.

        Raises:
            UnknownName: an option is none of these.
            DataError: see ``maker.make``.
        """
        from objectives.language_modeling.maker import make

        known_options("language_modeling", options, ("seed", "records", "progress"))
        return make(out, records, seed, progress=progress)

    def baseline_names(self, data: Mapping[str, Any]) -> tuple[str, ...]:
        from objectives.language_modeling import baselines
        from objectives.language_modeling.fields import checked

        return baselines.CLASSES if checked(data).goal == "classification" else baselines.TOKENS

    def baselines(
        self, data: Mapping[str, Any], data_seed: int, part: str = "validation", names: Sequence[str] | None = None
    ) -> Mapping[str, Metrics]:
        from objectives.language_modeling.baselines import baselines

        return baselines(data, data_seed, part, self.chosen_baselines(data, part, names))

    def split_ids(self, data: Mapping[str, Any], data_seed: int) -> Mapping[str, Sequence[str]]:
        """The ids of the texts in each part."""
        from objectives.language_modeling.data import documents, split

        _, found = documents(data)
        return {name: sorted(found[i].id for i in rows) for name, rows in split(found, data_seed).items()}


OBJECTIVE = LanguageModeling
