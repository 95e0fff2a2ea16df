"""Clusters of several nodes, made on this machine with Ray's own ``Cluster``; GPUs that exist in Ray's books alone."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray
from ray.cluster_utils import Cluster

from hpo import runners
from hpo.errors import RunnerFailed, UserError
from hpo.runners.ray_tune import cluster
from hpo.trial import Point, StopKind, TrialState
from tests.processes import hold
from tests.runners.conftest import patiently
from tests.runners.jobs import Source, make_job
from tests.studies import launch, rows

pytestmark = pytest.mark.ray


@pytest.fixture
def three_nodes() -> Iterator[Cluster]:
    """A head without processors for trials, and two nodes with one each."""

    def start() -> Cluster:
        made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "num_gpus": 0})
        try:
            made.add_node(num_cpus=1, resources={"first": 1})
            made.add_node(num_cpus=1, resources={"second": 1})
            made.wait_for_nodes(300)
        except Exception:
            made.shutdown()
            raise
        return made

    made = patiently(start)
    yield made
    runners.close("ray")
    made.shutdown()


class KillANode:
    """Takes a node away while the trials on both nodes are held in their middle, then lets them go on."""

    def __init__(self, made: Cluster, folder: Path) -> None:
        self.made, self.folder = made, folder
        self.held: set[int] = set()

    def started(self, job: object) -> None: ...
    def finished(self, record: object) -> None: ...

    def reported(self, number: int, point: Point) -> None:
        if point.step == 2 and len(self.held) < 2:
            self.held.add(number)
            if len(self.held) == 2:
                self._switch_off(self.made.list_all_nodes()[-1])
                for trial in range(6):
                    (self.folder / f"go-{trial}").touch()

    def _switch_off(self, node: Any) -> None:
        """With all that runs on it: left alone, a worker lives until it misses its raylet, time enough to finish."""
        [raylet] = node.all_processes["raylet"]
        on_it = psutil.Process(raylet.process.pid).children(recursive=True)
        self.made.remove_node(node, allow_graceful=False)
        for process in on_it:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(on_it, timeout=30)  # where nobody takes the dead away they stay as zombies


@pytest.mark.slow
def test_trials_of_a_dead_node_go_on_elsewhere_from_their_checkpoints(
    tmp_path: Path, sqlite_url: str, three_nodes: Cluster
) -> None:
    listener = KillANode(three_nodes, tmp_path)
    launched = launch(
        tmp_path, sqlite_url, runner="ray", ray_address=three_nodes.address, concurrency=2,
        listeners=lambda plan, ended: [listener], objective=hold(tmp_path, *range(6), module="held_on_nodes"),
        budget={"trials": 6, "epochs": 8},
    )  # fmt: skip
    assert launched.how == "done"
    assert [t.state for t in launched.snapshot.trials] == [TrialState.COMPLETE] * 6
    # Every trial has every epoch exactly once, and one attempt was lost.
    points = "SELECT t.number, count(*), count(DISTINCT p.step) FROM hpo_points p JOIN hpo_trials t ON t.id = p.trial"
    assert rows(sqlite_url, f"{points} GROUP BY t.number ORDER BY t.number") == [(n, 8, 8) for n in range(6)]
    ended = rows(sqlite_url, "SELECT ended_how, count(*) FROM hpo_attempts GROUP BY ended_how ORDER BY ended_how")
    assert ended == [("finished", 6), ("lost", 1)]
    assert rows(sqlite_url, "SELECT count(*) FROM trials WHERE state = 'COMPLETE'") == [(6,)]
    first = rows(sqlite_url, "SELECT min(p.step) FROM hpo_points p WHERE p.attempt = 2")
    assert first[0][0] > 1


@pytest.fixture
def two_gpus() -> Iterator[None]:
    """A local Ray, not hpo's to end, that believes in two GPUs."""
    settings = {"include_dashboard": False, "logging_level": "ERROR", "log_to_driver": False}
    patiently(lambda: ray.init("local", num_cpus=4, num_gpus=2, **settings))
    yield
    ray.shutdown()


SEEING = """
import os, time
from pathlib import Path
from objectives.analytic import Analytic
class Seeing(Analytic):
    def run(self, job, context):
        here, began = Path(__file__).parent, time.time()
        (here / f"begun-{job.number}").touch()
        deadline = time.monotonic() + 300
        while len(list(here.glob("begun-*"))) < AT_ONCE and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(1.0)  # in which one too many would begin
        line = f"{os.environ['CUDA_VISIBLE_DEVICES']} {context.device} {began} {time.time()}"
        (here / f"seen-{job.number}").write_text(line)
        return super().run(job, context)
"""


def seen(folder: Path) -> list[tuple[str, str, float, float]]:
    """What each trial saw: its GPUs, its device, when it began and ended."""
    lines = [path.read_text().split() for path in sorted(folder.glob("seen-*"))]
    return [(gpus, device, float(began), float(ended)) for gpus, device, began, ended in lines]


def at_once(spans: list[tuple[str, str, float, float]]) -> int:
    return max(sum(began <= moment < ended for _, _, began, ended in spans) for _, _, moment, _ in spans)


