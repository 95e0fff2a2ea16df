"""A worker that runs trial after trial keeps nothing of the one before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hpo.runners.worker import run_job
from hpo.trial import GO_ON, StopKind, TrialState
from tests.runners.jobs import make_job
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
        alive = sum(model() is not None for model in EARLIER)
        (Path(__file__).parent / f"facts-{job.number}").write_text(f"{os.getpid()} {alive}")
        width = 2000 if job.number == 0 else 2
        model = nn.Sequential(nn.Linear(4, width), nn.Linear(width, width), nn.Linear(width, 1))
        EARLIER.append(weakref.ref(model))
        if job.number == 1:
            raise RuntimeError("with a model in its hands")
        x, y = torch.zeros(16, 4), torch.zeros(16, 1)
        return Task(model, Split((x, y)), Split((x, y)), nn.functional.mse_loss, (x[:1],))
"""


@pytest.mark.parametrize("runner", ["inline", pytest.param("ray", marks=pytest.mark.slow)], indirect=True)
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
    assert len({process for process, _ in facts}) == 1
    assert [alive for _, alive in facts] == ["0"] * 4


def test_cached_memory_of_a_gpu_is_given_back_when_the_trials_last_frame_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a machine without a GPU can show: the cache is emptied, and nothing of the trial is alive then."""
    freed: list[int] = []
    (tmp_path / "holding.py").write_text(
        "import weakref\n"
        "from objectives.analytic import Analytic\n"
        "ALIVE = weakref.WeakSet()\n"
        "class Large: ...\n"
        "class Holding(Analytic):\n"
        "    def run(self, job, context):\n"
        "        large = Large()\n"
        "        ALIVE.add(large)\n"
        "        raise ValueError('its traceback holds the frame, which holds what is large')\n"
    )

    def empty_cache() -> None:
        import holding  # type: ignore[import-not-found]

        freed.append(len(holding.ALIVE))

    monkeypatch.setattr("torch.cuda.is_initialized", lambda: True)
    monkeypatch.setattr("torch.cuda.empty_cache", empty_cache)
    job = make_job(objective="holding:Holding", import_from=str(tmp_path), folder=str(tmp_path / "0"))
    outcome = run_job(job, lambda point: GO_ON, device="cuda")
    assert outcome.reason.kind is StopKind.ERROR
    assert freed == [0]
