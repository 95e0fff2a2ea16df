"""Comparisons as people type them: ``latency_ms < 5``."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from hpo.errors import UnknownName, UserError
from hpo.trial import TrialRecord

_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
    "==": operator.eq,
    "!=": operator.ne,
}
_NONE = ("none", "null")
_FORM = re.compile(r"\s*([\w.\-]+)\s*(<=|>=|==|!=|<|>)\s*(\S+)\s*")


@dataclass(frozen=True)
class Comparison:
    """One metric or parameter held against a value."""

    name: str
    operator: str
    value: float | str

    @classmethod
    def parse(cls, text: str) -> Comparison:
        """The comparison that ``text`` spells out.

        Raises:
            UserError: it is none, or orders something that is no number.
        """
        match = _FORM.fullmatch(text)
        if not match:
            raise UserError(f"{text!r} is no comparison; write NAME OPERATOR VALUE, such as 'latency_ms < 5'.")
        name, symbol, right = match.groups()
        try:
            value: float | str = float(right)
        except ValueError:
            value = right.strip("'\"")
        if isinstance(value, str) and symbol not in ("==", "!="):
            raise UserError(f"{text!r} orders by {right!r}, which is no number.")
        return cls(name, symbol, value)

    def holds(self, trial: TrialRecord) -> bool:
        """Whether the trial's metric (or parameter) compares as asked; False where it has none.

        ``true``, ``false`` and ``none`` (or ``null``) may be written in any case.
        """
        values = {**trial.params, **trial.metrics}
        if self.name not in values:
            return False
        found = values[self.name]
        if found is None:  # a value that a choice may take, not the lack of one
            is_none = isinstance(self.value, str) and self.value.lower() in _NONE
            return is_none if self.operator == "==" else self.operator == "!=" and not is_none
        if isinstance(self.value, str):
            if isinstance(found, bool):
                return _OPERATORS[self.operator](str(found).lower(), self.value.lower())
            return _OPERATORS[self.operator](str(found), self.value)
        if isinstance(found, bool) or not isinstance(found, (int, float)):
            return False
        return _OPERATORS[self.operator](found, self.value)


def filtered(trials: Iterable[TrialRecord], comparisons: Iterable[str]) -> list[TrialRecord]:
    """The trials for which every comparison holds.

    Raises:
        UserError: a text is no comparison.
        UnknownName: no trial has a metric or parameter of that name.
    """
    trials = list(trials)
    known = {name for trial in trials for name in (*trial.metrics, *trial.params)}
    parsed = [Comparison.parse(text) for text in comparisons]
    for comparison in parsed:
        if known and comparison.name not in known:
            raise UnknownName("metric or parameter", comparison.name, known)
    return [trial for trial in trials if all(comparison.holds(trial) for comparison in parsed)]
