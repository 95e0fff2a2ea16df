"""A bundle becomes a version of a model, or nothing of it stays; and a version is always what was published."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import cli
from hpo import places, printing, service
from hpo.errors import BundleError, StorageError, UnknownName, UserError, WorkError
from hpo.export.manifest import FormatEntry
from hpo.places import Folder
from hpo.service.registry.publishing import Published
from storage.database import Database
from storage.registry import Registry
from tests import bundles
from tests.processes import ROOT
from tests.studies import launch, rows


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with all its tables and nothing in them: making those takes longer than most tests."""
    file = tmp_path_factory.mktemp("empty") / "hpo.db"
    Database(f"sqlite:///{file}", create=True).close()
    return file


@pytest.fixture
def sqlite_url(empty: Path, tmp_path: Path) -> str:
    return f"sqlite:///{shutil.copy(empty, tmp_path / 'hpo.db')}"


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that nobody changes."""
    return bundles.make(tmp_path_factory.mktemp("plain") / "b").folder


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where models go, as an environment would say it."""
    monkeypatch.setenv("HPO_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


def publish(url: str, folder: Path, name: str = "logo", **options: Any) -> Published:
    return service.publish(url, folder, name, **options)


def versions(url: str, name: str = "logo") -> list[str]:
    return [version.name for version in service.models(url, name)[0].versions]


def labels(url: str, name: str = "logo") -> dict[str, str]:
    return {label: version.name for label, version in service.models(url, name)[0].labels.items()}


def history(url: str) -> list[tuple[str, str | None, str | None, str | None]]:
    with Database(url) as database:
        return [(move.label, move.before, move.after, move.reason) for move in Registry(database).moves("logo")]


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in files(folder)}


def hpo(*words: str) -> Any:
    return CliRunner().invoke(cli.app, [*words])


def fails(*words: str) -> tuple[int, str]:
    """Exit code and message of a command that is wrong."""
    code = f"import sys, cli; sys.argv = ['hpo', *{list(words)!r}]; cli.main()"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.returncode, done.stderr


# What a version is


def test_a_bundle_becomes_a_version_whole(sqlite_url: str, place: Path, tmp_path: Path) -> None:
    made = bundles.make(tmp_path / "b", extra=10)
    published = publish(sqlite_url, made.folder, labels=["staging"], notes="the first")
    version = published.version
    assert (version.reference, version.digest, version.trial, version.notes) == (
        "logo@v1.0.0",
        made.digest,
        7,
        "the first",
    )
    assert (published.labels, published.stays, published.left_overs) == (["staging", "latest"], None, [])
    assert Path(version.place).parent == place / "logo" and Path(version.place).name.startswith("v1.0.0-")
    assert contents(Path(version.place)) == contents(made.folder)
    assert (version.files, version.bytes) == (len(files(made.folder)), sum(map(len, contents(made.folder).values())))
    assert [path.name for path in (place / "logo").iterdir()] == [Path(version.place).name]  # no mark is left
    for reference in ("logo", "logo@v1.0.0", "logo@1.0.0", "logo@staging", "logo@latest", str(made.folder)):
        with service.opened(sqlite_url, reference) as opened:
            assert opened.digest == made.digest


def test_versions_count_on_from_the_highest(sqlite_url: str, place: Path, tmp_path: Path) -> None:
    asked: list[dict[str, str]] = [
        {"bump": "major"}, {}, {"bump": "patch"}, {"version": "3.0.9"}, {"version": "v2.0.0"}, {"bump": "minor"},
        {"bump": "major"},
    ]  # fmt: skip
    found = []
    for number, options in enumerate(asked):
        made = bundles.make(tmp_path / f"b{number}", params={"n": number})
        found.append(publish(sqlite_url, made.folder, **options).version.name)
    assert found == ["v1.0.0", "v1.1.0", "v1.1.1", "v3.0.9", "v2.0.0", "v3.1.0", "v4.0.0"]
    assert versions(sqlite_url)[:4] == ["v1.0.0", "v1.1.0", "v1.1.1", "v2.0.0"]
    assert labels(sqlite_url) == {"latest": "v4.0.0"}


