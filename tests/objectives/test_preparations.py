"""Files of people's own on their way into a shipped model: what is taken, and what is refused before any prediction."""

from __future__ import annotations

import importlib
import math
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from small import Data

from hpo.errors import BundleError, DataError
from objectives.image_classification import preparation as images
from objectives.image_classification.broken import FAULTS
from objectives.image_classification.preparation import ImagePreparation
from objectives.multimodal.format import CUBES, TABLE, TOKENIZER
from objectives.multimodal.preparation import PlanetPreparation
from objectives.multimodal.presets import PARTS
from objectives.multimodal.views import Padding
from objectives.multimodal.words import write_tokenizer
from objectives.prediction import Preparation, Rows
from objectives.preparing import kept, slices, told_classes
from objectives.rf_localization.features import Recipe
from objectives.rf_localization.geometry import Frame
from objectives.rf_localization.preparation import RecordingPreparation
from tests.pages import DOCS, section

NOTHING = Rows((), {})
GUIDE = (DOCS / "objectives.md").read_text(encoding="utf-8")
Spoil = Callable[[Path], Any]


def whole(preparation: Preparation, path: Path, rows: int = 1000) -> Rows:
    (part,) = preparation.read(path, rows)
    return part


def assert_same(one: Rows, other: Rows) -> None:
    assert list(one.ids) == list(other.ids)
    for name, array in one.inputs.items():
        np.testing.assert_array_equal(array, other.inputs[name])


def assert_refused(preparation: Preparation, path: Path, said: str) -> None:
    """Before the first row is out."""
    with pytest.raises(DataError, match=said):
        next(iter(preparation.read(path, 1)))


def test_logits_become_classes_with_probabilities_likeliest_first() -> None:
    logits = np.log(np.array([[1, 3, 4], [6, 1, 1]], dtype=np.float32))
    first, second = told_classes(logits, ["a", "b", "c"])
    assert (first["class"], second["class"]) == ("c", "a")
    assert first["probability"] == pytest.approx(0.5) and second["probability"] == pytest.approx(0.75)
    assert list(first["probabilities"]) == ["c", "b", "a"] and list(second["probabilities"]) == ["a", "b", "c"]
    assert first["probabilities"] == pytest.approx({"a": 0.125, "b": 0.375, "c": 0.5})
    assert list(told_classes(logits * 1000, ["a", "b", "c"], 2)[0]["top_2"]) == ["c", "b"]


def test_a_fact_that_an_older_export_lacks_is_named() -> None:
    with pytest.raises(BundleError, match="have no 'recipe'.*Export it again"):
        kept({"rows": 3}, "recipe")
    assert [list(range(10))[part] for part in slices(10, 4)] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


# images


@pytest.fixture
def pictures(tmp_path: Path, own_cache: None) -> Path:
    """Four images at several depths, in formats and modes of all kinds, and a file that is none by its name."""
    folder, color = tmp_path / "pictures", Image.new("RGB", (40, 30), (200, 10, 20))
    (folder / "deep" / "deeper").mkdir(parents=True)
    color.save(folder / "b.JPG")
    color.convert("CMYK").save(folder / "deep" / "a.tiff")
    color.convert("RGBA").save(folder / "deep" / "deeper" / "c.webp", lossless=True)
    Image.fromarray(np.full((12, 12), 51 * 257, np.uint16)).save(folder / "a.png")
    (folder / "notes.txt").write_text("no image")
    return folder


IMAGES = ImagePreparation(["cat", "dog"], 16)


def test_images_of_any_kind_at_any_depth_are_told_of_in_the_order_of_their_paths(pictures: Path) -> None:
    found = whole(IMAGES, pictures)
    assert found.ids == ["a.png", "b.JPG", "deep/a.tiff", "deep/deeper/c.webp"]
    pixels = found.inputs["pixels"]
    assert pixels.shape == (4, 3, 16, 16) and pixels.dtype == np.uint8
    assert (pixels[0] == 51).all()  # of 16-bit grey the upper half
    assert (pixels[3] == np.array([200, 10, 20])[:, None, None]).all()
    alone = whole(IMAGES, pictures / "deep" / "a.tiff")
    assert alone.ids == ["a.tiff"]
    np.testing.assert_array_equal(alone.inputs["pixels"][0], pixels[2])


