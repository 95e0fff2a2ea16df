"""One contract for all trackers, held against the real libraries: the same runs, metrics, steps and ends."""

from __future__ import annotations

import importlib
import itertools
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hpo import aside, service, tracking
from hpo.interrupt import Interrupt
from hpo.runners import trial_log
from hpo.service import Launched
from hpo.trial import Job
from tests import studies
from tests.tracking import reading
from tests.tracking.reading import Seen

TRACKERS = ["mlflow", "tensorboard", "wandb"]
slow = pytest.mark.slow
QUICKEST = ["tensorboard", pytest.param("wandb", marks=slow), pytest.param("mlflow", marks=slow)]
TOLD: dict[str, Any] = {
    "name": "told",
    "objective": "tests.tracking.told_objectives:Told",
    "data": {},
    "goals": None,
    "budget": {"trials": 4, "epochs": 4},
    "enqueue": [{"x": 0.25, "kind": "a"}, {"x": 0.5, "kind": None}, {"x": 0.75, "kind": 2}, {"x": 0.0, "kind": "a"}],
    "retrain": {"confirm": 0},
}
KEYS = {"mlflow": "share ___"}  # a metric's name in the letters that a tracker takes


@pytest.fixture(scope="module")
def mlflow_uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One database for all tests: making one takes seconds, which no launch here has to wait for."""
    for name, value in {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_LOGGING_LEVEL": "WARNING"}.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient

    uri = f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"
    MlflowClient(uri).search_experiments()
    return uri


@dataclass
class Tried:
    """A tracker, how a study file names it, and what it holds afterwards."""

    name: str
    spec: dict[str, Any]
    runs: Callable[[], dict[str, Seen]]
    folder: Path
    url: str

    def launch(self, **fields: Any) -> Launched:
        return studies.launch(self.folder, self.url, **{**TOLD, "tracking": self.spec, **fields})


@pytest.fixture(params=TRACKERS)
def tried(request: pytest.FixtureRequest, tmp_path: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> Tried:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(aside, "_WAIT_S", 600.0)  # importing a tracker takes a minute where the machine is busy
    for variable in ("WANDB_API_KEY", "WANDB_MODE", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    name, study = request.param, tmp_path / "runs" / "told"
    spec: dict[str, Any] = {"name": name}
    if name == "mlflow":
        spec |= {"uri": request.getfixturevalue("mlflow_uri"), "experiment": str(tmp_path)}
    runs: dict[str, Callable[[], dict[str, Seen]]] = {
        "mlflow": lambda: reading.mlflow_runs(spec["uri"], str(tmp_path)),
        "tensorboard": lambda: reading.tensorboard_runs(study / "tensorboard"),
        "wandb": lambda: reading.wandb_runs(study / "wandb"),
    }
    return Tried(name, spec, runs[name], tmp_path, sqlite_url)


def same(curve: reading.Curve, expected: reading.Curve) -> bool:
    """Steps exactly, values as far as single precision goes, which is what TensorBoard keeps."""
    return [step for step, _ in curve] == [step for step, _ in expected] and all(
        math.isclose(value, other, rel_tol=1e-6) for (_, value), (_, other) in zip(curve, expected, strict=True)
    )


class TestContract:
    def test_every_run_has_its_parameters_curves_and_values(self, tried: Tried) -> None:
        tried.launch()
        runs = tried.runs()
        assert set(runs) == {f"search-{number}" for number in range(4)}
        for number, x in enumerate((0.25, 0.5, 0.75, 0.0)):
            run = runs[f"search-{number}"]
            assert same(run.curves["loss"], [(e, x + 1 / e) for e in (1, 2, 3, 4)])
            assert same(run.curves[KEYS.get(tried.name, "share [%]")], [(e, 10.0 * e) for e in (1, 2, 3, 4)])
            assert run.once == pytest.approx({"size_mb": 3.5, "goal/loss": x + 0.25, "goal/size_mb": 3.5})
            assert float(run.params["x"]) == x
            assert (run.end["state"], run.end["stop"], run.end["reason"]) == ("complete", "finished", "done")
            assert run.files == ([trial_log.FILE] if tried.name == "mlflow" else [])
        kinds = [runs[f"search-{number}"].params["kind"] for number in range(4)]
        assert kinds == {"wandb": ["a", None, 2, "a"], "tensorboard": ["a", "None", 2.0, "a"]}.get(
            tried.name, ["a", "None", "2", "a"]
        )

    @pytest.mark.parametrize("tried", QUICKEST, indirect=True)
    def test_a_pruned_and_a_failed_trial_are_told_as_what_they_are(self, tried: Tried) -> None:
        ended = tried.launch(
            data={"fails": 1}, goals=[{"metric": "loss"}],
            pruner={"name": "threshold", "watch": "loss", "upper": 1.6},
        )  # fmt: skip
        states = [str(trial.state) for trial in ended.snapshot.trials]
        assert states == ["complete", "fail", "pruned", "complete"]  # 0.75 + 1/1 is above 1.6
        runs = tried.runs()
        assert [runs[f"search-{number}"].end["state"] for number in range(4)] == states
        assert [len(runs[f"search-{number}"].curves["loss"]) for number in range(4)] == [4, 2, 1, 4]
        assert "broken at epoch 2" in runs["search-1"].end["reason"]
        words = {
            "mlflow": ["FINISHED", "FAILED", "KILLED", "FINISHED"],
            "tensorboard": [1, 2, 1, 1],  # success, failure
            "wandb": [0, 1, 0, 0],
        }
        assert [runs[f"search-{number}"].status for number in range(4)] == words[tried.name]

    def test_a_resumed_trial_goes_on_in_the_same_run(self, tried: Tried) -> None:
        interrupt = Interrupt()
        stop = studies.StopAfter(interrupt, 6)
        tried.launch(interrupt=interrupt, listeners=lambda plan, ended: [stop])
        runs = tried.runs()
        assert runs["search-1"].end["state"] == "queued"
        assert same(runs["search-1"].curves["loss"], [(1, 1.5), (2, 1.0)])
        assert runs["search-1"].status == {"mlflow": "SCHEDULED", "tensorboard": None, "wandb": 1}[tried.name]
        tried.launch()
        runs = tried.runs()
        assert set(runs) == {f"search-{number}" for number in range(4)}
        assert same(runs["search-1"].curves["loss"], [(e, 0.5 + 1 / e) for e in (1, 2, 3, 4)])
        assert runs["search-1"].end["state"] == "complete"
        assert runs["search-1"].parts == (1 if tried.name == "mlflow" else 2)

    @pytest.mark.parametrize("tried", QUICKEST, indirect=True)
    def test_confirmations_are_runs_of_their_own_series(self, tried: Tried) -> None:
        tried.launch(retrain={"confirm": 1, "confirm_seeds": 2, "pick": "loss"})
        runs = tried.runs()
        assert set(runs) == {*(f"search-{number}" for number in range(4)), "confirm-0", "confirm-1"}
        assert same(runs["confirm-1"].curves["loss"], [(e, 1 / e) for e in (1, 2, 3, 4)])


@pytest.mark.parametrize("tried", QUICKEST, indirect=True)
class TestTrouble:
    def test_a_trial_that_went_back_has_its_last_word_on_every_epoch(self, tried: Tried) -> None:
        tried.launch(data={"rewinds": 0}, budget={"trials": 1, "epochs": 4})
        curve = tried.runs()["search-0"].curves["loss"]
        if tried.name == "tensorboard":  # which takes back what is void
            assert same(curve, [(1, 101.25), *((e, 0.25 + 1 / e) for e in (2, 3, 4))])
        else:  # which keep both
            assert [step for step, _ in curve] == [1, 2, 2, 3, 3, 4]
            assert {value for step, value in curve if step == 2} == {100.75, 0.75}

    def test_a_study_is_the_same_with_a_tracker_and_without(self, tried: Tried, tmp_path: Path) -> None:
        fields: dict[str, Any] = {
            "deterministic": True,
            "sampler": {"name": "tpe", "startup_trials": 2},
            "budget": {"trials": 6, "epochs": 4},
            "enqueue": None,
        }
        tried.launch(**fields)
        studies.launch(tmp_path, f"sqlite:///{tmp_path / 'bare.db'}", **{**TOLD, **fields})
        assert content(tried.url) == content(f"sqlite:///{tmp_path / 'bare.db'}")

    def test_a_tracker_that_fails_leaves_the_study_equal_and_one_event(
        self, tried: Tried, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        blocked = tmp_path / "blocked"
        blocked.write_text("a file where a folder is wanted")
        if tried.name == "mlflow":
            tried.spec["uri"] = f"sqlite:///{blocked}/mlflow.db"
        elif tried.name == "tensorboard":
            tried.spec["folder"] = str(blocked)
        else:
            monkeypatch.setattr("wandb.init", _no_space)
        tried.launch()
        studies.launch(tmp_path, f"sqlite:///{tmp_path / 'bare.db'}", **TOLD)
        assert content(tried.url) == content(f"sqlite:///{tmp_path / 'bare.db'}")
        events = studies.rows(tried.url, "SELECT kind, message FROM hpo_events WHERE kind = 'tracking_failed'")
        title = tracking.find(tried.name).TITLE
        assert len(events) == 1
        assert events[0][1].startswith(f"{title}: ") and events[0][1].endswith(". Trials go on.")
        assert capsys.readouterr().err.count(f"hpo: {title}: ") == 1

    def test_what_a_tracker_missed_it_is_told_at_the_end_of_the_trial(
        self, tried: Tried, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("hpo.tracking._listener._SLOW_S", math.inf)  # however long refusing takes here
        run = importlib.import_module(f"hpo.tracking.{tried.name}").Run
        for verb, refused in (("tell", (1, 2)), ("end", (1,))):
            monkeypatch.setattr(run, verb, sometimes(getattr(run, verb), refused))
        tried.launch()
        for number, x in enumerate((0.25, 0.5)):
            curve = tried.runs()[f"search-{number}"].curves["loss"]
            assert same(sorted(curve), [(e, x + 1 / e) for e in (1, 2, 3, 4)])
            assert tried.runs()[f"search-{number}"].end["state"] == "complete"

    @slow
    def test_a_retrained_study_is_told_though_the_package_has_gone(
        self, tried: Tried, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        tried.launch()
        monkeypatch.setitem(sys.modules, tracking.find(tried.name).PACKAGE, None)
        assert service.retrain(tried.url, "told") is not None
        said = f"needs the package {tracking.find(tried.name).PACKAGE}: pip install 'hpo[{tried.name}]'. Trials go on."
        assert said in capsys.readouterr().err


def sometimes(verb: Callable[..., None], refused: Sequence[int]) -> Callable[..., None]:
    """``verb``, which fails at the calls of these numbers, counted from 1."""
    count = itertools.count(1)

    def calling(self: object, given: object) -> None:
        if next(count) in refused:
            raise ConnectionError("away for a moment")
        verb(self, given)

    return calling


def _no_space(**options: object) -> None:
    raise OSError(28, "No space left on device")


def content(url: str) -> list[list[tuple[Any, ...]]]:
    """All that a study's trials are: parameters, values, states and every metric of every epoch, bit for bit."""
    return [
        studies.rows(url, "SELECT number, state FROM trials ORDER BY number"),
        studies.rows(url, "SELECT trial_id, param_name, param_value FROM trial_params ORDER BY 1, 2"),
        studies.rows(url, "SELECT trial_id, objective, value FROM trial_values ORDER BY 1, 2"),
        studies.rows(
            url, "SELECT number, step, p.metrics FROM hpo_points p JOIN hpo_trials t ON t.id = p.trial ORDER BY 1, 2"
        ),
    ]


