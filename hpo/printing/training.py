"""What ``hpo train`` prints at its end."""

from __future__ import annotations

from hpo.printing.tables import cell, first_line, params_text, print_json
from hpo.reports.wording import duration
from hpo.service.training import Trained
from hpo.trial import StopReason, TrialState


def show_trained(trained: Trained, again: str, options: str, as_json: bool) -> None:
    """The run's values, best epoch, why it stopped, how long it took, and where its checkpoints lie.

    ``again``: the command that goes on with it. ``options``: what further commands need to
    find it, such as its ``--storage``.
    """
    trial, goals = trained.trial, trained.snapshot.study.goals
    if as_json:
        print_json(_plain(trained))
        return
    if trial is None:
        print(f"Run {trained.name} was interrupted before it began. Begin with: {again}")
        return
    if trained.assumed:
        print(f"Nobody gave a value for {params_text(trained.assumed)}: the middle of each range.")
    print(f"Run {trained.name}: {_stopped(trial.reason)}.")
    if trial.state is TrialState.COMPLETE:
        values = ", ".join(f"{goal.metric} {cell(trial.metrics.get(goal.metric))}" for goal in goals)
        print(f"  {values}, best at epoch {trial.best_step} of {trial.last_step}, after {duration(trained.seconds)}")
    print(f"  checkpoints: {trained.folder}")
    study = f"{trained.name} {options}".rstrip()
    if trial.state is TrialState.QUEUED:
        print(f"Interrupted; nothing is lost. Go on with: {again}")
    elif trained.failed:
        print(f"Next: hpo show {study}")
    else:
        print("Next: " + " · ".join(f"hpo {verb} {study}" for verb in ("plot-run", "report", "retrain")))


def _stopped(reason: StopReason | None) -> str:
    return "running" if reason is None else first_line(reason.message).rstrip(".")


def _plain(trained: Trained) -> dict[str, object]:
    trial = trained.trial
    goals = [goal.metric for goal in trained.snapshot.study.goals]
    return {
        "study": trained.name,
        "how": trained.how,
        "state": trial and str(trial.state),
        "values": {} if trial is None else {name: trial.metrics.get(name) for name in goals},
        "metrics": {} if trial is None else trial.metrics,
        "params": {} if trial is None else trial.params,
        "assumed": list(trained.assumed),
        "best_epoch": trial and trial.best_step,
        "epochs": trial and trial.last_step,
        "why_it_stopped": trial.reason.message if trial and trial.reason else None,
        "seconds": trained.seconds,
        "folder": str(trained.folder),
    }