def test_a_large_folder_is_decoded_batch_by_batch(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Path] = []
    decoded = images.decoded
    monkeypatch.setattr(images, "decoded", lambda path, side_px: (seen.append(path), decoded(path, side_px))[1])
    batches = IMAGES.read(pictures, 3)
    assert len(next(batches).ids) == 3 and len(seen) == 3
    assert len(next(batches).ids) == 1 and len(seen) == 4


def test_all_broken_images_of_a_folder_are_named_before_any_is_predicted(pictures: Path) -> None:
    for kind, (make, _) in FAULTS.items():
        (pictures / f"{kind}.png").write_bytes(make(Image.new("RGB", (16, 16))))
    assert_refused(
        IMAGES, pictures, r"6 of 10 images cannot be used: 2 damaged.*bits-flipped\.png \(.*and 1 more\. Mend"
    )
    assert_refused(IMAGES, pictures / "text.png", r"text\.png cannot be used as an image: not an image")


def test_an_image_that_is_not_there_or_a_folder_without_any_is_said(pictures: Path) -> None:
    assert_refused(IMAGES, pictures / "none.png", r"none\.png cannot be used.*No such file")
    shutil.rmtree(pictures / "deep")
    for name in ("a.png", "b.JPG"):
        (pictures / name).unlink()
    assert_refused(IMAGES, pictures, "has no images in it, and 1 other files")


def test_the_three_likeliest_classes_are_told() -> None:
    preparation = ImagePreparation(list("wxyz"), 16)
    (told,) = preparation.tell(NOTHING, {"logits": np.log(np.array([[1.0, 4.0, 2.0, 3.0]]))})
    assert told == {
        "class": "x",
        "probability": pytest.approx(0.4),
        "top_3": pytest.approx({"x": 0.4, "z": 0.3, "y": 0.2}),
    }
    assert list(told["top_3"]) == ["x", "z", "y"]


# recordings

RATE_HZ = 192_000
FRAME = Frame(60.0, 20.0, 1_000.0)
RECORDINGS = RecordingPreparation(FRAME, Recipe(RATE_HZ, "pool", mfcc=False), 4_096, single=False)


@pytest.fixture
def recorded(small_data: Callable[[str], Data], tmp_path: Path) -> Path:
    """Two events without labels, of the five receivers that heard them."""
    made, folder = Path(small_data("rf_localization")["path"]), tmp_path / "heard"
    (folder / "iq").mkdir(parents=True)
    table = pq.read_table(made / "labels.parquet", columns=["file", "receiver_id", "session_id", "time"])
    rows = [row for row in table.to_pylist() if row["file"] < "e000002"]
    write_labels(folder, rows)
    for row in rows:
        shutil.copy(made / "iq" / row["file"], folder / "iq")
    shutil.copy(made / "receivers.csv", folder)
    return folder


def write_labels(folder: Path, rows: list[dict[str, Any]]) -> None:
    pq.write_table(pa.Table.from_pylist(rows), folder / "labels.parquet")


def labels_of(folder: Path) -> list[dict[str, Any]]:
    return pq.read_table(folder / "labels.parquet").to_pylist()


