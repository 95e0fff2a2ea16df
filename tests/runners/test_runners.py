"""The contract of a runner, over every one: the same jobs, the same news, the same end."""

from __future__ import annotations

import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from hpo import runners, service
from hpo.errors import RunnerFailed, UnknownName
from hpo.interrupt import Interrupt
from hpo.trial import TrialState
from tests.studies import StopAfter, launch, rows

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("local_ray")]
DETERMINISTIC: dict[str, Any] = {
    "data": {"function": "zdt1", "dims": 4},
    "goals": [{"metric": "f1"}, {"metric": "f2"}],
    "sampler": {"name": "tpe", "startup_trials": 5},
    "pruner": {"name": "median", "startup_trials": 3, "watch": "f2"},
    "budget": {"trials": 16, "epochs": 4},
    "concurrency": 2,
    "deterministic": True,
    "resources": {"cpus": 0.5},
    "retrain": {"confirm": 0},
}


def facts(launched: service.Launched) -> list[tuple[Any, ...]]:
    return [
        (t.number, t.state, t.params, t.values, t.reason, t.best_step, [p.metrics for p in t.points])
        for t in launched.snapshot.trials
    ]


@pytest.fixture(scope="module")
def by_inline(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Any, ...]]:
    folder = tmp_path_factory.mktemp("inline")
    return facts(launch(folder, f"sqlite:///{folder / 'x.db'}", runner="inline", **DETERMINISTIC))


