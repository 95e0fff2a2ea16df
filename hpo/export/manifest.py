"""What a bundle says about itself: ``manifest.json`` as types."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from hpo.evaluation.gates import Verdict, rule

VERSION = 2  # of the bundle's layout; a reader refuses what is newer than itself


class _Facts(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TensorFacts(_Facts):
    """One input or output. ``shape`` has "batch" where the batch goes."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


class Comparison(_Facts):
    """The worst place of a format against PyTorch: where |got - expected| is largest beside what is allowed.

    ``bound_share`` is difference / allowed: at most 1 passes. None stands for NaN or
    infinity, which JSON does not have.
    """

    output: str
    batch: int
    index: tuple[int, ...]
    expected: float | None
    got: float | None
    difference: float | None
    allowed: float
    bound_share: float | None


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
    latency: tuple[Latency, ...] = ()


class FormatEntry(_Facts):
    """One format: shipped, or the reason why not. ``files`` are relative to the bundle."""

    released: bool
    reason: str | None = None
    files: tuple[str, ...] = ()
    size_mb: float | None = Field(default=None, description="MB of 2**20 bytes")
    packages: Mapping[str, str] = {}
    comparison: Comparison | None = None
    latency: tuple[Latency, ...] = ()

    @property
    def figures(self) -> dict[str, float]:
        """What gates over the export are held against: ``hpo.evaluation.gates.EXPORT_FIGURES`` that were measured."""
        alone = next((latency for latency in self.latency if latency.batch == 1), None)
        found = {
            "file_mb": self.size_mb,
            "latency_ms": None if alone is None else alone.p50_ms,
            "latency_p95_ms": None if alone is None else alone.p95_ms,
            "largest_difference": None if self.comparison is None else self.comparison.difference,
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


class Manifest(_Facts):
    """The whole: what the model is, where it comes from (``origin``), what ships and how good it is.

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

    @property
    def release(self) -> str:
        """Whether the model is released, in a sentence."""
        if not self.gates:
            return "Released: no gates were set." if self.released else "NOT RELEASED: gates not evaluated."
        unmet = [gate for gate in self.gates if gate.met is not True]
        if not unmet:
            return "Released: every gate is met."
        return f"NOT RELEASED: {len(unmet)} of {len(self.gates)} gates not met."