class Hangs:
    """A tracker that never answers."""

    def __init__(self, release: Any) -> None:
        self.release = release

    def begin(self, job: Job) -> Any:
        self.release.wait(600)

    def close(self) -> None: ...


class Away:
    """A tracker behind a line that is down; it counts how often it is tried."""

    tries = 0

    def begin(self, job: Job) -> Any:
        self.tries += 1
        time.sleep(0.15)
        raise ConnectionError("nobody answers")

    def close(self) -> None: ...


def test_a_tracker_that_is_slow_to_fail_is_not_tried_each_time(
    tmp_path: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = Away()
    monkeypatch.setattr("hpo.tracking._listener._PAUSE", 100_000)
    monkeypatch.setattr(tracking, "_open", lambda *given: away)
    studies.launch(tmp_path, sqlite_url, **{**TOLD, "tracking": "tensorboard"})
    assert away.tries == 2  # at first, and once more when the launch ends


def test_a_tracker_that_hangs_is_left_behind(
    tmp_path: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    release = threading.Event()
    monkeypatch.setattr(aside, "_WAIT_S", 0.2)
    monkeypatch.setattr(tracking, "_open", lambda *given: Hangs(release))
    launched = studies.launch(tmp_path, sqlite_url, **{**TOLD, "tracking": "tensorboard"})
    release.set()
    assert [str(trial.state) for trial in launched.snapshot.trials] == ["complete"] * 4
    assert "TensorBoard was still behind after 0.2 s; the rest is left out." in capsys.readouterr().err
