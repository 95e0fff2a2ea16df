"""Several processes that train one trial: the same result as one, and none of them stays."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
import torch.distributed as dist
from torch.testing._internal.distributed.fake_pg import FakeStore

from hpo.errors import StudyFileError, TrialFailed
from hpo.resolve import resolve
from hpo.spec import StudySpec
from hpo.training.checkpoints import read
from hpo.training.team.distributed import Group, Replicated
from hpo.trial import GO_ON, Decision, Direction, Goal, Outcome, Point, StopKind, StopReason, TrialContext, TrialStopped
from objectives import registry
from tests.processes import is_running
from tests.training.training_kit import Trial, make_settings, make_task

ROOT = Path(__file__).parents[2]
SETTINGS: dict[str, Any] = {"grad_clip": 1.0, "accumulation": 2, "max_recoveries": 1}
PRUNED = StopReason(StopKind.PRUNED, "enough")
STRATEGY = pytest.mark.parametrize("strategy", ["ddp", "fsdp"])


def run(
    folder: Path,
    objective: str = "Plain",
    *,
    params: dict[str, Any] | None = None,
    answer: Callable[[Point], Decision] = lambda point: GO_ON,
    stop_requested: Callable[[], bool] = lambda: False,
    job: dict[str, Any] | None = None,
    **settings: Any,
) -> tuple[list[Point], Outcome]:
    """One trial of four epochs, in as many processes as the setting ``devices`` says."""
    folder.mkdir(exist_ok=True)
    trial = Trial(folder, answer=answer, **(job or {}))
    given = replace(
        trial.job,
        objective=f"tests.training.team_objectives:{objective}",
        params=params or {},
        trainer=make_settings(**{**SETTINGS, **settings}),
    )
    context = TrialContext(given, trial._send, stop_requested=stop_requested)
    return trial.points, registry.find(given.objective).run(given, context)


def curves(points: Sequence[Point], *names: str) -> list[list[float]]:
    return [[point.metrics[name] for point in points] for name in names or ("train_loss", "val_loss", "grad_norm")]


def assert_close(found: Path, wanted: Path, *, rtol: float = 1e-4, atol: float = 1e-6) -> None:
    """Weights and optimiser of the last checkpoints: the same form, the same numbers but for rounding."""
    a, b = read(found / "last.pt"), read(wanted / "last.pt")
    assert list(a["model"]) == list(b["model"])
    torch.testing.assert_close(a["model"], b["model"], rtol=rtol, atol=atol)
    assert [list(group) for group in a["optimizer"]["param_groups"]] == [
        list(group) for group in b["optimizer"]["param_groups"]
    ]
    torch.testing.assert_close(a["optimizer"]["state"], b["optimizer"]["state"], rtol=rtol, atol=atol)
    torch.testing.assert_close(
        read(found / "best.pt")["model"], read(wanted / "best.pt")["model"], rtol=rtol, atol=atol
    )


def pids(folder: Path) -> list[int]:
    return [int(path.read_text()) for path in sorted(folder.glob("pid-*"))]


def wait_for(what: Callable[[], bool], seconds: float = 300) -> bool:
    until = time.monotonic() + seconds
    while not what() and time.monotonic() < until:
        time.sleep(0.05)
    return what()


@pytest.mark.parametrize("strategy", ["ddp", pytest.param("fsdp", marks=pytest.mark.slow)])
def test_two_processes_find_what_one_finds(tmp_path: Path, strategy: str) -> None:
    alone, outcome = run(tmp_path / "one", job={"use_test": True})
    together, outcomes = run(tmp_path / "two", devices=2, strategy=strategy, job={"use_test": True})
    for found, wanted in zip(curves(together), curves(alone), strict=True):
        assert found == pytest.approx(wanted, rel=1e-4)
    assert outcomes.reason == outcome.reason
    assert outcomes.metrics == pytest.approx(outcome.metrics, rel=1e-4)  # size and operations, and the test set's
    assert_close(tmp_path / "two", tmp_path / "one")
    assert not list(Path(tmp_path / "two").glob(".*"))


@pytest.mark.slow
def test_gradient_checkpointing_changes_nothing_in_a_team(tmp_path: Path) -> None:
    alone, _ = run(tmp_path / "one", optimizer="sgd")
    together, _ = run(tmp_path / "two", optimizer="sgd", devices=2, strategy="fsdp", gradient_checkpointing=True)
    assert curves(together)[1] == pytest.approx(curves(alone)[1], rel=1e-4)
    torch.testing.assert_close(
        read(tmp_path / "two/last.pt")["model"], read(tmp_path / "one/last.pt")["model"], rtol=1e-4, atol=1e-6
    )


@pytest.mark.slow
@STRATEGY
def test_a_checkpoint_goes_on_in_another_number_of_processes(tmp_path: Path, strategy: str) -> None:
    run(tmp_path / "unbroken")
    for name, first, second in (("fewer", 2, 1), ("more", 1, 2)):
        with pytest.raises(TrialStopped) as stopped:
            run(
                tmp_path / name,
                answer=lambda point: Decision(PRUNED) if point.step == 2 else GO_ON,
                devices=first,
                strategy=strategy,
            )
        assert stopped.value.reason == PRUNED
        points, _ = run(tmp_path / name, devices=second, strategy=strategy, job={"resume": True, "reported": 2})
        assert [point.step for point in points] == [2, 3, 4]  # the one it stopped at is told again
        assert_close(tmp_path / name, tmp_path / "unbroken")


@pytest.mark.slow
def test_a_team_goes_on_as_if_it_had_never_stopped(tmp_path: Path) -> None:
    """With dropout and batch norm, which every process draws and counts for itself."""
    given: dict[str, Any] = {"params": {"dropout": 0.4}, "devices": 2, "strategy": "fsdp", "accumulation": 1}
    given["eval_batch_size"] = 8  # so that the team looks up in the middle of the third epoch
    unbroken, _ = run(tmp_path / "unbroken", "Normed", **given)
    seen: list[Point] = []
    points, outcome = run(
        tmp_path / "broken",
        "Normed",
        answer=lambda point: seen.append(point) or GO_ON,  # type: ignore[func-returns-value]
        stop_requested=lambda: len(seen) >= 2,
        **given,
    )
    assert outcome.reason.kind is StopKind.INTERRUPTED
    last = points[-1].step
    again, _ = run(tmp_path / "broken", "Normed", job={"resume": True, "reported": last}, **given)
    assert curves(again, "val_loss")[0][-1] == unbroken[-1].metrics["val_loss"]
    assert_close(tmp_path / "broken", tmp_path / "unbroken", rtol=0, atol=0)


@pytest.mark.slow
def test_what_is_not_finite_ends_a_team_as_it_ends_one_process(tmp_path: Path) -> None:
    said = []
    for devices in (1, 2):
        with pytest.raises(TrialFailed) as failed:
            run(tmp_path / str(devices), optimizer="sgd", lr=1e30, grad_clip=None, devices=devices)
        said.append(re.sub(r"became \S+ at", "became X at", str(failed.value)))
    assert said[0] == said[1]
    assert "Recovered 1 times before" in said[0]


@pytest.mark.slow
def test_measuring_a_team_changes_nothing(tmp_path: Path) -> None:
    goals = (Goal("val_loss"), Goal("samples_per_s", Direction.MAXIMIZE), Goal("latency_ms"))
    plain, _ = run(tmp_path / "plain", devices=2, strategy="fsdp")
    measured, outcome = run(tmp_path / "measured", devices=2, strategy="fsdp", job={"goals": goals})
    assert curves(measured) == curves(plain)
    assert all(outcome.metrics[goal.metric] > 0 for goal in goals[1:])
    assert_close(tmp_path / "measured", tmp_path / "plain", rtol=0, atol=0)


def test_one_that_fails_ends_all_with_its_own_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(TrialFailed, match=r"^ValueError: the third batch is bad \(in process 2 of 2\)$") as failed:
        run(tmp_path, "Faulty", params={"fault": "raise"}, devices=2)
    assert 'raise ValueError("the third batch is bad")' in str(failed.value.__cause__)
    assert "[process 2] looking at the third batch\n" in capsys.readouterr().err
    assert len(pids(tmp_path)) == 2
    assert not any(map(is_running, pids(tmp_path)))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "rank", "said"),
    [
        ("die", 1, r"Process 2 of 2 that train this trial was killed by SIGKILL"),
        ("memory", 0, r"out of memory.*in process 1 of 2.*cannot recover from that: lower batch_size"),
    ],
)
def test_one_that_dies_or_runs_out_of_memory_ends_all(tmp_path: Path, fault: str, rank: int, said: str) -> None:
    with pytest.raises(TrialFailed, match=said):
        run(tmp_path, "Faulty", params={"fault": fault, "rank": rank}, devices=2)
    assert len(pids(tmp_path)) == 2
    assert not any(map(is_running, pids(tmp_path)))


@pytest.mark.slow
def test_nobody_outlives_a_killed_parent_and_all_listen_on_loopback_alone(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from tests.training.test_distributed import run\n"
        "run(Path(sys.argv[1]), 'Faulty', params={'fault': 'hang'}, devices=2)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT)
    try:
        assert wait_for((tmp_path / "hanging").exists)
        children = pids(tmp_path)
        assert len(children) == 2
        assert all(map(is_running, children))
        listening = [address for pid in children for address in _listening(pid)]
        assert set(listening) == {"127.0.0.1"}
    finally:
        parent.kill()
        parent.wait()
    assert wait_for(lambda: not any(map(is_running, children)))


def _listening(pid: int) -> list[str]:
    """The addresses that a process listens on."""
    open_now = psutil.Process(pid).net_connections("inet")
    return [one.laddr.ip for one in open_now if one.status == psutil.CONN_LISTEN]


# Without a process


@pytest.fixture
def member() -> Iterator[Callable[[int, int, str], Group]]:
    """A process's view of a team whose other members are not there."""

    def make(rank: int, size: int, norm: str = "batch") -> Group:
        if dist.is_initialized():
            dist.destroy_process_group()
        dist.init_process_group("fake", store=FakeStore(), rank=rank, world_size=size)
        model = make_task().model if norm == "batch" else torch.nn.Linear(4, 1)
        return Replicated(make_task(model=model), torch.device("cpu"))

    yield make
    if dist.is_initialized():
        dist.destroy_process_group()


