"""ModelBundle: written whole or not at all, and no byte of it is free to change."""

from __future__ import annotations

import errno
import json
import os
import shutil
import stat
from pathlib import Path

import numpy as np
import pytest

from hpo.errors import BundleError
from hpo.export import bundle as module
from hpo.export.bundle import CHECKSUMS, MANIFEST, REQUIRED, ModelBundle
from hpo.export.example import StoredExample
from hpo.export.manifest import FormatEntry, Manifest
from hpo.export.plain import to_json
from hpo.export.verify import verify_bundle

MODEL = "formats/demo/model.bin"
NAMES = (*REQUIRED, MODEL, CHECKSUMS)


def fill(folder: Path) -> None:
    entry = FormatEntry(released=True, files=(MODEL,))
    manifest = Manifest(
        created_at="2026-01-01T00:00:00+00:00",
        objective="demo",
        params={},
        facts={},
        inputs=(),
        outputs=(),
        atol=1e-4,
        rtol=1e-3,
        formats={"demo": entry},
        environment={},
        origin={},
    )
    (folder / MANIFEST).write_text(to_json(manifest, "manifest"))
    (folder / "metrics.json").write_text("{}")
    (folder / "config.yaml").write_text("name: demo\n")
    (folder / "README.md").write_text("# demo\n")
    StoredExample({"x": np.zeros((64, 2))}, {64: {"y": np.zeros(64)}}).save(folder)
    (folder / MODEL).parent.mkdir(parents=True)
    (folder / MODEL).write_bytes(bytes(range(256)))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return ModelBundle.write(tmp_path / "bundles" / "demo", fill).folder


def reseal(path: Path) -> None:
    (path / CHECKSUMS).unlink()
    module._seal(path)


def test_a_written_bundle_opens_and_keeps_its_digest_when_moved(path: Path, tmp_path: Path) -> None:
    first = ModelBundle.open(path)
    moved = ModelBundle.open(Path(shutil.copytree(path, tmp_path / "elsewhere")))
    assert first.manifest == moved.manifest and first.digest == moved.digest
    assert os.listdir(path.parent) == ["demo"]


