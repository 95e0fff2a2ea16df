"""A study with points that cannot fit goes on, and its sampler keeps away from them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import nn

from hpo.training.task import Outline, Task
from hpo.trial import Job, Params
from search_spaces import Choice, Float, SearchSpace
from tests import studies
from tests.run_objectives import Line

WIDE = 3_000_000  # 5 numbers wide in all: 57 MB of weights, and three times as much of gradients and state


class Wide(Line):
    """Says its outline; the wide ones must never be built."""

    space = SearchSpace({"lr": Float(1e-3, 1e-1, log=True), "width": Choice((4, 8, WIDE))})
    default_params: ClassVar[Params] = {"lr": 0.01, "width": 8}

    def model(self, params: Params, facts: Any) -> nn.Module:
        return super().model({"dropout": 0.0, **params}, facts)

    def outline(self, job: Job) -> Outline:
        with torch.device("meta"):
            sample = torch.empty(1, 3), torch.empty(1, 1)
            return Outline(self.model(job.params, {}), sample, nn.functional.mse_loss)

    def task(self, job: Job) -> Task:
        if job.params["width"] == WIDE:
            raise MemoryError("it was built")
        return super().task(job)


def test_a_study_goes_on_and_keeps_away_from_what_does_not_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hpo.training.checks.outlined.available_mb", lambda device, share: 100.0)
    url = f"sqlite:///{tmp_path / 'hpo.db'}"
    studies.launch(
        tmp_path, url, name="wide", objective=f"{__name__}:Wide", data=None, goals=[{"metric": "val_loss"}],
        sampler={"name": "tpe", "startup_trials": 5}, budget={"trials": 40, "epochs": 1}, retrain=None,
        enqueue=[{"lr": 0.01, "width": width} for width in (WIDE, WIDE, 8, 4)],
    )  # fmt: skip
    found = studies.rows(url, "SELECT number, state, stop_kind, reason FROM hpo_trials ORDER BY number")[:40]
    refused = {number: reason for number, _, kind, reason in found if kind == "out_of_memory"}
    assert {0, 1} <= set(refused)
    assert all("Refused before its first update: parameters 57.2 MB" in reason for reason in refused.values())
    assert all(state == "complete" for number, state, *_ in found if number not in refused)
    # Told that it does not fit, the sampler seldom proposes the width; by chance it would be 12 of 35.
    assert sum(number >= 5 for number in refused) <= 6
