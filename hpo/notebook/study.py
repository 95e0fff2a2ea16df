"""A stored study as Python and notebooks see it: frames, figures, the best trial, notes."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from hpo import choice, service
from hpo.choice import Policy
from hpo.errors import UserError
from hpo.notebook import display, frames
from hpo.pareto import ParetoFront
from hpo.reports import figures, fronts, slices
from hpo.reports.facts import Facts
from hpo.reports.figures import Figure
from hpo.reports.importance import importances
from hpo.reports.standalone import standalone
from hpo.reports.timeline import timeline
from hpo.spec import StudySpec
from hpo.terminal import DEFAULT_STORAGE
from hpo.trial import Metrics, Params

if TYPE_CHECKING:
    from pandas import DataFrame

    from hpo.reports.standalone import PlotlyFigure
    from storage.records import Snapshot


def default_storage() -> str:
    """The database that is meant where none is named: ``HPO_STORAGE``, else ``sqlite:///hpo.db``."""
    return os.environ.get("HPO_STORAGE", DEFAULT_STORAGE)


def open_study(name: str, *, storage: str | None = None) -> StudyView:
    """A study that is stored.

    Args:
        storage: the database's URL; by default ``HPO_STORAGE``, else ``sqlite:///hpo.db``.

    Raises:
        UserError: there is no such database, or no such study in it.
    """
    url = storage or default_storage()
    service.snapshot(url, name, curves=False)
    return StudyView(name, url)


def studies(*, storage: str | None = None) -> DataFrame:
    """Every study of a database, the oldest first, a row each: docs/notebook.md has the columns.

    Raises:
        UserError: there is no such database.
    """
    return frames.studies(service.summaries(storage or default_storage()))


@dataclass(frozen=True)
class BestTrial:
    """The trial that a policy picks.

    ``values`` are by goal, as the search saw them. ``confirmed`` are the means of its runs with fresh seeds, by
    goal; None where it was not confirmed. ``metrics`` are those of its best step, and what was measured once.
    """

    number: int
    params: Params
    values: Metrics
    confirmed: Metrics | None
    best_step: int | None
    metrics: Metrics = field(repr=False)

    def _repr_html_(self) -> str:
        return display.best_html(self.number, self.params, self.values, self.confirmed)


