"""What the sampler and the pruner see: an in-memory Optuna study kept from the store's records.

It is rebuilt at the start and then fed trial by trial. In a deterministic study trial *n*
sees only how trials up to *n - concurrency* ended, told in number order, whatever order
they ended in; so any number of workers, and any restart, gives the same proposals.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hpo.search import pruners
from hpo.search.distributions import distribution
from hpo.search.samplers import SamplerFactory
from hpo.trial import Goal, Params, Point, StopKind, StopReason, TrialRecord, TrialState
from search_spaces import Choice, Int, SearchSpace

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial, Trial


@dataclass(frozen=True)
class Proposal:
    """A new trial's parameters, with what the sampler wants remembered of it and of the study."""

    params: Params
    sampler_state: dict[str, Any]
    search_state: dict[str, Any]


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
    watched: Goal | None = None  # the metric the pruner watches; the first goal by default
    concurrency: int = 1
    deterministic: bool = False


def check(settings: SearchSettings) -> None:
    """Refuse what the sampler or the pruner cannot take. Imports no Optuna.

    Raises:
        UnknownName, StudyFileError: a name or an option is wrong, or the space does not fit.
    """
    SamplerFactory(settings.sampler, settings.sampler_options or {}, settings.space, settings.seed)
    pruners.build(settings.pruner, settings.pruner_options or {}, settings.watched or settings.goals[0])


