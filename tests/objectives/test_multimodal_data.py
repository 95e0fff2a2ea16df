"""Loading, refusing and splitting planets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hpo.errors import DataError
from objectives.multimodal import OBJECTIVE, data
from objectives.multimodal.batches import PlanetSet, scaling
from objectives.multimodal.data import load, split, split_ids
from objectives.multimodal.fields import checked
from objectives.multimodal.format import CUBES, TABLE, TOKENIZER
from objectives.multimodal.presets import PARTS
from objectives.multimodal.views import names
from objectives.multimodal.words import write_tokenizer

Rows = dict[str, list[Any]]
SHAPE = (1, 4, 4, 4)


def table(planets: int = 20, observations: int = 1) -> Rows:
    """Planets of two classes, each with everything: a chain of three nodes."""
    rows = planets * observations
    planet = [i // observations for i in range(rows)]
    return {
        "planet_id": [f"p{i}" for i in planet],
        "label": [("sea", "land")[i % 2] for i in planet],
        "text": [f"a sea of {'salt ' * (i % 3)}dust" for i in range(rows)],
        "nodes": [[[float(i), 1.0], [0.0, 0.0], [1.0, 2.0]] for i in range(rows)],
        "edges": [[[0, 1], [1, 2]] for _ in range(rows)],
        "cube_row": list(range(rows)),
    }


def cubes(rows: int = 20) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((rows, *SHAPE)).astype(np.float32)


def folder(path: Path, rows: Rows, stored: np.ndarray | None = None, **fields: Any) -> dict[str, Any]:
    path.mkdir(exist_ok=True)
    pq.write_table(pa.table(rows), path / TABLE)
    np.save(path / CUBES, cubes(len(rows["label"])) if stored is None else stored)
    write_tokenizer(path / TOKENIZER, ["a", "dust", "of", "salt", "sea"])
    return {"path": str(path), "min_planets": 5, **fields}


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    rows, stored = table(), cubes()
    rows["text"][3] = rows["nodes"][4] = rows["edges"][4] = rows["cube_row"][5] = None
    found = load(checked(folder(tmp_path / "a", rows, stored)))
    assert found.classes == ("land", "sea") and found.labels[:3].tolist() == [1, 0, 1]
    assert found.tokens[1, :6].tolist() == [1, 5, 3, 4, 2, 0] and found.token_counts[:4].tolist() == [4, 5, 6, 0]
    nodes, edges = found.graphs[6]
    assert nodes.tolist() == rows["nodes"][6] and edges.tolist() == rows["edges"][6]
    assert len(found.graphs[4][0]) == len(found.graphs[4][1]) == 0
    assert [(~found.present(part)).nonzero()[0].tolist() for part in PARTS] == [[3], [4], [5]]
    facts = OBJECTIVE().check_data(folder(tmp_path / "a", rows, stored))
    assert facts.counts == {
        "observations": 20, "planets": 20, "land": 10, "sea": 10,
        "without_text": 1, "without_graph": 1, "without_cube": 1,
    }  # fmt: skip


def test_cube_rows_may_be_floats_as_pandas_makes_them_where_one_is_missing(tmp_path: Path) -> None:
    rows = table()
    rows["cube_row"] = [None if i == 5 else float("nan") if i == 6 else float(i) for i in range(20)]
    found = load(checked(folder(tmp_path / "a", rows)))
    assert (~found.present("cube")).nonzero()[0].tolist() == [5, 6]
    assert found.cube_rows[:7].tolist() == [0, 1, 2, 3, 4, -1, -1]


def test_a_sample_is_dense_padded_and_masked(tmp_path: Path) -> None:
    rows, stored = table(), cubes()
    rows["nodes"][1], rows["edges"][1] = [[5.0, 6.0], [7.0, 8.0]], [[1, 0], [1, 1], [1, 0]]
    rows["cube_row"][2] = None
    found = load(checked(folder(tmp_path / "a", rows, stored)))
    samples = PlanetSet(found, np.array([1, 2, 0]), PARTS)
    first = dict(zip((*names(PARTS), "label"), samples[0], strict=True))
    assert first["tokens"].tolist() == [1, 5, 3, 4, 2, 0] and first["token_mask"].tolist() == [True] * 5 + [False]
    assert first["nodes"].tolist() == [[5, 6], [7, 8], [0, 0]] and first["node_mask"].tolist() == [True, True, False]
    both = [[False, True, False], [True, False, False], [False, False, False]]
    assert first["adjacency"].tolist() == both, "edges go both ways, once, and not to the node itself"
    np.testing.assert_array_equal(first["cube"].numpy(), stored[1])
    assert first["cube_mask"].tolist() == [True] and first["label"].item() == 0
    assert samples[1][6].tolist() == [False] and not samples[1][5].any()
    assert [tuple(part.shape[:2]) for part in samples.tensors()] == [
        (3, 6),
        (3, 6),
        (3, 3),
        (3, 3),
        (3, 3),
        (3, 1),
        (3, 1),
        (3,),
    ]


def test_a_large_split_is_read_sample_by_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = load(checked(folder(tmp_path / "a", table())))
    samples = PlanetSet(found, np.arange(3), ("cube",))
    assert isinstance(samples.data, tuple)
    monkeypatch.setattr("objectives.multimodal.batches.IN_MEMORY_BYTES", 100)
    assert samples.data is samples


def test_standardisation_is_that_of_the_training_rows_that_have_the_modality(tmp_path: Path) -> None:
    rows, stored = table(), cubes()
    rows["cube_row"][0] = rows["nodes"][1] = rows["edges"][1] = None
    found = load(checked(folder(tmp_path / "a", rows, stored)))
    train = np.arange(6)
    buffers = scaling(found, train, PARTS)
    seen = stored[1:6]
    np.testing.assert_allclose(buffers["cube_mean"].numpy(), seen.mean((0, 3, 4))[..., None, None], atol=1e-6)
    np.testing.assert_allclose(buffers["cube_std"].numpy(), seen.std((0, 3, 4))[..., None, None], rtol=1e-5)
    nodes = np.concatenate([rows["nodes"][i] for i in (0, 2, 3, 4, 5)])
    np.testing.assert_allclose(buffers["node_mean"].numpy(), nodes.mean(0), rtol=1e-6)
    np.testing.assert_allclose(buffers["node_std"].numpy(), nodes.std(0), rtol=1e-6)


def test_what_does_not_vary_is_only_centred(tmp_path: Path) -> None:
    rows = table()
    rows["text"] = ["salt " * (i + 1) for i in range(20)]
    rows["nodes"] = [[[3.0]] for _ in range(20)]
    rows["edges"] = [[] for _ in range(20)]
    found = load(checked(folder(tmp_path / "a", rows, np.full((20, *SHAPE), 7.0, np.float32))))
    buffers = scaling(found, np.arange(6), PARTS)
    assert buffers["node_mean"].tolist() == [3] and buffers["node_std"].tolist() == [1]
    assert buffers["cube_mean"].unique().tolist() == [7] and buffers["cube_std"].unique().tolist() == [1]


def same_content(rows: Rows) -> None:
    for name in ("text", "nodes", "edges"):
        rows[name][3] = rows[name][1]


def set_to(column: str, row: int, value: Any) -> Callable[[Rows], None]:
    return lambda rows: rows[column].__setitem__(row, value)


def nothing_left(rows: Rows) -> None:
    for row in (2, 9):
        for name in ("text", "nodes", "edges", "cube_row"):
            rows[name][row] = None


def one_class(rows: Rows) -> None:
    rows["label"] = ["sea"] * 20


def rare_class(rows: Rows) -> None:
    rows["label"][:4] = ["moon"] * 4


def two_labels(rows: Rows) -> None:
    rows["planet_id"][1] = "p0"


REFUSED: list[tuple[Callable[[Rows], Any], str]] = [
    (lambda rows: rows.pop("edges"), "missing edges. A row has planet_id, label"),
    (lambda rows: [column.clear() for column in rows.values()], "has no rows"),
    (set_to("planet_id", 4, None), r"planet_id must not be empty; 1 of 20 rows break that: row 4"),
    (set_to("label", 4, ""), r"label must not be empty; 1 of 20 rows"),
    (lambda rows: rows.update(label=[0.5] * 20), "label must hold texts or whole numbers; it holds double"),
    (lambda rows: rows.update(text=[3] * 20), r"text must be a string or null; 20 of 20 .* and 15 more"),
    (set_to("text", 4, ""), r"text must be null where it is missing.*row 4 \(planet p4\)"),
    (set_to("text", 4, "   "), r"text must have a token"),
    (lambda rows: rows.update(nodes=[1.0] * 20), "nodes must hold lists of lists of numbers; it holds double"),
    (lambda rows: rows.update(nodes=[[["x"]]] * 20), "nodes must hold lists of lists of numbers"),
    (set_to("nodes", 4, [[1.0, 2.0], [1.0], [2.0]]), r"every node must have 2 features.*1 of 20.*row 4 \(planet p4\)"),
    (set_to("nodes", 4, []), "nodes must be null where there is no graph"),
    (set_to("nodes", 4, None), "edges need nodes"),
    (set_to("nodes", 4, [[1.0, float("nan")]] * 3), r"features of nodes must be finite.*row 4 \(planet p4\)"),
    (set_to("nodes", 4, [[1.0, None]] * 3), "features of nodes must be finite"),
    (set_to("edges", 4, [[0, 1, 2]]), "an edge must be a pair"),
    (set_to("edges", 4, [[0, 3]]), r"edges must join nodes of their graph.*row 4 \(planet p4\): 3"),
    (set_to("edges", 4, [[-1, 1]]), "edges must join nodes of their graph"),
    (lambda rows: rows.update(edges=[[[0.5, 1.0]]] * 20), "edges must be whole numbers"),
    (set_to("cube_row", 4, -1), "cube_row must be 0 or more; 1 of 20"),
    (set_to("cube_row", 4, 20), r"cube_row must be in \[0, 20\).*row 4 \(planet p4\): 20"),
    (set_to("cube_row", 4, 3.5), r"cube_row must be a whole number or null; 1 of 20 .* row 4 \(planet p4\): 3.5"),
    (lambda rows: rows.update(cube_row=["a"] * 20), "cube_row must hold whole numbers or null; it holds string"),
    (set_to("cube_row", 4, 3), "a cube must belong to one planet; 1 of 20"),
    (nothing_left, r"every observation needs a text, a graph or a cube; 2 of 20.*row 2 \(planet p2\), row 9"),
    (one_class, "at least 2 classes are needed; all labels are 'sea'"),
    (rare_class, r"a class needs at least 5 planets.*1 of 3 have fewer: moon \(4\)"),
    (two_labels, r"all observations of a planet must have one label; 1 of 20.*row 1 \(planet p0\): land"),
]


@pytest.mark.parametrize(("spoil", "said"), REFUSED, ids=[said[:40] for _, said in REFUSED])
def test_rows_that_break_a_rule_are_counted_and_named(tmp_path: Path, spoil: Callable[[Rows], Any], said: str) -> None:
    rows = table()
    stored = cubes()
    spoil(rows)
    with pytest.raises(DataError, match=said) as refused:
        OBJECTIVE().check_data(folder(tmp_path / "a", rows, stored))
    assert str(tmp_path / "a") in str(refused.value)


def test_the_same_observation_under_two_ids_is_refused(tmp_path: Path) -> None:
    rows, stored = table(), cubes()
    same_content(rows)
    OBJECTIVE().check_data(folder(tmp_path / "a", rows, stored))
    stored[3] = stored[1]
    with pytest.raises(DataError, match=r"must not stand under two planet_ids; 1 of 20.*row 3 \(planet p3\)"):
        OBJECTIVE().check_data(folder(tmp_path / "b", rows, stored))


def nan_cube() -> np.ndarray:
    stored = cubes()
    stored[[2, 7], 0, 0, 0, 0] = np.nan, np.inf
    return stored


@pytest.mark.parametrize(
    ("stored", "said"),
    [
        (nan_cube(), r"cubes must be finite; 2 of 20 rows break that: row 2 \(cube 2\), row 7"),
        (cubes()[:, 0], r"shape \(cubes, variables, levels, lat, lon\); it holds float32 of shape \(20, 4, 4, 4\)"),
        (cubes().astype(np.int64), "it holds int64"),
        (cubes()[..., :3], r"multiples of 4, the patch of the preset tiny; they are \(4, 4, 3\)"),
    ],
)
def test_cubes_of_another_form_are_refused(tmp_path: Path, stored: np.ndarray, said: str) -> None:
    with pytest.raises(DataError, match=said):
        OBJECTIVE().check_data(folder(tmp_path / "a", table(), stored))


@pytest.mark.parametrize("name", [TABLE, CUBES, TOKENIZER])
@pytest.mark.parametrize("content", [None, b"", b"not what it should be"])
def test_a_file_that_is_missing_empty_or_something_else_is_named(
    tmp_path: Path, name: str, content: bytes | None
) -> None:
    given = folder(tmp_path / "a", table())
    (tmp_path / "a" / name).unlink()
    if content is not None:
        (tmp_path / "a" / name).write_bytes(content)
    with pytest.raises(DataError, match=name):
        OBJECTIVE().check_data(given)


def test_a_file_without_permission_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = folder(tmp_path / "a", table())
    real = Path.read_text

    def denied(self: Path, *args: Any, **kwargs: Any) -> str:
        if self.name == TOKENIZER:
            raise PermissionError(13, "Permission denied")
        return real(self, *args, **kwargs)

    monkeypatch.setattr(Path, "read_text", denied)
    with pytest.raises(DataError, match="tokenizer.json: Permission denied"):
        OBJECTIVE().check_data(given)


def test_pickled_cubes_are_not_run(tmp_path: Path) -> None:
    given = folder(tmp_path / "a", table())
    np.save(tmp_path / "a" / CUBES, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="cubes.npy"):
        OBJECTIVE().check_data(given)


@pytest.mark.parametrize("size", [None, 100])
def test_an_archive_of_cubes_is_no_file_of_cubes(tmp_path: Path, size: int | None) -> None:
    given = folder(tmp_path / "a", table())
    np.savez(tmp_path / "cubes.npz", cubes=cubes())
    (tmp_path / "a" / CUBES).write_bytes((tmp_path / "cubes.npz").read_bytes()[:size])
    with pytest.raises(DataError, match="cubes.npy cannot be read as a NumPy file"):
        OBJECTIVE().check_data(given)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"colour": "red"}, "unknown field 'colour'"),
        ({"path": 3}, "path must name a folder"),
        ({"preset": "huge"}, "preset must be one of tiny, small, full; got 'huge'"),
        ({"modalities": []}, "modalities must name at least one of text, graph, cube"),
        ({"modalities": ["sound"]}, "unknown part 'sound'"),
        ({"modalities": "text"}, "modalities must be a list"),
        ({"modalities": ["text", "text"]}, "modalities must name each part once"),
        ({"modalities": ["text"], "freeze": ["cube"]}, "freeze must name parts that are among the modalities, text"),
        ({"weights": "w.h5"}, "weights must be a file that ends in .safetensors, .pt"),
        ({"weights": "none.pt"}, "none.pt: No such file"),
        ({"min_planets": 0}, "min_planets must be a whole number of at least 1; got 0"),
        ({"max_nodes": "many"}, "max_nodes must be a whole number"),
        ({"min_planets": 21}, "has 20 planets; at least 21 are needed"),
        ({"max_nodes": 2}, r"at most 2 nodes \(max_nodes\); 20 of 20"),
        ({"preset": "small"}, "multiples of 8, the patch of the preset small"),
    ],
)
def test_a_field_that_does_not_fit_is_one_clear_message(tmp_path: Path, fields: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError, match=f"(?i){said}"):
        OBJECTIVE().check_data({**folder(tmp_path / "a", table()), **fields})


def test_a_tokenizer_with_more_tokens_than_the_encoder_is_refused(tmp_path: Path) -> None:
    given = folder(tmp_path / "a", table())
    write_tokenizer(tmp_path / "a" / TOKENIZER, [f"w{i}" for i in range(256)])
    with pytest.raises(DataError, match="has 257 tokens; the text encoder of the preset tiny has 256"):
        OBJECTIVE().check_data(given)


def test_a_modality_that_nobody_has_must_be_left_out(tmp_path: Path) -> None:
    rows = table()
    rows["text"], rows["cube_row"] = [None] * 20, [None] * 20
    given = folder(tmp_path / "a", rows)
    for name in (TOKENIZER, CUBES):
        (tmp_path / "a" / name).unlink()
    with pytest.raises(DataError, match="no planet has a text. Leave text out"):
        OBJECTIVE().check_data(given)
    assert OBJECTIVE().check_data({**given, "modalities": ["graph"]}).counts["without_cube"] == 20


def test_a_text_that_is_too_long_is_cut_and_told(tmp_path: Path) -> None:
    rows = table()
    rows["text"][3] = "salt " * 100
    given = folder(tmp_path / "a", rows)
    assert load(checked(given)).token_counts[3] == 64
    assert OBJECTIVE().check_data(given).notes == ["1 texts have more than 64 tokens; what comes after is not read."]


def test_all_observations_of_a_planet_stand_on_one_side_and_classes_alike(tmp_path: Path) -> None:
    found = load(checked(folder(tmp_path / "a", table(50, observations=3))))
    parts = vars(split(found, 4))
    ids = [set(found.ids[rows].tolist()) for rows in parts.values()]
    assert [len(some) for some in ids] == [30, 10, 10] and len(set.union(*ids)) == 50
    for rows in parts.values():
        assert np.bincount(found.labels[rows]).tolist() == [len(rows) // 2] * 2
    assert split_ids(found, 4)["test"] == sorted(ids[2])
    for index in range(4):
        fold = split(found, 4, (index, 4))
        assert fold.test.tolist() == parts["test"].tolist()
        assert not set(found.ids[fold.train]) & set(found.ids[fold.validation])


def test_the_fingerprint_follows_the_content_and_the_model(tmp_path: Path) -> None:
    rows, stored = table(), cubes()
    given = folder(tmp_path / "a", rows, stored)
    seen = {
        OBJECTIVE().check_data(given).fingerprint,
        OBJECTIVE().check_data({**given, "freeze": ["text"]}).fingerprint,
    }
    assert len(seen) == 2
    stored[4, 0, 0, 0, 0] += 1e-3
    seen.add(OBJECTIVE().check_data(folder(tmp_path / "b", rows, stored)).fingerprint)
    rows["nodes"][4][0][0] += 1e-3
    seen.add(OBJECTIVE().check_data(folder(tmp_path / "c", rows, stored)).fingerprint)
    rows["text"][4] = "dust"
    seen.add(OBJECTIVE().check_data(folder(tmp_path / "d", rows, stored)).fingerprint)
    assert len(seen) == 5
    (tmp_path / "a").rename(tmp_path / "e")
    again = OBJECTIVE().check_data({**given, "path": str(tmp_path / "e")}).fingerprint
    assert again in seen, "another place is not other data"


def test_of_a_very_large_file_evenly_spaced_cubes_are_looked_at() -> None:
    rows = np.arange(100)
    assert data.spread(rows, 10, most=10_000).tolist() == rows.tolist()
    assert data.spread(rows, 10, most=300).tolist() == list(range(0, 100, 4))
    assert data.spread(rows, 10, most=1).tolist() == [0]