class StudyView:
    """A stored study. Each call reads the database anew, so a study that runs elsewhere is seen as it is now.

    Every method raises ``UserError`` when the database or the study is gone.
    """

    def __init__(self, name: str, storage: str) -> None:
        self.name = name
        self._storage = storage

    def trials(self) -> DataFrame:
        """Every trial of the search, a row each, in number order: docs/notebook.md has the columns."""
        return frames.trials(Facts(self._read(curves=False)))

    def curves(self) -> DataFrame:
        """Every metric of every reported step, a row per trial and step: docs/notebook.md has the columns."""
        return frames.curves(Facts(self._read()))

    def front(self) -> DataFrame:
        """The trials that no other is better than in every goal (with one goal: the best), as ``trials`` has them."""
        return frames.trials(Facts(self._read(curves=False)), only_front=True)

    def best(self, pick: Policy | None = None, where: str | Sequence[str] = ()) -> BestTrial:
        """The trial that ``hpo best`` names.

        Args:
            pick: ``knee``, a goal's metric, or weights by metric; by default the study file's ``retrain.pick``.
            where: comparisons that must hold, such as ``"latency_ms < 5"``.

        Raises:
            UserError: no trial is left, or the policy or a comparison is wrong.
        """
        wanted = [where] if isinstance(where, str) else list(where)
        found, chosen = service.choose(self._storage, self.name, pick=pick, where=wanted)
        trial = service.get_trial(found, chosen.number)
        goals = [goal.metric for goal in found.study.goals]
        spreads = chosen.luck.spreads[chosen.number] if chosen.luck else None
        return BestTrial(
            number=trial.number,
            params=trial.params,
            values=dict(zip(goals, trial.values or (), strict=True)),
            confirmed=None if spreads is None else {name: spreads[name].mean for name in goals if name in spreads},
            best_step=trial.best_step,
            metrics=trial.metrics,
        )

    def plot_front(self, view: str | None = None) -> PlotlyFigure:
        """The front. As in every figure with several views, ``view`` is one's name, or its first words.

        Raises:
            UnknownName: there is no such view, here as in the other figures; the message lists them.
        """
        return self._plot(fronts.front, view, "There is one goal, so there is no front: best() gives its best trial.")

    def plot_history(self, view: str | None = None) -> PlotlyFigure:
        """The best so far, of several goals also the hypervolume, against trials, epochs or time."""
        return self._plot(lambda facts: [figures.history(facts)], view)

    def plot_curves(self, view: str | None = None) -> PlotlyFigure:
        """Learning curves, of the monitored metric or another."""
        return self._plot(lambda facts: [figures.curves(facts)], view)

    def plot_importance(self) -> PlotlyFigure:
        """Which parameters mattered, for each goal."""
        return self._plot(lambda facts: [figures.importance(facts, importances(facts))])

    def plot_slices(self, view: str | None = None) -> PlotlyFigure:
        """Every completed trial over one parameter, the most important or another, for one goal."""
        return self._plot(lambda facts: slices.slices(facts, importances(facts)), view)

    def plot_parallel(self) -> PlotlyFigure:
        """Parameters and goals side by side, a line per completed trial."""
        return self._plot(lambda facts: [fronts.parallel(facts)])

    def plot_timeline(self) -> PlotlyFigure:
        """Who worked when, and how each trial ended."""
        return self._plot(lambda facts: [figures.timeline(facts, timeline(facts))])

    def report(self, path: str | Path | None = None) -> Path:
        """Write the report into a folder, ``reports/NAME`` by default; where its page lies.

        Raises:
            UserError: the folder cannot be written to.
        """
        return service.report(self._storage, self.name, Path(path or Path("reports") / self.name))[0]

    def note(self, text: str | None = None, *, trial: int | None = None, replace: bool = False) -> str:
        """Add ``text`` (Markdown) to the note of the study, or of a trial of its search; the note as it is then.

        Without a text nothing is added. ``replace`` takes the place of what was there.

        Raises:
            UserError: no such trial, a control character, or more than 64 kB.
        """
        return service.annotate(self._storage, self.name, text, trial=trial, replace=replace)

    def tag(self, *words: str, trial: int | None = None, remove: bool = False) -> tuple[str, ...]:
        """Give tags to the study, or to a trial of its search, or take them away; the tags as they are then.

        Raises:
            UserError: no such trial, no tag that can be kept, or one to be removed that is not there.
        """
        return service.tag(self._storage, self.name, words, trial=trial, remove=remove)

    @property
    def tags(self) -> tuple[str, ...]:
        """The study's tags."""
        return self.tag()

    def __repr__(self) -> str:
        try:
            return display.text(self._facts(curves=False))
        except UserError as error:
            return f"StudyView({self.name!r}): {error}"

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        try:
            facts = self._facts(curves=False)
        except UserError as error:
            return {"text/plain": f"StudyView({self.name!r}): {error}"}
        return {"text/plain": display.text(facts), "text/html": display.html(facts)}

    def _read(self, *, curves: bool = True) -> Snapshot:
        return service.snapshot(self._storage, self.name, curves=curves)

    def _facts(self, *, curves: bool = True) -> Facts:
        """With the trial that is recommended, as the report has it."""
        found = self._read(curves=curves)
        return Facts(found, _chosen(found))

    def _plot(
        self, draw: Callable[[Facts], Sequence[Figure]], view: str | None = None, nothing: str = ""
    ) -> PlotlyFigure:
        return standalone(draw(self._facts()) or [Figure("none", nothing)], view)


def _chosen(found: Snapshot) -> int | None:
    """The recommended trial; None before one has completed."""
    if not len(ParetoFront.of(found.trials, found.study.goals)):
        return None
    return choice.choose(found, StudySpec.parse(found.study.spec_yaml, found.study.name)).number
