"""Small studies for tests: write a study file, run it, read its rows with plain SQL."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, text

from hpo import service
from hpo.interrupt import Interrupt
from hpo.trial import Point
from objectives.base import TRAINER_METRICS

BRANIN: dict[str, Any] = {
    "name": "branin",
    "objective": "analytic",
    "data": {"function": "branin"},
    "goals": [{"metric": "f1"}],
    "sampler": {"name": "random"},
    "budget": {"trials": 8, "epochs": 4},
    "seed": 3,
    "retrain": {"confirm": 0, "pick": "f1"},
}


class StopAfter:
    """Requests a stop after so many reports, as a Ctrl-C would."""

    def __init__(self, interrupt: Interrupt, reports: int) -> None:
        self.interrupt, self.left = interrupt, reports

    def started(self, job: object) -> None: ...
    def finished(self, record: object) -> None: ...

    def reported(self, number: int, point: Point) -> None:
        self.left -= 1
        if self.left == 0:
            self.interrupt.request()


def write(folder: Path, **fields: Any) -> Path:
    """A study file in ``folder``: BRANIN with some fields replaced (JSON is YAML)."""
    spec = {**BRANIN, **fields}
    path = folder / f"{spec['name']}.yaml"
    path.write_text(json.dumps({key: value for key, value in spec.items() if value is not None}))
    return path


def launch(folder: Path, url: str, **fields: Any) -> service.Launched:
    options = {
        key: fields.pop(key)
        for key in ("runner", "workers", "ray_address", "interrupt", "listeners", "runs", "skip_preflight")
        if key in fields
    }
    options.setdefault("skip_preflight", True)  # a process of its own each time; it has tests of its own
    # A folder per database: two databases never share a study's folder.
    runs = folder / ("runs" if url.endswith("/hpo.db") or "postgres" in url else f"runs-{Path(url).stem}")
    return service.launch(write(folder, **fields), storage=url, runs=options.pop("runs", runs), **options)


def rows(url: str, query: str) -> list[tuple[Any, ...]]:
    """What the database says, not through hpo's own code."""
    engine = create_engine(url)
    with engine.connect() as connection:
        found = [tuple(row) for row in connection.execute(text(query))]
    engine.dispose()
    return found


def without_timings(metrics: str) -> dict[str, Any]:
    """A step's metrics as they stand in the database, without the trainer's that go by the clock."""
    clocked = {name for name, facts in TRAINER_METRICS.items() if facts.timing}
    return {name: value for name, value in json.loads(metrics).items() if name not in clocked}