def test_the_checksums_are_in_the_form_of_sha256sum(path: Path) -> None:
    import subprocess

    done = subprocess.run(["sha256sum", "--strict", "-c", CHECKSUMS], cwd=path, capture_output=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", NAMES)
def test_one_changed_byte_in_any_place_of_any_file_is_refused(path: Path, name: str) -> None:
    file = path / name
    whole = file.read_bytes()
    places = range(len(whole)) if name == CHECKSUMS else (0, len(whole) // 2, len(whole) - 1)
    for place in places:
        for flip in (0x01, 0x20):
            file.write_bytes(whole[:place] + bytes([whole[place] ^ flip]) + whole[place + 1 :])
            with pytest.raises(BundleError):
                verify_bundle(path)
    file.write_bytes(whole)
    ModelBundle.open(path)


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_or_longer_file_is_refused_by_name(path: Path, name: str) -> None:
    whole = (path / name).read_bytes()
    (path / name).write_bytes(whole + b"\n")
    with pytest.raises(BundleError, match=name):
        ModelBundle.open(path)
    (path / name).unlink()
    with pytest.raises(BundleError, match=f"{name} is missing"):
        ModelBundle.open(path)


def test_a_file_that_is_not_listed_is_refused_by_name(path: Path) -> None:
    (path / "formats/demo/more.bin").write_bytes(b"")
    with pytest.raises(BundleError, match="formats/demo/more.bin is not listed"):
        ModelBundle.open(path)


@pytest.mark.parametrize("name", ["/etc/hostname", "../outside", "formats/../../outside", "formats//x", "a\\..\\b"])
def test_a_path_that_climbs_out_is_refused(path: Path, name: str) -> None:
    (path.parent / "outside").write_bytes(b"")
    lines = [*(path / CHECKSUMS).read_text().splitlines(), f"{'0' * 64}  {name}"]
    (path / CHECKSUMS).write_text("\n".join(sorted(lines, key=lambda line: line[66:])) + "\n")
    with pytest.raises(BundleError, match="lies outside"):
        ModelBundle.open(path)


@pytest.mark.parametrize("name", [MODEL, "formats/demo", CHECKSUMS])
def test_a_link_is_refused_even_if_what_it_leads_to_is_right(path: Path, name: str, tmp_path: Path) -> None:
    shutil.move(path / name, tmp_path / "real")
    (path / name).symlink_to(tmp_path / "real")
    with pytest.raises(BundleError):
        ModelBundle.open(path)


def test_a_manifest_of_a_newer_version_is_refused_with_both_versions(path: Path) -> None:
    content = json.loads((path / MANIFEST).read_text()) | {"version": 5, "new": True}
    (path / MANIFEST).write_text(json.dumps(content))
    reseal(path)
    with pytest.raises(BundleError, match="version 5, this hpo reads up to 4"):
        ModelBundle.open(path)


@pytest.mark.parametrize(
    ("content", "message"), [("[]", "cannot be read"), ("{", "not JSON"), ('{"version": 1}', "created_at")]
)
def test_a_manifest_that_makes_no_sense_is_one_clear_error(path: Path, content: str, message: str) -> None:
    (path / MANIFEST).write_text(content)
    reseal(path)
    with pytest.raises(BundleError, match=message):
        ModelBundle.open(path)


def test_a_released_file_and_a_required_file_must_be_listed(path: Path) -> None:
    (path / MODEL).unlink()
    reseal(path)
    with pytest.raises(BundleError, match="model.bin is in the manifest but not"):
        ModelBundle.open(path)
    (path / "README.md").unlink()
    reseal(path)
    with pytest.raises(BundleError, match="README.md is missing"):
        ModelBundle.open(path)


def test_no_folder_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="there is none at"):
        ModelBundle.open(tmp_path / "nowhere")


def test_overwriting_is_refused_unless_told_and_never_eats_what_is_no_bundle(path: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="exists"):
        ModelBundle.write(path, fill)
    (path / "stale").write_text("from the old one")
    ModelBundle.write(path, fill, overwrite=True)
    ModelBundle.open(path)
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.txt").write_text("years")
    with pytest.raises(BundleError, match="Only a bundle can be overwritten"):
        ModelBundle.write(tmp_path / "home", fill, overwrite=True)
    assert os.listdir(path.parent) == ["demo"] and (tmp_path / "home" / "thesis.txt").exists()


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, MemoryError])
def test_an_interrupted_write_leaves_nothing_and_the_old_bundle_whole(path: Path, error: type[BaseException]) -> None:
    def interrupted(folder: Path) -> None:
        fill(folder)
        raise error

    with pytest.raises(error):
        ModelBundle.write(path.parent / "new", interrupted)
    with pytest.raises(error):
        ModelBundle.write(path, interrupted, overwrite=True)
    assert os.listdir(path.parent) == ["demo"]
    ModelBundle.open(path)


def test_the_old_bundle_comes_back_when_the_new_one_cannot_be_moved(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = os.rename

    def failing(source: Path, target: Path) -> None:
        if Path(source).name == "bundle":
            raise OSError("disk gone")
        rename(source, target)

    monkeypatch.setattr(os, "rename", failing)
    with pytest.raises(BundleError, match="disk gone"):
        ModelBundle.write(path, fill, overwrite=True)
    ModelBundle.open(path)


def test_a_drive_that_syncs_files_alone_takes_a_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def files_alone(handle: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(os, "fsync", files_alone)
    ModelBundle.open(ModelBundle.write(tmp_path / "demo", fill).folder)


@pytest.mark.parametrize("place", ["/proc/x/y", "{0}/file/y", "{0}/" + "n" * 300])
def test_a_place_that_cannot_be_written_is_one_clear_error(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("no folder")
    target = place.format(tmp_path)
    with pytest.raises(BundleError, match="cannot be written: .*Errno") as caught:
        ModelBundle.write(Path(target), fill)
    assert target in str(caught.value)


def test_a_full_disk_leaves_the_old_bundle_and_nothing_else(path: Path) -> None:
    def full(folder: Path) -> None:
        fill(folder)
        raise OSError(errno.ENOSPC, "No space left on device", str(folder / MODEL))

    with pytest.raises(BundleError, match="demo cannot be written: .*No space left on device"):
        ModelBundle.write(path, full, overwrite=True)
    assert os.listdir(path.parent) == ["demo"]
    ModelBundle.open(path)
