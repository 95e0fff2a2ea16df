"""A trial that runs out of memory is recorded as that, whoever noticed it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from hpo.errors import OutOfMemory, TrialFailed
from hpo.runners.worker import run_job
from hpo.trial import GO_ON, Job, Outcome, StopKind, TrialContext
from objectives.analytic import Analytic
from tests import studies


class Failing(Analytic):
    """Raises whatever its data say."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def run(self, job: Job, context: TrialContext) -> Outcome:
        raise self._error


def wrapped() -> TrialFailed:
    try:
        raise TrialFailed("Model and data do not fit.") from torch.OutOfMemoryError("CUDA out of memory")
    except TrialFailed as error:
        return error


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (OutOfMemory("too large"), StopKind.OUT_OF_MEMORY),
        (MemoryError(), StopKind.OUT_OF_MEMORY),
        (torch.OutOfMemoryError("CUDA out of memory"), StopKind.OUT_OF_MEMORY),
        (wrapped(), StopKind.OUT_OF_MEMORY),
        (TrialFailed("the loss is nan"), StopKind.ERROR),
        (RuntimeError("shapes differ"), StopKind.ERROR),
    ],
)
def test_memory_that_ran_out_is_told_from_other_failures(
    error: BaseException, kind: StopKind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hpo.runners.worker.find", lambda name, place: Failing(error))
    outcome = run_job(job(tmp_path), lambda point: GO_ON)
    assert outcome.reason.kind is kind
    assert type(error).__name__ in outcome.reason.message and "abstract" not in outcome.reason.message


def test_a_trial_that_does_not_fit_fails_alone_and_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = Analytic.run

    def run(self: Analytic, job: Job, context: TrialContext) -> Outcome:
        if job.number == 1:
            raise OutOfMemory("Refused before its first update: it takes 9 GB and has 8.")
        return own(self, job, context)

    monkeypatch.setattr(Analytic, "run", run)
    url = f"sqlite:///{tmp_path / 'hpo.db'}"
    studies.launch(tmp_path, url, budget={"trials": 3, "epochs": 2})
    found = studies.rows(url, "SELECT number, state, stop_kind, reason FROM hpo_trials ORDER BY number")
    assert [row[:3] for row in found] == [
        (0, "complete", "finished"), (1, "fail", "out_of_memory"), (2, "complete", "finished"),
    ]  # fmt: skip
    assert "it takes 9 GB and has 8" in found[1][3]


def job(folder: Path, **changes: Any) -> Job:
    from hpo.training.settings import TrainerSettings
    from hpo.trial import Goal

    fields: dict[str, Any] = {
        "study": "s", "series": "search", "number": 0, "objective": "none", "params": {}, "data": {},
        "trainer": TrainerSettings(), "goals": (Goal("f1"),), "monitor": Goal("f1"), "seed": 1, "data_seed": 1,
        "epochs": 2, "folder": str(folder),
    }  # fmt: skip
    return Job(**{**fields, **changes})


@pytest.mark.parametrize(
    ("gpus", "devices", "share"), [(0, 1, 1.0), (0.25, 1, 0.25), (1, 1, 1.0), (2, 2, 1.0), (2, 1, 1.0)]
)
def test_a_trial_may_use_its_share_of_each_gpu(gpus: float, devices: int, share: float, tmp_path: Path) -> None:
    from hpo import service

    spec = {
        "name": "s", "objective": "tests.run_objectives:Line", "budget": {"trials": 1}, "resources": {"gpus": gpus},
        "trainer": {"devices": devices},
    }  # fmt: skip
    path = tmp_path / "s.yaml"
    path.write_text(json.dumps(spec))
    assert service.check(path).gpu_share == share
