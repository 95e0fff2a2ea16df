"""``hpo compare`` on real databases: TPE against random search over seeds, and what people get wrong."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import cli
from hpo import service
from hpo.errors import UnknownName, UserError
from hpo.reports.spending import HYPERVOLUME, Unit
from hpo.trial import Goal
from tests.studies import launch, rows

ZDT: dict[str, Any] = {
    "data": {"function": "zdt1", "dims": 4},
    "goals": [{"metric": "f1"}, {"metric": "f2"}],
    "budget": {"trials": 15, "epochs": 2},
    "retrain": {"confirm": 0},
}
TPE, RANDOM = [f"tpe-{seed}" for seed in (1, 2, 3)], [f"random-{seed}" for seed in (1, 2, 3)]


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("compare")
    url = f"sqlite:///{folder / 'hpo.db'}"
    for name in (*TPE, *RANDOM):
        sampler, _, seed = name.partition("-")
        launch(folder, url, name=name, sampler={"name": sampler}, seed=int(seed), **ZDT)
    launch(folder, url, name="branin-1", budget={"trials": 3, "epochs": 4})
    launch(folder, url, name="branin-long", budget={"trials": 2, "epochs": 8})
    return url


def area(points: list[tuple[float, float]], corner: tuple[float, float]) -> float:
    """The area that points of two minimised goals dominate below a corner, strip by strip."""
    covered, top = 0.0, corner[1]
    for x, y in sorted(points):
        if x < corner[0] and y < top:
            covered += (corner[0] - x) * (top - y)
            top = y
    return covered


def values_of(url: str, study: str) -> list[tuple[float, float]]:
    """A study's values as Optuna's own tables have them."""
    query = (
        "select a.value, b.value from studies s join trials t on t.study_id = s.study_id "
        "join trial_values a on a.trial_id = t.trial_id and a.objective = 0 "
        "join trial_values b on b.trial_id = t.trial_id and b.objective = 1 "
        f"where s.study_name = '{study}'"
    )
    return [(float(a), float(b)) for a, b in rows(url, query)]


def test_tpe_against_random_over_seeds(storage: str) -> None:
    side = service.compare(storage, [*RANDOM, *TPE])
    assert {g.label: [e.label for e in g.entrants] for g in side.groups} == {"random": RANDOM, "tpe": TPE}
    assert {unit: side.budget(unit) for unit in (Unit.TRIALS, Unit.EPOCHS)} == {Unit.TRIALS: 15, Unit.EPOCHS: 30}
    every = {name: values_of(storage, name) for name in (*RANDOM, *TPE)}
    flat = [point for points in every.values() for point in points]
    worst, best = ([pick(point[i] for point in flat) for i in (0, 1)] for pick in (max, min))
    corner = tuple(w + 0.1 * (w - b) for w, b in zip(worst, best, strict=True))
    assert side.reference == pytest.approx(corner)
    for group in side.groups:
        names = [entrant.label for entrant in group.entrants]
        found = side.values(group, HYPERVOLUME, Unit.TRIALS)
        assert found == pytest.approx([area(every[name], side.reference or (0, 0)) for name in names])
        assert side.values(group, Goal("f2"), Unit.EPOCHS) == [min(y for _, y in every[name]) for name in names]
    assert [contest.measure.metric for contest in side.contests] == ["hypervolume", "f1", "f2"]
    assert all(contest.found is not None and contest.found.n == (3, 3) for contest in side.contests)


def run(*arguments: str) -> Any:
    return CliRunner().invoke(cli.app, ["compare", *arguments], catch_exceptions=False)


def test_table_json_and_page_tell_the_same(storage: str, tmp_path: Path) -> None:
    written = tmp_path / "page"
    done = run(",".join(RANDOM), ",".join(TPE), "--storage", storage, "--json", "--out", str(written))
    told = json.loads(done.stdout)
    assert told["equal_spending"]["trials"] == 15
    assert [each["measure"] for each in told["differences"]] == ["hypervolume", "f1", "f2"]
    mean = told["differences"][0]["means"][1]
    assert {"what": "sampler.name", "random": "random", "tpe": "tpe"} in told["differs"]
    table = run(*RANDOM, *TPE, "--storage", storage).stdout
    for words in (f"{mean:.4g}", "Differences after 30 epochs", "tpe − random", "Welch"):
        assert words in table
    assert f"{mean:.4g}" in (written / "index.html").read_text(encoding="utf-8")


def test_goals_and_spending_can_be_chosen(storage: str) -> None:
    side = service.compare(storage, ["tpe-1", "random-1", "branin-1"], goals=["f1"], by="trials")
    assert (side.goals, side.left_out, side.unit) == ((Goal("f1"),), ("f2",), Unit.TRIALS)
    assert side.budget(Unit.TRIALS) == 3
    assert [group.label for group in side.groups] == ["tpe-1", "random-1", "branin-1"]
    assert side.contests[1].why_not == "values of other data cannot be compared"


def test_a_study_of_another_database(storage: str, tmp_path: Path) -> None:
    other = f"sqlite:///{tmp_path / 'other.db'}"
    launch(tmp_path, other, name="tpe-1", sampler={"name": "tpe"}, seed=9, **ZDT)
    side = service.compare(storage, ["tpe-1", f"tpe-1@{other}"])
    assert [entrant.label for entrant in side.entrants] == [f"tpe-1@{storage}", f"tpe-1@{other}"]
    copied = tmp_path / "copy.db"
    shutil.copyfile(storage.removeprefix("sqlite:///"), copied)
    with pytest.raises(UserError, match="given twice"):
        service.compare(storage, ["tpe-1", f"tpe-1@sqlite:///{copied}"])


@pytest.mark.parametrize(
    ("asked", "options", "told"),
    [
        (["tpe-1"], {}, "two studies or more"),
        (["tpe-1,tpe-2"], {}, "One group has nothing to be compared with"),
        (["tpe-1", "tpe-1"], {}, "'tpe-1' is given twice; name each study once"),
        (["tpe-1,", "random-1"], {}, "names with commas between them; got ''"),
        (["tpe-1", "branin-1"], {}, "different goals: tpe-1 has f1 ↓, f2 ↓ and branin-1 has f1 ↓.*--goals f1"),
        (["tpe-1", "random-1"], {"goals": ["f3"]}, "Unknown goal of every study 'f3'. Known: f1, f2"),
        (["tpe-1", "random-1"], {"by": "hours"}, "Unknown spending 'hours'. Known: epochs, time, trials, work"),
    ],
)
def test_what_cannot_be_compared_is_told_in_a_line(
    storage: str, asked: list[str], options: dict[str, Any], told: str
) -> None:
    with pytest.raises(UserError, match=told):
        service.compare(storage, asked, **options)


def test_an_unknown_study_is_met_with_the_nearest(storage: str) -> None:
    with pytest.raises(UnknownName, match="Did you mean 'branin-long'"):
        service.compare(storage, ["branin-lang", "random-1"])


def test_longer_trials_are_no_equal_spending(storage: str) -> None:
    table = run("branin-1", "branin-long", "--storage", storage).stdout
    assert "A trial is 4 epochs in branin-1 and 8 epochs in branin-long" in table
    assert "One run each allows no interval" in table
