"""Records: made, read back from files, databases and S3, and refused where they break a rule."""

from __future__ import annotations

import errno
import io
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa

from hpo import durable, places
from hpo.errors import DataError, UnknownName
from objectives.rf_localization import OBJECTIVE, maker
from objectives.rf_localization.data import load, split
from objectives.rf_localization.fields import checked

MADE = {"seed": 3, "records": 40, "samples": 2_048, "receivers": 3}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return OBJECTIVE().make_data(tmp_path_factory.mktemp("rf") / "rf", progress=False, **MADE)


@pytest.fixture
def own(made: Path, tmp_path: Path) -> Path:
    """A copy that a test may break."""
    return Path(shutil.copytree(made, tmp_path / "own"))


def labels(folder: Path) -> list[dict[str, Any]]:
    return list(pq.read_table(folder / "labels.parquet").to_pylist())


def write(folder: Path, rows: list[dict[str, Any]]) -> None:
    pq.write_table(pa.Table.from_pylist(rows), folder / "labels.parquet")


def refused(folder: Path, **data: Any) -> str:
    with pytest.raises(DataError) as found:
        OBJECTIVE().check_data({"path": str(folder), **data})
    return str(found.value)


# making


def test_what_is_made_is_what_is_read(made: Path) -> None:
    facts = OBJECTIVE().check_data({"path": made})
    events = load({"path": made})
    assert facts.counts["events"] == 40 == len(events)
    assert facts.counts["sessions"] == 10 and facts.counts["receivers"] == 3
    assert facts.counts["recordings"] == len(list((made / "iq").iterdir())) == int(events.present.sum())
    iq = np.load(made / "iq" / str(events.files[0]), allow_pickle=False)
    assert iq.shape == (2_048,) and iq.dtype == np.complex64
    assert (events.present.sum(axis=1) >= 2).all()


def test_labels_say_what_was_recorded(made: Path) -> None:
    """Power in the recording, less the noise floor of kTB and 6 dB, is the label's SNR."""
    for row in labels(made)[:20]:
        power_db = 10 * np.log10(np.mean(np.abs(np.load(made / "iq" / row["file"])) ** 2))
        floor_db = -173.98 + 10 * np.log10(192_000) + 6 - -10  # over a full scale of -10 dBm
        assert power_db - floor_db == pytest.approx(row["snr_db"], abs=0.1)
        assert 145 <= row["freq_mhz"] <= 146


def test_an_interrupted_run_goes_on_and_gives_the_same_bytes(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, write_one, left = tmp_path / "rf", maker._write_recording, [20]

    def stop_in_the_middle(path: Path, iq: np.ndarray) -> None:
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        write_one(path, iq)

    monkeypatch.setattr(maker, "_write_recording", stop_in_the_middle)
    with pytest.raises(KeyboardInterrupt):
        OBJECTIVE().make_data(out, progress=False, **MADE)
    assert not (out / "labels.parquet").exists()
    kept = {path.name: path.stat().st_mtime_ns for path in (out / "iq").iterdir()}
    half = min(out.glob("iq/*"))
    half.write_bytes(half.read_bytes()[:100])  # as a power cut leaves it
    left[0] = 10**6
    OBJECTIVE().make_data(out, progress=False, **MADE)
    files = sorted(path.relative_to(made) for path in made.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(out) for path in out.rglob("*") if path.is_file())
    assert all((made / file).read_bytes() == (out / file).read_bytes() for file in files)
    same = [name for name, time in kept.items() if (out / "iq" / name).stat().st_mtime_ns == time]
    assert len(same) >= len(kept) - 6  # all but those of the two events that were not whole


def test_a_finished_folder_is_left_alone_and_another_recipe_refused(made: Path, tmp_path: Path) -> None:
    before = (made / "labels.parquet").stat().st_mtime_ns
    OBJECTIVE().make_data(made, progress=False, **MADE)
    assert (made / "labels.parquet").stat().st_mtime_ns == before
    with pytest.raises(DataError, match="other records \\(events 40, not 41\\)"):
        OBJECTIVE().make_data(made, progress=False, **{**MADE, "records": 41})
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match="not empty"):
        OBJECTIVE().make_data(tmp_path / "mine", progress=False, **MADE)
    with pytest.raises(DataError, match="is a file"):
        OBJECTIVE().make_data(tmp_path / "mine" / "notes.txt", progress=False, **MADE)


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [("records", 0, "records must be a whole number of at least 1; got 0"), ("receivers", 2, "at least 3; got 2"),
     ("samples", 2_047, "samples must be .* 2048"), ("seed", -1, "seed"), ("label_noise_m", -3, "label_noise_m")],
)  # fmt: skip
def test_impossible_numbers_are_refused(tmp_path: Path, option: str, value: int, message: str) -> None:
    with pytest.raises(DataError, match=message):
        OBJECTIVE().make_data(tmp_path / "rf", progress=False, **{**MADE, option: value})
    with pytest.raises(UnknownName, match="Did you mean 'samples'"):
        OBJECTIVE().make_data(tmp_path / "rf", seed=1, sample=3)
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(maker, "_write_recording", full)
    with pytest.raises(DataError, match="No space left on device.*Finished recordings are kept"):
        OBJECTIVE().make_data(tmp_path / "rf", progress=False, **MADE)