def test_what_is_there_stays_as_it_is(sqlite_url: str, place: Path, tmp_path: Path) -> None:
    first, second = bundles.make(tmp_path / "a"), bundles.make(tmp_path / "b", params={"lr": 0.2})
    publish(sqlite_url, first.folder)
    before = contents(place)
    with pytest.raises(UserError, match=r"logo@v1\.0\.0 is taken, published by .+ at 20.+ UTC, and .+ never changes"):
        publish(sqlite_url, second.folder, version="1.0.0")
    with pytest.raises(UserError, match=r"This very bundle is logo@v1\.0\.0 already, published by"):
        publish(sqlite_url, first.folder)
    assert contents(place) == before and versions(sqlite_url) == ["v1.0.0"]
    assert publish(sqlite_url, first.folder, "other").version.reference == "other@v1.0.0"


def test_a_study_that_is_deleted_leaves_its_versions(sqlite_url: str, place: Path, tmp_path: Path) -> None:
    launch(tmp_path, sqlite_url, budget={"trials": 2})
    ((digest,),) = rows(sqlite_url, "SELECT digest FROM hpo_studies")
    publish(sqlite_url, bundles.make(tmp_path / "b", origin={"study": "branin", "digest": digest, "trial": 1}).folder)
    assert [event.kind for event in service.snapshot(sqlite_url, "branin").events if event.kind == "published"]
    service.delete(sqlite_url, "branin")
    assert service.check_database(sqlite_url).problems == ()
    shown = service.show_version(sqlite_url, "logo")
    assert (shown.version.study, shown.version.trial, shown.problem) == ("branin", 1, None)
    with service.opened(sqlite_url, "logo"):
        pass


# What is refused


@pytest.mark.parametrize("name", ["", "a b", "../x", "a/b", "-x", ".x", "größe", "a@b", "x" * 101])
def test_names_that_no_model_can_have(sqlite_url: str, place: Path, plain: Path, name: str) -> None:
    with pytest.raises(UserError, match="name is of letters, digits"):
        publish(sqlite_url, plain, name)
    assert not place.exists()


@pytest.mark.parametrize("label", ["v1", "1", "1.2", "v1.2.0", "V1.2.0", "", "a b", "--x", "a@b"])
def test_labels_that_cannot_be(sqlite_url: str, place: Path, plain: Path, label: str) -> None:
    with pytest.raises(UserError, match="label"):
        publish(sqlite_url, plain, labels=[label])
    assert not place.exists()


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ({"bump": "huge"}, "--bump is one of major, minor, patch; got 'huge'"),
        ({"bump": "minor", "version": "1.0.0"}, "give one of them"),
        ({"version": "1.2"}, "written MAJOR.MINOR.PATCH, such as 1.2.0; got '1.2'"),
        ({"version": "1.02.0"}, "MAJOR.MINOR.PATCH"),
        ({"version": "99999999999.0.0"}, "MAJOR.MINOR.PATCH"),
        ({"force": " "}, "--force takes a reason in words"),
        ({"allowed_fall": -0.1}, "--allowed-fall is a share of at least 0"),
        ({"allowed_fall": float("nan")}, "--allowed-fall is a share of at least 0"),
        ({"place": "ftp://x"}, "must be an absolute path or s3://BUCKET/PREFIX; got 'ftp://x'"),
        ({"place": "s3://me:secret@bucket/x"}, "credentials do not belong into the address"),
        ({"place": "s3://bucket/x?key=secret"}, "not key"),
    ],
)
def test_options_that_cannot_be(sqlite_url: str, plain: Path, options: dict[str, Any], rule: str) -> None:
    with pytest.raises(UserError, match=rule.replace("(", "[(]")) as refused:
        publish(sqlite_url, plain, **options)
    assert "secret" not in str(refused.value)


