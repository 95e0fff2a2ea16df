"""Wherever a version is put, and whatever kills its publishing: it is there whole, or nothing of it stays."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from hpo import places, service
from hpo.errors import BundleError, StorageError
from hpo.places import Folder
from storage.registry import Registry
from tests import bundles
from tests.processes import ROOT
from tests.registry.published import contents, files, publish

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
