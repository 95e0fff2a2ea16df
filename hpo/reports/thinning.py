"""Which of many trials are drawn: all that matter, and an even selection of the rest.

A browser draws some thousand marks at once and no more; what is left out is always said beside the figure.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TypeVar

import numpy as np

from hpo.trial import TrialRecord

Item = TypeVar("Item")

MARKS = 1000  # of one kind in one figure
CURVES = 300  # of one ending
LINES = 1500  # of the parallel coordinates


def evenly(items: Sequence[Item], most: int) -> list[Item]:
    """At most so many of ``items``, spread evenly over their order, the first and the last among them."""
    if len(items) <= most:
        return list(items)
    return [items[i] for i in np.unique(np.linspace(0, len(items) - 1, most).astype(int))]


def thinned(trials: Sequence[TrialRecord], most: int, keep: Collection[int] = ()) -> list[TrialRecord]:
    """At most so many trials, in their order: those whose numbers are to be kept, and an even selection of the rest."""
    if len(trials) <= most:
        return list(trials)
    rest = [trial for trial in trials if trial.number not in keep]
    chosen = {trial.number for trial in evenly(rest, max(0, most - (len(trials) - len(rest))))}
    return [trial for trial in trials if trial.number in keep or trial.number in chosen]