def test_events_need_no_labels_and_may_be_heard_by_any_number_of_receivers(recorded: Path) -> None:
    both = whole(RECORDINGS, recorded)
    assert len(both.ids) == 2 and both.inputs["features_db"].shape == (2, 5, 3, 128, 32)
    rows = labels_of(recorded)
    lines = [",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)]
    (recorded / "labels.csv").write_text("\n".join(lines) + "\n")
    (recorded / "labels.parquet").unlink()
    assert_same(both, whole(RECORDINGS, recorded))
    assert_same(both, whole(RECORDINGS, recorded / "labels.csv"))

    heard = both.inputs["present"][0].astype(bool)
    first, second = np.flatnonzero(heard)[:2]
    sites = (recorded / "receivers.csv").read_text().splitlines()
    (recorded / "receivers.csv").write_text("\n".join([sites[0], sites[1 + second], sites[1 + first]]) + "\n")
    write_labels(recorded, [row for row in rows if row["receiver_id"] in (f"r{first}", f"r{second}")])
    (recorded / "labels.csv").unlink()
    few = whole(RECORDINGS, recorded).inputs
    for name in ("features_db", "sites"):
        np.testing.assert_array_equal(few[name][0], both.inputs[name][0, [second, first]])


def test_single_recordings_and_windows_are_examples_of_their_own(recorded: Path) -> None:
    files = sorted(row["file"] for row in labels_of(recorded))
    together = whole(RECORDINGS, recorded).inputs
    single = whole(replace(RECORDINGS, single=True), recorded)
    assert single.ids == files and single.inputs["features_db"].shape == (len(files), 1, 3, 128, 32)
    present = together["present"].astype(bool)
    for name in ("features_db", "sites"):
        np.testing.assert_array_equal(single.inputs[name][:, 0], together[name][present])

    for name in files:
        np.save(recorded / "iq" / name, np.tile(np.load(recorded / "iq" / name), 9))  # 73 frames: two windows, a rest
    windows = replace(RECORDINGS, recipe=Recipe(RATE_HZ, "window", mfcc=False))
    ids = whole(windows, recorded).ids
    assert [one.rpartition(" window ")[2] for one in ids] == ["1", "2", "1", "2"]
    parts = list(windows.read(recorded, 1))
    assert [list(part.ids) for part in parts] == [[one] for one in ids]
    assert parts[0].inputs["features_db"].shape == (1, 5, 3, 128, 32)


def test_a_position_is_told_in_degrees_and_its_uncertainty_in_metres() -> None:
    """A degree north is 111,195.08 m on the sphere of 6,371,008.8 m; one east, at 60 degrees north, half of it."""
    (told,) = RECORDINGS.tell(NOTHING, {"position_and_sigma": np.array([[1.0, -0.5, 0.3, 0.4]], np.float32)})
    assert told["latitude"] == pytest.approx(60 + 1_000 / 111_195.08, abs=1e-7)
    assert told["longitude"] == pytest.approx(20 - 500 / (111_195.08 / 2), abs=1e-7)
    assert [told[f"sigma{name}_m"] for name in ("", "_north", "_east")] == pytest.approx([500, 300, 400])


def without(column: str) -> Spoil:
    return lambda folder: write_labels(
        folder, [{n: v for n, v in row.items() if n != column} for row in labels_of(folder)]
    )


def overwrite(recordings: slice, make: Callable[[np.ndarray], np.ndarray]) -> Spoil:
    def spoil(folder: Path) -> None:
        for path in sorted((folder / "iq").iterdir())[recordings]:
            np.save(path, make(np.load(path)))

    return spoil


def with_nan(iq: np.ndarray) -> np.ndarray:
    return np.where(np.arange(len(iq)) < 3, np.nan, iq).astype(np.complex64)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda folder: (folder / "labels.parquet").unlink(), r"must be a folder with labels.parquet.*there is no"),
        (lambda folder: (folder / "labels.parquet").write_text("text"), r"labels\.parquet cannot be read as a Parquet"),
        (without("receiver_id"), r"labels\.parquet: missing receiver_id; a row has file, receiver_id, session_id, "),
        (lambda folder: (folder / "receivers.csv").unlink(), r"receivers\.csv: No such file"),
        (lambda folder: (folder / "receivers.csv").write_text("receiver_id,latitude,longitude\nr0,1,2\n"),
         r"receiver_id must be one of .*receivers\.csv \(r0\); \d of \d+ rows break that: row \d"),
        (lambda folder: (folder / "iq" / "e000001-r0.npy").unlink(), r"1 of \d+ rows.*e000001-r0\.npy \(No such file"),
        (overwrite(slice(2), np.real), r"whole \.npy of complex64.*; 2 of \d+ rows.*row 1: e.*\(float32, shape \(4"),
        (overwrite(slice(2), with_nan), r"must be finite.*; 2 of \d+ rows break that: row 1: e.*npy \(3 samples"),
        (overwrite(slice(None), lambda iq: iq[:3_000]), "must have 4096 samples, as those of training; they have 3000"),
    ],
)  # fmt: skip
def test_recordings_that_cannot_be_used_are_refused(recorded: Path, spoil: Spoil, said: str) -> None:
    spoil(recorded)
    assert_refused(RECORDINGS, recorded, said)


