"""What a bundle says about itself: ``manifest.json`` as types."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

VERSION = 1  # of the bundle's layout; a reader refuses what is newer than itself


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


class Manifest(_Facts):
    """The whole: what the model is, where it comes from (``origin``), what ships and how good it is."""

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
