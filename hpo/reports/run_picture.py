"""One run as one picture: its curves, and what the model says against what is so.

``run_panels`` and ``run_marks`` say what there is to draw, ``draw_run`` draws it.
"""

from __future__ import annotations

import math
import textwrap
import warnings
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hpo.errors import UserError
from hpo.evaluation.groups import split_by_group
from hpo.reports import plots
from hpo.reports.facts import Ending, ending_of
from hpo.reports.looks import ACCENT, LOOKS, MUTED, SERIES, Look, clipped, wants_log
from hpo.reports.predictions import (
    PARTS,
    Agreement,
    Calibration,
    Confusion,
    Predictions,
    agreement,
    calibration,
    confusion,
    load,
)
from hpo.reports.wording import number, with_unit
from hpo.trial import Goal, TrialRecord
from objectives.base import TRAINER_METRICS
from storage.records import SEARCH, EventRecord, Snapshot

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST_METRICS = 3  # panels of metrics besides the loss, unless more are goals
_MOST_DOTS = 4000
_LOSS = ("train_loss", "val_loss")
_UPKEEP = ("lr", "grad_norm", "epoch_memory_mb", "epoch_s")  # drawn last, in this order
_FROM_ZERO = ("epoch_memory_mb", "epoch_s")  # amounts, whose axes begin at 0
_OTHER = SERIES[1]  # what is of neither part of the data
_TITLES = {
    "lr": "learning rate",
    "grad_norm": "gradient norm before clipping",
    "epoch_memory_mb": "memory (MB)",
    "epoch_s": "time of an epoch (s)",
}


@dataclass(frozen=True)
class Line:
    """One curve: ``values`` at the epochs ``steps``; NaN where it was not a number."""

    label: str
    steps: tuple[int, ...]
    values: tuple[float, ...]


@dataclass(frozen=True)
class Panel:
    """Curves that share their axes."""

    title: str
    lines: tuple[Line, ...]
    from_zero: bool = False


@dataclass(frozen=True)
class Marks:
    """What happened when, in epochs. ``stopped`` is None for a run that took all its epochs, or still runs."""

    best: int | None
    recoveries: tuple[int, ...]
    stopped: int | None


def run_panels(run: TrialRecord, goals: Sequence[Goal], monitor: Goal) -> list[Panel]:
    """The curves worth drawing: losses, then main metrics (the monitored one and goals first), then upkeep.

    What is measured once for a trial, or was never finite, has no curve.
    """
    curves = _curves(run)
    panels = []
    losses = [curves[name] for name in _LOSS if name in curves]
    if losses:
        panels.append(Panel("loss", tuple(losses)))
    most = max(_MOST_METRICS, sum(goal.metric in curves for goal in goals))
    drawn = [line.values for line in losses]
    for name in _main_metrics(list(curves), goals, monitor):
        # A task's own name for its loss would be the same picture twice.
        if len(panels) <= most and not any(_same(curves[name].values, values) for values in drawn):
            bare = name.removeprefix("val_")
            pair = [curves[part] for part in dict.fromkeys((f"train_{bare}", name)) if part in curves]
            panels.append(Panel(with_unit(bare), tuple(pair)))
    panels += [Panel(_TITLES[name], (curves[name],), name in _FROM_ZERO) for name in _UPKEEP if name in curves]
    return panels


def run_marks(run: TrialRecord, events: Sequence[EventRecord], series: str) -> Marks:
    """The best epoch, the epochs after which something was recovered from, and where it ended too soon."""
    recovered = {
        int(event.details["epoch"])
        for event in events
        if (event.series, event.number, event.kind) == (series, run.number, "recovery") and "epoch" in event.details
    }
    early = ending_of(run) not in (Ending.COMPLETE, Ending.RUNNING, Ending.QUEUED)
    return Marks(run.best_step, tuple(sorted(recovered)), run.last_step if early and run.last_step else None)


