"""Who proposes and who judges, put together: what the sampler and the pruner of one study may see.

The sampler's memory is rebuilt at the start and then fed trial by trial. In a deterministic
study trial *n* sees only how trials up to *n - concurrency* ended, told in number order,
whatever order they ended in; so any number of workers, and any restart, gives the same
proposals. What the pruner sees is in ``hpo.search.judging``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from hpo.search.judging import Judging, horizon
from hpo.search.points import REPLACED, TriedPoints
from hpo.search.samplers import LEARN_FROM_CONSTRAINTS, SamplerFactory
from hpo.trial import Goal, Params, Point, StopReason, TrialRecord, derive_seed
from search_spaces import SearchSpace

TRIES = 4  # proposals of the sampler, and as many at random, before the points left are listed


@dataclass(frozen=True)
class Proposal:
    """A new trial's parameters, with what the sampler wants remembered of it and of the study.

    ``search_state`` is None when it has not changed.
    """

    params: Params
    sampler_state: dict[str, Any]
    search_state: dict[str, Any] | None


@dataclass(frozen=True)
class SearchSettings:
    """Everything that shapes the proposals and the pruning of a study."""

    space: SearchSpace
    goals: tuple[Goal, ...]
    seed: int
    sampler: str = "tpe"
    sampler_options: Mapping[str, Any] | None = None
    pruner: str = "none"
    pruner_options: Mapping[str, Any] | None = None
    watched: Goal | None = None  # the metric of pruners for one goal; the first goal by default
    once: frozenset[str] = frozenset()  # the metrics that are measured once per trial
    epochs: int | None = None  # of every trial
    concurrency: int = 1
    deterministic: bool = False
    constraints: tuple[str, ...] = ()  # their names, in the order of a record's violations


def check(settings: SearchSettings) -> None:
    """Refuse what the sampler or the pruner cannot take. Imports no Optuna.

    Raises:
        UnknownName, StudyFileError: a name or an option is wrong, or the space does not fit.
    """
    _samplers(settings)
    judging(settings)


def remarks(settings: SearchSettings) -> list[str]:
    """What is allowed and yet worth a word before a launch."""
    if settings.constraints and settings.sampler not in LEARN_FROM_CONSTRAINTS:
        learn = ", ".join(sorted(LEARN_FROM_CONSTRAINTS))
        return [f"Sampler {settings.sampler!r} does not learn from constraints; {learn} do."]
    return []


def judging(settings: SearchSettings) -> Judging:
    """The judgement of a study, on its own."""
    return Judging(
        settings.pruner,
        settings.pruner_options,
        goals=settings.goals,
        watched=settings.watched,
        once=settings.once,
        epochs=settings.epochs,
        concurrency=settings.concurrency,
        deterministic=settings.deterministic,
    )


class Search:
    """The memory and the judgement of one study.

    Args:
        records: the study's trials so far, with their points, in number order.
        search_state: what the last ``Proposal`` that had any asked to be remembered of the study.
    """

    def __init__(
        self,
        settings: SearchSettings,
        records: Iterable[TrialRecord] = (),
        search_state: Mapping[str, Any] | None = None,
    ) -> None:
        from hpo.search.memory import Memory

        records = list(records)
        self._settings = settings
        self._samplers = _samplers(settings)
        self._judging = judging(settings)
        self._memory = Memory(settings.space, settings.goals, settings.constraints, search_state)
        self._tried = TriedPoints(settings.space)
        self._ended: dict[int, TrialRecord] = {}  # ended, not yet told to the sampler
        self._settled = 0  # all trials below this number have ended
        self._finished: set[int] = set()  # of those from there on, the ones that have
        for record in records:
            self._restore(record, told=record.number < self._horizon(len(records)))

    def may_ask(self, number: int) -> bool:
        """Whether everything that trial ``number`` must see has ended."""
        if not self._settings.deterministic:
            return True
        while self._settled in self._finished:
            self._finished.discard(self._settled)
            self._settled += 1
        return self._settled >= self._horizon(number)

    def is_exhausted(self) -> bool:
        """Whether every point of the space has been tried."""
        return self._tried.are_all

    def propose(self, number: int, fixed: Params | None = None) -> Proposal:
        """The parameters of trial ``number``; those in ``fixed`` are taken as they are.

        A point that has been tried is not proposed again, unless somebody ``fixed`` it.
        """
        self._tell(self._horizon(number))
        self._memory.begin(number, fixed)
        if fixed is not None:
            params = self._memory.draw(number, self._samplers.for_trial(number), fixed)
            self._memory.keep(number, params)
        else:
            params, replaced = self._new_point(number)
            self._memory.keep(number, params, **({REPLACED: replaced} if replaced else {}))
        self._tried.add(params)
        self._judging.begin(number)
        return Proposal(params, self._memory.sampler_state(number), self._memory.changed_state())

    def report(self, number: int, point: Point) -> StopReason | None:
        """Take in a step; the reason to prune the trial now, or None."""
        return self._judging.report(number, point)

    def finished(self, record: TrialRecord) -> None:
        """Take in how a trial ended. An interrupted one has not ended."""
        if not record.state.is_finished:
            return
        self._finished.add(record.number)
        self._ended[record.number] = record
        self._judging.finished(record)
        if not self._settings.deterministic:
            self._tell(record.number + 1)

    def _horizon(self, number: int) -> int:
        """Trials below this number are visible to trial ``number``."""
        return horizon(number, self._settings.concurrency) if self._settings.deterministic else number

    def _tell(self, below: int) -> None:
        """Tell the sampler how the ended trials below a number ended, in number order."""
        for number in sorted(n for n in self._ended if n < below):
            self._memory.tell(self._ended.pop(number))

    def _new_point(self, number: int) -> tuple[Params, int]:
        """A point that has not been tried, and how many proposals were thrown away for it.

        The sampler is asked again with other seeds, then chance; what is left of a finite
        space is listed last. Where even that is too long, the repetition stands.
        """
        for again in range(2 * TRIES):
            sampler = self._samplers.for_trial(number, again) if again < TRIES else self._samplers.chance(number, again)
            params = self._memory.draw(number, sampler)
            if params not in self._tried:
                return params, again
        left = self._tried.untried(derive_seed(self._settings.seed, number, "untried"))
        return (params, 0) if left is None else (left, 2 * TRIES)

    def _restore(self, record: TrialRecord, *, told: bool) -> None:
        """Take in a trial of an earlier launch."""
        ended = record.state.is_finished
        self._memory.restore(record, told=told and ended)
        self._tried.add(record.params)
        self._judging.restore(record)
        if ended:
            self._finished.add(record.number)
            if not told:
                self._ended[record.number] = record


def _samplers(settings: SearchSettings) -> SamplerFactory:
    return SamplerFactory(
        settings.sampler, settings.sampler_options or {}, settings.space, settings.seed, goals=len(settings.goals)
    )