@pytest.mark.parametrize("norm", ["batch", "none"])
@pytest.mark.parametrize(("rows", "size", "parts"), [(8, 2, 1), (7, 2, 2), (1, 2, 1), (3, 2, 1), (5, 4, 3), (2, 3, 2)])
def test_every_row_counts_in_one_process_once(
    member: Callable[[int, int, str], Group], rows: int, size: int, parts: int, norm: str
) -> None:
    batch = (torch.arange(rows) + 10, torch.arange(rows))
    least, seen, passes = 2 if norm == "batch" and rows > 1 else 1, [], set()
    for rank in range(size):
        pieces = member(rank, size, norm).pieces(batch, parts)
        passes.add(len(pieces))
        for (inputs, target), counted in pieces:
            seen += target[:counted].tolist()
            assert counted in (0, len(target))
            assert least <= len(target)
            assert torch.equal(inputs, target + 10)
    assert seen == list(range(rows))
    assert len(passes) == 1  # who has no rows takes part all the same


def test_processes_draw_differently_and_stay_in_step(member: Callable[[int, int, str], Group]) -> None:
    x, drawn, states = torch.ones(4, 100), [], []
    for rank in (0, 1):
        group = member(rank, 2, "none")
        model = group.wrap(torch.nn.Sequential(torch.nn.Linear(100, 100), torch.nn.Dropout(0.5)))
        torch.manual_seed(5)
        first, second = model(x) != 0, model(x) != 0
        assert not torch.equal(first, second)
        drawn.append(first)
        states.append(torch.get_rng_state())
    assert not torch.equal(drawn[0], drawn[1])
    assert torch.equal(states[0], states[1])


