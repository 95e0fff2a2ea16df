"""A search while it runs: ask · report · finish · resume."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from hpo.failures import Streak
from hpo.plan import Plan
from hpo.roles import Listener, SearchRole, StoppingRole, Store
from hpo.study.source import Source
from hpo.trial import (
    Done,
    Job,
    Outcome,
    Point,
    StopKind,
    StopReason,
    TrialRecord,
    Wait,
    derive_seed,
)


class Study(Source):
    """A search: trials come from ``search`` until the budget is spent.

    ``over`` is why it ended before that; None while it has not.
    """

    over: str | None = None

    def __init__(
        self,
        plan: Plan,
        store: Store,
        folder: str,
        make_search: Callable[[Sequence[TrialRecord]], SearchRole],
        listeners: Sequence[Listener] = (),
        stopping: StoppingRole | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(plan, store, folder, "search", listeners)
        self._clock = clock
        self._deadline = clock() + plan.spec.budget.timeout if plan.spec.budget.timeout else None
        records = self.resume()
        self._next = len(records)
        # Points once enqueued stay in their order, so those appended later come next.
        self._enqueued = sum(record.enqueued for record in records)
        self._search = make_search(records)
        self._stopping = stopping
        if stopping is not None:
            for record in sorted(records, key=lambda record: record.finished_at or ""):  # in the order they ended
                stopping.finished(record)
        self._judge_the_dead()

    def ask(self) -> Job | Wait | Done:
        """The next job; Wait while others must report first; Done when none will come."""
        if asked := self._asked_to_stop():
            return asked
        if len(self._running) >= self._plan.spec.concurrency:
            return Wait("as many trials as the study's concurrency are running")
        if self._queued:
            return self._again()
        if spent := self._budget_spent():
            return Done(spent)
        if not self._search.may_ask(self._next):
            return Wait("deterministic: an earlier trial must end first")
        # Only now: what these look at must have ended, or the end would depend on who was faster.
        self.over = self._why_over()
        if self.over is not None:
            return Done(self.over)
        return self._new()

    def _budget_spent(self) -> str | None:
        budget = self._plan.spec.budget
        if budget.trials is not None and self._next >= budget.trials:
            return f"all {budget.trials} trials have been started"
        if self._deadline is not None and self._clock() >= self._deadline:
            return f"the time limit of {budget.timeout:g} s has passed"
        return None

    def _why_over(self) -> str | None:
        """Why the trials so far are a reason to start no other."""
        if self._enqueued >= len(self._plan.first_points) and self._search.is_exhausted():
            return "every point of the space has been tried"
        if spent := self._streak.spent(self._next):
            return spent
        return self._stopping.spent(self._next) if self._stopping else None

    def _new_streak(self) -> Streak:
        usual = super()._new_streak()
        return usual if not self._is_deterministic else Streak(usual.limit, self._plan.spec.concurrency)

    def _new(self) -> Job:
        number, spec, first = self._next, self._plan.spec, self._plan.first_points
        fixed = first[self._enqueued] if self._enqueued < len(first) else None
        proposal = self._search.propose(number, fixed)
        record = self._store.start(
            number, proposal.params, seed=derive_seed(spec.seed, number, "trial"), epochs=spec.budget.epochs,
            enqueued=fixed is not None, sampler_state=proposal.sampler_state, search_state=proposal.search_state,
        )  # fmt: skip
        self._next += 1
        self._enqueued += fixed is not None
        return self._run(record, self._job(record))

    def _judge(self, number: int, point: Point) -> StopReason | None:
        return self._search.report(number, point)

    def _judge_the_dead(self) -> None:
        """A process may die between keeping a step and judging it; what was to be pruned there does not go on."""
        for record in [r for r in self._queued if r.points and r.reason and r.reason.kind is StopKind.LOST]:
            stop = self._search.report(record.number, record.points[-1])
            if stop is not None:
                self._queued.remove(record)
                self._run(record, self._job(record, resume=True))
                self.finish(record.number, Outcome(stop))

    def _ended(self, record: TrialRecord) -> None:
        super()._ended(record)
        self._search.finished(record)
        if self._stopping is not None:
            self._stopping.finished(record)
