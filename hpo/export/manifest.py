"""What a bundle says about itself: ``manifest.json`` as types."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from hpo.evaluation.gates import Verdict, rule
from hpo.trial import Direction

VERSION = 4  # of the bundle's layout; a reader refuses what is newer than itself


class _Facts(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TensorFacts(_Facts):
    """One input or output. ``shape`` has a name where a length is free: "batch", or one of ``Task.open_axes``.

    "by NAME" is an output's length that changes with that of NAME and is another. ``meaning``
    says what stands in it and in which unit.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]
    meaning: str = ""


class Comparison(_Facts):
    """The worst place of a format against PyTorch: where |got - expected| is largest beside what is allowed.

    ``lengths`` are those of axes that were cut, by name. ``bound_share`` is difference /
    allowed: at most 1 passes. None stands for NaN or infinity, which JSON does not have.
    """

    output: str
    batch: int
    lengths: Mapping[str, int] = {}
    index: tuple[int, ...]
    expected: float | None
    got: float | None
    difference: float | None
    allowed: float
    bound_share: float | None

    @property
    def place(self) -> str:
        """``batch 3, sequence 10``."""
        return ", ".join([f"batch {self.batch}", *(f"{name} {length}" for name, length in self.lengths.items())])


class RelativeError(_Facts):
    """How far a format that rounds the model is from PyTorch over all stored cases, at its worst output.

    ``error`` is the root mean square of got - expected over the standard deviation of
    expected, or, where an output holds whole numbers, the share that differs. ``difference`` is
    the largest |got - expected|. None stands for NaN or infinity.
    """

    output: str
    error: float | None
    allowed: float
    difference: float | None


class Shift(_Facts):
    """What rounding did to a metric of a whole validation or test set; None stands for NaN or infinity."""

    pytorch: float | None
    rounded: float | None


class Latency(_Facts):
    """Milliseconds a call takes on one CPU thread, beside eager PyTorch, calls interleaved."""

    batch: int
    p50_ms: float
    p95_ms: float
    eager_p50_ms: float | None = None
    eager_p95_ms: float | None = None
    calls: int
    where: str = "a process of its own"

    @property
    def speedup(self) -> float | None:
        """Eager median over this format's: above 1 means faster than PyTorch."""
        return None if self.eager_p50_ms is None else self.eager_p50_ms / self.p50_ms


class Check(_Facts):
    """What loading a format back in a process of its own showed; ``reason`` is None if it passed."""

    reason: str | None = None
    comparison: Comparison | None = None
    relative_error: RelativeError | None = None
    latency: tuple[Latency, ...] = ()
    memory_mb: float | None = None


class FormatEntry(_Facts):
    """One format: shipped, or the reason why not. ``files`` are relative to the bundle.

    A format that rounds the model has a ``relative_error`` instead of a ``comparison``, and ``metrics``.
    ``unverified`` says why a format could be made here but not run; it has neither then.
    ``memory_mb``: by how much the process that ran it grew beyond what it had before loading, at its peak.
    """

    released: bool
    reason: str | None = None
    files: tuple[str, ...] = ()
    size_mb: float | None = Field(default=None, description="MB of 2**20 bytes")
    packages: Mapping[str, str] = {}
    comparison: Comparison | None = None
    relative_error: RelativeError | None = None
    metrics: Mapping[str, Shift] = {}
    latency: tuple[Latency, ...] = ()
    memory_mb: float | None = Field(default=None, description="MB of 2**20 bytes")
    unverified: str | None = None

    @property
    def bound_share(self) -> float | None:
        """The worst difference from PyTorch as a share of what is allowed."""
        if self.relative_error is not None and self.relative_error.error is not None:
            return self.relative_error.error / self.relative_error.allowed
        return None if self.comparison is None else self.comparison.bound_share

    @property
    def figures(self) -> dict[str, float]:
        """What gates over the export are held against: ``hpo.evaluation.gates.EXPORT_FIGURES`` that were measured."""
        alone = next((latency for latency in self.latency if latency.batch == 1), None)
        beside = self.comparison or self.relative_error
        found = {
            "file_mb": self.size_mb,
            "latency_ms": None if alone is None else alone.p50_ms,
            "latency_p95_ms": None if alone is None else alone.p95_ms,
            "largest_difference": None if beside is None else beside.difference,
        }
        return {name: value for name, value in found.items() if value is not None}


class GateFacts(_Facts):
    """A gate and what was found; ``met`` is None where nothing was measured, ``value`` also where it is not finite."""

    name: str
    rule: str
    over: str
    metric: str
    value: float | None
    met: bool | None
    why: str = ""

    @classmethod
    def of(cls, verdict: Verdict) -> GateFacts:
        value = verdict.value if verdict.value is not None and math.isfinite(verdict.value) else None
        gate = verdict.gate
        return cls(
            name=verdict.name, rule=rule(gate), over=gate.over, metric=gate.metric, value=value, met=verdict.met,
            why=verdict.why,
        )  # fmt: skip

    @property
    def word(self) -> str:
        return {True: "met", False: "NOT MET", None: "not measured"}[self.met]

    @property
    def title(self) -> str:
        """The rule, after the gate's own name where it has one."""
        return self.rule if self.name == self.rule else f"{self.name}: {self.rule}"

    @property
    def line(self) -> str:
        """The verdict as a sentence, for people."""
        found = "" if self.value is None else f"{self.value:.4g}, "
        return f"{self.title}: {found}{self.word}" + (f" ({self.why})" if self.why else "")


class MainGoal(_Facts):
    """A metric of the test set, such as ``test_pearson_r``."""

    metric: str
    direction: Direction


class Manifest(_Facts):
    """The whole: what the model is, where it comes from (``origin``), what ships and how good it is.

    ``summary`` and ``limits`` are the objective's own words. ``goal`` is the test metric that versions are
    compared by, with the direction in which it is better. ``weights_sha256`` is that of every parameter
    and buffer, so that a second training can be told to be the same.

    ``released`` is False when one of the ``gates`` is not met, or when nobody evaluated any, as
    for a model exported from a checkpoint alone; where a study sets no gates nothing is in the way.
    """

    version: int = VERSION
    created_at: str  # ISO 8601, UTC
    objective: str
    params: Mapping[str, Any]
    facts: Mapping[str, Any]
    inputs: tuple[TensorFacts, ...]
    outputs: tuple[TensorFacts, ...]
    atol: float
    rtol: float
    formats: Mapping[str, FormatEntry]
    environment: Mapping[str, str]
    origin: Mapping[str, Any]
    gates: tuple[GateFacts, ...] = ()
    released: bool = True
    summary: str = ""
    limits: tuple[str, ...] = ()
    goal: MainGoal | None = None
    weights_sha256: str | None = None

    @property
    def release(self) -> str:
        """Whether the model is released, in a sentence."""
        if not self.gates:
            return "Released: no gates were set." if self.released else "NOT RELEASED: gates not evaluated."
        unmet = [gate for gate in self.gates if gate.met is not True]
        if not unmet:
            return "Released: every gate is met."
        return f"NOT RELEASED: {len(unmet)} of {len(self.gates)} gates not met."