STUDY: dict[str, Any] = {
    "name": "s",
    "objective": "tests.training.team_objectives:Plain",
    "budget": {"trials": 1, "epochs": 1},
}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"trainer": {"devices": 2}, "resources": {"gpus": 1}}, "resources.gpus: trainer.devices is 2.*got 1"),
        ({"trainer": {"devices": 2, "compile": True}}, "compile works with one device; devices is 2"),
        ({"search_space": {"devices": {"type": "int", "low": 1, "high": 2}}}, "devices says what every trial gets"),
        (
            {"trainer": {"devices": 2, "strategy": "fsdp"}, "goals": [{"metric": "peak_memory_mb"}]},
            "peak_memory_mb cannot be measured with strategy fsdp on a CPU",
        ),
    ],
)
def test_what_does_not_go_with_several_devices_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(StudyFileError, match=message):
        resolve(StudySpec.parse(json.dumps({**STUDY, **fields})))


def test_what_goes_with_several_devices_is_not_refused() -> None:
    study = {**STUDY, "trainer": {"devices": 2, "strategy": "fsdp"}, "resources": {"gpus": 2}}
    assert resolve(StudySpec.parse(json.dumps(study))).trainer.devices == 2


def test_a_searched_optimizer_that_knows_no_shards_ends_the_trial(tmp_path: Path) -> None:
    with pytest.raises(TrialFailed, match="adamw8bit does not know the sharded parameters"):
        run(tmp_path, params={"optimizer": "adamw8bit"}, devices=2, strategy="fsdp")
