"""The three kinds of parameter: Float, Int and Choice, each with its own rules.

``when`` makes a parameter conditional: ``{"optimizer": ["sgd"]}`` means it exists only
where ``optimizer`` is sgd; several names must all hold.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hpo.errors import SpaceError

MAX_TEXT = 500  # of a choice, in characters

Value = str | int | float | bool | None
When = tuple[tuple[str, tuple[Value, ...]], ...]


def conditions(when: Mapping[str, Any] | When | None) -> When:
    """``when`` in its normal form: sorted names, each with a tuple of allowed values."""
    items = when.items() if isinstance(when, Mapping) else (when or ())
    return tuple(
        (name, tuple(values) if isinstance(values, (list, tuple)) else (values,)) for name, values in sorted(items)
    )


def same(a: Value, b: Value) -> bool:
    """Equal as a person means it: 1 equals 1.0, but True is not 1."""
    return a == b and isinstance(a, bool) == isinstance(b, bool)


def is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


@dataclass(frozen=True)
class Float:
    """A real number in [low, high], on a log scale or on a grid of ``step`` if asked."""

    low: float
    high: float
    log: bool = False
    step: float | None = None
    when: When = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "when", conditions(self.when))
        _check_bounds(self.low, self.high, self.log, self.step)
        if self.log and self.step is not None:
            raise SpaceError(f"log and step exclude each other; got step {self.step}.")

    def contains(self, value: object) -> bool:
        if not is_number(value) or not math.isfinite(float(value)):  # type: ignore[arg-type]
            return False
        number = float(value)  # type: ignore[arg-type]
        if not self.low <= number <= self.high:
            return False
        if self.step is None:
            return True
        steps = (number - self.low) / self.step
        return abs(steps - round(steps)) < 1e-8

    def count(self) -> int | None:
        """How many values there are; None when there is no end of them."""
        return None if self.step is None else math.floor((self.high - self.low) / self.step + 1e-9) + 1

    def grid(self) -> list[float] | None:
        """All values, or None when there are infinitely many."""
        if self.step is None:
            return None
        return [self.low + i * self.step for i in range(self.count() or 0)]

    def __str__(self) -> str:
        return f"float in [{self.low:g}, {self.high:g}]" + _details(self.log, self.step)


@dataclass(frozen=True)
class Int:
    """A whole number in [low, high], both ends included."""

    low: int
    high: int
    log: bool = False
    step: int = 1
    when: When = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "when", conditions(self.when))
        for name in ("low", "high", "step"):
            value = getattr(self, name)
            if not is_number(value) or (isinstance(value, float) and not value.is_integer()):
                raise SpaceError(f"{name} of an int must be a whole number; got {value!r}.")
            object.__setattr__(self, name, int(value))
        _check_bounds(self.low, self.high, self.log, self.step)
        if self.log and self.step != 1:
            raise SpaceError(f"log and step exclude each other; got step {self.step}.")

    def contains(self, value: object) -> bool:
        if not is_number(value) or not float(value).is_integer():  # type: ignore[arg-type]
            return False
        number = int(value)  # type: ignore[call-overload]
        return self.low <= number <= self.high and (number - self.low) % self.step == 0

    def count(self) -> int:
        return (self.high - self.low) // self.step + 1

    def grid(self) -> list[int]:
        return list(range(self.low, self.high + 1, self.step))

    def __str__(self) -> str:
        return f"int in [{self.low}, {self.high}]" + _details(self.log, self.step if self.step > 1 else None)


@dataclass(frozen=True)
class Choice:
    """One of a list of values: text, numbers, booleans or None."""

    choices: tuple[Value, ...]
    when: When = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "when", conditions(self.when))
        if isinstance(self.choices, str) or not isinstance(self.choices, Sequence):
            raise SpaceError(f"choices must be a list; got {self.choices!r}.")
        object.__setattr__(self, "choices", tuple(self.choices))
        if not self.choices:
            raise SpaceError("choices must not be empty.")
        for i, value in enumerate(self.choices):
            if not isinstance(value, (str, int, float, bool, type(None))):
                raise SpaceError(f"a choice is text, a number, true, false or null; got {value!r}.")
            if isinstance(value, str) and len(value) > MAX_TEXT:
                raise SpaceError(
                    f"a choice has at most {MAX_TEXT} characters; got {len(value)}, beginning {value[:40]!r}."
                )
            if isinstance(value, float) and not math.isfinite(value):
                raise SpaceError(f"a choice must be finite; got {value!r}.")
            if any(same(value, other) for other in self.choices[:i]):
                raise SpaceError(f"choices must differ; {value!r} stands there twice.")

    def contains(self, value: object) -> bool:
        return any(same(value, choice) for choice in self.choices)  # type: ignore[arg-type]

    def count(self) -> int:
        return len(self.choices)

    def grid(self) -> list[Value]:
        return list(self.choices)

    def __str__(self) -> str:
        return "one of " + ", ".join(map(repr, self.choices))


Parameter = Float | Int | Choice


def _check_bounds(low: object, high: object, log: bool, step: float | None) -> None:
    for name, value in (("low", low), ("high", high)):
        if not is_number(value) or not math.isfinite(value):  # type: ignore[arg-type]
            raise SpaceError(f"{name} must be a finite number; got {value!r}.")
    if not low < high:  # type: ignore[operator]
        raise SpaceError(f"low must be below high; got low {low}, high {high}.")
    if not isinstance(log, bool):
        raise SpaceError(f"log is true or false; got {log!r}.")
    if log and low <= 0:  # type: ignore[operator]
        raise SpaceError(f"log needs low above 0; got low {low}.")
    if step is not None and (not is_number(step) or not math.isfinite(step) or step <= 0):
        raise SpaceError(f"step must be a finite number above 0; got {step!r}.")


def _details(log: bool, step: float | None) -> str:
    return (", log scale" if log else "") + (f", step {step:g}" if step else "")