def test_gates_that_are_not_met_need_a_reason(sqlite_url: str, place: Path, tmp_path: Path) -> None:
    made = bundles.make(tmp_path / "b", released=False, gates=(bundles.UNMET,))
    with pytest.raises(UserError, match=r"1 of 1 gates not met\. r2 ≥ 0\.9: 0\.5, NOT MET\. .+ a reason with --force"):
        publish(sqlite_url, made.folder)
    assert not place.exists()
    publish(sqlite_url, made.folder, force="the customer waits\nfor it")
    shown = service.show_version(sqlite_url, "logo")
    assert shown.version.forced == "the customer waits\nfor it"
    assert "1 of 1 NOT MET" in hpo("models", "list", "--storage", sqlite_url).stdout
    assert "forced: the customer waits" in hpo("models", "show", "logo", "--storage", sqlite_url).stdout


def test_a_bundle_that_is_not_whole_is_not_published(sqlite_url: str, place: Path, tmp_path: Path) -> None:
    folder = bundles.make(tmp_path / "b").folder
    (folder / "README.md").write_text("another")
    with pytest.raises(BundleError, match=r"README\.md has changed"):
        publish(sqlite_url, folder)
    (folder / "README.md").unlink()
    with pytest.raises(BundleError, match=r"README\.md is missing"):
        publish(sqlite_url, folder)
    assert not place.exists()


def test_a_bundle_of_a_newer_hpo_is_not_published(sqlite_url: str, place: Path, tmp_path: Path) -> None:
    folder = bundles.make(tmp_path / "b").folder
    manifest, sums = folder / "manifest.json", folder / "checksums.sha256"
    before = hashlib.sha256(manifest.read_bytes()).hexdigest()
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "version": 99}))
    sums.write_text(sums.read_text().replace(before, hashlib.sha256(manifest.read_bytes()).hexdigest()))
    with pytest.raises(BundleError, match="is of version 99, this hpo reads up to .+ install a newer hpo"):
        publish(sqlite_url, folder)
    assert not place.exists()


def test_a_format_that_is_no_longer_the_model_is_not_published(sqlite_url: str, place: Path, tmp_path: Path) -> None:
    entry = FormatEntry(released=True, files=("assets/deep/extra.bin",), size_mb=1.0)
    made = bundles.make(tmp_path / "b", extra=10, formats={"onnx": entry})
    with pytest.raises(UserError, match="is not published. onnx: "):
        publish(sqlite_url, made.folder, force="for good reason")
    assert not place.exists()


# What latest follows


def follow(url: str, tmp_path: Path, rmse: float, **options: Any) -> Published:
    """A model of error 0.1 as v1.0.0, and after it one of error ``rmse``."""
    publish(url, bundles.make(tmp_path / "old", 0.1).folder)
    return publish(url, bundles.make(tmp_path / "new", rmse).folder, **options)


@pytest.mark.parametrize(("rmse", "allowed"), [(0.105, 0.1), (0.12, 0.25)])
def test_latest_follows_what_does_not_fall(
    sqlite_url: str, place: Path, tmp_path: Path, rmse: float, allowed: float
) -> None:
    found = follow(sqlite_url, tmp_path, rmse, allowed_fall=allowed)
    assert found.stays is None and found.diff is not None
    assert found.diff.fall == pytest.approx((rmse - 0.1) / 0.1)
    assert labels(sqlite_url) == {"latest": "v1.1.0"}


def test_latest_stays_where_a_version_falls(sqlite_url: str, place: Path, tmp_path: Path) -> None:
    found = follow(sqlite_url, tmp_path, 0.12, labels=["staging"])
    assert found.is_held and found.labels == ["staging"]
    assert found.stays == "its test_rmse is 20.0% worse than that of v1.0.0; allowed is 10.0%"
    assert labels(sqlite_url) == {"latest": "v1.0.0", "staging": "v1.1.0"}


def test_latest_moves_for_a_reason_which_is_kept(sqlite_url: str, place: Path, tmp_path: Path) -> None:
    assert follow(sqlite_url, tmp_path, 0.12, force="new data").stays is None
    assert history(sqlite_url) == [("latest", None, "v1.0.0", None), ("latest", "v1.0.0", "v1.1.0", "new data")]