def draw_run(snapshot: Snapshot, run: TrialRecord, series: str, folder: Path) -> bytes:
    """The picture of one run as PNG; ``folder`` is the run's own and may hold its predictions.

    Raises:
        UserError: the run has reported nothing.
    """
    import matplotlib as mpl

    study = snapshot.study
    panels = run_panels(run, study.goals, study.monitor)
    if not panels:
        raise UserError(f"Run {run.number} of {series!r} in {study.name!r} has reported no epoch, so nothing is drawn.")
    marks = run_marks(run, snapshot.events, series)
    drawers = [partial(_draw_curves, panel=panel, run=run, marks=marks) for panel in panels]
    with mpl.rc_context(plots.STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        figure = _canvas([*drawers, *_of_predictions(folder)])
        _head(figure, snapshot, run, series)
        _legend(figure, {line.label for panel in panels for line in panel.lines}, marks, run)
        return plots.png(figure, study.name)


def _curves(run: TrialRecord) -> dict[str, Line]:
    """Every metric that has a curve."""
    names = dict.fromkeys(name for point in run.points for name in point.metrics)
    once = {name for name, metric in TRAINER_METRICS.items() if metric.once}
    found = {}
    for name in names:
        pairs = [(point.step, point.metrics[name]) for point in run.points if name in point.metrics]
        if name not in once and any(math.isfinite(value) for _, value in pairs):
            label = "training" if name.startswith("train_") else "validation" if name.startswith("val_") else name
            found[name] = Line(label, tuple(step for step, _ in pairs), tuple(value for _, value in pairs))
    return found


def _same(some: Sequence[float], others: Sequence[float]) -> bool:
    return len(some) == len(others) and np.allclose(some, others, rtol=1e-5, atol=0, equal_nan=True)


def _main_metrics(names: Sequence[str], goals: Sequence[Goal], monitor: Goal) -> list[str]:
    """Those besides losses and upkeep: the monitored one, goals, then the rest of all rows (no single groups)."""
    known = [*_LOSS, *_UPKEEP, *TRAINER_METRICS]
    first = [name for name in (monitor.metric, *(goal.metric for goal in goals)) if name in names]
    overall, _ = split_by_group([name for name in names if name.startswith("val_")])
    others = [name for name in names if not name.startswith(("val_", "train_"))]
    wanted = dict.fromkeys([*first, *overall, *others])
    return [name for name in wanted if name not in known]


Drawer = Callable[["Axes"], None]


def _of_predictions(folder: Path) -> list[Drawer]:
    """What the predictions have to show: those of the test set, where it was read, else of the validation set."""
    found = next((said for part in PARTS if (said := load(folder, part)) is not None), None)
    if found is None:
        return []
    drawers: list[Drawer] = []
    if (agreed := agreement(found)) is not None:
        drawers.append(partial(_draw_agreement, found=agreed, said=found))
    if (confused := confusion(found)) is not None:
        drawers.append(partial(_draw_confusion, found=confused, said=found))
    if (calibrated := calibration(found)) is not None:
        drawers.append(partial(_draw_coverage, found=calibrated))
        drawers.append(partial(_draw_sigmas, found=calibrated))
    return drawers


def _canvas(drawers: Sequence[Drawer]) -> Figure:
    from matplotlib.figure import Figure

    n = len(drawers)
    columns = min((3, 4), key=lambda columns: -n % columns) if n > 4 else n
    rows = -(-n // columns)
    figure = Figure(figsize=(max(7.5, 4.3 * columns), 1.5 + 3.0 * rows), layout="constrained", facecolor="white")
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.12)  # type: ignore[union-attr, call-arg]
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for ax in axes[len(drawers) :]:
        ax.set_axis_off()
    for ax, draw in zip(axes, drawers, strict=False):
        draw(ax)
    return figure


def _head(figure: Figure, snapshot: Snapshot, run: TrialRecord, series: str) -> None:
    """Which run this is, what it came to and why it ended."""
    what = f"trial {run.number}" if series == SEARCH else f"{series} run {run.number}"
    names = dict.fromkeys([snapshot.study.monitor.metric, *(goal.metric for goal in snapshot.study.goals)])
    told = [f"{name} {number(run.metrics[name])}" for name in names if name in run.metrics]
    epochs = f"epoch {run.best_step} of {run.last_step} is the best" if run.best_step else f"{run.last_step} epochs"
    why = run.reason.message.splitlines()[0] if run.reason and run.reason.message else str(run.state)
    text = " · ".join([*told, epochs, why])
    wide = int(figure.get_figwidth() * 13)
    lines = textwrap.wrap(text, wide)
    if len(lines) > 2:
        lines = [lines[0], lines[1][: wide - 1] + "…"]
    title = textwrap.shorten(f"{snapshot.study.name}, {what}", 90, placeholder="…")
    left = 0.12 / figure.get_figwidth()
    # Room for what follows is made by empty lines, as constrained layout knows one title only.
    figure.suptitle(title + "\n" * len(lines), x=left, ha="left", size=12, weight="bold", linespacing=1.2)
    below = 1 - 0.36 / figure.get_figheight()
    figure.text(left, below, "\n".join(lines), ha="left", va="top", size=10, color="#5b6572", linespacing=1.35)


def _legend(figure: Figure, labels: Collection[str], marks: Marks, run: TrialRecord) -> None:
    """What the lines and marks in the curves mean, once, below everything."""
    from matplotlib.lines import Line2D

    handles = []
    if "training" in labels:
        handles.append(Line2D([], [], color=MUTED.colour, lw=1.6, ls="--", label="training"))
    if "validation" in labels:
        handles.append(Line2D([], [], color=SERIES[0].colour, lw=2, label="validation"))
    if marks.best is not None:
        label = f"best epoch, {marks.best}"
        handles.append(Line2D([], [], color=ACCENT.colour, lw=1.2, ls=":", marker="*", ms=11, mec="white", label=label))
    if marks.recoveries:
        failed = LOOKS[Ending.FAILED]
        handles.append(Line2D([], [], color=failed.colour, lw=1.2, ls="-.", label="went back here to recover"))
    if marks.stopped is not None:
        ending = ending_of(run)
        handles.append(Line2D([], [], color=LOOKS[ending].colour, lw=1.6, label=f"{ending.value}, {marks.stopped}"))
    if handles:
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=9.5)


