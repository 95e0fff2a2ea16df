"""The public names: light to import, and told in the guide as they are."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pandas as pd
import pytest

import hpo
from hpo.notebook import frames
from hpo.reports.facts import Facts
from hpo.trial import Goal, Point, TrialRecord, TrialState
from storage.records import Snapshot, StudyRecord

ROOT = Path(__file__).parent.parent.parent
GUIDE = (ROOT / "docs" / "notebook.md").read_text(encoding="utf-8")


def rows_under(heading: str) -> dict[str, list[str]]:
    """The table rows under a heading, up to the next: the name in backticks, and the further cells."""
    text = re.split(r"^#+ ", GUIDE.split(f"\n{heading}\n", 1)[1], flags=re.MULTILINE)[0]
    lines = [line.strip("|").split(" | ") for line in text.splitlines() if line.startswith("| `")]
    return {cells[0].strip().strip("`"): [cell.strip() for cell in cells[1:]] for cells in lines}


def test_every_public_name_leads_somewhere_and_is_sorted() -> None:
    assert hpo.__all__ == sorted(hpo.__all__) and set(hpo._HOMES) == {*hpo.__all__} - {"__version__"}
    for name in hpo.__all__:
        assert getattr(hpo, name) is not None and name in dir(hpo)
    with pytest.raises(AttributeError, match="module 'hpo' has no attribute 'lunch'"):
        hpo.lunch  # noqa: B018


def test_type_checkers_see_what_is_there() -> None:
    for name in ("hpo", "objectives", "search_spaces", "storage"):
        assert (ROOT / name / "py.typed").is_file()
    source = (ROOT / "hpo" / "__init__.py").read_text(encoding="utf-8")
    seen = re.findall(r"^    from \S+ import (.+)$", source, re.MULTILINE)
    assert {name for line in seen for name in line.split(", ")} == set(hpo._HOMES)


def test_the_guide_has_every_name_argument_member_and_field() -> None:
    assert set(rows_under("## Names")) == set(hpo.__all__)
    assert list(rows_under("## Launching")) == list(inspect.signature(hpo.launch).parameters)
    members = {name for name in vars(hpo.StudyView) if not name.startswith("_")}
    assert set(rows_under("## A study")) == members | {"name"}
    assert list(rows_under("## The best trial")) == [field.name for field in fields(hpo.BestTrial)]


@pytest.mark.parametrize("member", [name for name in vars(hpo.StudyView) if not name.startswith("_")])
def test_the_guide_gives_each_members_arguments(member: str) -> None:
    told = rows_under("## A study")[member][0]
    found = getattr(hpo.StudyView, member)
    if not callable(found):
        return
    parameters = [p.replace(annotation=p.empty) for p in list(inspect.signature(found).parameters.values())[1:]]
    signature = inspect.Signature(parameters)
    assert told.startswith(f"`{member}{signature}`"), f"{member}{signature}"


def test_the_guide_has_every_column_with_its_type_in_order() -> None:
    goal, at = Goal("loss"), "2026-01-01T00:00:00+00:00"
    study = StudyRecord("s", "o", "name: s", "", (goal,), goal, "", at, constraints=("loss <= 1",))
    trial = TrialRecord(
        0, TrialState.COMPLETE, {"lr": 0.1}, seed=1, values=(0.5,), metrics={"loss": 0.5}, violations=(-0.5,),
        points=(Point(1, {"loss": 0.5}),),
    )  # fmt: skip
    facts = Facts(Snapshot(study, (trial,)))
    for heading, frame in (
        ("### Trials", frames.trials(facts)), ("### Curves", frames.curves(facts)), ("### Studies", frames.studies([])),
    ):  # fmt: skip
        told = rows_under(heading)
        assert [name.split(".")[0] for name in told] == [str(name).split(".")[0] for name in frame.columns], heading
        for (name, cells), kind in zip(told.items(), frame.dtypes, strict=True):
            is_time = isinstance(kind, pd.DatetimeTZDtype)
            assert name.startswith("params.") or cells[0] == ("time" if is_time else str(kind)), name


def test_help_reads_well() -> None:
    """No traceback, the module's own words first, and every name."""
    shown = subprocess.run(
        [sys.executable, "-c", "import hpo; help(hpo)"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert "From Python and notebooks" in shown[:400]
    assert all(re.search(rf"\b{name}\b", shown) for name in set(hpo.__all__) - {"__version__"})
    assert f"VERSION\n    {hpo.__version__}" in shown