def test_latest_stays_where_nothing_can_be_said(sqlite_url: str, place: Path, tmp_path: Path) -> None:
    publish(sqlite_url, bundles.make(tmp_path / "old").folder)
    found = publish(sqlite_url, bundles.make(tmp_path / "new", objective="language_modeling").folder)
    assert found.is_held and (found.stays or "").startswith("nothing can be said beside v1.0.0: ")
    shutil.rmtree(found.version.place)
    old = service.show_version(sqlite_url, "logo@v1.0.0").version
    shutil.rmtree(old.place)
    after = publish(sqlite_url, bundles.make(tmp_path / "newer", 0.05).folder)
    assert after.is_held and old.place in (after.stays or "")


def test_latest_never_moves_down(sqlite_url: str, place: Path, tmp_path: Path) -> None:
    found = follow(sqlite_url, tmp_path, 0.05, version="0.9.0")
    assert (found.stays, found.is_held) == ("v1.0.0 is the higher version", False)
    assert labels(sqlite_url) == {"latest": "v1.0.0"}


def test_publishing_tells_by_its_exit_code_whether_latest_was_held(
    sqlite_url: str, place: Path, tmp_path: Path
) -> None:
    old, new = bundles.make(tmp_path / "old", 0.1), bundles.make(tmp_path / "new", 0.2)
    options = ("--as", "logo", "--storage", sqlite_url)
    done = hpo("publish", str(old.folder), *options, "--json")
    assert done.exit_code == 0 and json.loads(done.stdout)["latest"]["moved"]
    done = hpo("publish", str(new.folder), *options)
    assert done.exit_code == 1
    assert "latest stays: its test_rmse is 100.0% worse" in done.stdout
    assert f"hpo models label logo v1.1.0 latest --reason TEXT --storage {sqlite_url}" in done.stdout


# Labels by hand


def test_labels_are_moved_and_taken_away_by_hand(sqlite_url: str, place: Path, tmp_path: Path) -> None:
    follow(sqlite_url, tmp_path, 0.09)
    for words in (["v1.0.0", "production"], ["latest", "production", "--reason", "it is better"]):
        assert hpo("models", "label", "logo", *words, "--storage", sqlite_url).exit_code == 0
    assert labels(sqlite_url) == {"latest": "v1.1.0", "production": "v1.1.0"}
    with pytest.raises(UserError, match=r"production cannot be taken away from logo@v1\.0\.0: it points at v1\.1\.0"):
        service.label_version(sqlite_url, "logo", "v1.0.0", "production", remove=True)
    with pytest.raises(UserError, match="it is none of its labels"):
        service.label_version(sqlite_url, "logo", "v1.0.0", "never", remove=True)
    service.label_version(sqlite_url, "logo", "v1.1.0", "production", remove=True)
    assert labels(sqlite_url) == {"latest": "v1.1.0"}
    assert history(sqlite_url)[2:] == [
        ("production", None, "v1.0.0", None), ("production", "v1.0.0", "v1.1.0", "it is better"),
        ("production", "v1.1.0", None, None),
    ]  # fmt: skip


def test_latest_by_hand_is_held_to_the_same_rule(sqlite_url: str, place: Path, tmp_path: Path) -> None:
    follow(sqlite_url, tmp_path, 0.12)
    with pytest.raises(WorkError, match=r"stays at v1\.0\.0; of v1\.1\.0 its test_rmse is 20\.0% worse .+ a --reason"):
        service.label_version(sqlite_url, "logo", "v1.1.0", "latest")
    with pytest.raises(UserError, match="takes a reason in words"):
        service.label_version(sqlite_url, "logo", "v1.1.0", "latest", reason="")
    service.label_version(sqlite_url, "logo", "v1.1.0", "latest", reason="other data")
    assert labels(sqlite_url) == {"latest": "v1.1.0"}
    moved = service.label_version(sqlite_url, "logo", "v1.0.0", "latest")  # back to what is better
    assert moved.diff is not None and moved.diff.fall == pytest.approx(-0.02 / 0.12)
    with pytest.raises(UserError, match="to take that away give a --reason"):
        service.label_version(sqlite_url, "logo", "v1.0.0", "latest", remove=True)
    service.label_version(sqlite_url, "logo", "v1.0.0", "latest", remove=True, reason="none is good")
    with pytest.raises(UnknownName, match=r"Unknown version or label of logo 'latest'. Known: v1\.0\.0, v1\.1\.0"):
        service.show_version(sqlite_url, "logo")