@pytest.mark.slow
@pytest.mark.usefixtures("two_gpus")
def test_trials_with_half_a_gpu_are_two_on_each(tmp_path: Path, sqlite_url: str) -> None:
    (tmp_path / "seeing_half.py").write_text(SEEING.replace("AT_ONCE", "4"))
    launch(
        tmp_path, sqlite_url, runner="ray", concurrency=6, resources={"cpus": 0.25, "gpus": 0.5},
        objective="seeing_half:Seeing", budget={"trials": 12, "epochs": 1},
    )  # fmt: skip
    spans = seen(tmp_path)
    assert {(gpus, device) for gpus, device, _, _ in spans} == {("0", "cuda"), ("1", "cuda")}
    assert at_once(spans) == 4
    assert [at_once([span for span in spans if span[0] == gpu]) for gpu in "01"] == [2, 2]


@pytest.mark.slow
@pytest.mark.usefixtures("two_gpus")
def test_a_trial_with_two_gpus_has_both(tmp_path: Path, sqlite_url: str) -> None:
    (tmp_path / "seeing_both.py").write_text(SEEING.replace("AT_ONCE", "1"))
    launch(
        tmp_path, sqlite_url, runner="ray", concurrency=2, resources={"cpus": 1, "gpus": 2},
        objective="seeing_both:Seeing", budget={"trials": 2, "epochs": 1},
    )  # fmt: skip
    spans = seen(tmp_path)
    assert [sorted(gpus.split(",")) for gpus, _, _, _ in spans] == [["0", "1"]] * 2
    assert at_once(spans) == 1


TEAM = """
import os
from pathlib import Path
from tests.training.team_objectives import Plain
class Team(Plain):
    def task(self, job):
        (Path(__file__).parent / f"member-{job.number}-{os.getpid()}").touch()
        return super().task(job)
"""


@pytest.mark.slow
def test_a_team_trains_within_one_worker(tmp_path: Path, sqlite_url: str) -> None:
    (tmp_path / "team_on_ray.py").write_text(TEAM)
    fields: dict[str, Any] = {
        "objective": "team_on_ray:Team", "data": None, "goals": [{"metric": "val_loss"}],
        "resources": {"cpus": 2}, "trainer": {"devices": 2, "batch_size": 8},
        "budget": {"trials": 2, "epochs": 2}, "retrain": {"confirm": 0},
    }  # fmt: skip
    trials = launch(tmp_path, sqlite_url, runner="ray", **fields).snapshot.trials
    runners.close("ray")
    assert [t.state for t in trials] == [TrialState.COMPLETE] * 2, [t.reason for t in trials]
    assert [len(list(tmp_path.glob(f"member-{number}-*"))) for number in (0, 1)] == [2, 2]


@pytest.mark.parametrize(
    ("cpus", "gpus", "fit"),
    [
        (1, 0, 8 + 4),
        (3, 0, 2 + 1),
        (1, 1, 2 + 3),
        (1, 2, 1 + 1),
        (1, 0.5, 4 + 4),
        (0.5, 0.4, 4 + 6),
        (9, 0, 0),
        (1, 4, 0),
    ],
)
def test_a_trial_fits_on_one_node_and_shares_one_gpu(
    cpus: float, gpus: float, fit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = [{"CPU": 8.0, "GPU": 2.0}, {"CPU": 4.0, "GPU": 3.0}]
    monkeypatch.setattr(cluster, "_resources", lambda: nodes)
    assert cluster.room(cpus, gpus) == fit
    if not fit:
        with pytest.raises(RunnerFailed, match="on one node; Ray has 8 CPUs and 2 GPUs; 4 CPUs and 3 GPUs"):
            cluster.check_room(cpus, gpus)


BRANIN_POINT: dict[str, Any] = {"data": {"function": "branin"}, "params": {"x0": 0.0, "x1": 0.0}}


class Moved:
    """A folder that only a process with this one's working directory finds: as if other nodes had another disk."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(folder)
        self.path = Path("/proc/self/cwd") / "own"
        self.path.mkdir()


@pytest.mark.slow
def test_what_the_nodes_do_not_see(
    tmp_path: Path, sqlite_url: str, three_nodes: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.connect(three_nodes.address, 0)
    own, shared = Moved(tmp_path, monkeypatch).path, tmp_path / "shared"

    cluster.check_shared([str(shared)])
    cluster.check_shared([str(own), str(shared)])  # one that all see is enough
    with pytest.raises(UserError, match="is not the same place for .*Put the study on a file system"):
        cluster.check_shared([str(own)])
    assert list(own.iterdir()) == list(shared.iterdir()) == []

    # Code that the nodes do not see is taken along.
    (own / "taken").mkdir()
    (own / "taken" / "__init__.py").write_text("from objectives.analytic import Analytic\nclass Along(Analytic): ...\n")
    source = Source(
        make_job(0, objective="taken:Along", import_from=str(own), folder=str(shared / "0"), **BRANIN_POINT)
    )
    runners.find("ray")(source, site=runners.Site(three_nodes.address, (str(shared),), str(own)))
    assert source.told[-1] == ("finish", 0, StopKind.FINISHED)