@pytest.mark.parametrize("workers", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_inline_and_ray_agree_bit_for_bit(
    tmp_path: Path, sqlite_url: str, by_inline: list[tuple[Any, ...]], workers: int
) -> None:
    launched = launch(tmp_path, sqlite_url, runner="ray", workers=workers, **DETERMINISTIC)
    assert facts(launched) == by_inline
    assert {fact[1] for fact in by_inline} == {TrialState.COMPLETE, TrialState.PRUNED}


@pytest.mark.slow
def test_trials_of_random_length_give_the_same_study(
    tmp_path: Path, sqlite_url: str, by_inline: list[tuple[Any, ...]]
) -> None:
    slow = {"function": "zdt1", "dims": 4, "epoch_s": 0.02, "jitter": 1.0}
    assert facts(launch(tmp_path, sqlite_url, runner="ray", **{**DETERMINISTIC, "data": slow})) == by_inline


def test_every_attempt_names_its_worker(tmp_path: Path, sqlite_url: str, runner: str) -> None:
    launch(tmp_path, sqlite_url, runner=runner, budget={"trials": 3, "epochs": 2})
    workers = [row[0] for row in rows(sqlite_url, "SELECT worker FROM hpo_attempts")]
    assert len(workers) == 3
    assert all(worker for worker in workers)


def test_a_failing_trial_fails_alone(tmp_path: Path, sqlite_url: str, runner: str) -> None:
    (tmp_path / f"faulty_{runner}.py").write_text(
        "from objectives.analytic import Analytic\n"
        "class Faulty(Analytic):\n"
        "    def run(self, job, context):\n"
        "        if job.number % 2:\n"
        "            raise ValueError('odd')\n"
        "        return super().run(job, context)\n"
    )
    launched = launch(tmp_path, sqlite_url, runner=runner, objective=f"faulty_{runner}:Faulty")
    states = [t.state for t in launched.snapshot.trials]
    assert states == [TrialState.COMPLETE, TrialState.FAIL] * 4
    assert "ValueError: odd" in launched.snapshot.trials[1].reason.message  # type: ignore[union-attr]


def test_an_interrupted_study_goes_on(
    tmp_path: Path, sqlite_url: str, runner: str, by_inline: list[tuple[Any, ...]]
) -> None:
    interrupt = Interrupt()
    stopped = launch(
        tmp_path, sqlite_url, runner=runner, interrupt=interrupt,
        listeners=lambda plan, ended: [StopAfter(interrupt, 13)], **DETERMINISTIC,
    )  # fmt: skip
    assert stopped.how == "interrupted"
    assert not [t for t in stopped.snapshot.trials if t.state is TrialState.RUNNING]
    assert facts(launch(tmp_path, sqlite_url, runner=runner, **DETERMINISTIC)) == by_inline


def test_a_trial_whose_worker_is_killed_runs_again(tmp_path: Path, sqlite_url: str) -> None:
    """kill -9 of a Ray worker in the middle of a trial: the trial goes on elsewhere, nothing else is touched."""
    (tmp_path / "deadly.py").write_text(
        "import os, signal\n"
        "from pathlib import Path\n"
        "from objectives.analytic import Analytic\n"
        "class Deadly(Analytic):\n"
        "    def run(self, job, context):\n"
        f"        mark = Path({str(tmp_path)!r}) / 'killed'\n"
        "        if job.number == 2 and not mark.exists():\n"
        "            mark.touch()\n"
        "            context.report(1, f1=99.0)\n"
        "            os.kill(os.getpid(), signal.SIGKILL)\n"
        "        return super().run(job, context)\n"
    )
    launched = launch(tmp_path, sqlite_url, runner="ray", objective="deadly:Deadly")
    trials = launched.snapshot.trials
    assert [t.state for t in trials] == [TrialState.COMPLETE] * 8
    assert [t.attempts for t in trials] == [1, 1, 2, 1, 1, 1, 1, 1]
    ended = rows(sqlite_url, "SELECT ended_how FROM hpo_attempts ORDER BY started_at")
    assert sorted(row[0] for row in ended) == ["finished"] * 8 + ["lost"]


@pytest.mark.slow
def test_a_trial_that_always_kills_its_worker_fails_in_the_end(tmp_path: Path, sqlite_url: str) -> None:
    (tmp_path / "lethal.py").write_text(
        "import os, signal\n"
        "from objectives.analytic import Analytic\n"
        "class Lethal(Analytic):\n"
        "    def run(self, job, context):\n"
        "        if job.number == 1:\n"
        "            os.kill(os.getpid(), signal.SIGKILL)\n"
        "        return super().run(job, context)\n"
    )
    fields = {"objective": "lethal:Lethal", "budget": {"trials": 3, "epochs": 2}}
    trials = launch(tmp_path, sqlite_url, runner="ray", **fields).snapshot.trials
    assert [t.state for t in trials] == [TrialState.COMPLETE, TrialState.FAIL, TrialState.COMPLETE]
    assert "lost its worker 3 times" in trials[1].reason.message  # type: ignore[union-attr]


@pytest.mark.slow
def test_a_slow_cleanup_of_a_stopped_trial_does_not_abort_the_next(tmp_path: Path, sqlite_url: str) -> None:
    """With reused actors Ray, by default, gives a stopped trial two seconds and then fails its successor."""
    (tmp_path / "slowly.py").write_text(
        "import time\n"
        "from objectives.analytic import Analytic\n"
        "class Slowly(Analytic):\n"
        "    def run(self, job, context):\n"
        "        try:\n"
        "            return super().run(job, context)\n"
        "        finally:\n"
        "            time.sleep(2.5 if job.number == 4 else 0)\n"
    )
    fields = {
        "objective": "slowly:Slowly",
        "pruner": {"name": "threshold", "upper": 0.5},
        "budget": {"trials": 7, "epochs": 3},
    }
    trials = launch(tmp_path, sqlite_url, runner="ray", **fields).snapshot.trials
    assert {t.state for t in trials} == {TrialState.PRUNED}
    assert [t.attempts for t in trials] == [1] * 7


def test_ray_keeps_its_own_words_off_the_terminal(
    tmp_path: Path, sqlite_url: str, capfd: pytest.CaptureFixture[str]
) -> None:
    launch(tmp_path, sqlite_url, runner="ray", budget={"trials": 2, "epochs": 2})
    out, error = capfd.readouterr()
    assert (out, error) == ("", "")


def test_more_trials_run_at_once_on_ray_than_one(tmp_path: Path, sqlite_url: str) -> None:
    """Each of two trials waits for the other to begin."""
    (tmp_path / "meeting.py").write_text(
        "import time\n"
        "from pathlib import Path\n"
        "from objectives.analytic import Analytic\n"
        "class Meeting(Analytic):\n"
        "    def run(self, job, context):\n"
        "        begun = [Path(__file__).with_name(f'begun-{number}') for number in (0, 1)]\n"
        "        begun[job.number].touch()\n"
        "        deadline = time.monotonic() + 300\n"
        "        while not all(path.exists() for path in begun):\n"
        "            if time.monotonic() > deadline:\n"
        "                raise TimeoutError('the other never began')\n"
        "            time.sleep(0.02)\n"
        "        return super().run(job, context)\n"
    )
    trials = launch(
        tmp_path, sqlite_url, runner="ray", concurrency=2, resources={"cpus": 0.5}, objective="meeting:Meeting",
        budget={"trials": 2, "epochs": 2},
    ).snapshot.trials  # fmt: skip
    assert [t.state for t in trials] == [TrialState.COMPLETE] * 2


def test_ctrl_c_does_not_wait_for_the_end_of_a_long_epoch(tmp_path: Path, sqlite_url: str, runner: str) -> None:
    """A training trial looks between its updates whether somebody wants it to stop."""
    (tmp_path / f"long_{runner}.py").write_text(
        "import torch\n"
        "from pathlib import Path\n"
        "from torch import nn\n"
        "from hpo.training.task import Split, Task\n"
        "from objectives.base import TrainingObjective\n"
        "from search_spaces import Float, SearchSpace\n"
        "class Long(TrainingObjective):\n"
        "    summary = 'an epoch of minutes'\n"
        "    space = SearchSpace({'lr': Float(1e-4, 1e-2)})\n"
        "    def task(self, job):\n"
        f"        begun = Path({str(tmp_path)!r}) / 'begun'\n"
        "        def loss(outputs, targets):\n"
        "            if not begun.exists():\n"
        "                begun.touch()\n"
        "            return nn.functional.mse_loss(outputs, targets)\n"
        "        x, y = torch.zeros(3_000_000, 4), torch.zeros(3_000_000, 1)\n"
        "        split = Split((x[:64], y[:64]))\n"
        "        return Task(nn.Linear(4, 1), Split((x, y)), split, loss, (x[:1],))\n"
    )
    interrupt = Interrupt()

    def stop_in_the_epoch() -> None:
        while not (tmp_path / "begun").exists():
            time.sleep(0.05)
        interrupt.request()

    threading.Thread(target=stop_in_the_epoch, daemon=True).start()
    fields: dict[str, Any] = {"objective": f"long_{runner}:Long", "data": None, "goals": None}
    launched = launch(
        tmp_path, sqlite_url, runner=runner, interrupt=interrupt, trainer={"batch_size": 8},
        **{**fields, "retrain": {"confirm": 0}},
    )  # fmt: skip
    assert launched.how == "interrupted"
    assert launched.snapshot.trials[0].state is TrialState.QUEUED
    assert launched.snapshot.trials[0].points == ()


def test_nothing_is_started_when_nothing_is_to_run(
    tmp_path: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    launch(tmp_path, sqlite_url, budget={"trials": 2, "epochs": 1})
    monkeypatch.setattr("hpo.runners.ray_tune.cluster.connect", lambda address, gpus: pytest.fail("Ray is wanted"))
    launch(tmp_path, sqlite_url, budget={"trials": 2, "epochs": 1}, runner="ray")
    assert rows(sqlite_url, "SELECT count(*) FROM hpo_attempts") == [(2,)]


def test_an_unknown_runner_is_named_with_the_nearest() -> None:
    with pytest.raises(UnknownName, match="Did you mean 'inline'"):
        runners.find("inlin")


def test_nothing_of_ray_stays_behind(tmp_path: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Ray imports wandb, where there is one, to count callbacks; that has folders of its own while the process lives.
    import ray.air.integrations.wandb  # noqa: F401

    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    launch(tmp_path, sqlite_url, runner="ray", budget={"trials": 1, "epochs": 1})
    deadline = time.monotonic() + 300
    while list(temporary.iterdir()) and time.monotonic() < deadline:  # a launch does not wait for ever for its end
        time.sleep(0.1)
    assert list(temporary.iterdir()) == []


class Unreadable:
    """Goes to a worker, which cannot read it: as if it had other packages."""

    def __reduce__(self) -> tuple[Any, ...]:
        return eval, ("1 / 0",)


@pytest.mark.slow
def test_workers_that_never_start_end_the_launch_with_what_to_look_at() -> None:
    from hpo.runners.ray_tune import cluster, crew

    def wait_for(workers: crew.Crew) -> None:
        while True:
            assert workers.hear(0.2) is None

    with cluster.quiet(), crew.Crew(1, 0.5, 0, Unreadable()) as workers:  # type: ignore[arg-type]
        workers.want(1)
        with pytest.raises(RunnerFailed, match="workers in a row ended before they had begun"):
            wait_for(workers)


@pytest.mark.slow
def test_a_report_that_cannot_travel_fails_its_trial_alone(tmp_path: Path, sqlite_url: str) -> None:
    (tmp_path / "locked.py").write_text(
        "import threading\n"
        "from hpo.trial import Event, Outcome\n"
        "from objectives.analytic import Analytic\n"
        "class Locked(Analytic):\n"
        "    def run(self, job, context):\n"
        "        outcome = super().run(job, context)\n"
        "        if job.number != 1:\n"
        "            return outcome\n"
        "        event = Event('odd', 'holds a lock')\n"
        "        event.details['lock'] = threading.Lock()\n"
        "        return Outcome(outcome.reason, events=(event,))\n"
    )
    fields = {"objective": "locked:Locked", "budget": {"trials": 3, "epochs": 2}}
    trials = launch(tmp_path, sqlite_url, runner="ray", **fields).snapshot.trials
    assert [t.state for t in trials] == [TrialState.COMPLETE, TrialState.FAIL, TrialState.COMPLETE]
    assert "could not be sent" in trials[1].reason.message  # type: ignore[union-attr]


def test_an_objective_that_interrupts_itself_fails_alone(tmp_path: Path, sqlite_url: str) -> None:
    (tmp_path / "interrupting.py").write_text(
        "from objectives.analytic import Analytic\n"
        "class Interrupting(Analytic):\n"
        "    def run(self, job, context):\n"
        "        if job.number == 1:\n"
        "            raise KeyboardInterrupt\n"
        "        return super().run(job, context)\n"
    )
    fields = {"objective": "interrupting:Interrupting", "budget": {"trials": 3, "epochs": 2}}
    trials = launch(tmp_path, sqlite_url, runner="ray", **fields).snapshot.trials
    assert [t.state for t in trials] == [TrialState.COMPLETE, TrialState.FAIL, TrialState.COMPLETE]
    assert "KeyboardInterrupt" in trials[1].reason.message  # type: ignore[union-attr]


LOUD = """
import logging, sys, warnings
from objectives.analytic import Analytic
class Loud(Analytic):
    def run(self, job, context):
        print('hello from', job.number)
        sys.stderr.write(f'{job.number} complains\\n')
        logging.getLogger('loud').warning('careful')
        return super().run(job, context)
"""


def test_every_trial_of_every_series_has_a_log(tmp_path: Path, sqlite_url: str, runner: str) -> None:
    (tmp_path / f"logged_{runner}.py").write_text(LOUD)
    launch(
        tmp_path, sqlite_url, runner=runner, objective=f"logged_{runner}:Loud", budget={"trials": 2, "epochs": 2},
        retrain={"confirm": 1, "confirm_seeds": 1, "pick": "f1"},
    )  # fmt: skip
    for folder in ("search-00000", "search-00001", "confirm-00000"):
        number = int(folder[-5:])
        log = (tmp_path / "runs" / "branin" / folder / "log.txt").read_text()
        said = [line[25:] for line in log.splitlines()]  # without the time
        assert [line for line in said if not line.startswith("hpo")][:3] == [
            f"out  hello from {number}", f"err  {number} complains", "log  WARNING loud: careful",
        ]  # fmt: skip
        assert sum(line.startswith("step ") for line in said) == 2
        assert said[-1].endswith("finished: ran all 2 epochs")