# planets


@pytest.fixture
def planets(small_data: Callable[[str], Data], tmp_path: Path) -> Path:
    """Six planets without labels."""
    made, folder = Path(small_data("multimodal")["path"]), tmp_path / "planets"
    folder.mkdir()
    rows = pq.read_table(made / TABLE).slice(0, 6).drop_columns(["label"])
    pq.write_table(rows, folder / TABLE)
    np.save(folder / CUBES, np.load(made / CUBES)[:6])
    shutil.copy(made / TOKENIZER, tmp_path)
    return folder


@pytest.fixture
def preparation(planets: Path) -> PlanetPreparation:
    """That of a model of all three modalities, trained on texts of 10 tokens and graphs of 8 nodes."""
    features = len(node_of(planets)[0])
    shape = np.load(planets / CUBES).shape[1:]
    return PlanetPreparation(PARTS, ["a", "b"], features, shape, 64, Padding(10, 8), 8, planets.parent / TOKENIZER)


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return pq.read_table(folder / TABLE).to_pylist()


def node_of(folder: Path) -> list[list[float]]:
    """The first node of the first graph."""
    return next(row["nodes"][:1] for row in rows_of(folder) if row["nodes"])


def change(folder: Path, row: int, **columns: Any) -> None:
    """Other values in one row."""
    schema = pq.read_schema(folder / TABLE)
    rows = [one | (columns if i == row else {}) for i, one in enumerate(rows_of(folder))]
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), folder / TABLE)


def test_a_view_that_is_missing_is_masked(planets: Path, preparation: PlanetPreparation) -> None:
    change(planets, 1, text=None, nodes=None, edges=None, cube_row=1)
    change(planets, 2, text="a warm sea", cube_row=None)
    inputs = whole(preparation, planets).inputs
    assert not inputs["token_mask"][1].any() and not inputs["node_mask"][1].any() and inputs["cube_mask"][1].all()
    assert not inputs["cube_mask"][2].any() and not inputs["cube"][2].any()
    for row in range(6):
        change(planets, row, text="a sea", nodes=None, edges=None, cube_row=None)
    nobody = whole(preparation, planets).inputs
    assert not nobody["node_mask"].any() and not nobody["cube_mask"].any()
    assert {name: array.shape for name, array in nobody.items()} == {
        name: (6, 10) if name.startswith("token") else array.shape for name, array in inputs.items()
    }


def test_tokens_are_those_of_the_tokenizer_that_ships(planets: Path, preparation: PlanetPreparation) -> None:
    shipped = whole(preparation, planets)
    write_tokenizer(planets / TOKENIZER, ["other", "words"])
    assert_same(shipped, whole(preparation, planets))
    write_tokenizer(preparation.tokenizer, ["other", "words"])
    assert not np.array_equal(shipped.inputs["tokens"], whole(preparation, planets).inputs["tokens"])
    preparation.tokenizer.unlink()
    assert_refused(preparation, planets, r"tokenizer\.json: No such file")


def test_samples_are_padded_as_in_training_or_to_the_longest(planets: Path, preparation: PlanetPreparation) -> None:
    longest = max(whole(preparation, planets).inputs["token_mask"].sum(axis=1))
    wide = whole(replace(preparation, padding=Padding(longest + 5, 20)), planets).inputs
    assert wide["tokens"].shape[1] == longest + 5 and wide["adjacency"].shape[1:] == (20, 20)
    narrow = whole(replace(preparation, padding=Padding(1, 1)), planets).inputs
    assert narrow["tokens"].shape[1] == longest and narrow["nodes"].shape[1] <= 8
    np.testing.assert_array_equal(narrow["tokens"], wide["tokens"][:, :longest])


