"""What a pre-flight found: one finding per check, as plain data. No torch here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from hpo.trial import Event, Params


class Result(StrEnum):
    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"  # something that it needs has failed


@dataclass(frozen=True)
class Finding:
    """What one check found: a sentence for people, details (JSON) for machines."""

    check: str
    result: Result
    message: str
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def line(self) -> str:
        return f"{self.check}: {self.message}"


@dataclass(frozen=True)
class Preflight:
    """Every finding in the order of the checks, and the point of the search space they were made at."""

    findings: tuple[Finding, ...]
    params: Params = field(default_factory=dict)

    @property
    def failed(self) -> tuple[Finding, ...]:
        return self._of(Result.FAILED)

    @property
    def warnings(self) -> tuple[Finding, ...]:
        return self._of(Result.WARNING)

    def event(self) -> Event:
        """The table as an event of a study."""
        names = [f"{finding.check} {finding.result}" for finding in self.findings if finding.result != Result.OK]
        return Event("preflight", "; ".join(names) or "every check passed", self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        return {"params": self.params, "checks": [asdict(finding) for finding in self.findings]}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Preflight:
        checks: Iterable[Mapping[str, Any]] = data["checks"]
        return cls(tuple(Finding(**{**c, "result": Result(c["result"])}) for c in checks), dict(data["params"]))

    def _of(self, result: Result) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.result == result)
