"""A bundle becomes a version of a model, whole, or is refused."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from hpo import service
from hpo.errors import BundleError, UserError
from hpo.export.manifest import FormatEntry
from tests import bundles
from tests.registry.published import contents, fails, files, hpo, labels, publish, versions
from tests.studies import launch, rows

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
