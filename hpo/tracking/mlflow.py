"""MLflow: one run per study and series, and under it one per trial, in any store that MLflow reaches by a URL.

Runs are found again by a tag, so a resumed study goes on in them and nothing is kept on our side.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pydantic import field_validator

import hpo
from hpo.errors import UserError
from hpo.tracking import _facts
from hpo.tracking._roles import TrackerOptions
from hpo.trial import Job, Params, Point, TrialRecord, TrialState
from storage import urls
from storage.records import RETRAIN, VersionRecord
from storage.studies import StoredStudy

if TYPE_CHECKING:
    from mlflow import MlflowClient

T = TypeVar("T")

TITLE = "MLflow"
PACKAGE = "mlflow"

_HERE = "sqlite:///mlflow.db"  # where ``mlflow ui`` looks when it is told nothing
_ID, _PARENT = "hpo.id", "mlflow.parentRunId"
_VERSION, _DIGEST = "hpo.model_version", "hpo.bundle_digest"
_ALIASES = {"latest": "hpo-latest"}  # MLflow keeps the word for itself, for the version that came last
_LOG = "log.txt"  # of a trial, in its folder
_PARAMS, _METRICS, _LONGEST_TAG = 100, 1000, 5000  # what MLflow takes in one call, and characters of a tag
_STATUS = {
    TrialState.COMPLETE: "FINISHED",
    TrialState.PRUNED: "KILLED",
    TrialState.FAIL: "FAILED",
    TrialState.QUEUED: "SCHEDULED",
}
# Nothing is told to its makers, and a server that is away is given up before a launch's end has to wait for it.
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
}


class Options(TrackerOptions):
    """``uri``: of the store or server, or ``$NAME`` for one in an environment variable; None is MLflow's own choice."""

    uri: str | None = None
    experiment: str | None = None

    @field_validator("uri")
    @classmethod
    def _is_an_address(cls, uri: str | None) -> str | None:
        if uri is None or uri.startswith("$") or uri == "databricks":
            return uri
        if "://" not in uri or uri.startswith("file:"):
            raise ValueError("must be a URL such as sqlite:///mlflow.db or https://HOST; MLflow keeps no runs in files")
        try:
            urls.check_kept(uri)
        except UserError as error:
            raise ValueError(str(error)) from None
        return uri

    def address(self) -> str:
        """The URL.

        Raises:
            StorageError: it is to be found in an environment variable that is not set.
        """
        if self.uri is None:
            return os.environ.get("MLFLOW_TRACKING_URI") or _HERE
        return urls.from_environment(self.uri)

    def check_here(self) -> None:
        try:
            self.address()
        except UserError as error:
            raise UserError(f"tracking: mlflow: uri: {error}") from None

    def hide(self, message: str) -> str:
        try:
            return urls.without_secrets(urls.parse(self.address()), message)
        except UserError:  # no URL, so no secret in it
            return message


class Tracker:
    """The runs of one study in MLflow."""

    def __init__(self, options: Options, study: StoredStudy) -> None:
        self._study = study
        self._client = _client(options)
        self._experiment = self._experiment_id(options.experiment or study.name)
        self._parents: dict[str, str] = {}  # by series

    def begin(self, job: Job) -> Run:
        parent = self._parent(job.series)
        tags = {f"hpo.{name}": str(value) for name, value in _facts.of_trial(self._study, job).items()}
        own = _facts.run_id(self._study, job.series, job.number)
        run_id, is_new = self._open(own, _facts.run_name(job), {**tags, "hpo.state": "running", _PARENT: parent})
        self._log_params(run_id, job.params)
        told = set() if is_new else self._steps(run_id, job.monitor.metric)
        return Run(self._client, run_id, self._study, Path(job.folder), told)

    def close(self) -> None:
        for run_id in self._parents.values():
            self._client.set_terminated(run_id, "FINISHED")
        self._parents.clear()

    def _experiment_id(self, name: str) -> str:
        found = self._client.get_experiment_by_name(name)
        return found.experiment_id if found is not None else self._client.create_experiment(name)

    def _parent(self, series: str) -> str:
        if series not in self._parents:
            tags = {f"hpo.{name}": value for name, value in _facts.of_study(self._study).items()}
            own = _facts.run_id(self._study, series)
            run_id, is_new = self._open(own, f"{self._study.name} {series}", {**tags, "hpo.series": series})
            self._parents[series] = run_id
            if is_new:
                self._client.log_text(run_id, self._study.record.spec_yaml, "study.yaml")
        return self._parents[series]

    def _open(self, own_id: str, name: str, tags: Mapping[str, str]) -> tuple[str, bool]:
        """The run with this tag, running again, or a new one; and whether it is new."""
        found = self._client.search_runs([self._experiment], f"tags.`{_ID}` = '{own_id}'")
        if not found:
            run = self._client.create_run(self._experiment, run_name=name, tags={**tags, _ID: own_id})
            return str(run.info.run_id), True
        run_id = str(found[0].info.run_id)
        self._client.update_run(run_id, "RUNNING")
        _tag(self._client, run_id, tags)
        return run_id, False

    def _log_params(self, run_id: str, params: Params) -> None:
        from mlflow.entities import Param

        for some in _batches([Param(_key(name), str(value)) for name, value in params.items()], _PARAMS):
            self._client.log_batch(run_id, params=some)

    def _steps(self, run_id: str, metric: str) -> set[int]:
        return {told.step for told in self._client.get_metric_history(run_id, _key(metric))}


