"""Labels: what ``latest`` follows and where it stays, and what a hand may move."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from hpo import service
from hpo.errors import UnknownName, UserError, WorkError
from hpo.service.registry.publishing import Published
from tests import bundles
from tests.registry.published import history, hpo, labels, publish

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