# the same records from elsewhere


def test_csv_complex128_and_another_place_are_the_same_events(own: Path, made: Path, tmp_path: Path) -> None:
    rows = labels(own)
    pyarrow.csv.write_csv(pa.Table.from_pylist(rows), tmp_path / "labels.csv")
    moved = tmp_path / "elsewhere"
    shutil.move(own / "iq", moved)
    for path in moved.iterdir():
        np.save(path, np.load(path).astype(np.complex128))
    data = {"path": own, "labels": str(tmp_path / "labels.csv"), "recordings": str(moved)}
    events, wanted = load(data), load({"path": made})
    assert events.recording.shape == wanted.recording.shape and (events.present == wanted.present).all()
    np.testing.assert_allclose(events.positions, wanted.positions)


def test_labels_of_a_database_are_those_that_were_approved(own: Path, tmp_path: Path) -> None:
    rows = labels(own)
    url = f"sqlite:///{tmp_path / 'labels.db'}"
    last = max(row["session_id"] for row in rows)
    _into_database(url, "recorded", [{**row, "approved": row["session_id"] != last} for row in rows])
    events = load({"path": own, "labels": url, "table": "recorded"})
    assert len(events) == 36 and last not in events.sessions
    assert "no such table" in refused(own, labels=url, table="nothing").lower() or "NoSuchTable" in refused(
        own, labels=url, table="nothing"
    )


def test_an_address_may_stand_in_the_environment_and_not_hold_a_password(
    own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite:///{tmp_path / 'labels.db'}"
    _into_database(url, "labels", [{**row, "approved": True} for row in labels(own)])
    monkeypatch.setenv("RF_LABELS", url)
    assert len(load({"path": own, "labels": "$RF_LABELS"})) == 40
    assert "RF_NOTHING is not set" in refused(own, labels="$RF_NOTHING")
    assert "password" in refused(own, labels="postgresql://me:secret@host/labels")
    assert "secret" not in refused(own, labels="postgresql://me:secret@host/labels")


def test_a_table_without_approved_is_refused(own: Path, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'labels.db'}"
    _into_database(url, "labels", labels(own))
    assert "missing approved" in refused(own, labels=url)


def _into_database(url: str, table: str, rows: list[dict[str, Any]]) -> None:
    kinds = {str: sa.String, float: sa.Float, bool: sa.Boolean}
    engine = sa.create_engine(url)
    columns = [sa.Column(name, kinds[type(value)]) for name, value in rows[0].items()]
    made = sa.Table(table, sa.MetaData(), *columns)
    with engine.begin() as connection:
        made.create(connection)
        connection.execute(made.insert(), rows)
    engine.dispose()


def test_recordings_may_lie_in_s3(own: Path, s3_place: str) -> None:
    bucket = places.parse(s3_place)
    for path in sorted((own / "iq").iterdir()):
        bucket.put(path, path.name)
    here = OBJECTIVE().check_data({"path": own}).fingerprint
    assert OBJECTIVE().check_data({"path": own, "recordings": s3_place}).fingerprint == here
    bucket.remove(labels(own)[0]["file"])
    (own / "labels.parquet").touch()  # or what was read before is taken
    assert "1 of" in refused(own, recordings=s3_place)


# refusals


def _changed(column: str, value: Any, rows: slice = slice(0, 1)) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        found = labels(folder)
        for row in found[rows]:
            row[column] = value
        write(folder, found)

    return change


def _iq(content: bytes | np.ndarray | None) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "iq" / labels(folder)[0]["file"]
        if content is None:
            path.unlink()
        elif isinstance(content, bytes):
            path.write_bytes(content)
        else:
            np.save(path, content)

    return change


def _whole() -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.ones(2_048, np.complex64))
    return stream.getvalue()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_changed("latitude", 91.0), "latitude must be in [-90, 90] degrees; 1 of"),
        (_changed("longitude", 181.0, slice(0, 9)), "longitude must be in [-180, 180] degrees; 9 of"),
        (_changed("snr_db", float("nan")), "snr_db must be a finite number; 1 of"),
        (_changed("freq_mhz", None), "freq_mhz must be a finite number; 1 of"),
        (_changed("freq_mhz", 0.0, slice(None)), "freq_mhz must be above 0"),
        (_changed("session_id", ""), "session_id must not be empty"),
        (_changed("receiver_id", "r9"), "(r0, r1, r2); 1 of"),
        (_changed("latitude", 52.001), "one session and time must have one position"),
        (_changed("file", "nothing.npy"), "nothing.npy (No such file or directory)"),
        (_iq(None), "(No such file or directory)"),
        (_iq(b""), "(empty)"),
        (_iq(b"no array at all, however long it is"), "row 1: e000000-r0.npy"),
        (_iq(_whole()[:-8]), "bytes instead of 16512"),
        (_iq(np.ones(2_048)), "(float64, shape (2048,))"),
        (_iq(np.ones((2, 1_024), np.complex64)), "(complex64, shape (2, 1024))"),
        (_iq(np.ones(2_047, np.complex64)), "at least 2048 samples"),
        (_iq(np.ones(2_049, np.complex64)), "equally long (most have 2048 samples)"),
        (lambda folder: (folder / "receivers.csv").write_text("receiver_id,latitude\nr0,1\n"), "missing longitude"),
        (lambda folder: (folder / "receivers.csv").unlink(), "receivers.csv: No such file"),
        (lambda folder: (folder / "labels.parquet").write_bytes(b""), "cannot be read as a Parquet file"),
        (lambda folder: write(folder, labels(folder)[:0] or [{"file": "a"}]), "missing"),
        (lambda folder: write(folder, labels(folder)[:12]), "at least 30 are needed"),
        (lambda folder: write(folder, labels(folder) + labels(folder)[:1]), "a recording must stand there once"),
    ],
)
def test_what_breaks_a_rule_is_refused_with_what_and_where(
    own: Path, change: Callable[[Path], None], message: str
) -> None:
    change(own)
    assert message in refused(own)