# Finding a version again


def test_references_that_name_nothing(sqlite_url: str, place: Path, plain: Path) -> None:
    publish(sqlite_url, plain)
    for reference, told in {
        "logos": "Unknown bundle's folder or model 'logos'. Known: logo. Did you mean 'logo'?",
        "logo@v1.0.1": "Unknown version or label of logo 'v1.0.1'. Known: latest, v1.0.0.",
        "logo@stage": "Unknown version or label of logo 'stage'",
        "logo@": "NAME@v1.2.0, NAME@LABEL or NAME; got 'logo@'",
        "./none": "A bundle is a folder; there is none at",
    }.items():
        with pytest.raises(UserError, match=re.escape(told)), service.opened(sqlite_url, reference):
            pass
    service.label_version(sqlite_url, "logo", "1.0.0", "vnext")  # a number may lack its v, a label may not
    with pytest.raises(UnknownName, match="Unknown version or label of logo 'next'"):
        service.show_version(sqlite_url, "logo@next")


def test_without_a_database_a_reference_can_only_be_a_folder(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/none.db"
    told = "logo is no bundle's folder, and no model can be looked up: There is no"
    with pytest.raises(StorageError, match=told), service.opened(url, "logo"):
        pass
    with service.opened(url, str(bundles.make(tmp_path / "b").folder)) as opened:
        assert opened.manifest.params == {"lr": 0.1}


def flip(file: Path) -> None:
    """Change one bit."""
    content = bytearray(file.read_bytes())
    content[3] ^= 1
    file.write_bytes(content)


def test_a_version_whose_files_are_not_what_was_published_says_so(
    sqlite_url: str, place: Path, plain: Path, tmp_path: Path
) -> None:
    version = publish(sqlite_url, plain).version
    folder = Path(version.place)
    spoilings: dict[str, Callable[[], object]] = {
        "README.md is missing": (folder / "README.md").unlink,
        "README.md has changed": lambda: flip(folder / "README.md"),
        "checksums.sha256 has changed": lambda: flip(folder / "checksums.sha256"),
        "metrics.json has changed": lambda: flip(folder / "metrics.json"),
        "No such file": lambda: shutil.rmtree(folder),
    }
    for fault, spoil in spoilings.items():
        spoil()
        with pytest.raises(BundleError) as refused, service.opened(sqlite_url, "logo"):
            pass
        for word in ("logo@v1.0.0 cannot be used", version.place, fault, version.digest[:12], "Put back what was"):
            assert word in str(refused.value)
        with pytest.raises(BundleError):
            service.pull(sqlite_url, "logo", tmp_path / "pulled")
        assert not (tmp_path / "pulled").exists()
        shown = service.show_version(sqlite_url, "logo")
        assert (shown.problem is None) == fault.startswith("README")  # it reads the figures alone
        shutil.copytree(plain, folder, dirs_exist_ok=True)
    shutil.rmtree(folder)
    done = hpo("models", "show", "logo", "--storage", sqlite_url)
    assert done.exit_code == 1 and "published" in done.stdout and "No such file" in done.stderr


def test_a_version_is_pulled_as_it_was_published(sqlite_url: str, place: Path, tmp_path: Path) -> None:
    made = bundles.make(tmp_path / "b", extra=10)
    publish(sqlite_url, made.folder)
    pulled = service.pull(sqlite_url, "logo@v1.0.0", tmp_path / "pulled")
    assert contents(pulled.folder) == contents(made.folder)
    with pytest.raises(BundleError, match="Use --overwrite"):
        service.pull(sqlite_url, "logo", pulled.folder)
    (pulled.folder / "README.md").write_text("another")
    assert service.pull(sqlite_url, "logo", pulled.folder, overwrite=True).digest == made.digest
    assert contents(pulled.folder) == contents(made.folder)


def test_show_says_where_a_version_comes_from(sqlite_url: str, place: Path, tmp_path: Path) -> None:
    publish(sqlite_url, bundles.make(tmp_path / "b", summary="logos in, quality out", limits=("flat art",)).folder)
    shown = hpo("models", "show", "logo", "--storage", sqlite_url).stdout
    for words in (
        "logo@v1.0.0: logos in, quality out", "study: demo", "trial: 7", "seed: 3", "data fingerprint: " + "f" * 64,
        "labels: latest", "limit: flat art", "0.05 to 0.2",
    ):  # fmt: skip
        assert words in shown
    as_json = json.loads(hpo("models", "show", "logo", "--storage", sqlite_url, "--json").stdout)
    assert as_json["metrics"]["shipped"] == {"test_rmse": 0.1} and as_json["manifest"]["origin"]["trial"] == 7
    (listed,) = json.loads(hpo("models", "list", "--storage", sqlite_url, "--json").stdout)
    assert (listed["reference"], listed["labels"]) == ("logo@v1.0.0", ["latest"])


def test_a_figure_without_an_interval_is_shown(
    sqlite_url: str, place: Path, plain: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(sqlite_url, plain)
    shown = service.show_version(sqlite_url, "logo")
    none = {"test_rmse": {"low": None, "high": None, "level": 0.95, "resamples": 0}}  # as of a single recording
    printing.show_version(replace(shown, metrics={"shipped": {"test_rmse": 0.1}, "intervals": none}), False)
    assert re.search(r"^test_rmse +0\.1 +–$", capsys.readouterr().out, re.MULTILINE)


# Who else is told


@pytest.mark.slow
def test_mlflow_keeps_the_version_and_its_labels(sqlite_url: str, place: Path, tmp_path: Path) -> None:
    pytest.importorskip("mlflow")
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    made = bundles.make(tmp_path / "b", study=f"{bundles.STUDY}tracking: {{name: mlflow, uri: '{uri}'}}\n")
    assert publish(sqlite_url, made.folder, labels=["staging"]).warnings == []
    assert service.label_version(sqlite_url, "logo", "v1.0.0", "production").warnings == []
    assert service.label_version(sqlite_url, "logo", "v1.0.0", "staging", remove=True).warnings == []
    from mlflow import MlflowClient

    (kept,) = MlflowClient(uri).search_model_versions("name = 'logo'")
    assert kept.tags["hpo.model_version"] == "v1.0.0" and kept.source.startswith(str(place))
    assert set(MlflowClient(uri).get_registered_model("logo").aliases) == {"hpo-latest", "production"}


@pytest.mark.slow
def test_a_tracker_that_fails_stops_no_publishing(sqlite_url: str, place: Path, tmp_path: Path) -> None:
    study = f"{bundles.STUDY}tracking: {{name: mlflow, uri: 'sqlite:////dev/null/mlflow.db'}}\n"
    published = publish(sqlite_url, bundles.make(tmp_path / "b", study=study).folder)
    (warning,) = published.warnings
    assert warning.startswith("MLflow has not been told of logo@v1.0.0: ")
    assert labels(sqlite_url) == {"latest": "v1.0.0"}


def test_a_version_of_a_newer_hpo_is_not_shown(sqlite_url: str, place: Path, plain: Path) -> None:
    publish(sqlite_url, plain)
    with sqlite3.connect(sqlite_url.removeprefix("sqlite:///")) as database:
        database.execute("UPDATE hpo_versions SET manifest = '{\"version\": 99}'")
    with pytest.raises(BundleError, match=r"logo@v1\.0\.0 cannot be shown: its manifest is of version 99"):
        service.show_version(sqlite_url, "logo")
    assert versions(sqlite_url) == ["v1.0.0"]


# Places


def test_versions_lie_in_a_bucket(sqlite_url: str, s3_place: str, tmp_path: Path) -> None:
    made = bundles.make(tmp_path / "b", extra=10)
    version = publish(sqlite_url, made.folder, place=s3_place).version
    assert version.place.startswith("s3://") and "/logo/v1.0.0-" in version.place
    with service.opened(sqlite_url, "logo") as opened:
        taken = opened.folder
        assert contents(taken) == contents(made.folder)
    assert not taken.exists()
    assert contents(service.pull(sqlite_url, "logo", tmp_path / "pulled").folder) == contents(made.folder)
    assert service.show_version(sqlite_url, "logo").problem is None
    (places.parse(version.place) / "assets" / "deep").put(tmp_path / "b" / "README.md", "extra.bin")
    with pytest.raises(BundleError, match=r"assets/deep/extra\.bin has changed"), service.opened(sqlite_url, "logo"):
        pass
    places.parse(version.place).remove("checksums.sha256")
    with pytest.raises(BundleError, match=r"logo@v1\.0\.0 cannot be used"), service.opened(sqlite_url, "logo"):
        pass


def test_a_place_that_cannot_be_written_leaves_no_version(sqlite_url: str, tmp_path: Path) -> None:
    made, in_the_way = bundles.make(tmp_path / "b"), tmp_path / "file"
    in_the_way.write_text("x")
    for place in (tmp_path / "drive" / "models", in_the_way / "models", in_the_way):
        with pytest.raises(BundleError, match=r"logo@v1\.0\.0 is not published: its files cannot be put at"):
            publish(sqlite_url, made.folder, place=str(place))
    assert service.models(sqlite_url) == [] and in_the_way.read_text() == "x"


def test_a_full_disk_leaves_nothing(sqlite_url: str, small_disk: Path, tmp_path: Path) -> None:
    made = bundles.make(tmp_path / "b", extra=3 * 2**20)
    with pytest.raises(BundleError, match="No space left on device"):
        publish(sqlite_url, made.folder, place=str(small_disk / "models"))
    assert service.models(sqlite_url) == [] and files(small_disk) == []
    assert publish(sqlite_url, bundles.make(tmp_path / "c").folder, place=str(small_disk / "models")).labels == [
        "latest"
    ]


def test_a_password_is_never_shown(tmp_path: Path) -> None:
    folder, url = bundles.make(tmp_path / "b").folder, "postgresql+psycopg://me:secret@127.0.0.1:1/models"
    with pytest.raises(StorageError) as refused:
        publish(url, folder, place=str(tmp_path / "models"))
    assert "secret" not in str(refused.value) and "me:***@" in str(refused.value)


# Publishings that die


def test_ctrl_c_leaves_nothing(sqlite_url: str, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        assert len(files(place)) > 5
        raise KeyboardInterrupt

    folder = bundles.make(tmp_path / "b").folder
    monkeypatch.setattr(Registry, "publish", interrupted)
    with pytest.raises(KeyboardInterrupt):
        publish(sqlite_url, folder)
    assert service.models(sqlite_url) == [] and files(place) == []


def mark(place: Path, name: str, database: str, hours: float) -> None:
    """What a publishing that died so long ago left."""
    at = (datetime.now(UTC) - timedelta(hours=hours)).isoformat()
    (place / "logo" / name / "formats").mkdir(parents=True)
    (place / "logo" / name / "formats" / "half.onnx").write_text("half")
    (place / "logo" / f"{name}.publishing").write_text(json.dumps({"database": database, "at": at}))


def test_what_dead_publishings_left_is_taken_away_after_a_day(sqlite_url: str, place: Path, tmp_path: Path) -> None:
    ours = str(tmp_path / "hpo.db")
    mark(place, "v1.0.0-dead", ours, 25)
    mark(place, "v1.0.0-young", ours, 23)
    mark(place, "v1.0.0-theirs", "/elsewhere/hpo.db", 1000)
    published = publish(sqlite_url, bundles.make(tmp_path / "b").folder)
    assert published.left_overs == [str(place / "logo" / "v1.0.0-dead")]
    kept = {"v1.0.0-young", "v1.0.0-young.publishing", "v1.0.0-theirs", "v1.0.0-theirs.publishing"}
    assert {path.name for path in (place / "logo").iterdir()} == {*kept, Path(published.version.place).name}


def test_a_publisher_that_ends_meanwhile_is_none_of_ours(
    sqlite_url: str, place: Path, plain: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Folder, "names", lambda folder: ["v1.0.0-gone.publishing"])  # gone since it was listed
    published = publish(sqlite_url, plain)
    assert (published.left_overs, published.warnings) == ([], [])


def test_a_version_that_only_its_mark_outlived_is_kept(sqlite_url: str, place: Path, tmp_path: Path) -> None:
    version = publish(sqlite_url, bundles.make(tmp_path / "b").folder).version
    left = Path(version.place + ".publishing")
    left.write_text(json.dumps({"database": str(tmp_path / "hpo.db"), "at": "2020-01-01T00:00:00+00:00"}))
    assert publish(sqlite_url, bundles.make(tmp_path / "c", 0.05).folder).left_overs == []
    assert not left.exists()
    with service.opened(sqlite_url, "logo@v1.0.0"):
        pass


HELD = """
import sys, time
from pathlib import Path
from hpo import service
from storage.registry import Registry

url, bundle, place, ready, go = sys.argv[1:]
publish = Registry.publish

def held(*words):
    Path(ready).touch()
    while not Path(go).exists():
        time.sleep(0.01)
    return publish(*words)

Registry.publish = held
try:
    print(service.publish(url, Path(bundle), "logo", place=place).version.reference)
except Exception as error:
    sys.exit(f"{type(error).__name__}: {error}")
"""


def held(url: str, bundle: Path, place: Path, go: Path) -> subprocess.Popen[str]:
    """A publisher in a process of its own, whose files are in place and who waits for ``go`` before its transaction."""
    ready = go.with_name(f"{bundle.name}-ready")
    process = subprocess.Popen(
        [sys.executable, "-c", HELD, url, str(bundle), str(place), str(ready), str(go)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    until = time.monotonic() + 120
    while not ready.exists() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.02)
    return process


@pytest.mark.slow
def test_of_two_publishers_at_once_one_wins_and_the_other_is_told(
    storage_url: str, place: Path, tmp_path: Path
) -> None:
    made = [bundles.make(tmp_path / name, rmse) for name, rmse in (("a", 0.1), ("b", 0.2))]
    processes = [held(storage_url, bundle.folder, place, tmp_path / "go") for bundle in made]
    (tmp_path / "go").touch()
    ended = [(*process.communicate(timeout=120), process.returncode) for process in processes]
    (won,) = [out for out, _, code in ended if code == 0]
    (lost,) = [told for _, told, code in ended if code != 0]
    assert won.strip() == "logo@v1.0.0"
    assert "UserError: logo@v1.0.0 is taken, published by" in lost and "Run the same command again." in lost
    assert len(list((place / "logo").iterdir())) == 1
    with service.opened(storage_url, "logo") as opened:
        assert opened.digest in {bundle.digest for bundle in made}


@pytest.mark.slow
def test_a_killed_publishing_leaves_no_version(sqlite_url: str, place: Path, tmp_path: Path) -> None:
    process = held(sqlite_url, bundles.make(tmp_path / "b").folder, place, tmp_path / "never")
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert service.models(sqlite_url) == [] and len(list((place / "logo").iterdir())) == 2
    published = publish(sqlite_url, tmp_path / "b")
    assert (published.version.name, published.left_overs) == ("v1.0.0", [])  # it may be alive still, for all we know
    (left,) = (place / "logo").glob("*.publishing")
    left.write_text(left.read_text().replace(f'"at": "{datetime.now(UTC):%Y}', '"at": "2020'))
    assert len(publish(sqlite_url, bundles.make(tmp_path / "c", 0.05).folder).left_overs) == 1
    assert not left.exists() and len(list((place / "logo").iterdir())) == 2


@pytest.mark.slow
def test_mistakes_are_one_line(sqlite_url: str, place: Path, tmp_path: Path) -> None:
    folder = str(bundles.make(tmp_path / "b").folder)
    publish(sqlite_url, tmp_path / "b")
    for words in (
        ["publish", folder, "--as", "a b"], ["publish", folder, "--as", "logo"], ["publish", "none", "--as", "logo"],
        ["models", "show", "logos"], ["models", "label", "logo", "v9.0.0", "x"], ["models", "pull", "logo@none"],
    ):  # fmt: skip
        code, told = fails(*words, "--storage", sqlite_url)
        assert code == 2 and told.startswith("hpo: ") and told.count("\n") == 1, told