def _draw_curves(ax: Axes, panel: Panel, run: TrialRecord, marks: Marks) -> None:
    values = [value for line in panel.lines for value in line.values if math.isfinite(value)]
    for line in panel.lines:
        training = line.label == "training"
        look: Look = MUTED if training else SERIES[0] if line.label == "validation" else _OTHER
        ax.plot(line.steps, line.values, color=look.colour, ls="--" if training else "-", lw=1.6 if training else 2,
                marker="o" if len(line.steps) < 3 else "", ms=5)  # fmt: skip
    _mark(ax, panel, run, marks)
    if panel.from_zero:
        ax.set_ylim(0, 1.1 * max(values) or 1.0)
    elif wants_log(values):
        plots.log_scale(ax, "y")
    elif ends := clipped(values):
        ax.set_ylim(*ends)
    elif np.ptp(values) <= 1e-9 * abs(values[0]):  # a flat line: an axis that shows it as flat
        ax.set_ylim(*sorted((values[0] * 0.8, values[0] * 1.2 or 1.0)))
    last = max(max(line.steps) for line in panel.lines)
    ax.set_xlim(0.5, last + 0.5) if last < 12 else ax.set_xlim(1 - 0.02 * last, 1.02 * last)
    ax.set_title(plots.shortened(panel.title, 40), fontsize=10.5)
    ax.set_xlabel("epoch")
    if last < 12:
        ax.set_xticks(range(1, last + 1))
    else:
        ax.locator_params(axis="x", integer=True, nbins=8)


def _mark(ax: Axes, panel: Panel, run: TrialRecord, marks: Marks) -> None:
    for epoch in marks.recoveries:
        ax.axvline(epoch + 0.5, color=LOOKS[Ending.FAILED].colour, lw=1.2, ls="-.", alpha=0.8)
    if marks.stopped is not None:
        ax.axvline(marks.stopped, color=LOOKS[ending_of(run)].colour, lw=1.6, alpha=0.8)
    if marks.best is None:
        return
    ax.axvline(marks.best, color=ACCENT.colour, lw=1.2, ls=":", zorder=1)
    at = dict(zip(panel.lines[-1].steps, panel.lines[-1].values, strict=True))
    if panel.lines[-1].label == "validation" and marks.best in at:
        ax.plot([marks.best], [at[marks.best]], marker=ACCENT.marker, ms=13, color=ACCENT.colour, mec="white", zorder=5)


