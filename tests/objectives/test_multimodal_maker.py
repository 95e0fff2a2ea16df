"""Planets are made from a seed, each view tells its part, and an interrupted call goes on."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from tokenizers import Tokenizer

from hpo import durable
from hpo.errors import DataError, UnknownName
from objectives.multimodal import OBJECTIVE, maker, planets
from objectives.multimodal.format import CUBES, TABLE, TOKENIZER

RUN = """
import sys
from objectives.multimodal import maker
maker.CHUNK = 4
maker.make(sys.argv[1], 3, records=60, nodes=8, observations=4, progress=False)
"""
# Put before it: a run that says when it has written one part and waits within the next, between cubes and table.
HELD = """
import time
from objectives.multimodal import maker
write, tables = maker._write_table, []
def held(path, rows):
    tables.append(path)
    if len(tables) == 2:
        print("held", flush=True)
        time.sleep(600)
    write(path, rows)
maker._write_table = held
"""


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty planets, each looked at four times, made without interruption."""
    path = tmp_path_factory.mktemp("whole") / "planets"
    subprocess.run([sys.executable, "-c", RUN, str(path)], check=True)
    return path


def test_a_killed_run_goes_on_and_gives_the_same_bytes(whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "planets"
    with subprocess.Popen([sys.executable, "-c", HELD + RUN, str(out)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        process.kill()
    parts = tmp_path / "planets.parts"
    assert not out.exists()
    assert (len(list(parts.glob(f"*-{TABLE}"))), len(list(parts.glob(f"*-{CUBES}")))) == (1, 2)
    subprocess.run([sys.executable, "-c", RUN, str(out)], check=True)
    assert files(out) == files(whole)
    assert not parts.exists()


def test_the_folder_is_what_the_format_says(whole: Path) -> None:
    assert set(files(whole)) == {TABLE, CUBES, TOKENIZER}
    rows = pq.read_table(whole / TABLE).to_pylist()
    assert len(rows) == 240 and len({row["planet_id"] for row in rows}) == 60
    used = [row["cube_row"] for row in rows if row["cube_row"] is not None]
    cubes = np.load(whole / CUBES, allow_pickle=False)
    assert used == list(range(len(cubes)))
    assert cubes.shape[1:] == (3, 4, 8, 16) and cubes.dtype == np.float32 and np.isfinite(cubes).all()
    assert all(8 <= len(row["nodes"]) <= 8 for row in rows if row["nodes"] is not None)
    assert json.loads(pq.read_schema(whole / TABLE).metadata[b"hpo"])["seed"] == 3


def test_every_word_is_known_to_the_tokenizer(whole: Path) -> None:
    tokenizer = Tokenizer.from_file(str(whole / TOKENIZER))
    texts = [text for text in pq.read_table(whole / TABLE).column("text").to_pylist() if text is not None]
    known = [token for one in tokenizer.encode_batch(texts) for token in one.ids]
    assert known and min(known) > 0
    assert tokenizer.encode("an unheard-of Ocean").ids[-1] == tokenizer.token_to_id("ocean")
    assert tokenizer.encode("xyzzy").ids == [0]


def test_shares_of_missing_modalities_are_those_asked_for_and_nobody_has_none(tmp_path: Path) -> None:
    out = tmp_path / "planets"
    wanted = {"text": 50, "graph": 20, "cube": 0}
    options = {f"missing_{part}_percent": percent for part, percent in wanted.items()}
    OBJECTIVE().make_data(out, seed=5, records=500, nodes=8, levels=1, lat=1, lon=1, progress=False, **options)
    table = pq.read_table(out / TABLE)
    for column, percent in zip(("text", "nodes", "cube_row"), wanted.values(), strict=True):
        share = table.column(column).null_count / 500
        assert share == pytest.approx(percent / 100, abs=4 * np.sqrt(0.25 / 500) if percent else 0)
    out = tmp_path / "rare"
    rare = dict.fromkeys(options, 99)
    OBJECTIVE().make_data(out, seed=5, records=60, nodes=8, levels=1, lat=1, lon=1, progress=False, **rare)
    rows = pq.read_table(out / TABLE).to_pylist()
    assert all(any(row[name] is not None for name in ("text", "nodes", "cube_row")) for row in rows)


def test_classes_are_the_corners_of_a_tetrahedron() -> None:
    """One coordinate leaves two classes open, and any two name it."""
    corners = list(planets.CLASSES.values())
    for one in range(3):
        assert sorted(corner[one] for corner in corners) == [-1, -1, 1, 1]
    for one, other in combinations(range(3), 2):
        assert len({(corner[one], corner[other]) for corner in corners}) == 4
    assert {float(np.linalg.norm(np.subtract(a, b))) for a, b in combinations(corners, 2)} == {np.sqrt(8)}


def test_each_view_follows_its_own_coordinate() -> None:
    """Water words, hubs, and waves that lean east."""

    def views(wet: float, oxygenic: float, warm: float) -> tuple[float, float, float]:
        rng = np.random.default_rng(0)
        texts = " ".join(planets.describe(wet, rng) for _ in range(100)).replace(",", " ").replace(".", " ").split()
        hubs = []
        for _ in range(100):
            graph = planets.network(oxygenic, 20, rng)
            hubs.append(np.bincount(graph.edges.ravel(), minlength=len(graph.nodes)).max())
        cubes = np.stack([planets.climate(warm, (1, 4, 8, 16), rng)[0] for _ in range(100)])
        waves = np.fft.rfft(cubes.mean(axis=2), axis=2)[:, :, 1:4]  # of the lats' mean: (cube, level, wave number)
        lean = np.angle((waves[:, 1:] * waves[:, :-1].conj()).sum((0, 1, 2)))
        water = sum(word in planets._WET for word in texts)
        return water / (water + sum(word in planets._DRY for word in texts)), float(np.mean(hubs)), float(lean)

    wet, dry = views(1, 1, 1), views(-1, -1, -1)
    assert wet[0] == pytest.approx(1 / (1 + np.exp(-3)), abs=0.04)
    assert dry[0] == pytest.approx(1 / (1 + np.exp(3)), abs=0.04)
    assert wet[1] > dry[1] + 2
    assert wet[2] == pytest.approx(-1.5 / 4, abs=0.1), "the phase moves by 1.5 rad over the height of 4 levels"
    assert dry[2] == pytest.approx(1.5 / 4, abs=0.1)


def test_networks_are_joined_and_have_no_loops() -> None:
    rng = np.random.default_rng(1)
    for _ in range(50):
        graph = planets.network(rng.normal(), 20, rng)
        assert 10 <= len(graph.nodes) <= 20 and graph.nodes.shape[1] == planets.NODE_FEATURES
        assert (graph.edges[:, 0] < graph.edges[:, 1]).all() and graph.edges.max() < len(graph.nodes)
        assert set(graph.edges[:, 1]) == set(range(1, len(graph.nodes)))
        assert len({tuple(edge) for edge in graph.edges.tolist()}) == len(graph.edges)


def test_the_same_call_again_makes_nothing_and_another_is_refused(whole: Path) -> None:
    before = files(whole)
    options = {"records": 60, "nodes": 8, "observations": 4, "progress": False}
    assert maker.make(whole, 3, **options).reused == 60
    with pytest.raises(DataError, match="seed 3, not 4"):
        maker.make(whole, 4, **options)
    assert files(whole) == before


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(DataError, match="holds no planets"):
        maker.make(tmp_path, 1, records=4, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["note.txt"]


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("records", 0, "from 1"),
        ("missing_cube_percent", 100, "to 99"),
        ("nodes", 7, "from 8"),
        ("lat", 1.5, "whole"),
    ],
)
def test_an_option_out_of_range_is_refused(tmp_path: Path, option: str, value: int, said: str) -> None:
    with pytest.raises(DataError, match=f"{option} must be a whole number.*{said}|{option} .*{said}"):
        maker.make(tmp_path / "out", 1, **{option: value})
    assert not list(tmp_path.iterdir())


def test_an_unknown_option_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="recods"):
        maker.make(tmp_path / "out", 1, recods=3)


def test_a_full_disk_is_told_and_leaves_the_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maker, "CHUNK", 4)
    write, calls = durable.write, []

    def fails_later(path: Path, *args: object, **kwargs: object) -> None:
        calls.append(path)
        if len(calls) > 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(path, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(durable, "write", fails_later)
    with pytest.raises(DataError, match="No room left"):
        maker.make(tmp_path / "out", 1, records=8, nodes=8, progress=False)
    monkeypatch.undo()
    monkeypatch.setattr(maker, "CHUNK", 4)
    assert maker.make(tmp_path / "out", 1, records=8, nodes=8, progress=False).reused == 4
