"""hpo reproduce: the model of a bundle trained again from the bundle alone."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import cli
from hpo import service
from hpo.environment import differences
from hpo.errors import BundleError, DataError, TrialFailed, UserError
from hpo.export import bundle as sealing
from hpo.export.bundle import CHECKSUMS, MANIFEST
from hpo.export.manifest import Check
from hpo.interrupt import Interrupt
from hpo.service import reproducing
from hpo.service.origins import without_secrets
from hpo.terminal import stopping_on_signals
from tests.studies import StopAfter, launch

LINE = "tests.run_objectives:Line"
NOWHERE = "sqlite:///none.db"  # a bundle's folder needs no database


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of a study of one trial, retrained with seeds 5 and 6; its format is taken at its word."""
    folder = tmp_path_factory.mktemp("reproduce")
    url = f"sqlite:///{folder / 'hpo.db'}"
    launch(
        folder, url, name="line", objective=LINE, data={"sign": 1}, goals=[{"metric": "val_loss"}],
        budget={"trials": 1, "epochs": 2}, trainer={"early_stopping": {"metric": "val_loss", "patience": 2}},
        retrain={"confirm": 0, "seeds": [5, 6], "epochs": 4},
        tracking=[], gates=[{"metric": "loss", "at_most": 100.0}],
    )  # fmt: skip
    assert service.retrain(url, "line") is not None
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("hpo.export.release.check_apart", lambda *args, **options: Check())
        service.export(url, "line", folder / "bundle", formats=["safetensors"])
    shutil.rmtree(folder / "runs")  # from here on there is nothing but the bundle
    (folder / "hpo.db").unlink()
    return folder / "bundle"


@pytest.fixture
def bundle(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made, tmp_path / "bundle")


