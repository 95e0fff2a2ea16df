"""Two versions on the same test samples: from what their bundles keep, or by asking the old one again."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import cli
from hpo.errors import BundleError, UserError
from hpo.export.bundle import CONFIG, EXAMPLE, MANIFEST, METRICS, README, ModelBundle
from hpo.export.evidence import FILE, Evidence
from hpo.export.manifest import FormatEntry, MainGoal, Manifest, TensorFacts
from hpo.service.registry.diff import diff
from hpo.trial import Direction
from tests import diff_objectives
from tests.diff_objectives import FEATURES, names, rows

LESS, MORE = Direction.MINIMIZE, Direction.MAXIMIZE
LOSS = MainGoal(metric="test_loss", direction=LESS)
ROOT = str(Path(__file__).parents[1])
SAMPLES = 20


@pytest.fixture(scope="module")
def points(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return diff_objectives.write(tmp_path_factory.mktemp("points") / "points.npz")


def bundle(
    folder: Path,
    evidence: Evidence | None = None,
    *,
    goal: MainGoal | None = LOSS,
    shipped: Mapping[str, float] | None = None,
    weights: np.ndarray | None = None,
    tokenizer: str = "",
    data: Mapping[str, Any] | None = None,
    inputs: str = "x",
    **origin: Any,
) -> ModelBundle:
    """A whole bundle made by hand, in milliseconds; with ``weights`` (features, 1) of y = x·w as ONNX."""
    manifest = Manifest(
        created_at="2026-01-01T00:00:00+00:00", objective=origin.pop("objective", "tests.diff_objectives:Points"),
        params={}, facts=origin.pop("facts", {"rows": 1}), atol=1e-4, rtol=1e-3, environment={}, goal=goal,
        inputs=(TensorFacts(name=inputs, dtype="float32", shape=("batch", FEATURES)),),
        outputs=(TensorFacts(name="output", dtype="float32", shape=("batch", 1)),),
        formats={} if weights is None else {"onnx": FormatEntry(released=True, files=("formats/onnx/model.onnx",))},
        origin={"data_fingerprint": "f", "data_seed": 1, **origin},
    )  # fmt: skip

    def fill(staged: Path) -> None:
        (staged / MANIFEST).write_text(manifest.model_dump_json(), "utf-8")
        (staged / METRICS).write_text(json.dumps({"shipped": shipped or {}}), "utf-8")
        spec = {"name": "d", "objective": manifest.objective, "data": data, "budget": {"trials": 1, "epochs": 1}}
        (staged / CONFIG).write_text(json.dumps(spec), "utf-8")
        (staged / README).write_text("# A model\n", "utf-8")
        np.savez(staged / EXAMPLE, x=np.zeros(1))
        if evidence is not None:
            (staged / FILE).write_bytes(evidence.packed())
        if tokenizer:
            (staged / "assets").mkdir()
            (staged / "assets" / "tokenizer.json").write_text(tokenizer)
        if weights is not None:
            (staged / "formats" / "onnx").mkdir(parents=True)
            (staged / "formats" / "onnx" / "model.onnx").write_bytes(_onnx(weights, inputs))

    return ModelBundle.write(folder, fill)


def _onnx(weights: np.ndarray, name: str) -> bytes:
    from onnx import TensorProto, helper, numpy_helper

    graph = helper.make_graph(
        [helper.make_node("MatMul", [name, "w"], ["output"])],
        "line",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", FEATURES])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch", 1])],
        [numpy_helper.from_array(weights.astype(np.float32), "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString()


def of(kind: str, outputs: np.ndarray, targets: np.ndarray, **fields: Any) -> Evidence:
    return Evidence(kind, outputs, targets, **{"ids": np.array([f"s{i}" for i in range(len(targets))]), **fields})


def values(folder: Path, errors: np.ndarray, **fields: Any) -> ModelBundle:
    targets = np.linspace(0, 1, len(errors))[:, None]
    shipped = {"test_loss": float(np.mean(errors**2))}
    return bundle(folder, of("value", targets + errors[:, None], targets), shipped=shipped, **fields)


def test_a_model_beside_itself_is_the_same_everywhere(tmp_path: Path) -> None:
    errors = np.linspace(-0.1, 0.2, SAMPLES)
    found = diff(values(tmp_path / "a", errors), values(tmp_path / "b", errors))
    (wins,) = found.wins
    assert (found.fall, found.reason, found.samples, found.left_out) == (0.0, None, SAMPLES, 0)
    assert (wins.better, wins.worse, wins.equal) == (0, 0, SAMPLES)
    assert found.lines[0] == "Compared on 20 test samples."


def test_a_model_that_got_worse_falls_by_the_share_that_a_person_reckons(tmp_path: Path) -> None:
    was, now = np.full(SAMPLES, 0.1), np.where(np.arange(SAMPLES) < 5, 0.05, 0.2)
    found = diff(values(tmp_path / "a", was), values(tmp_path / "b", now))
    (wins,) = found.wins
    loss = (5 * 0.05**2 + 15 * 0.2**2) / 20  # 0.030625, before 0.01
    assert found.fall == pytest.approx((loss - 0.01) / 0.01)
    assert (wins.better, wins.worse, wins.equal) == (5, 15, 0)
    main = found.main
    assert main is not None and main.interval is not None
    # Of 20 draws with a share of 0.75 worse by 0.03 and 0.25 better by 0.0075; at worst all are worse.
    assert -0.03 <= main.interval.low < -0.020625 < main.interval.high < 0
    assert diff(values(tmp_path / "c", now), values(tmp_path / "d", was)).fall == pytest.approx((0.01 - loss) / loss)


def test_evidence_needs_neither_torch_nor_data(tmp_path: Path) -> None:
    for name, error in (("a", 0.1), ("b", 0.2)):
        values(tmp_path / name, np.full(SAMPLES, error))
    code = (
        "import sys; from pathlib import Path; from hpo.export.bundle import ModelBundle;"
        "from hpo.service.registry.diff import diff; a, b = (ModelBundle.open(Path(p)) for p in 'ab');"
        "assert abs(diff(a, b).fall - 3) < 1e-9; sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env={"PYTHONPATH": ROOT}, stderr=subprocess.PIPE)
    assert done.returncode == 0, done.stderr.decode()


def test_classes_are_right_or_wrong_and_then_more_or_less_sure(tmp_path: Path) -> None:
    goal, targets = MainGoal(metric="test_accuracy", direction=MORE), np.arange(SAMPLES) % 2
    sure = np.where(np.arange(2) == targets[:, None], 2.0, 0.0)
    surer = 2 * sure
    surer[:4] = surer[:4, ::-1]  # four are wrong now
    was, now = of("class", sure, targets), of("class", surer, targets)
    old = bundle(tmp_path / "a", was, goal=goal, shipped={"test_accuracy": 1.0})
    new = bundle(tmp_path / "b", now, goal=goal, shipped={"test_accuracy": 0.8})
    found = diff(old, new)
    classes, loss = found.wins
    assert found.fall == pytest.approx(0.2)
    assert (classes.by, classes.better, classes.worse, classes.equal) == ("class", 0, 4, 16)
    assert (loss.by, loss.better, loss.worse, loss.equal) == ("log loss", 16, 4, 0)
    assert found.main is not None and found.main.interval is not None


def test_a_density_is_judged_by_the_distance_of_its_mean_where_the_data_is_not_here(tmp_path: Path) -> None:
    goal, targets = MainGoal(metric="test_far_cm", direction=LESS), np.zeros((SAMPLES, 1))
    near, far = np.tile([0.1, 1.0], (SAMPLES, 1)), np.tile([0.2, 1.0], (SAMPLES, 1))
    old = bundle(tmp_path / "a", of("gaussian", near, targets), goal=goal, shipped={"test_far_cm": 10.0})
    new = bundle(tmp_path / "b", of("gaussian", far, targets), goal=goal, shipped={"test_far_cm": 20.0})
    found = diff(old, new)
    (wins,) = found.wins
    assert (wins.by, wins.worse) == ("distance of the mean", SAMPLES)
    assert found.fall == pytest.approx(1.0)
    assert found.main is not None and found.main.interval is None  # no metric to resample with


def test_a_density_is_judged_in_the_metrics_own_unit_where_the_data_is_here(tmp_path: Path, points: Path) -> None:
    goal, chosen = MainGoal(metric="test_far_cm", direction=LESS), rows(1)["test"]
    with np.load(points) as file:
        targets = file["y"][chosen]
    facts: dict[str, Any] = {
        "goal": goal,
        "data": {"path": str(points), "kind": "gaussian"},
        "data_fingerprint": fingerprint(points),
    }
    off = {"a": 0.1, "b": 0.3}
    old, new = (
        bundle(tmp_path / name, of("gaussian", np.hstack([targets + by, targets]), targets, ids=names(chosen)),
               shipped={"test_far_cm": 100 * by}, **facts)
        for name, by in off.items()
    )  # fmt: skip
    found = diff(old, new)
    (wins,) = found.wins
    assert (wins.by, wins.worse, wins.rows) == ("test_far_cm of each sample", 40, 40)
    assert found.main is not None and found.main.interval is not None
    assert found.main.interval.low == pytest.approx(-20, abs=1e-3)


def tallied(folder: Path, nats: float, tokenizer: str) -> ModelBundle:
    """Texts of 10 tokens at so many nats a token."""
    tokens = np.full(SAMPLES, 10.0)
    outputs = np.stack([10 * nats * np.linspace(0.5, 1.5, SAMPLES), np.zeros(SAMPLES)], axis=1)
    return bundle(folder, of("other", outputs, tokens), shipped={"test_loss": nats}, tokenizer=tokenizer)


def test_texts_are_judged_each_by_its_own_loss(tmp_path: Path) -> None:
    found = diff(tallied(tmp_path / "a", 2.0, "words"), tallied(tmp_path / "b", 1.5, "words"))
    (wins,) = found.wins
    assert (wins.by, wins.better) == ("test_loss of each sample", SAMPLES)
    assert found.fall == pytest.approx(-0.25)


def test_texts_cut_by_another_tokenizer_cannot_be_compared(tmp_path: Path) -> None:
    found = diff(tallied(tmp_path / "a", 2.0, "words"), tallied(tmp_path / "b", 1.5, "letters"))
    assert found.fall is None
    assert "tokenizer" in (found.reason or "")
    assert found.lines == [f"Nothing can be said: {found.reason}."]


def fingerprint(points: Path) -> str:
    return diff_objectives.Points().check_data({"path": str(points)}).fingerprint


def line(
    folder: Path, points: Path, weights: list[float], seed: int, *, keep: bool = True, **fields: Any
) -> ModelBundle:
    """A bundle of y = x·w, judged on the test set of its data seed."""
    chosen, w = rows(seed)["test"], np.array(weights)[:, None]
    with np.load(points) as file:
        x, y = file["x"][chosen], file["y"][chosen]
    outputs = (x @ w).astype(np.float32)
    evidence = Evidence("value", outputs, y, ids=names(chosen)) if keep else None
    known = {"data": {"path": str(points)}, "data_fingerprint": fingerprint(points), "data_seed": seed, **fields}
    return bundle(folder, evidence, shipped={"test_loss": float(np.mean((outputs - y) ** 2))}, weights=w, **known)


def errors_of(points: Path, weights: list[float], chosen: list[int]) -> np.ndarray:
    with np.load(points) as file:
        found: np.ndarray = file["x"][chosen] @ np.array(weights) - file["y"][chosen, 0]
    return found


@pytest.mark.parametrize("keep", [True, False], ids=["from evidence", "by asking"])
def test_samples_that_the_old_one_has_learnt_from_are_left_out(tmp_path: Path, points: Path, keep: bool) -> None:
    old = line(tmp_path / "a", points, [1.1, 1.0], 1, keep=keep)
    new = line(tmp_path / "b", points, [1.0, 1.3], 2)
    found = diff(old, new)
    fair = sorted({*rows(1)["test"].tolist()} & {*rows(2)["test"].tolist()})
    assert 10 < len(fair) < 40
    assert (found.samples, found.left_out) == (len(fair), 40 - len(fair))
    was, now = (np.mean(errors_of(points, w, fair) ** 2) for w in ([1.1, 1.0], [1.0, 1.3]))
    assert found.fall == pytest.approx((now - was) / was, rel=1e-4)
    assert f"{40 - len(fair)} more stand in the new one's test set alone" in found.lines[0]


def test_neither_has_evidence_and_both_are_asked(tmp_path: Path, points: Path) -> None:
    old, new = (line(tmp_path / name, points, w, 1, keep=False) for name, w in (("a", [1, 1.2]), ("b", [1, 1.1])))
    found = diff(old, new)
    was, now = (np.mean(errors_of(points, w, rows(1)["test"].tolist()) ** 2) for w in ([1, 1.2], [1, 1.1]))
    assert found.fall == pytest.approx((now - was) / was, rel=1e-4)
    assert found.wins[0].better == 40


def test_other_data_leaves_open_what_the_old_one_has_learnt_from(tmp_path: Path, points: Path) -> None:
    old = line(tmp_path / "a", points, [1, 1.2], 1, keep=False, data_fingerprint="another")
    found = diff(old, line(tmp_path / "b", points, [1, 1.1], 1))
    assert found.fall is not None and found.fall < 0
    assert "may have learnt" in found.lines[-1]


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"data_fingerprint": "changed"}, "no longer what it was"),
        ({"data": {"path": "nowhere.npz"}}, "nowhere.npz: there is no such file"),
        ({"objective": "tests.diff_objectives:Gone"}, "Gone"),
    ],
)
def test_data_that_is_not_as_it_was_leaves_nothing_to_say(
    tmp_path: Path, points: Path, fields: dict[str, Any], why: str
) -> None:
    same = {"objective": fields["objective"]} if "objective" in fields else {}
    found = diff(
        line(tmp_path / "a", points, [1, 1], 1, keep=False, **same), line(tmp_path / "b", points, [1, 1], 1, **fields)
    )
    assert found.fall is None
    assert why in (found.reason or "")
    assert "the old one does not keep what it said" in (found.reason or "")


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"inputs": "z"}, "their inputs are not alike: x float32 (batch, 2) and z float32 (batch, 2)"),
        ({"tokenizer": "letters"}, "tokenizer"),
        ({"facts": {"unit": "m"}}, "unit differ"),
    ],
)
def test_an_old_model_that_takes_other_inputs_is_not_asked(
    tmp_path: Path, points: Path, fields: dict[str, Any], why: str
) -> None:
    old, new = line(tmp_path / "a", points, [1, 1], 1, keep=False), line(tmp_path / "b", points, [1, 1], 1, **fields)
    assert why in (diff(old, new).reason or "")


def test_a_format_that_is_a_program_is_not_run_unasked(
    tmp_path: Path, points: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = (line(tmp_path / name, points, [1, 1], 1, keep=False) for name in "ab")
    monkeypatch.setattr("hpo.export.formats.onnx.is_program", True)
    assert "onnx is a program" in (diff(old, new).reason or "")


def test_facts_that_only_tell_of_the_data_may_differ(tmp_path: Path, points: Path) -> None:
    old = line(tmp_path / "a", points, [1, 1.1], 1, keep=False, facts={"rows": 7})
    assert diff(old, line(tmp_path / "b", points, [1, 1.1], 1, facts={"rows": 8})).fall == pytest.approx(0, abs=1e-3)


def test_too_few_samples_in_common_show_nothing(tmp_path: Path) -> None:
    targets, one = np.zeros((SAMPLES, 1)), np.array([f"s{i}" for i in range(15, 15 + SAMPLES)])
    old = values(tmp_path / "a", np.zeros(SAMPLES))
    new = bundle(tmp_path / "b", of("value", targets, targets, ids=one), shipped={"test_loss": 0.0})
    assert diff(old, new).fall is None


def test_what_cannot_be_compared_is_refused(tmp_path: Path) -> None:
    old = values(tmp_path / "a", np.zeros(SAMPLES))
    with pytest.raises(UserError, match="do the same"):
        diff(old, values(tmp_path / "b", np.zeros(SAMPLES), objective="digits"))
    with pytest.raises(UserError, match=r"test_r2.* it has test_loss"):
        diff(old, bundle(tmp_path / "c", goal=MainGoal(metric="test_r2", direction=MORE)))
    with pytest.raises(BundleError, match="what code runs"):
        diff(old, old, import_from=old.folder / "formats")
    assert "no figure of a test set" in (diff(old, values(tmp_path / "d", np.zeros(SAMPLES), goal=None)).reason or "")


def test_a_new_version_whose_figure_is_no_number_falls_without_end(tmp_path: Path) -> None:
    old, new = (values(tmp_path / name, np.full(SAMPLES, error)) for name, error in (("a", 0.1), ("b", math.nan)))
    assert diff(old, new).fall == math.inf


def test_the_command_tells_people_and_programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    values(tmp_path / "a", np.full(SAMPLES, 0.1))
    values(tmp_path / "b", np.full(SAMPLES, 0.2))
    values(tmp_path / "c", np.zeros(SAMPLES), objective="digits")
    runner = CliRunner()
    told = runner.invoke(cli.app, ["models", "diff", "./a", "./b"])
    assert told.exit_code == 0, told.output
    assert "0.03 worse (300.00% of the old value)" in told.output
    facts = json.loads(runner.invoke(cli.app, ["models", "diff", "./a", "./b", "--json"]).stdout)
    assert facts["fall"] == pytest.approx(3)
    assert facts["wins"][0]["worse"] == SAMPLES
    assert facts["figures"][0]["interval"]["level"] == 0.95
    refused = runner.invoke(cli.app, ["models", "diff", "./a", "./c"])
    assert isinstance(refused.exception, UserError)
