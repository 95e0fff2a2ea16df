"""What ``hpo watch`` and ``hpo logs`` print."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hpo.printing.tables import print_json, show
from hpo.trial import TrialState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hpo.service import Happening, Watched


def watch_begun(watched: Watched) -> str:
    """Who runs a study, and how far it is."""
    return f"Study {watched.study} is run by {watched.where} since {_time(watched.at)} UTC; {_trials(watched)}."


def watch_over(watched: Watched) -> str:
    """How the newest launch ended, and what to do about it."""
    if watched.where is None:
        return f"Study {watched.study} has not been launched; hpo launch STUDY.yaml runs it."
    if watched.how is None:
        how = f"{watched.where} died without a word"
    elif watched.how in ("done", "interrupted", "stopped"):
        word = "stopped by hpo stop" if watched.how == "stopped" else watched.how
        how = f"the launch was {word} at {_time(watched.at)} UTC"
    else:
        how = f"the launch {watched.how} at {_time(watched.at)} UTC"
    again = "" if watched.how == "done" else " hpo launch goes on with it."
    said = f"Study {watched.study} is not being run{' any more' if watched.was_running else ''}"
    return f"{said}: {how}; {_trials(watched)}.{again}"


def show_happenings(happenings: Sequence[Happening], as_json: bool) -> None:
    """What happened in a study, the oldest first."""
    if as_json:
        print_json(happenings)
        return
    show([{"at": it.at[:19], "where": it.where, "what": it.kind, "message": it.message} for it in happenings])


def _trials(watched: Watched) -> str:
    ended = sum(n for state, n in watched.counts.items() if state.is_finished)
    of = "" if watched.total is None else f" of {watched.total}"
    failed = watched.counts.get(TrialState.FAIL, 0)
    return f"{ended}{of} trials have ended" + (f", {failed} of them failed" if failed else "")


def _time(at: str | None) -> str:
    return (at or "")[:19].replace("T", " ")