class Search:
    """The memory and the judgement of one study.

    Args:
        records: the study's trials so far, with their points, in number order.
        search_state: what the last ``Proposal`` asked to be remembered of the study.
    """

    def __init__(
        self,
        settings: SearchSettings,
        records: Iterable[TrialRecord] = (),
        search_state: Mapping[str, Any] | None = None,
    ) -> None:
        import optuna
        from optuna.study import StudyDirection

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._settings = settings
        self._samplers = SamplerFactory(settings.sampler, settings.sampler_options or {}, settings.space, settings.seed)
        self._watched = settings.watched or settings.goals[0]
        self._judge = pruners.build(settings.pruner, settings.pruner_options or {}, self._watched)
        self._study = optuna.create_study(
            storage=optuna.storages.InMemoryStorage(),
            directions=[StudyDirection[goal.direction.name] for goal in settings.goals],
        )
        self._storage = self._study._storage
        self._ended: dict[int, TrialRecord] = {}  # ended, not yet told to the sampler
        self._curves: dict[int, FrozenTrial] = {}  # the watched curve of every trial
        self._settled = 0  # all trials below this number have ended
        self._finished: set[int] = set()  # of those from there on, the ones that have
        for key, value in (search_state or {}).items():
            self._storage.set_study_system_attr(self._study._study_id, key, value)
        for record in records:
            self._restore(record)

    def may_ask(self, number: int) -> bool:
        """Whether everything that trial ``number`` must see has ended."""
        if not self._settings.deterministic:
            return True
        while self._settled in self._finished:
            self._finished.discard(self._settled)
            self._settled += 1
        return self._settled >= self._horizon(number)

    def is_exhausted(self, number: int, enqueued: int = 0) -> bool:
        """Whether the sampler has no point left for trial ``number`` (a grid that is through)."""
        return self._samplers.limit is not None and number - enqueued >= self._samplers.limit

    def propose(self, number: int, fixed: Params | None = None) -> Proposal:
        """The parameters of trial ``number``; those in ``fixed`` are taken as they are."""
        self._tell(self._horizon(number))
        self._study.sampler = self._samplers.for_trial(number)
        if fixed is not None:
            self._study.enqueue_trial(fixed)
        trial = self._study.ask()
        if trial.number != number:
            raise RuntimeError(f"The sampler's view is at trial {trial.number}, the study at {number}.")
        params: Params = {}
        for name, parameter in self._settings.space.items():
            if self._settings.space.is_active(name, params):
                params[name] = _suggest(trial, name, parameter)
        self._curves[number] = self._curve(number)
        study_id = self._study._study_id
        return Proposal(
            params,
            dict(self._storage.get_trial_system_attrs(trial._trial_id)),
            dict(self._storage.get_study_system_attrs(study_id)),
        )

    def report(self, number: int, point: Point) -> StopReason | None:
        """Take in a step; the reason to prune the trial now, or None."""
        curve = self._curves[number]
        if curve.last_step is not None and point.step <= curve.last_step:
            # A new attempt began before the dead one's last step: that never happened.
            for step in [step for step in curve.intermediate_values if step >= point.step]:
                del curve.intermediate_values[step]
        if self._watched.metric not in point.metrics:
            return None
        curve.intermediate_values[point.step] = point.metrics[self._watched.metric]
        why = self._judge(curve, self._others(number))
        return StopReason(StopKind.PRUNED, f"pruned at step {point.step}: {why}") if why else None

    def finished(self, record: TrialRecord) -> None:
        """Take in how a trial ended. An interrupted one has not ended."""
        if not record.state.is_finished:
            return
        self._finished.add(record.number)
        self._ended[record.number] = record
        self._curves[record.number].state = _optuna_state(record.state)
        if not self._settings.deterministic:
            self._tell(record.number + 1)

    def _horizon(self, number: int) -> int:
        """Trials below this number are visible to trial ``number``."""
        return number - self._settings.concurrency + 1 if self._settings.deterministic else number

    def _others(self, number: int) -> list[FrozenTrial]:
        from optuna.trial import TrialState as OptunaState

        visible = self._curves.items()
        if self._settings.deterministic:
            horizon = self._horizon(number)
            return [t for n, t in visible if n < horizon and t.state is OptunaState.COMPLETE]
        return [t for _, t in visible if t.state is OptunaState.COMPLETE]

    def _tell(self, below: int) -> None:
        """Tell the sampler how the ended trials below a number ended, in number order."""
        for number in sorted(n for n in self._ended if n < below):
            record = self._ended.pop(number)
            if len(self._settings.goals) == 1:
                # TPE ranks pruned trials by their curve; with several goals it would crash on one.
                for step, value in self._goal_curve(record).items():
                    self._storage.set_trial_intermediate_value(number, step, value)
            self._storage.set_trial_state_values(number, _optuna_state(record.state), record.values)

    def _goal_curve(self, record: TrialRecord) -> dict[int, float]:
        metric = self._settings.goals[0].metric
        return {p.step: p.metrics[metric] for p in record.points if metric in p.metrics}

    def _restore(self, record: TrialRecord) -> None:
        from optuna.trial import create_trial

        distributions = {name: distribution(self._settings.space[name]) for name in record.params}
        template = create_trial(
            state=_optuna_state(TrialState.RUNNING),
            params=record.params,
            distributions=distributions,
            system_attrs=record.sampler_state,
        )
        created = self._storage.create_new_trial(self._study._study_id, template_trial=template)
        if created != record.number:
            raise RuntimeError(f"Trial {record.number} is stored where trial {created} was expected.")
        self._curves[record.number] = self._curve(record.number)
        for point in record.points:
            if self._watched.metric in point.metrics:
                self._curves[record.number].intermediate_values[point.step] = point.metrics[self._watched.metric]
        self.finished(record)

    def _curve(self, number: int) -> FrozenTrial:
        from optuna.trial import FrozenTrial

        return FrozenTrial(
            number=number, trial_id=number, state=_optuna_state(TrialState.RUNNING), value=None, params={},
            distributions={}, user_attrs={}, system_attrs={}, intermediate_values={}, datetime_start=None,
            datetime_complete=None,
        )  # fmt: skip


def _suggest(trial: Trial, name: str, parameter: Any) -> Any:
    if isinstance(parameter, Choice):
        return trial.suggest_categorical(name, parameter.choices)
    if isinstance(parameter, Int):
        return trial.suggest_int(name, parameter.low, parameter.high, step=parameter.step, log=parameter.log)
    value = trial.suggest_float(name, parameter.low, parameter.high, step=parameter.step, log=parameter.log)
    # A grid's last value may be past the bound by rounding.
    return min(max(value, parameter.low), parameter.high)


def _optuna_state(state: TrialState) -> Any:
    from optuna.trial import TrialState as OptunaState

    name = "RUNNING" if state is TrialState.QUEUED else state.name
    return OptunaState[name]
