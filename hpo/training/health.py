"""What a healthy run looks like, as data: named rules over the history of one trial. No torch here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Rule:
    """``measure(metric)`` compared with ``threshold``; once it holds, ``message`` is said.

    ``measure`` is one of ``MEASURES``. ``good`` marks what one hopes for (converged) and not
    a warning. ``remedy`` is the usual answer, for the guide and the report.
    """

    name: str
    measure: str
    metric: str
    comparison: Literal["<", ">"]
    threshold: float
    message: str
    remedy: str = ""
    good: bool = False