def _draw_agreement(ax: Axes, found: Agreement, said: Predictions) -> None:
    """Predicted against actual with the identity line; evenly thinned where there are thousands."""
    step = -(-len(found.actual) // _MOST_DOTS)
    few = len(found.actual) // step < 1000
    ax.scatter(found.actual[::step], found.predicted[::step], s=14 if few else 7, color=SERIES[0].colour,
               alpha=0.55 if few else 0.25, linewidths=0)  # fmt: skip
    low, high = min(found.actual.min(), found.predicted.min()), max(found.actual.max(), found.predicted.max())
    margin = 0.04 * (high - low) or 1.0
    ends = (low - margin, high + margin)
    ax.plot(ends, ends, color=MUTED.colour, lw=1.2, zorder=1)
    ax.set_xlim(*ends)
    ax.set_ylim(*ends)
    ax.set_aspect("equal", adjustable="box")
    r = "" if math.isnan(found.r) else f"r {found.r:.3f}, "
    ax.set_title(f"{said.part} set: {r}RMSE {number(found.rmse)}", fontsize=10.5)
    ax.set_xlabel("actual")
    ax.set_ylabel("predicted")
    for axis in ("x", "y"):
        ax.locator_params(axis=axis, nbins=5)


def _draw_confusion(ax: Axes, found: Confusion, said: Predictions) -> None:
    """Of each actual class, how much went where; counts are written in where they can be read."""
    from matplotlib.colors import LinearSegmentedColormap

    n = len(found.counts)
    colours = LinearSegmentedColormap.from_list("share", ["white", SERIES[0].colour])
    ax.imshow(found.shares, cmap=colours, vmin=0, vmax=1, aspect="equal", interpolation="nearest")
    if n <= 12:
        for row, column in np.argwhere(found.counts > 0):
            dark = found.shares[row, column] > 0.5
            size = 9 if n <= 6 else 7.5 if n <= 10 else 6.5
            ax.text(column, row, str(found.counts[row, column]), ha="center", va="center", fontsize=size,
                    color="white" if dark else "#3a4350")  # fmt: skip
        ax.set_xticks(range(n))
        ax.set_yticks(range(n))
    ax.grid(visible=False)
    ax.spines[:].set_visible(True)
    ax.set_title(f"{said.part} set: accuracy {found.accuracy:.3f}", fontsize=10.5)
    ax.set_xlabel("predicted class")
    ax.set_ylabel("actual class")


def _draw_coverage(ax: Axes, found: Calibration) -> None:
    ax.plot([0, 1], [0, 1], color=MUTED.colour, lw=1.2)
    ax.plot(found.expected, found.observed, color=SERIES[0].colour, lw=2, marker="o", ms=4)
    ax.set_xlim(0, 1)
    ax.set_ylim(0, 1)
    ax.set_aspect("equal", adjustable="box")
    ax.set_title("intervals: expected and observed", fontsize=10.5)
    ax.set_xlabel("expected share inside")
    ax.set_ylabel("observed share inside")


def _draw_sigmas(ax: Axes, found: Calibration) -> None:
    both: Any = np.concatenate([found.sigma, found.error])
    ends = (0.0, float(both.max()) * 1.08 or 1.0)
    ax.plot(ends, ends, color=MUTED.colour, lw=1.2)
    ax.plot(found.sigma, found.error, color=SERIES[0].colour, lw=2, marker="o", ms=4)
    ax.set_xlim(*ends)
    ax.set_ylim(*ends)
    ax.set_aspect("equal", adjustable="box")
    ax.set_title("predicted σ and the error there", fontsize=10.5)
    ax.set_xlabel("mean predicted σ")
    ax.set_ylabel("RMSE")
    for axis in ("x", "y"):
        ax.locator_params(axis=axis, nbins=5)
