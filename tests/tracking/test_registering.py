"""Published versions in MLflow's own model registry, read back with its own client."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpo import tracking
from hpo.spec import Named
from hpo.tracking import mlflow
from storage.records import VersionRecord

ORIGIN = {"study": "demo", "digest": "d" * 64, "run": 2}


def version(patch: int = 0, digest: str = "b" * 64, **origin: object) -> VersionRecord:
    return VersionRecord(
        model="logo-quality", number=(1, 0, patch), created_at="2026-01-01T00:00:00+00:00", digest=digest,
        place="/models/logo-quality/v1.0.0", bytes=1, files=1, manifest={"origin": {**ORIGIN, **origin}}, study="demo",
        trial=7, published_by="me", host="here",
    )  # fmt: skip


def _mlflow(uri: str) -> Named:
    return Named.model_validate({"name": "mlflow", "uri": uri})


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One database for all tests: making one takes seconds."""
    found = f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"
    mlflow._client(mlflow.Options(uri=found)).search_experiments()
    return found


@pytest.mark.slow
def test_a_version_is_registered_once_with_its_run_its_tags_and_its_labels(uri: str) -> None:
    client = mlflow._client(mlflow.Options(uri=uri))
    experiment = client.create_experiment("demo")
    wanted = {"hpo.digest": "d" * 64, "hpo.series": "retrain", "hpo.number": "2"}
    run = client.create_run(experiment, tags=wanted)
    client.create_run(experiment, tags={**wanted, "hpo.number": "3"})
    named = [_mlflow(uri), Named(name="tensorboard")]
    assert tracking.register(named, version(), ["latest", "staging"]) == []
    assert tracking.register(named, version(), ["production"]) == []  # of the same version, later
    (found,) = client.search_model_versions("name = 'logo-quality'")
    assert (found.version, found.source, found.run_id) == (1, "/models/logo-quality/v1.0.0", run.info.run_id)
    assert found.tags == {
        "hpo.model_version": "v1.0.0", "hpo.bundle_digest": "b" * 64, "hpo.study": "demo", "hpo.trial": "7",
    }  # fmt: skip
    assert tracking.register(named, version(1, "c" * 64, run=9), ["latest"]) == []
    by_alias = client.get_registered_model("logo-quality").aliases
    assert {alias: int(number) for alias, number in by_alias.items()} == {
        "hpo-latest": 2,
        "staging": 1,
        "production": 1,
    }
    assert client.get_model_version("logo-quality", "2").run_id in (None, "")  # no such run: registered all the same
    assert tracking.register(named, version(), gone=["staging", "latest", "never"]) == []
    by_alias = client.get_registered_model("logo-quality").aliases
    assert {alias: int(number) for alias, number in by_alias.items()} == {
        "hpo-latest": 2,  # taken away from another version than the one that it points at
        "production": 1,
    }


@pytest.mark.slow
def test_a_registry_that_cannot_be_reached_is_a_line_and_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    named = [_mlflow(f"sqlite:///{tmp_path / 'file' / 'x.db'}")]
    (line,) = tracking.register(named, version())
    assert line.startswith("MLflow has not been told of logo-quality@v1.0.0: ")


def test_trackers_that_keep_no_models_are_passed_over() -> None:
    assert tracking.register([Named(name="tensorboard"), Named(name="wandb")], version()) == []


def test_an_unset_variable_is_told_without_mlflow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOT_SET_AT_ALL", raising=False)
    (line,) = tracking.register([_mlflow("$NOT_SET_AT_ALL")], version())
    assert "NOT_SET_AT_ALL" in line
