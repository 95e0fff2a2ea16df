"""The maker really traces; these tests use a handful of records."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from hpo.errors import DataError, UnknownName
from objectives.quality_regression import OBJECTIVE, maker
from objectives.quality_regression.data import TYPES, load
from objectives.quality_regression.features import describe, resnet50
from objectives.quality_regression.logos import draw
from objectives.quality_regression.tracing import SETTINGS, denormalise, normalise, trace

RUN = """
import sys
from objectives.quality_regression import maker
maker.CHUNK = 2
maker.make(sys.argv[1], 8, 3, workers=1, progress=False)
"""
# Put before it: a run that says when it has written one part and waits in the middle of the next.
HELD = """
import time
from objectives.quality_regression import maker
records = maker._records
def held(chunk, recipe):
    for number, record in enumerate(records(chunk, recipe)):
        if chunk[0] and number:
            print("held", flush=True)
            time.sleep(600)
        yield record
maker._records = held
"""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight records made without interruption."""
    path = tmp_path_factory.mktemp("whole") / "logos.parquet"
    subprocess.run([sys.executable, "-c", RUN, str(path)], check=True)
    return path


def test_the_records_are_what_the_loader_reads(whole: Path) -> None:
    records = load({"path": whole, "min_records": 8})
    assert records.logo_types.tolist() == [*TYPES, *TYPES]
    assert len(set(records.logo_ids.tolist())) == 8
    assert records.feature_kind == "classical-1"
    assert 0 < records.ssim.min() < records.ssim.max() <= 1
    assert json.loads(pq.read_schema(whole).metadata[b"hpo"])["seed"] == 3


def test_a_killed_run_goes_on_and_gives_the_same_bytes(whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "logos.parquet"
    with subprocess.Popen([sys.executable, "-c", HELD + RUN, str(out)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        process.kill()
    parts = tmp_path / "logos.parquet.parts"
    assert not out.exists()
    assert len(list(parts.glob("*-*.parquet"))) == 1
    done = subprocess.run(
        [sys.executable, "-c", RUN.replace("maker.make", "print(maker.make").rstrip() + ".reused)", str(out)],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert int(done.stdout) == 2
    assert out.read_bytes() == whole.read_bytes()
    assert not parts.exists()


@pytest.mark.slow
def test_two_workers_give_the_same_bytes_as_one(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maker, "CHUNK", 4)
    out = tmp_path / "logos.parquet"
    assert OBJECTIVE().make_data(out, records=8, seed=3, workers=2, progress=False) == out
    assert out.read_bytes() == whole.read_bytes()


def test_a_finished_file_is_left_alone_and_another_recipe_is_refused(whole: Path) -> None:
    before = whole.stat().st_mtime_ns
    assert maker.make(whole, 8, 3, progress=False).reused == 8
    with pytest.raises(DataError, match="seed 3, not 4.*Delete it or choose another file"):
        maker.make(whole, 8, 4, progress=False)
    with pytest.raises(DataError, match="exists with 8 records .*and 9 were asked for"):
        maker.make(whole, 9, 3, progress=False)
    assert whole.stat().st_mtime_ns == before


def test_parts_of_another_seed_are_never_mixed_in(tmp_path: Path) -> None:
    parts = tmp_path / "logos.parquet.parts"
    parts.mkdir()
    note = {"seed": 1, "settings_per_logo": 1, "maker": 1, "features": "classical-1"}
    (parts / "recipe.json").write_text(json.dumps(note))
    with pytest.raises(DataError, match=r"parts of another run \(seed 1, not 2\)"):
        maker.make(tmp_path / "logos.parquet", 4, 2, workers=1, progress=False)


def test_records_of_one_logo_share_its_id_and_features(tmp_path: Path) -> None:
    out = maker.make(tmp_path / "a.parquet", 4, 0, settings_per_logo=2, workers=1, progress=False).path
    records = load({"path": out, "min_records": 1})
    assert records.logo_ids.tolist() == ["0-000000", "0-000000", "0-000001", "0-000001"]
    np.testing.assert_array_equal(records.features[0], records.features[1])
    assert not np.array_equal(records.settings[0], records.settings[1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"records": 0}, "records must be a whole number of at least 1; got 0"),
        ({"records": 4, "workers": 0}, "workers must be"),
        ({"records": 4, "seed": -1}, "seed must be a whole number of at least 0; got -1"),
    ],
)
def test_impossible_numbers_are_refused(tmp_path: Path, options: dict[str, int], message: str) -> None:
    with pytest.raises(DataError, match=message):
        OBJECTIVE().make_data(tmp_path / "a.parquet", **{"seed": 0, "progress": False, **options})
    with pytest.raises(UnknownName, match="'record'.*Did you mean 'records'"):
        OBJECTIVE().make_data(tmp_path / "a.parquet", seed=0, record=3)


def test_a_full_disk_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DataError, match="No room left.*finished parts are kept"):
        maker.make(tmp_path / "a.parquet", 1, 0, workers=1, progress=False)
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_folder_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="Cannot write .*Choose a file in a folder"):
        maker.make(tmp_path / "file" / "a.parquet", 1, 0, workers=1, progress=False)


@pytest.mark.parametrize("kind", TYPES)
def test_a_logo_and_its_descriptor_follow_from_the_seed(kind: str) -> None:
    first, again = (draw(kind, np.random.default_rng(5)) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert first.shape == (256, 256, 3) and first.std() > 0
    values = describe(first)
    assert values.shape == (2048,) and values.dtype == np.float32 and np.isfinite(values).all()
    assert not np.array_equal(values, describe(draw(kind, np.random.default_rng(6))))


@pytest.mark.parametrize("color", [0, 255])
def test_a_plain_image_has_a_finite_descriptor(color: int) -> None:
    assert np.isfinite(describe(np.full((256, 256, 3), color, np.uint8))).all()


def test_an_image_of_another_size_is_refused() -> None:
    with pytest.raises(DataError, match="256x256"):
        describe(np.zeros((128, 128, 3), np.uint8))


def test_better_settings_give_a_higher_ssim() -> None:
    image = draw("complex", np.random.default_rng(1))
    coarse = normalise({**denormalise(np.full(8, 0.5)), "color_precision": 3, "filter_speckle": 12})
    fine = normalise({**denormalise(np.full(8, 0.5)), "color_precision": 8, "filter_speckle": 0})
    assert trace(image, coarse).ssim < trace(image, fine).ssim
    assert set(denormalise(fine)) == set(SETTINGS)


def test_resnet_features_without_torchvision_say_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(DataError, match="need torchvision"):
        resnet50(np.zeros((1, 256, 256, 3), np.uint8), tmp_path / "weights.pth")
