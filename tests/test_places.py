"""One contract over the places where copies are kept: a folder, and a bucket on a server that speaks S3."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from hpo import places, service
from hpo.errors import StudyFileError, UserError
from hpo.places import Place
from tests.studies import BRANIN, rows, write


@pytest.fixture(params=["folder", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "s3":
        return places.parse(request.getfixturevalue("s3_place"))
    (tmp_path / "drive").mkdir()
    return places.parse(str(tmp_path / "drive"))


def file(folder: Path, content: str) -> Path:
    path = folder / "source"
    path.write_text(content)
    return path


def content(place: Place, name: str, scratch: Path) -> str:
    return place.take(name, scratch / "scratch").read_text()


def test_what_is_put_is_there_by_its_name(place: Place, tmp_path: Path) -> None:
    trial = place / "study" / "search-00000"
    assert trial.names() == []
    trial.make(above=1)
    trial.put(file(tmp_path, "one"), "last.pt")
    assert trial.names() == ["last.pt"] and content(trial, "last.pt", tmp_path) == "one"
    trial.put(file(tmp_path, "two"), "last.pt", keep="last.prev.pt")
    assert [content(trial, name, tmp_path) for name in trial.names()] == ["one", "two"]
    trial.put(file(tmp_path, "three"), "last.pt", keep="last.prev.pt")
    assert [content(trial, name, tmp_path) for name in trial.names()] == ["two", "three"]
    trial.fill("study.db", lambda path: path.write_text("made"))
    assert content(trial, "study.db", tmp_path) == "made"
    for name in trial.names():
        trial.remove(name)
    trial.remove("never there")
    assert trial.names() == []


def test_a_place_is_what_its_text_says(place: Place, tmp_path: Path) -> None:
    (place / "a").make()
    (place / "a").put(file(tmp_path, "x"), "f")
    assert places.parse(str(place / "a")).names() == ["f"]
    assert place.names() == ["a"] or place.names() == []  # a folder shows its folders, S3 has none


def test_a_part_of_a_file_can_be_read(place: Place, tmp_path: Path) -> None:
    place.put(file(tmp_path, "0123456789"), "f")
    with place.open("f") as stream:
        assert (stream.read(3), stream.seek(-2, 2), stream.read()) == (b"012", 8, b"89")
    with pytest.raises(OSError, match="none"):
        place.open("none")


def test_what_cannot_be_done_is_an_os_error(place: Place, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="none"):
        place.take("none", tmp_path / "scratch").read_bytes()
    elsewhere = places.parse(str(place).replace("/runs", "-none/runs")) if "s3:" in str(place) else place / "b" / "c"
    with pytest.raises(OSError, match=r"NO_SUCH_BUCKET|No such file"):
        elsewhere.put(file(tmp_path, "x"), "f")


def test_a_folder_goes_with_all_that_is_in_it(place: Place, tmp_path: Path) -> None:
    for name in ("a", "a2"):
        (place / name / "deep").make(above=None)
        (place / name / "deep").put(file(tmp_path, "x"), "f")
    place.remove_folder("a")
    place.remove_folder("never there")
    assert (place / "a" / "deep").names() == [] and (place / "a2" / "deep").names() == ["f"]


def test_a_half_made_file_is_not_seen(place: Place) -> None:
    def breaks(path: Path) -> None:
        path.write_text("half")
        raise RuntimeError("broke off")

    with pytest.raises(RuntimeError):
        place.fill("f", breaks)
    assert place.names() == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("relative/path", "must be an absolute path"),
        ("gs://bucket/x", "must be an absolute path or s3://BUCKET/PREFIX"),
        ("s3:///x", "must be an absolute path or s3://BUCKET/PREFIX"),
        ("s3://key:secret@bucket/x", "credentials do not belong into the address"),
        ("s3://bucket/x?access_key=secret", "not access_key"),
    ],
)
def test_what_is_no_place_is_refused_without_showing_secrets(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message) as refused:
        places.parse(text)
    assert "secret" not in str(refused.value)


def test_a_study_file_with_such_a_mirror_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StudyFileError, match=r"mirror: must be an absolute path or s3://BUCKET/PREFIX"):
        service.check(write(tmp_path, mirror="gs://bucket"))


@pytest.mark.slow
def test_a_study_goes_on_from_s3_alone(tmp_path: Path, s3_place: str) -> None:
    """Its database, its folder and every checkpoint are lost; what the bucket has is enough."""
    url, runs = f"sqlite:///{tmp_path / 'hpo.db'}", tmp_path / "runs"
    fields = {
        **BRANIN, "name": "slow", "objective": "tests.mirrored:Slow", "data": None, "goals": [{"metric": "val_loss"}],
        "mirror": s3_place, "retrain": {"confirm": 0, "pick": "val_loss", "seeds": [0]},
    }  # fmt: skip

    def launch(trials: int) -> service.Launched:
        path = write(tmp_path, **{**fields, "budget": {"trials": trials, "epochs": 2}})
        return service.launch(path, storage=url, runs=runs, skip_preflight=True)

    assert launch(2).how == "done"
    before = rows(url, "SELECT number, params, goal_values FROM hpo_trials ORDER BY number")
    bucket = places.parse(s3_place) / "slow"
    assert bucket.names() == [".study", "study.db"]
    assert {"best.pt", "last.pt"} <= set((bucket / "search-00001").names())
    shutil.rmtree(runs)
    (tmp_path / "hpo.db").unlink()
    assert launch(3).how == "done"
    assert rows(url, "SELECT number, params, goal_values FROM hpo_trials ORDER BY number")[:2] == before
    shutil.rmtree(runs)
    retrained = service.retrain(url, "slow", trial=0)
    assert retrained is not None
    shutil.rmtree(runs)
    assert service.export(url, "slow", tmp_path / "bundle") is not None  # its weights come from the bucket
