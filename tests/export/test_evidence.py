"""What a model said about its test set, on its way into a bundle and back; samples found again in another."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from hpo.errors import BundleError
from hpo.export import evidence
from hpo.export.evidence import FILE, Evidence, Kept, Pairs, from_run, pair
from hpo.resolve import resolve
from hpo.spec import StudySpec


def of(targets: object, ids: object = None, **fields: object) -> Evidence:
    wanted = np.asarray(targets)
    named = None if ids is None else np.array(ids)
    return Evidence(**{"kind": "value", "outputs": wanted + 1, "targets": wanted, "ids": named, **fields})  # type: ignore[arg-type]


def run(folder: Path, rows: int = 4) -> Path:
    """Predictions as a trial leaves them."""
    path = folder / "test_predictions.npz"
    outputs = np.arange(3.0 * rows).reshape(rows, 3)
    np.savez(path, outputs=outputs, targets=np.arange(rows), kind=np.array("class"), columns=np.array(2))
    return path


def test_evidence_comes_back_as_it_was_and_without_pickle(tmp_path: Path) -> None:
    made = of([[1.5], [2.5]], ["a", "b"], columns=1, clusters=np.array(["x", "x"]))
    (tmp_path / FILE).write_bytes(made.packed())
    found = Evidence.read(tmp_path)
    assert found is not None
    assert (found.kind, found.columns) == ("value", 1)
    assert found.outputs.tolist() == [[2.5], [3.5]]
    assert found.ids is not None and found.ids.tolist() == ["a", "b"]
    assert found.groups is not None and found.groups.tolist() == ["x", "x"]
    with np.load(tmp_path / FILE, allow_pickle=False) as file:
        assert sorted(file.files) == ["clusters", "columns", "ids", "kind", "outputs", "targets"]
    assert made.packed() == made.packed()


def test_a_bundle_without_evidence_has_none(tmp_path: Path) -> None:
    assert Evidence.read(tmp_path) is None


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 nonsense", of([1.0, 2.0], ["a"]).packed()])
def test_evidence_that_cannot_be_read_is_one_clear_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(BundleError, match=FILE):
        Evidence.read(tmp_path)


def test_what_a_run_kept_becomes_evidence_with_the_ids_of_its_samples(tmp_path: Path) -> None:
    clusters = np.array([7, 7, 8, 9])
    kept = from_run(run(tmp_path), None, clusters, ["7", "8", "9", "10"], rows=4)
    assert kept.told == "test.npz: 4 test samples"
    assert kept.content is not None
    (tmp_path / FILE).write_bytes(kept.content)
    found = Evidence.read(tmp_path)
    assert found is not None and found.ids is not None
    assert found.ids.tolist() == ["7", "7", "8", "9"]
    assert (found.kind, found.said.shape) == ("class", (4, 2))


def test_a_study_file_can_leave_evidence_out_and_stays_the_same_study() -> None:
    text = "{name: a, objective: analytic, budget: {trials: 1, epochs: 1}, export: {evidence: %s}}"
    with_it, without = (resolve(StudySpec.parse(text % word, "here")) for word in ("true", "false"))
    assert (with_it.spec.export.evidence, without.spec.export.evidence) == (True, False)
    assert with_it.digest == without.digest


def test_ids_that_the_split_does_not_know_are_none(tmp_path: Path) -> None:
    kept = from_run(run(tmp_path), None, np.array([0, 1, 2, 3]), ["a.txt", "b.txt"], rows=4)
    (tmp_path / FILE).write_bytes(kept.content or b"")
    found = Evidence.read(tmp_path)
    assert found is not None and found.ids is None
    assert found.groups is not None  # they still belong together as they did


@pytest.mark.parametrize(
    ("made", "rows", "why"), [(False, 4, "kept no predictions"), (True, 5, "predicted 4 .* has 5")]
)
def test_evidence_that_cannot_be_had_is_left_out_with_the_reason(
    tmp_path: Path, made: bool, rows: int, why: str
) -> None:
    kept = from_run(run(tmp_path) if made else tmp_path / "none.npz", None, None, (), rows=rows)
    assert kept.content is None
    assert re.search(why, kept.told)


def test_evidence_that_is_too_large_is_left_out_with_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence, "MOST_BYTES", 2**20)
    noise = np.random.default_rng(0).normal(size=(300_000, 1))  # 2.3 MB that nothing makes smaller, twice
    kept = Kept.of(of(noise))
    assert kept.content is None
    assert kept.told == "left out: it takes 4 MB, of 1 allowed"


def places(found: Pairs | str) -> tuple[list[int], list[int]]:
    assert isinstance(found, Pairs), found
    return found.old.tolist(), found.new.tolist()


def test_the_same_test_set_pairs_row_by_row_without_ids() -> None:
    assert places(pair(of([1.0, 2.0]), of([1.0, 2.0]), same_data=True)) == ([0, 1], [0, 1])


@pytest.mark.parametrize(("same_data", "targets"), [(False, [1.0, 2.0]), (True, [2.0, 1.0]), (True, [1.0])])
def test_without_ids_other_data_or_targets_cannot_be_paired(same_data: bool, targets: list[float]) -> None:
    assert isinstance(pair(of([1.0, 2.0]), of(targets), same_data=same_data), str)


def test_samples_are_found_again_by_id_in_whatever_order() -> None:
    old, new = of([3.0, 1.0, 1.5, 9.0], ["c", "a", "a", "z"]), of([1.0, 2.0, 3.0, 1.5], ["a", "b", "c", "a"])
    assert places(pair(old, new, same_data=False)) == ([1, 0, 2], [0, 2, 3])


def test_an_id_with_other_targets_or_fewer_rows_is_not_the_same_sample() -> None:
    assert "other targets" in str(pair(of([1.0], ["a"]), of([2.0], ["a"]), same_data=False))
    assert "other targets" in str(pair(of([1.0, 1.0], ["a", "a"]), of([1.0], ["a"]), same_data=False))


def test_outputs_of_another_kind_or_width_are_not_paired() -> None:
    two = of([[0.0, 0.0]])
    assert "not alike" in str(pair(of([[0.0]]), two, same_data=True))
    assert "not alike" in str(pair(two, of([[0.0, 0.0]], kind="gaussian"), same_data=True))
