"""A worker that runs trial after trial gives each of them the process as the first one found it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hpo.trial import TrialState
from tests.studies import launch

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("local_ray")]

LARGE_THEN_SMALL = """
import os, weakref
from pathlib import Path
from typing import ClassVar
import torch
from torch import nn
from hpo.training.task import Split, Task
from objectives.base import TrainingObjective
from search_spaces import Float, SearchSpace

EARLIER = []  # the models of this process's earlier trials

class Growing(TrainingObjective):
    summary = "a large model first, then small ones"
    space = SearchSpace({"lr": Float(1e-4, 1e-2)})
    def task(self, job):
        facts = [os.getpid(), sum(model() is not None for model in EARLIER), torch.get_num_threads()]
        (Path(__file__).parent / f"facts-{job.number}").write_text(" ".join(map(str, facts)))
        width = 2000 if job.number == 0 else 2
        model = nn.Sequential(nn.Linear(4, width), nn.Linear(width, width), nn.Linear(width, 1))
        EARLIER.append(weakref.ref(model))
        torch.set_num_threads(1 + job.number)
        if job.number == 1:
            raise RuntimeError("with a model in its hands")
        x, y = torch.zeros(16, 4), torch.zeros(16, 1)
        return Task(model, Split((x, y)), Split((x, y)), nn.functional.mse_loss, (x[:1],))
"""


def test_a_large_trial_leaves_nothing_behind_for_a_small_one(tmp_path: Path, sqlite_url: str, runner: str) -> None:
    (tmp_path / f"growing_{runner}.py").write_text(LARGE_THEN_SMALL)
    fields: dict[str, Any] = {
        "objective": f"growing_{runner}:Growing", "data": None, "goals": [{"metric": "val_loss"}],
        "budget": {"trials": 4, "epochs": 1}, "retrain": {"confirm": 0},
    }  # fmt: skip
    trials = launch(tmp_path, sqlite_url, runner=runner, **fields).snapshot.trials
    complete, fail = TrialState.COMPLETE, TrialState.FAIL
    assert [t.state for t in trials] == [complete, fail, complete, complete]
    facts = [(tmp_path / f"facts-{number}").read_text().split() for number in range(4)]
    assert len({process for process, _, _ in facts}) == 1
    assert [alive for _, alive, _ in facts] == ["0"] * 4
    assert len({threads for _, _, threads in facts}) == 1
