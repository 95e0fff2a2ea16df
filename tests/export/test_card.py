"""The model card: what stands in it for a model of a study, for one of a checkpoint, and for names full of marks."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt

from hpo.export.card import card
from hpo.export.card.markdown import code, table, text
from hpo.export.manifest import FormatEntry, GateFacts, Latency, MainGoal, Manifest, TensorFacts
from hpo.training.settings import TrainerSettings
from hpo.trial import Direction

SECTIONS = [
    "Inputs and outputs", "Run it", "Figures", "Gates before release", "Data", "Parameters", "Limits", "Formats",
    "Reproduce it", "Files",
]  # fmt: skip
ORIGIN: dict[str, Any] = {
    "study": "digits", "digest": "d1", "data_fingerprint": "f1", "trial": 4, "run": 1, "seed": 11, "data_seed": 3,
    "epochs": 20, "best_epoch": 7, "last_epoch": 9, "ended": "no better for 2 epochs", "deterministic": False,
    "goals": [{"metric": "val_acc", "direction": "maximize"}],
    "monitor": {"metric": "val_acc", "direction": "maximize"},
    "trainer": TrainerSettings(grad_clip=1.0, lr=0.5).model_dump(mode="json"),
    "by_hand": {"lr": 0.1}, "searched": {"lr": "float in [0.01, 1], log scale"},
    "data": {"path": "data/digits"}, "data_counts": {"images": 120}, "left_out": 2, "data_notes": ["2 cannot be read."],
    "split": {"train": 60, "validation": 20, "test": 20}, "split_ids": {"train": 6, "validation": 2, "test": 2},
    "environment": {
        "python": "3.11.7", "cpu": "A CPU", "gpus": [], "packages": {"torch": "2.13.0", "numpy": "2.4.6"},
        "git": {"commit": "0123456789abcdef", "dirty": True},
    },
}  # fmt: skip
METRICS: dict[str, Any] = {
    "promised": {"val_acc": 0.95},
    "shipped": {"val_acc": 0.94, "test_acc": 0.9, "test_acc_big": 0.75, "test_acc_small": 1.0},
    "seeds": {
        "trial": 4,
        "shipped": 1,
        "seeds": [{"number": 0, "seed": 10, "best_step": 5}, {"number": 1, "seed": 11, "best_step": 7}],
        "spreads": {
            "val_acc": {"mean": 0.93, "std": 0.01},
            "test_acc": {"mean": 0.89, "std": 0.02},
        },
    },
    "baselines": {"k|nearest": {"test_acc": 0.8}},
    "intervals": {
        "test_acc": {"low": 0.85, "high": 0.94, "level": 0.95, "resamples": 1000},
        "test_acc_big": {"low": 0.5, "high": 0.9, "level": 0.95, "resamples": 1000},
        "test_acc_small": {"low": 1.0, "high": 1.0, "level": 0.95, "resamples": 1000},
    },
    "directions": {"test_acc": "maximize"},
}


def manifest(**other: Any) -> Manifest:
    facts: dict[str, Any] = {
        "created_at": "2026-03-01T10:00:00+00:00", "objective": "pkg:Digits", "params": {"lr": 0.5}, "facts": {},
        "inputs": [TensorFacts(name="image", dtype="float32", shape=("batch", 1, 8), meaning="brightness, 0 to 1")],
        "outputs": [TensorFacts(name="logits", dtype="float32", shape=("batch", 3))],
        "atol": 1e-4, "rtol": 1e-3, "environment": {"hpo": "0.1.0"}, "origin": ORIGIN,
        "summary": "tell digits apart", "limits": ["Only `8x8` images."], "weights_sha256": "a1",
        "goal": MainGoal(metric="test_acc", direction=Direction.MAXIMIZE), "released": False,
        "gates": [GateFacts(name="good", rule="acc ≥ 0.95", over="test", metric="acc", value=0.9, met=False)],
        "formats": {
            "safetensors": FormatEntry(released=True, size_mb=2.0, packages={"safetensors": "0.8"}),
            "onnx": FormatEntry(
                released=True, size_mb=1.5, packages={"onnxruntime": "1.31"}, memory_mb=12.0,
                latency=[Latency(batch=1, p50_ms=0.5, p95_ms=0.7, eager_p50_ms=1.0, eager_p95_ms=1.4, calls=9)],
            ),
            "onnx_int8": FormatEntry(released=False, reason="Too far | from PyTorch."),
        },
    }  # fmt: skip
    return Manifest.model_validate({**facts, **other})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "formats").mkdir()
    (tmp_path / "formats" / "model.onnx").write_bytes(b"x" * 2**20)
    return tmp_path


def sections(written: str) -> dict[str, str]:
    """The text of each section by its title; that before the first as ""."""
    head, *rest = written.split("\n## ")
    return {"": head} | {part.partition("\n")[0]: part.partition("\n")[2] for part in rest}


def html(written: str) -> str:
    return str(MarkdownIt("commonmark", {"html": False}).enable("table").render(written))


def test_the_card_of_a_study_has_every_section_in_its_order(folder: Path) -> None:
    found = sections(card(manifest(), METRICS, folder))
    assert list(found) == ["", *SECTIONS]
    assert all(part.strip() for part in found.values())
    assert found[""].splitlines()[::2] == [
        "# digits",
        "A model of `pkg:Digits`: tell digits apart.",
        "**NOT RELEASED: 1 of 1 gates not met.**",
        "- good: acc ≥ 0.95: 0.9, NOT MET",
        "Made 2026-03-01T10:00:00+00:00 by hpo 0.1.0.",
    ]


@pytest.mark.parametrize(
    ("section", "line"),
    [
        ("Inputs and outputs", "| in | `image` | float32 | (batch, 1, 8) | brightness, 0 to 1 |"),
        ("Inputs and outputs", "| out | `logits` | float32 | (batch, 3) | – |"),
        ("Figures", "| **`test_acc` ↑** | 0.9 | 0.85 to 0.94 | 0.89 | 0.02 |"),
        ("Figures", r"| metric | this model | k\|nearest |"),
        ("Figures", "| **`test_acc` ↑** | 0.9 | 0.8 (0.1 better, ×1.12) |"),
        ("Figures", "| big | 0.75 (0.5 to 0.9) |"),
        ("Figures", "| `acc` ↑ | 0.95 | 0.93 ± 0.01 | 0.9 | 0.89 ± 0.02 |"),
        ("Data", "| `path` | `data/digits` |"),
        ("Data", "| fingerprint | `f1` |"),
        ("Data", "- In it: 120 images."),
        ("Data", "- Left out because they could not be used: 2 records."),
        ("Data", "- Split of the samples by data seed 3: 60 train (60%), 20 validation (20%), 20 test (20%)."),
        (
            "Data",
            "- It was drawn over what belongs together, and no two parts share any of that: "
            "6 train, 2 validation, 2 test.",
        ),
        ("Parameters", "| `lr` | `0.5` | float in [0.01, 1], log scale | `0.1` |"),
        ("Parameters", "Settings of the trainer besides these, where they are not its defaults: `grad_clip` `1`."),
        ("Limits", "- Only `8x8` images."),
        ("Limits", "- The test set has 20 samples: read its figures with their intervals."),
        (
            "Limits",
            "- Little is sure of `test_acc` in big: the interval is over 2 times as wide as that of all samples.",
        ),
        ("Limits", "- Gate good: acc ≥ 0.95: 0.9, NOT MET."),
        ("Limits", "- It does not ship as `onnx_int8`."),
        ("Formats", "| `onnx` | yes | 0.5 (× 2) | 1.5 | 12 |"),
        ("Formats", "- `onnx_int8` is not released. Too far | from PyTorch."),
        ("Reproduce it", "| epochs | at most 20; ended after 9; the weights are those of 7 (no better for 2 epochs) |"),
        ("Reproduce it", "| the study's code | `0123456789ab with changes` |"),
        ("Reproduce it", "| trained with | Python 3.11.7, torch 2.13.0, numpy 2.4.6 |"),
        ("Files", f"| `formats/model.onnx` | `{hashlib.sha256(b'x' * 2**20).hexdigest()[:16]}` | 1 |"),
    ],
)
def test_what_is_known_stands_where_it_belongs(folder: Path, section: str, line: str) -> None:
    assert line in sections(card(manifest(), METRICS, folder))[section].splitlines()


def test_the_format_that_needs_least_comes_first(folder: Path) -> None:
    usages = sections(card(manifest(), METRICS, folder))["Run it"]
    assert usages.index("### onnx") < usages.index("`hpo predict . INPUT --import-from FOLDER`")
    assert usages.index("`hpo predict . INPUT") < usages.index("### safetensors")
    assert "onnx_int8" not in usages


def test_the_card_of_a_checkpoint_says_what_is_not_known(folder: Path) -> None:
    origin = {
        "checkpoint": "last.pt", "checkpoint_sha256": "c1", "epoch": 3, "study": "line", "series": "search",
        "number": 2, "seed": 5, "data_seed": 0, "epochs": 9, "fold": None, "data": {"sign": 1},
        "trainer": TrainerSettings().model_dump(mode="json"), "environment": {"python": "3.11.7"},
    }  # fmt: skip
    made = manifest(origin=origin, gates=[], goal=None, limits=[], summary="", weights_sha256=None)
    found = sections(card(made, {"val_loss": 0.25}, folder))
    assert list(found) == ["", *SECTIONS]
    assert (
        "**NOT RELEASED: gates not evaluated.**" in found[""] and "checkpoint alone: `last.pt`, epoch 3." in found[""]
    )
    assert "- val_loss: 0.25" in found["Figures"] and "The test set was not read" in found["Figures"]
    assert "None was evaluated" in found["Gates before release"]
    assert "no fingerprint of it was recorded" in found["Data"] and "how many samples" in found["Data"]
    assert "| `lr` | `0.5` |" in found["Parameters"]
    assert "- No test set was read, so how it does on new data is not known." in found["Limits"]
    assert "`hpo reproduce` cannot train this model again" in found["Reproduce it"]
    assert "| trial | 2 of the series search |" in found["Reproduce it"]
    assert "| epochs | 3 of 9 |" in found["Reproduce it"]


def test_a_bundle_of_which_next_to_nothing_is_known_has_a_whole_card(folder: Path) -> None:
    found = sections(card(manifest(origin={}, gates=[], goal=None, limits=[], released=True), {}, folder))
    assert list(found) == ["", *SECTIONS]
    assert all(part.strip() for part in found.values())
    assert found[""].startswith("# A model of `pkg:Digits`\n\ntell digits apart.\n")
    assert "What led to these weights was not recorded." in found["Reproduce it"]


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("a|b", "a|b"),
        ("*very* <b>bold</b> & [x](y)", "*very* &lt;b&gt;bold&lt;/b&gt; &amp; [x](y)"),
        ("snake_case and _under_", "snake_case and _under_"),
        ("# no title", "# no title"),
        ("1. no list", "1. no list"),
        ("- no list", "- no list"),
        ("&lt;", "&amp;lt;"),
        ("use `a|b` here", "use <code>a|b</code> here"),
        (r"back\slash\|pipe", r"back\slash\|pipe"),
        ("two\nlines", "two lines"),
    ],
)
def test_text_shows_as_it_is_written_in_a_table_and_outside(given: str, shown: str) -> None:
    assert html(text(given)) == f"<p>{shown}</p>\n"
    assert f"<td>{shown}</td>" in html(table(["name"], [[text(given)]]))


@pytest.mark.parametrize("given", ["a|b", "a`b", "``", "<i>", r"a\|b", "x_y*z"])
def test_a_name_in_code_shows_as_it_is(given: str) -> None:
    shown = given.replace("<", "&lt;").replace(">", "&gt;")
    assert f"<code>{shown}</code>" in html(code(given))
    assert f"<td><code>{shown}</code></td>" in html(table(["name"], [[code(given)]]))


def test_a_metric_and_a_group_with_marks_do_not_break_the_tables(folder: Path) -> None:
    metrics = {"shipped": {"test_a|b": 0.5, "test_a|b_x|y*": 0.25}, "intervals": {}, "seeds": {}}
    page = html(card(manifest(), metrics, folder))
    assert "<td><code>test_a|b</code></td>" in page and "<td>x|y*</td>" in page
    assert page.count("<td") == sum(row.count("<td") for row in page.split("</tr>"))
    for piece in page.split("<table>")[1:]:
        rows = piece.split("</table>")[0].split("</tr>")[:-1]
        assert len({row.count("<td") + row.count("<th") - row.count("<thead") for row in rows}) == 1
