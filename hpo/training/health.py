"""What a healthy run looks like, as data: named rules over the history of one trial. No torch here.

A rule is a condition on the metrics of the epochs so far, with what to say once it holds
and what usually helps. ``COMMON`` holds the rules for every training objective; an
objective adds its own, and a study file moves thresholds (``settle``). A ``Watch``
follows one trial and tells each rule once.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from hpo.errors import UnknownName, UserError
from hpo.training.conditions import COUNTS, Condition, History, short

MONITOR = "<monitor>"  # stands for the monitored metric until the study is known
_MOST_NAMED = 4  # metrics in a message


@dataclass(frozen=True)
class Rule:
    """Once ``condition``, and every one of ``also``, holds, ``message`` is said.

    ``message`` may name ``{metric}``, ``{other}``, ``{epochs}``, ``{value}``,
    ``{threshold}`` and ``{broken}`` (its metrics that are not finite). ``remedy`` is what
    usually helps. ``good`` marks what one hopes for (converged) and not a warning.
    """

    name: str
    condition: Condition
    message: str
    remedy: str = ""
    good: bool = False
    also: tuple[Condition, ...] = ()

    @property
    def text(self) -> str:
        """All its conditions in words."""
        return " and ".join(map(str, (self.condition, *self.also)))

    def at(self, threshold: float) -> Rule:
        """The same rule with another threshold."""
        return replace(self, condition=replace(self.condition, threshold=threshold))

    def judge(self, history: History) -> Verdict | None:
        """How the rule stands after the last epoch of ``history``; None where it does not apply."""
        values = [condition.value(history) for condition in (self.condition, *self.also)]
        if any(value is None for value in values):
            return None
        pairs = zip((self.condition, *self.also), values, strict=True)
        holds = all(condition.holds(value) for condition, value in pairs)
        names = self.condition.metrics_in(history[-1]) if holds else []
        broken = tuple(name for name in names if not math.isfinite(history[-1][name]))
        return Verdict(self, holds, values[0] or 0.0, len(history), broken)

    def _bound(self, monitor: str, maximized: Collection[str]) -> Rule:
        conditions = []
        for condition in (self.condition, *self.also):
            metric = monitor if condition.metric == MONITOR else condition.metric
            conditions.append(replace(condition, metric=metric, maximize=metric in maximized))
        return replace(self, condition=conditions[0], also=tuple(conditions[1:]))


@dataclass(frozen=True)
class Verdict:
    """A rule held against a history of ``epoch`` epochs: whether it holds, and the value it looked at.

    ``broken`` names those of its metrics that are NaN or infinite in the last epoch.
    """

    rule: Rule
    holds: bool
    value: float
    epoch: int
    broken: tuple[str, ...] = ()

    @property
    def is_fine(self) -> bool:
        """Whether this is as one would wish: something good that holds, or a warning that does not."""
        return self.holds is self.rule.good

    @property
    def message(self) -> str:
        """The finding in one sentence, with its epoch and figures."""
        more = f" and {len(self.broken) - _MOST_NAMED} more" if len(self.broken) > _MOST_NAMED else ""
        figures = {
            "value": f"{self.value:.4g}",
            "threshold": short(self.threshold),
            "broken": ", ".join(self.broken[:_MOST_NAMED]) + more,
        }
        told = self.rule.message.format(**{**asdict(self.rule.condition), **figures})
        return f"epoch {self.epoch}: {told}"

    @property
    def threshold(self) -> float:
        return self.rule.condition.threshold or 0.0

    @property
    def details(self) -> dict[str, Any]:
        """What machines read of it, JSON."""
        return {
            "rule": self.rule.name,
            "condition": self.rule.text,
            "value": self.value,
            "threshold": self.threshold,
            "epoch": self.epoch,
            "good": self.rule.good,
            "remedy": self.rule.remedy,
        }


class Watch:
    """Follows one trial and tells each rule once: the first epoch that it holds.

    All it knows it derives from the history, so it is the same after a resume. ``reported``
    is the last epoch whose report had arrived before: what was found up to there has been told.
    """

    def __init__(self, rules: Iterable[Rule], reported: int = 0) -> None:
        self._rules = tuple(rules)
        self._reported = reported
        self._held: set[str] = set()
        self._seen = 0

    def see(self, history: History) -> list[Verdict]:
        """What became true in the epochs since the last call and was not told before.

        ``history`` holds one mapping of metrics per epoch from the first on; it may be
        shorter than last time, when training went back to a checkpoint.
        """
        found = []
        if len(history) <= self._seen:  # what was told of the epochs that are done again is void
            self._reported = min(self._reported, len(history) - 1)
        for epoch in range(min(self._seen, len(history) - 1) + 1, len(history) + 1):
            for rule in self._rules:
                if rule.name in self._held:
                    continue
                verdict = rule.judge(history[:epoch])
                if verdict is not None and verdict.holds:
                    self._held.add(rule.name)
                    if epoch > self._reported:
                        found.append(verdict)
        self._seen = len(history)
        return found

    def flags(self, history: History) -> list[Verdict]:
        """Every rule that applies to the run, as it stands at its end."""
        return [verdict for rule in self._rules if (verdict := rule.judge(history)) is not None]


def summary(flags: Sequence[Verdict]) -> tuple[str, list[dict[str, Any]]]:
    """The flags of a run as a sentence, and as the details of its event."""
    warnings = [flag.rule.name for flag in flags if flag.holds and not flag.rule.good]
    good = [flag.rule.name for flag in flags if flag.holds and flag.rule.good]
    missed = [flag.rule.name for flag in flags if not flag.holds and flag.rule.good]
    parts = [
        f"{what}: {', '.join(names)}"
        for what, names in (("met", good), ("not met", missed), ("warnings", warnings))
        if names
    ]
    return "; ".join(parts) or "no warning", [{**flag.details, "holds": flag.holds} for flag in flags]


def settle(
    own: Iterable[Rule], given: Mapping[str, float | bool], *, monitor: str, maximized: Collection[str]
) -> tuple[Rule, ...]:
    """The rules of a study: the common ones, the objective's ``own`` over them, as the study file sets them.

    Args:
        given: by a rule's name another threshold, or False to leave it out.
        monitor: the metric that decides the best epoch.
        maximized: the metrics that are better when higher.

    Raises:
        UserError: there is no such rule, or the threshold is none it can have.
    """
    rules = {**COMMON, **{rule.name: rule for rule in own}}
    for name, value in given.items():
        if name not in rules:
            raise UnknownName("health rule", name, rules)
        if value is False:
            del rules[name]
        elif value is not True:
            rules[name] = rules[name].at(_checked(rules[name], value))
        elif rules[name].condition.threshold is None:
            raise UserError(f"{name} has no threshold of its own; give it a number instead of true.")
    return tuple(rule._bound(monitor, maximized) for rule in rules.values() if rule.condition.threshold is not None)


def _checked(rule: Rule, threshold: float) -> float:
    if not math.isfinite(threshold):
        raise UserError(f"the threshold of {rule.name} must be a finite number, or false; got {threshold}.")
    if rule.condition.measure in COUNTS and not (threshold >= 1 and threshold == int(threshold)):
        raise UserError(f"the threshold of {rule.name} is a count: a whole number of 1 or more; got {threshold:g}.")
    return float(threshold)


def _common() -> Iterable[Rule]:
    yield Rule(
        "overfitting",
        Condition("ratio", "train_loss", "<", 0.5, other="val_loss"),
        "{metric} is {value} of {other}, below {threshold}: the model learns its training data by heart",
        "More dropout, weight decay or augmentation; a smaller model; more data; early stopping.",
    )
    yield Rule(
        "unstable",
        Condition("relative_std", MONITOR, ">", 0.05, epochs=10),
        "{metric} jumps back and forth: its standard deviation over {epochs} epochs is {value} of its largest "
        "magnitude, above {threshold}",
        "A lower lr, a longer warm-up, gradient clipping, or a larger effective batch; "
        "or a larger validation set, when it is small.",
        also=(Condition("setbacks", MONITOR, ">=", 3, epochs=10),),
    )
    yield Rule(
        "worsening",
        Condition("worse_running", MONITOR, ">=", 3),
        "{metric} has become worse {value} epochs running",
        "Early stopping keeps the best epoch; otherwise a lower lr or more regularisation.",
    )
    yield Rule(
        "first_epoch_loss",
        Condition("first", "train_loss", ">", 1.0),
        "{metric} was {value} in the first epoch, above {threshold}: little was learnt, or the start went wrong",
        "Check labels and normalisation, lr and warm-up; set the threshold to what is usual for this loss, or false.",
    )
    yield Rule(
        "not_finite",
        Condition("not_finite", "val_*", ">=", 1),
        "a validation metric is NaN or infinite: {broken}",
        "Look at the predictions: constant ones have no correlation, huge ones overflow; lower lr or use bf16 or fp32.",
    )
    yield Rule(
        "vanishing_gradients",
        Condition("last", "grad_norm", "<", 0.01),
        "the mean gradient norm is {value}, below {threshold}: next to nothing reaches the weights",
        "A higher lr, other activations or normalisation, a skip connection; on a solved task it is no fault.",
    )
    yield Rule(
        "exploding_gradients",
        Condition("last", "grad_norm", ">", 10.0),
        "the mean gradient norm is {value}, above {threshold}",
        "Clip gradients (grad_clip: 1.0), lower lr, warm up longer, normalise inputs and targets.",
    )
    yield Rule(
        "memory",
        Condition("max", "epoch_memory_mb", ">", None),
        "an epoch took {value} MB of memory, above the limit of {threshold} MB",
        "A smaller batch_size with more accumulation, bf16, gradient_checkpointing, adamw8bit, or a smaller model.",
    )
    yield Rule(
        "slow_epochs",
        Condition("mean", "epoch_s", ">", None, epochs=2),
        "an epoch takes {value} s on average, above the limit of {threshold} s",
        "More loader_workers, a larger batch, bf16, compile; fewer trials at once on the same device.",
    )
    yield Rule(
        "large_model",
        Condition("last", "parameter_mb", ">", None),
        "the model's parameters take {value} MB, above the limit of {threshold} MB",
        "Narrow the search space of width and depth.",
    )
    yield Rule(
        "device_memory_high",
        Condition("last", "gpu_memory_share", ">", 0.95),
        "{value} of the GPU's memory is in use, above {threshold}: the next larger batch may not fit",
        "A smaller batch_size with more accumulation, or gradient_checkpointing.",
    )
    yield Rule(
        "device_memory_low",
        Condition("last", "gpu_memory_share", "<", None),
        "only {value} of the GPU's memory is in use, below {threshold}",
        "A larger batch_size, or several trials on the device (resources.gpus: 0.5).",
    )
    yield Rule(
        "gpu_idle",
        Condition("mean", "gpu_utilisation_pct", "<", None, epochs=2),
        "the GPU is busy {value} % of the time, below {threshold} %: it waits for something",
        "More loader_workers and prefetch, a larger batch_size, or several trials on the device.",
    )


COMMON: Mapping[str, Rule] = {rule.name: rule for rule in _common()}
