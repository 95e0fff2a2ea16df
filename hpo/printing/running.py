"""What ``hpo stop`` and ``hpo rerun`` print."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hpo.printing.tables import print_json

if TYPE_CHECKING:
    from hpo.service import Rerun, Stopping
    from hpo.trial import TrialRecord


def stop_words(stopping: Stopping) -> str:
    """One line: what was asked of whom, or that it has come to its end."""
    if stopping.has_ended:
        return f"Study {stopping.study} is no longer run by {stopping.where}."
    left = "what runs is left to its end" if stopping.wish == "drain" else "what runs stops with a checkpoint"
    return f"Asked {stopping.where} to stop study {stopping.study}: nothing more is started, {left}."


def show_stopping(stopping: Stopping, as_json: bool) -> None:
    if as_json:
        print_json({name: getattr(stopping, name) for name in ("study", "where", "wish", "has_ended")})
    elif stopping.has_ended:
        print(stop_words(stopping))


def show_rerun(rerun: Rerun, as_json: bool) -> None:
    """Whether a trial repeated itself, and where it first did not."""
    found = rerun.difference
    if as_json:
        print_json(
            {
                "study": rerun.study,
                "trial": rerun.trial.number,
                "rerun": rerun.again.number,
                "same": rerun.is_same,
                "first_difference": found,
                "compared": rerun.compared,
                "left_out": rerun.left_out,
            }
        )
        return
    print(
        f"Trial {rerun.trial.number} of {rerun.study}, again with seed {rerun.trial.seed}: rerun {rerun.again.number}."
    )
    if found is None:
        of = f" of {', '.join(rerun.compared)}" if rerun.compared else ""
        print(f"  The same bit for bit: {_steps(rerun.trial)}{of}.")
    else:
        where = "measured once" if found.step is None else f"step {found.step}"
        print(f"  It differs first at {where}: {found.metric} was {_exact(found.was)} and is {_exact(found.now)} now.")
    if rerun.left_out:
        print(f"  Left out, because they depend on the clock: {', '.join(rerun.left_out)}.")
    if rerun.trial.reason != rerun.again.reason:
        for which, record in (("then", rerun.trial), ("now", rerun.again)):
            print(f"  It ended {which}: {record.reason.message if record.reason else 'no reason was kept'}")


def _steps(trial: TrialRecord) -> str:
    steps = len(trial.points)
    return f"{steps} step{'' if steps == 1 else 's'}"


def _exact(value: float | None) -> str:
    return "absent" if value is None else repr(value)