def test_a_model_of_one_view_needs_no_other_column_and_no_cubes(planets: Path, preparation: PlanetPreparation) -> None:
    everything = whole(preparation, planets)
    rows = [{"planet_id": row["planet_id"], "text": row["text"] or "a sea"} for row in rows_of(planets)]
    pq.write_table(pa.Table.from_pylist(rows), planets / TABLE)
    (planets / CUBES).unlink()
    alone = whole(replace(preparation, modalities=("text",)), planets / TABLE)
    assert alone.ids == everything.ids and set(alone.inputs) == {"tokens", "token_mask"}
    there = everything.inputs["token_mask"].any(axis=1)
    np.testing.assert_array_equal(alone.inputs["tokens"][there], everything.inputs["tokens"][there])
    assert_refused(
        preparation, planets, "missing nodes, edges, cube_row. A row has planet_id, text, nodes, edges, cube_row"
    )


def test_every_class_is_told_with_its_probability(preparation: PlanetPreparation) -> None:
    (told,) = preparation.tell(NOTHING, {"logits": np.array([[0.0, math.log(3)]])})
    assert told == {
        "class": "b",
        "probability": pytest.approx(0.75),
        "probabilities": pytest.approx({"a": 0.25, "b": 0.75}),
    }


def cubes(make: Callable[[np.ndarray], np.ndarray]) -> Spoil:
    return lambda folder: np.save(folder / CUBES, make(np.load(folder / CUBES)))


def with_infinity(stored: np.ndarray) -> np.ndarray:
    stored[[1, 3]] = np.inf
    return stored


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda folder: (folder / TABLE).unlink(), r"must be a folder with planets\.parquet.*there is no .*planets"),
        (lambda folder: (folder / TABLE).write_bytes(b""), r"planets\.parquet cannot be read as a Parquet file"),
        (lambda folder: (folder / CUBES).unlink(), r"cubes\.npy: No such file"),
        (cubes(lambda stored: stored[:4]), r"cube_row must be in \[0, 4\); \d of 6 rows break that: row \d .*: \d"),
        (cubes(lambda stored: stored[:, :, :2]), r"cube must have the shape .* of training, \(\d.*these have \(\d, 2"),
        (cubes(with_infinity), r"cubes must be finite; \d of \d rows break that: row 1 \(cube 1\)"),
        (lambda folder: change(folder, 4, text=""), "text must be null where it is missing, not empty; 1 of 6"),
        (lambda folder: change(folder, 4, text=None, nodes=None, edges=None, cube_row=None),
         "every observation needs a text, a graph or a cube; 1 of 6 rows break that: row 4"),
        (lambda folder: [change(folder, row, nodes=[[0.0]], edges=[]) for row in range(6)],
         r"a node must have \d features, as in training; they have 1"),
        (lambda folder: change(folder, 2, nodes=node_of(folder) * 9, edges=[]),
         r"a graph must have at most 8 nodes, as in training; 1 of 6.*row 2 .*: 9"),
    ],
)  # fmt: skip
def test_planets_that_cannot_be_used_are_refused(
    planets: Path, preparation: PlanetPreparation, spoil: Spoil, said: str
) -> None:
    spoil(planets)
    assert_refused(preparation, planets, said)


def test_the_example_of_the_guide_reads_and_tells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    block = re.search(r"```python\n(.*?)```", section(GUIDE, "## Predicting"), re.DOTALL)
    assert block is not None
    (tmp_path / "patients.py").write_text(block[1])
    monkeypatch.syspath_prepend(tmp_path)
    patients = importlib.import_module("patients").Patients(mean=150.0, std=50.0)
    lines = [[i / 10 for i in range(10)], [0.05] * 10, [-0.1] * 10]
    path = tmp_path / "three.csv"
    path.write_text("".join(",".join(map(str, line)) + "\n" for line in lines))
    parts = list(patients.read(path, 2))
    assert [part.ids for part in parts] == [["1", "2"], ["3"]]
    np.testing.assert_allclose(parts[1].inputs["numbers"], [[-2.0] * 10])
    assert patients.tell(parts[1], {"progression": np.array([[0.5]])}) == [{"progression": 175.0}]
    path.write_text("1,2,3\n")
    assert_refused(patients, path, "three.csv: line 1 must hold ten finite numbers")
