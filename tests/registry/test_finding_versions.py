"""A version is found by its reference, and is always what was published."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from hpo import printing, service
from hpo.errors import BundleError, StorageError, UnknownName, UserError
from tests import bundles
from tests.registry.published import contents, hpo, publish, versions

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


def test_a_version_of_a_newer_hpo_is_not_shown(sqlite_url: str, place: Path, plain: Path) -> None:
    publish(sqlite_url, plain)
    with sqlite3.connect(sqlite_url.removeprefix("sqlite:///")) as database:
        database.execute("UPDATE hpo_versions SET manifest = '{\"version\": 99}'")
    with pytest.raises(BundleError, match=r"logo@v1\.0\.0 cannot be shown: its manifest is of version 99"):
        service.show_version(sqlite_url, "logo")
    assert versions(sqlite_url) == ["v1.0.0"]