def test_two_recordings_of_a_receiver_at_one_time_are_refused(own: Path) -> None:
    rows = labels(own)
    write(own, [*rows, {**rows[0], "file": "again.npy"}])
    assert "a receiver can record one session and time once" in refused(own)


def test_a_folder_that_may_not_be_read_is_one_clear_error(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(places.Folder, "open", denied)
    (own / "labels.parquet").touch()
    assert "(Permission denied)" in refused(own)


@pytest.mark.parametrize(
    ("data", "message"),
    [({"preset": "huge"}, "preset must be one of tiny, small, base, large; got 'huge'"),
     ({"frames": "mean"}, "frames must be one of pool, window"), ({"rate_hz": 0}, "rate_hz must be a whole number"),
     ({"mfcc": 1}, "mfcc must be true or false; got 1"), ({"freeze": True}, "freeze must be false without weights"),
     ({"weights": "nothing.pt"}, "nothing.pt: No such file"), ({"weights": "a.ckpt"}, "must be a file that ends in"),
     ({"receivers": "one"}, "receivers must be one of all, single"), ({"colour": 1}, "Unknown field 'colour'"),
     ({"recordings": "ftp://host/a"}, "s3://BUCKET/PREFIX")],
)  # fmt: skip
def test_fields_of_data_are_checked(made: Path, data: dict[str, Any], message: str) -> None:
    assert message in refused(made, **data)


# splits and fingerprints


def test_sessions_are_dealt_out_7_1_2_and_never_torn(made: Path) -> None:
    events, fields = load({"path": made}), checked({"path": str(made)})
    parts = split(events, fields, 42)
    assert [len(rows) for rows in vars(parts).values()] == [28, 4, 8]
    ids = OBJECTIVE().split_ids({"path": made}, 42)
    assert [len(names) for names in ids.values()] == [7, 1, 2]
    assert len({name for names in ids.values() for name in names}) == 10


def test_a_stratified_split_has_every_region_in_its_share(made: Path) -> None:
    events = load({"path": made})
    low, high = events.positions.min(axis=0), events.positions.max(axis=0)
    by_hand = np.minimum(np.floor((events.positions - low) / (high - low) * 3), 2).astype(int)
    assert events.regions.tolist() == (by_hand[:, 0] * 3 + by_hand[:, 1]).tolist()
    plain, stratified = (split(events, checked({"stratify": flag}), 42) for flag in (False, True))
    assert plain.test.tolist() != stratified.test.tolist()


def test_the_fingerprint_is_of_the_content_and_not_of_the_place(own: Path, made: Path) -> None:
    check = OBJECTIVE().check_data
    assert check({"path": own}).fingerprint == check({"path": made}).fingerprint
    assert check({"path": own, "frames": "window"}).fingerprint != check({"path": made}).fingerprint
    path = own / "iq" / labels(own)[0]["file"]
    iq = np.load(path)
    iq[100] += 1e-3
    durable.write(path, lambda temporary: np.save(temporary.open("wb"), iq))
    (own / "labels.parquet").touch()
    assert check({"path": own}).fingerprint != check({"path": made}).fingerprint