def edited(bundle: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """The bundle with another manifest, sealed anew."""
    content = json.loads((bundle / MANIFEST).read_text())
    change(content)
    (bundle / MANIFEST).write_text(json.dumps(content))
    (bundle / CHECKSUMS).unlink()
    sealing._seal(bundle)
    return bundle


def without_weights(manifest: dict[str, Any]) -> None:
    """No weights in the bundle: its only format is said to be ONNX, which nothing here loads."""
    manifest["formats"]["onnx"] = manifest["formats"].pop("safetensors")


def reproduce(bundle: Path, **options: Any) -> service.Reproduced:
    found = service.reproduce(NOWHERE, str(bundle), **options)
    assert found is not None
    return found


def test_the_same_training_gives_the_same_weights_from_the_bundle_alone(made: Path, tmp_path: Path) -> None:
    told: list[str] = []
    found = reproduce(made, say=told.append)
    origin = json.loads((made / MANIFEST).read_text())["origin"]
    assert (found.study, found.seed) == ("line", origin["seed"]) and found.seed in (5, 6)
    assert (found.sameness.is_equal, found.sameness.by_weights, found.sameness.n_tensors) == (True, True, 4)
    assert set(found.metrics) == {"test_loss", "test_bias"}
    assert all(then == now for then, now in found.metrics.values())
    assert (found.best_epoch[0], found.ended[0]) == (found.best_epoch[1], found.ended[1])
    assert not any("Python" in line or "torch" in line for line in told)


def test_another_seed_is_not_equal_and_says_how_far_it_is(bundle: Path) -> None:
    edited(bundle, lambda manifest: manifest["origin"].update(seed=77))
    found = reproduce(bundle)
    same = found.sameness
    assert (same.is_equal, same.by_weights, same.n_equal, same.n_tensors) == (False, True, 0, 4)
    assert same.difference is not None and 0.1 < same.difference < 10
    assert same.outputs is not None and same.outputs.output == "output" and (same.outputs.bound_share or 0) > 1
    then, now = found.metrics["test_loss"]
    assert then != now


def test_where_the_bundle_holds_no_weights_its_outputs_stand_for_them(bundle: Path) -> None:
    edited(bundle, lambda manifest: (without_weights(manifest), manifest["origin"].update(seed=77)))
    same = reproduce(bundle).sameness
    assert (same.is_equal, same.by_weights, same.n_equal) == (False, True, None)
    assert same.outputs is not None and (same.outputs.difference or 0) > 0


@pytest.mark.parametrize("holds_weights", [True, False])
def test_a_bundle_of_before_there_were_checksums_of_weights(bundle: Path, holds_weights: bool) -> None:
    def age(manifest: dict[str, Any]) -> None:
        manifest["version"] = 3
        manifest["weights_sha256"] = None
        for name in ("trainer", "goals", "monitor", "environment"):
            del manifest["origin"][name]
        if not holds_weights:
            without_weights(manifest)

    same = reproduce(edited(bundle, age)).sameness
    assert (same.is_equal, same.by_weights, same.n_equal) == (True, holds_weights, 4 if holds_weights else None)


def test_the_trainers_recorded_settings_count_not_those_of_today(bundle: Path) -> None:
    edited(bundle, lambda manifest: manifest["origin"]["trainer"].update(grad_clip=1e-6))
    assert not reproduce(bundle).sameness.is_equal


@pytest.mark.parametrize(
    ("change", "options", "error", "message"),
    [
        (None, {"data": {"sign": -1}}, DataError, r"fingerprint: was [0-9a-f]{64}\n +is  [0-9a-f]{64}"),
        (lambda m: m["origin"].pop("seed"), {}, UserError, "lacks origin.seed"),
        (lambda m: m.update(origin={"checkpoint": "last.pt"}), {}, UserError, "was made from last.pt alone"),
        (lambda m: m["origin"]["trainer"].update(magic=1), {}, BundleError, "does not know: 1 validation error"),
    ],
    ids=["data", "seed", "checkpoint", "settings"],
)
def test_what_cannot_be_reproduced_is_refused_before_anything_is_trained(
    bundle: Path, change: Any, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    if change is not None:
        edited(bundle, change)
    with pytest.raises(error, match=message):
        service.reproduce(NOWHERE, str(bundle), **options)


def test_nothing_is_written_into_the_bundle_nor_among_other_files(made: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="holds other files"):
        service.reproduce(NOWHERE, str(made), keep=tmp_path)
    for option in ("keep", "import_from"):
        with pytest.raises(BundleError, match="lies in the bundle"):
            service.reproduce(NOWHERE, str(made), **{option: made / "runs"})
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_run_that_was_stopped_goes_on_where_it_was_kept(made: Path, tmp_path: Path) -> None:
    interrupt = Interrupt()
    stopping = StopAfter(interrupt, reports=2)
    keep = tmp_path / "again"
    options: dict[str, Any] = {"keep": keep, "interrupt": interrupt, "listeners": lambda plan, ended: [stopping]}
    assert service.reproduce(NOWHERE, str(made), **options) is None
    steps: list[int] = []

    class Heard(StopAfter):
        def reported(self, number: int, point: Any) -> None:
            steps.append(point.step)

    found = reproduce(made, keep=keep, listeners=lambda plan, ended: [Heard(Interrupt(), 0)])
    assert found.sameness.is_equal and found.folder == keep
    assert steps[0] > 1


def test_a_training_that_fails_says_why(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests import run_objectives

    def broken(*args: Any) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(run_objectives, "build_model", broken)
    with pytest.raises(TrialFailed, match="could not be trained again: OSError.*No space left.*With --keep FOLDER"):
        service.reproduce(NOWHERE, str(made))


@pytest.mark.parametrize(
    ("keeps", "promised"),
    [
        (True, "as soon as a checkpoint is kept (again: leave at once). Go on with: hpo reproduce b"),
        (False, "without keeping anything (again: leave at once). Begin again with: hpo reproduce b"),
    ],
)
def test_ctrl_c_promises_to_go_on_only_where_something_is_kept(
    capfd: pytest.CaptureFixture[str], keeps: bool, promised: str
) -> None:
    with stopping_on_signals("hpo reproduce b", keeps=keeps) as interrupt:
        os.kill(os.getpid(), signal.SIGINT)
        assert interrupt.requested
    assert capfd.readouterr().err.strip() == f"Stopping {promised}"


def test_the_command_answers_with_its_exit_code(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = CliRunner().invoke(cli.app, ["reproduce", str(bundle)])
    assert done.exit_code == 0, done.output
    assert "Every one of its 4 tensors is the same, bit for bit." in done.stdout
    assert "not deterministic, so equality is not promised" in done.stdout
    edited(bundle, lambda manifest: manifest["origin"].update(seed=77))
    other = CliRunner().invoke(cli.app, ["reproduce", str(bundle), "--json"])
    assert other.exit_code == 1, other.output
    found = json.loads(other.stdout)
    assert (found["equal"], found["seed"], found["deterministic"]) == (False, 77, False)
    monkeypatch.setattr(reproducing, "_trained", lambda *args: None)
    assert CliRunner().invoke(cli.app, ["reproduce", str(bundle)]).exit_code == 130


def test_what_differs_around_a_training_is_told_where_both_sides_are_known() -> None:
    then = {
        "python": "3.11.7", "cpu": "A", "gpus": [], "cuda": None, "packages": {"torch": "2.12", "optuna": "4.0"},
        "git_hpo": {"commit": "a" * 40, "dirty": False},
    }  # fmt: skip
    now = {
        "python": "3.11.7", "cpu": "B", "gpus": ["H"], "cuda": "12.8", "packages": {"torch": "2.13", "optuna": "5.0"},
        "git_hpo": {"commit": "a" * 40, "dirty": True}, "git": {"commit": "b" * 40, "dirty": False},
    }  # fmt: skip
    assert differences(then, now) == [
        "torch: was 2.12, is 2.13",
        "CPU: was A, is B",
        "GPUs: was none, is H",
        "hpo's code: was aaaaaaaaaaaa, is aaaaaaaaaaaa with changes",
    ]


def test_an_origin_keeps_no_secret_of_the_data() -> None:
    told = without_secrets({
        "path": "s3://logos/a?region=eu&secret_key=S3&X-Amz-Signature=abc", "more": ["https://me:pw@host/x"], "n": 3,
    })  # fmt: skip
    assert told == {
        "path": "s3://logos/a?region=eu&secret_key=***&X-Amz-Signature=***", "more": ["https://me:***@host/x"], "n": 3,
    }  # fmt: skip


def test_the_bundle_says_what_its_training_depended_on(made: Path) -> None:
    origin = json.loads((made / MANIFEST).read_text())["origin"]
    assert origin["trainer"]["lr"] == json.loads((made / MANIFEST).read_text())["params"]["lr"]
    assert origin["trainer"]["early_stopping"]["patience"] == 2 and origin["trainer"]["threads"] == 1
    assert origin["split"] == {"train": 48, "validation": 16, "test": 16}
    assert origin["monitor"] == {"metric": "val_loss", "direction": "minimize"}
    assert set(origin["searched"]) == {"lr", "width", "dropout"}
    assert origin["environment"]["packages"]["torch"]
    card = (made / "README.md").read_text()
    assert "# line\n" in card and "### On the test set (16 samples)" in card and "- loss ≤ 100: " in card
