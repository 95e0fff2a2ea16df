"""Is a format still the model? Differences against PyTorch's stored outputs, and time per call. No torch here."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpo.export.example import ROWS, StoredExample
from hpo.export.formats import Arrays, Predict
from hpo.export.manifest import Check, Comparison, Latency

LATENCY_BATCHES = (1, ROWS)
CALLS = 200
BUDGET_S = 2.0  # per batch size; a slow model is called fewer times


def compare(predict: Predict, example: StoredExample, atol: float, rtol: float) -> Check:
    """Run ``predict`` at every stored batch size and keep the worst place.

    Floating outputs pass where |got - expected| <= atol + rtol * |expected|; integers and
    booleans must be equal. The check's ``reason`` says what is past the bound, and by how much.
    """
    worst: Comparison | None = None
    for size, expected in example.outputs.items():
        got = predict(example.rows(size))
        reason = _other_form(got, expected, size)
        if reason:
            return Check(reason=reason, comparison=worst)
        for name, value in expected.items():
            here = _worst(name, size, got[name], value, atol, rtol)
            if here is not None and (worst is None or _share(here) > _share(worst)):
                worst = here
    if worst is not None and _share(worst) > 1.0:
        return Check(reason=_sentence(worst, atol, rtol), comparison=worst)
    return Check(comparison=worst)


def measure(
    predict: Predict, eager: Predict | None, example: StoredExample, where: str = "a process of its own"
) -> tuple[Latency, ...]:
    """p50 and p95 in ms at batch 1 and 64. The caller sees to it that both sides have one thread.

    The two take turns in blocks of ten calls: drift of the machine falls on both, and
    neither has its weights thrown out of the cache by the other before every single call.
    """
    found = []
    for batch in LATENCY_BATCHES:
        inputs = example.rows(batch)
        contenders = [predict] if eager is None else [predict, eager]
        slowest_s = max(_time(one, inputs, 3)[-1] for one in contenders)  # also the warm-up
        block = max(1, min(10, int(0.1 / slowest_s)))
        times: list[list[float]] = [[] for _ in contenders]
        end = perf_counter() + BUDGET_S
        while len(times[0]) < 3 or (len(times[0]) < CALLS and perf_counter() < end):
            for one, own in zip(contenders, times, strict=True):
                own += _time(one, inputs, block)
        figures = [float(np.percentile(own, q)) * 1e3 for own in times for q in (50, 95)]
        found.append(
            Latency(
                batch=batch,
                p50_ms=figures[0],
                p95_ms=figures[1],
                eager_p50_ms=figures[2] if eager else None,
                eager_p95_ms=figures[3] if eager else None,
                calls=len(times[0]),
                where=where,
            )
        )
    return tuple(found)


def _time(predict: Predict, inputs: Arrays, calls: int) -> list[float]:
    times = []
    for _ in range(calls):
        start = perf_counter()
        predict(inputs)
        times.append(perf_counter() - start)
    return times


def _other_form(got: Mapping[str, NDArray[Any]], expected: Mapping[str, NDArray[Any]], size: int) -> str | None:
    """Names, shapes and dtypes come first: numbers of another form cannot be compared."""
    if set(got) != set(expected):
        return f"Outputs must be {sorted(expected)}; at batch {size} they are {sorted(got)}."
    for name, value in expected.items():
        if (got[name].shape, got[name].dtype) != (value.shape, value.dtype):
            return (
                f"Output {name!r} at batch {size} must be {value.dtype} {value.shape}, as in PyTorch; "
                f"it is {got[name].dtype} {got[name].shape}."
            )
    return None


def _worst(
    name: str, size: int, got: NDArray[Any], expected: NDArray[Any], atol: float, rtol: float
) -> Comparison | None:
    """The worst element of one output; None for an output without elements."""
    if expected.size == 0:
        return None
    if expected.dtype.kind not in "fc":
        atol = rtol = 0.0  # a class or a flag is right or wrong
    kind = np.complex128 if expected.dtype.kind == "c" else np.float64
    a, b = got.astype(kind), expected.astype(kind)
    with np.errstate(all="ignore"):
        difference: NDArray[np.float64] = np.where(a == b, 0.0, np.abs(a - b))  # inf - inf is NaN, yet equal
        allowed: NDArray[np.float64] = np.where(np.isfinite(b), atol + rtol * np.abs(b), atol)
        share = np.where(difference == 0, 0.0, difference / allowed)
    share = np.where(np.isnan(share), np.inf, share)
    place = np.unravel_index(int(np.argmax(share)), share.shape)
    return Comparison(
        output=name,
        batch=size,
        index=tuple(int(i) for i in place),
        expected=_finite(expected[place]),
        got=_finite(got[place]),
        difference=_finite(difference[place]),
        allowed=float(allowed[place]),
        bound_share=_finite(share[place]),
    )


def _share(comparison: Comparison) -> float:
    return math.inf if comparison.bound_share is None else comparison.bound_share


def _finite(value: Any) -> float | None:
    number = float(abs(value)) if np.iscomplexobj(value) else float(value)
    return number if math.isfinite(number) else None


def _sentence(worst: Comparison, atol: float, rtol: float) -> str:
    def shown(value: float | None) -> str:
        return "not finite" if value is None else f"{value:.7g}"

    return (
        f"Differs from PyTorch: output {worst.output!r} at batch {worst.batch}, index {list(worst.index)} is "
        f"{shown(worst.got)} for {shown(worst.expected)}, a difference of {shown(worst.difference)} where "
        f"{worst.allowed:.3g} is allowed ({atol:g} + {rtol:g} x |value|)."
    )


def describe(latencies: Sequence[Latency]) -> list[str]:
    """A line per batch size, for people."""
    lines = []
    for one in latencies:
        beside = ""
        if one.eager_p50_ms is not None and one.eager_p95_ms is not None:
            beside = f"; eager PyTorch {one.eager_p50_ms:.3f} / {one.eager_p95_ms:.3f} ms"
        lines.append(f"batch {one.batch}: p50 / p95 {one.p50_ms:.3f} / {one.p95_ms:.3f} ms{beside}")
    return lines
