"""Who is judged on what: every trial's curve, who may see whom, and the pruner's word.

Stands alone: a search feeds it while a study runs, and a replay from recorded curves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hpo.search import pruners
from hpo.search.pruners import Aims, Curve
from hpo.trial import Goal, Point, StopKind, StopReason, TrialRecord


def horizon(number: int, concurrency: int) -> int:
    """In a deterministic study, trials below this number are visible to trial ``number``."""
    return number - concurrency + 1


class Judging:
    """The curves of one study and the pruner over them.

    In a deterministic study a trial sees only those that had ended when it could begin,
    whatever order trials end in; else all others.

    Args:
        options: of the pruner, as in a study file.
        watched: the metric of rules for one goal; the first goal by default.
        once: the metrics that are measured once per trial.
        epochs: of every trial; at its last one it is complete, and nobody prunes it.

    Raises:
        UnknownName, StudyFileError: the pruner or one of its options is wrong.
    """

    def __init__(
        self,
        pruner: str = "none",
        options: Mapping[str, Any] | None = None,
        *,
        goals: Sequence[Goal],
        watched: Goal | None = None,
        once: frozenset[str] = frozenset(),
        epochs: int | None = None,
        concurrency: int = 1,
        deterministic: bool = False,
    ) -> None:
        self._pruner = pruner
        self._aims = Aims(tuple(goals), watched or goals[0], once, epochs)
        self._judge = pruners.build(pruner, options or {}, self._aims)
        self._concurrency = concurrency
        self._deterministic = deterministic
        self._curves: dict[int, Curve] = {}

    def begin(self, number: int) -> None:
        """A trial begins; from its second attempt on, it goes on with the curve it has."""
        self._curves.setdefault(number, Curve(number, {metric: {} for metric in self._aims.metrics}, self._aims.once))

    def report(self, number: int, point: Point) -> StopReason | None:
        """Take in a step; the reason to prune the trial now, or None."""
        trial = self._curves[number]
        trial.add(point)
        if self._aims.epochs is not None and point.step >= self._aims.epochs:
            return None
        verdict = self._judge(trial, self._others(number))
        if verdict is None:
            return None
        return StopReason(
            StopKind.PRUNED,
            f"pruned at step {point.step}: {verdict.why}",
            verdict.details(self._pruner, point.step),
        )

    def finished(self, record: TrialRecord) -> None:
        """Take in how a trial ended. An interrupted one has not ended."""
        if record.state.is_finished:
            self._curves[record.number].end(record)

    def restore(self, record: TrialRecord) -> None:
        """Take in a trial as it is stored, with its points; nobody is judged."""
        self.begin(record.number)
        for point in record.points:
            self._curves[record.number].add(point)
        self.finished(record)

    def _others(self, number: int) -> list[Curve]:
        below = horizon(number, self._concurrency) if self._deterministic else max(self._curves) + 1
        return [self._curves[n] for n in sorted(self._curves) if n < below and n != number]