class Run:
    """One trial in MLflow."""

    def __init__(self, client: MlflowClient, run_id: str, study: StoredStudy, folder: Path, told: set[int]) -> None:
        self._client, self._id, self._study, self._folder, self.told = client, run_id, study, folder, told

    def rewind(self, step: int) -> None:
        """Nothing can be taken back: the metric's history keeps both values of the step."""

    def tell(self, points: Sequence[Point]) -> None:
        self._log((name, value, point.step) for point in points for name, value in point.metrics.items())

    def end(self, record: TrialRecord) -> None:
        metrics = _facts.last_metrics(record, self._study.goals)
        self._log((name, value, record.last_step) for name, value in metrics.items())
        _tag(self._client, self._id, {f"hpo.{name}": str(value) for name, value in _facts.of_end(record).items()})
        status = _STATUS[record.state]
        if record.state.is_finished:
            self._client.set_terminated(self._id, status)
        else:
            self._client.update_run(self._id, status)
        if (self._folder / _LOG).exists():
            self._client.log_artifact(self._id, str(self._folder / _LOG))

    def _log(self, metrics: Iterable[tuple[str, float, int]]) -> None:
        from mlflow.entities import Metric

        now = time.time_ns() // 1_000_000
        for some in _batches([Metric(_key(name), value, now, step) for name, value, step in metrics], _METRICS):
            self._client.log_batch(self._id, metrics=some)


def register(options: Options, version: VersionRecord, labels: Sequence[str], gone: Sequence[str]) -> None:
    """The version in MLflow's model registry, with an alias for each label; found again by the bundle's digest.

    Its source is the version's place, its run the one of the retraining that it shipped, where that is known.
    """
    client, name = _client(options), version.model
    if not client.search_registered_models(f"name = '{name}'", max_results=1):
        client.create_registered_model(name, tags={"hpo.version": hpo.__version__})
    tags = {
        _VERSION: version.name,
        _DIGEST: version.digest,
        "hpo.study": str(version.study),
        "hpo.trial": str(version.trial),
    }
    found = [one for one in client.search_model_versions(f"name = '{name}'") if one.tags.get(_DIGEST) == version.digest]
    if not found:
        run_id = _run_of(client, options, version)
        found = [client.create_model_version(name, version.place, run_id, tags=tags, await_creation_for=0)]
    for label in labels:
        client.set_registered_model_alias(name, _ALIASES.get(label, label), found[0].version)
    held = client.get_registered_model(name).aliases if gone else {}
    for alias in (_ALIASES.get(label, label) for label in gone):
        if str(held.get(alias)) == str(found[0].version):  # else it points at another version, which keeps it
            client.delete_registered_model_alias(name, alias)


def _run_of(client: MlflowClient, options: Options, version: VersionRecord) -> str | None:
    origin = version.manifest["origin"]
    place = client.get_experiment_by_name(options.experiment or str(version.study))
    if place is None or "run" not in origin:
        return None
    wanted = {"hpo.digest": origin["digest"], "hpo.series": RETRAIN, "hpo.number": origin["run"]}
    runs = client.search_runs(
        [place.experiment_id], " and ".join(f"tags.`{tag}` = '{value}'" for tag, value in wanted.items()), max_results=1
    )
    return str(runs[0].info.run_id) if runs else None


def _client(options: Options) -> MlflowClient:
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient

    return MlflowClient(options.address())


def _tag(client: MlflowClient, run_id: str, tags: Mapping[str, str]) -> None:
    from mlflow.entities import RunTag

    client.log_batch(run_id, tags=[RunTag(name, value[:_LONGEST_TAG]) for name, value in tags.items()])


def _key(name: str) -> str:
    """``name`` in the letters that MLflow takes."""
    return re.sub(r"[^\w.\-/ ]", "_", name)


def _batches(items: list[T], size: int) -> Iterator[list[T]]:
    return (items[i : i + size] for i in range(0, len(items), size))
