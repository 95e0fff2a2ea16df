"""Is a format still the model? Differences against PyTorch's stored outputs, and time per call. No torch here."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpo.export.example import Case, StoredExample
from hpo.export.formats import Arrays, Predict
from hpo.export.manifest import Check, Comparison, Latency, RelativeError

BATCHES = (1, 8)  # and the largest stored one
CALLS = 200
BUDGET_S = 1.2  # per batch size; a slow model is called fewer times


def compare(predict: Predict, example: StoredExample, atol: float, rtol: float) -> Check:
    """Run ``predict`` on every stored case and keep the worst place.

    Floating outputs pass where |got - expected| <= atol + rtol * |expected|; integers and
    booleans must be equal. The check's ``reason`` says what is past the bound, and by how much.
    """
    worst: Comparison | None = None
    for case in example.cases:
        got, reason = _ask(predict, case)
        if reason:
            return Check(reason=reason, comparison=worst)
        for name in case.outputs:
            here = _worst(name, case, got[name], atol, rtol)
            if here is not None and (worst is None or _share(here) > _share(worst)):
                worst = here
    if worst is not None and _share(worst) > 1.0:
        return Check(reason=_sentence(worst, atol, rtol), comparison=worst)
    return Check(comparison=worst)


def compare_rounded(predict: Predict, example: StoredExample, largest_error: float) -> Check:
    """The same for a format that rounds the model: each output as a whole, and the worst of them.

    Its relative error (``RelativeError``) may be ``largest_error`` at most.
    """
    answers = []
    for case in example.cases:
        got, reason = _ask(predict, case)
        if reason:
            return Check(reason=reason)
        answers.append(got)
    errors = [_relative_error(name, example, answers, largest_error) for name in example.most.outputs]
    worst = max(errors, key=lambda error: math.inf if error.error is None else error.error)
    if worst.error is None or worst.error > largest_error:
        found = "not finite" if worst.error is None else f"{worst.error:.3g}"
        reason = (
            f"Too far from PyTorch: the relative error of output {worst.output!r} is {found} "
            f"where {largest_error:g} is allowed."
        )
        return Check(reason=reason, relative_error=worst)
    return Check(relative_error=worst)


def measure(
    predict: Predict, eager: Predict | None, example: StoredExample, where: str = "a process of its own"
) -> tuple[Latency, ...]:
    """p50 and p95 in ms at ``BATCHES`` and the largest stored one. The caller gives both sides one thread.

    The two take turns in blocks of ten calls: drift of the machine falls on both, and
    neither has its weights thrown out of the cache by the other before every single call.
    """
    found = []
    most = example.most.rows
    for batch in (*(size for size in BATCHES if size < most), most):
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


def _ask(predict: Predict, case: Case) -> tuple[Arrays, str | None]:
    """The answer, and what is wrong with it before any number is compared."""
    try:
        got = predict(case.inputs)
    except Exception as error:  # whatever the library that runs it says is the reason
        return {}, f"Cannot be run at {case.label}: {type(error).__name__}: {error}"
    return got, _other_form(got, case)


def _other_form(got: Mapping[str, NDArray[Any]], case: Case) -> str | None:
    """Names, shapes and dtypes come first: numbers of another form cannot be compared."""
    if set(got) != set(case.outputs):
        return f"Outputs must be {sorted(case.outputs)}; at {case.label} they are {sorted(got)}."
    for name, value in case.outputs.items():
        if (got[name].shape, got[name].dtype) != (value.shape, value.dtype):
            return (
                f"Output {name!r} at {case.label} must be {value.dtype} {value.shape}, as in PyTorch; "
                f"it is {got[name].dtype} {got[name].shape}."
            )
    return None


def _worst(name: str, case: Case, got: NDArray[Any], atol: float, rtol: float) -> Comparison | None:
    """The worst element of one output; None for an output without elements."""
    expected = case.outputs[name]
    if expected.size == 0:
        return None
    if expected.dtype.kind not in "fc":
        atol = rtol = 0.0  # a class or a flag is right or wrong
    difference = _difference(got, expected)
    with np.errstate(all="ignore"):
        allowed: NDArray[np.float64] = np.where(np.isfinite(expected), atol + rtol * np.abs(expected), atol)
        share = np.where(difference == 0, 0.0, difference / allowed)
    share = np.where(np.isnan(share), np.inf, share)
    place = np.unravel_index(int(np.argmax(share)), share.shape)
    return Comparison(
        output=name,
        batch=case.rows,
        lengths=case.lengths,
        index=tuple(int(i) for i in place),
        expected=_finite(expected[place]),
        got=_finite(got[place]),
        difference=_finite(difference[place]),
        allowed=float(allowed[place]),
        bound_share=_finite(share[place]),
    )


def _relative_error(
    name: str, example: StoredExample, answers: Sequence[Mapping[str, NDArray[Any]]], allowed: float
) -> RelativeError:
    got = np.concatenate([answer[name].ravel() for answer in answers])
    expected = np.concatenate([case.outputs[name].ravel() for case in example.cases])
    difference = _difference(got, expected)
    with np.errstate(all="ignore"):
        if expected.dtype.kind in "fc":
            noise = np.sqrt(np.mean(difference**2))
            error = 0.0 if noise == 0 else noise / np.std(expected.astype(_wide(expected)))
        else:
            error = np.mean(difference != 0)
    largest = difference.max(initial=0.0)
    return RelativeError(output=name, error=_finite(error), allowed=allowed, difference=_finite(largest))


def _difference(got: NDArray[Any], expected: NDArray[Any]) -> NDArray[np.float64]:
    """|got - expected| in double precision; 0 for infinities of one sign."""
    a, b = got.astype(_wide(expected)), expected.astype(_wide(expected))
    with np.errstate(all="ignore"):
        return np.where(a == b, 0.0, np.abs(a - b))  # inf - inf is NaN, yet equal


def _wide(array: NDArray[Any]) -> type[np.generic]:
    return np.complex128 if array.dtype.kind == "c" else np.float64


def _share(comparison: Comparison) -> float:
    return math.inf if comparison.bound_share is None else comparison.bound_share


def _finite(value: Any) -> float | None:
    number = float(abs(value)) if np.iscomplexobj(value) else float(value)
    return number if math.isfinite(number) else None


def _sentence(worst: Comparison, atol: float, rtol: float) -> str:
    def shown(value: float | None) -> str:
        return "not finite" if value is None else f"{value:.7g}"

    return (
        f"Differs from PyTorch: output {worst.output!r} at {worst.place}, index {list(worst.index)} is "
        f"{shown(worst.got)} for {shown(worst.expected)}, a difference of {shown(worst.difference)} where "
        f"{worst.allowed:.3g} is allowed ({atol:g} + {rtol:g} x |value|)."
    )
