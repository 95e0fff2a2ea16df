"""The closed forms.

sphere: sum of squares. branin: Branin & Hoo 1972, in the form of Dixon & Szegö 1978.
zdt1-3: Zitzler, Deb & Thiele 2000, doi:10.1162/106365600568202. dtlz2: Deb, Thiele,
Laumanns & Zitzler 2005, doi:10.1007/1-84628-137-7_6, with three goals.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

Point = Sequence[float]


@dataclass(frozen=True)
class Function:
    """``bounds`` has one pair for all dimensions, or one for each. ``scale`` is the height of
    the simulated learning curve above the closed form before the first epoch."""

    name: str
    form: Callable[[Point], tuple[float, ...]]
    goals: int
    dims: int
    min_dims: int
    bounds: tuple[tuple[float, float], ...]
    scale: float

    def __call__(self, x: Point) -> tuple[float, ...]:
        return self.form(x)


def sphere(x: Point) -> tuple[float]:
    """Minimum 0 at the origin."""
    return (math.fsum(v * v for v in x),)


def branin(x: Point) -> tuple[float]:
    """Minimum 0.397887 at (-π, 12.275), (π, 2.275) and (9.42478, 2.475)."""
    a, b = x
    curve = b - 5.1 / (4 * math.pi**2) * a * a + 5 / math.pi * a - 6
    return (curve * curve + 10 * (1 - 1 / (8 * math.pi)) * math.cos(a) + 10,)


def zdt1(x: Point) -> tuple[float, float]:
    """Front: f2 = 1 - sqrt(f1), convex, where x1... are 0."""
    g = _g(x)
    return x[0], g * (1 - math.sqrt(x[0] / g))


def zdt2(x: Point) -> tuple[float, float]:
    """Front: f2 = 1 - f1², concave."""
    g = _g(x)
    return x[0], g * (1 - (x[0] / g) ** 2)


def zdt3(x: Point) -> tuple[float, float]:
    """Front: five pieces of f2 = 1 - sqrt(f1) - f1 sin(10 π f1)."""
    g = _g(x)
    share = x[0] / g
    return x[0], g * (1 - math.sqrt(share) - share * math.sin(10 * math.pi * x[0]))


def dtlz2(x: Point) -> tuple[float, float, float]:
    """Front: the unit sphere's positive octant, where x2... are 0.5."""
    g = math.fsum((v - 0.5) ** 2 for v in x[2:])
    a, b = x[0] * math.pi / 2, x[1] * math.pi / 2
    radius = 1 + g
    return radius * math.cos(a) * math.cos(b), radius * math.cos(a) * math.sin(b), radius * math.sin(a)


def _g(x: Point) -> float:
    return 1 + 9 * math.fsum(x[1:]) / (len(x) - 1)


_UNIT = ((0.0, 1.0),)
FUNCTIONS = {
    f.name: f
    for f in (
        Function("sphere", sphere, 1, 3, 1, ((-5.0, 5.0),), 10.0),
        Function("branin", branin, 1, 2, 2, ((-5.0, 10.0), (0.0, 15.0)), 50.0),
        Function("zdt1", zdt1, 2, 6, 2, _UNIT, 2.0),
        Function("zdt2", zdt2, 2, 6, 2, _UNIT, 2.0),
        Function("zdt3", zdt3, 2, 6, 2, _UNIT, 2.0),
        Function("dtlz2", dtlz2, 3, 6, 3, _UNIT, 1.0),
    )
}
