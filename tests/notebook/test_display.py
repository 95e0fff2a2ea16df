"""Cards and figures of studies of every kind: nothing is unescaped, no colour is fixed for one theme, none is empty."""

from __future__ import annotations

import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import hpo
from hpo.notebook import display
from hpo.reports.facts import Facts
from hpo.trial import Direction, Goal, StopKind, StopReason, TrialRecord, TrialState
from storage.records import Annotations, Snapshot, StudyRecord
from tests.studies import launch

PLOTS = [name for name in vars(hpo.StudyView) if name.startswith("plot_")]
NASTY = "<script>alert('x')</script>&\""


class Text(HTMLParser):
    """The text, the tags and the open ones of a piece of HTML."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text, self.tags, self.open = "", set[str](), list[str]()
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: Any) -> None:
        self.tags.add(tag)
        if tag not in ("circle", "path"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: Any) -> None:
        self.tags.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data + "\n"


def facts_of(*values: tuple[float, ...] | None, goals: int = 1, **more: Any) -> Facts:
    """A study with a completed trial per vector; None fails."""
    found = tuple(Goal(f"f{i}") for i in range(goals))
    study = StudyRecord("s", "analytic", "name: s", "", found, found[0], "", "2026-01-01T00:00:00+00:00")
    trials = tuple(
        TrialRecord(n, TrialState.COMPLETE, {"x": 0.5}, seed=n, values=vector, best_step=1)
        if vector
        else TrialRecord(n, TrialState.FAIL, {"x": 0.5}, seed=n, reason=StopReason(StopKind.ERROR, f"went {NASTY}"))
        for n, vector in enumerate(values)
    )
    return Facts(Snapshot(study, trials, **more))


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        (facts_of(), "no trial yet"),
        (facts_of((1.0,)), "1 trial (1 complete)"),
        (facts_of(None, None), "2 trials (2 fail)"),
        (facts_of((1.0,), (0.5,), None), "3 trials (2 complete and 1 fail)"),
        (facts_of((1.0, 2.0), (2.0, 1.0), goals=2), "2 trials (2 complete)"),
        (facts_of((1.0, 2.0, 3.0), goals=3), "1 trial (1 complete)"),
        (facts_of((float("inf"),), (1e308,), (-1e308,)), "3 trials (3 complete)"),
    ],
    ids=["empty", "one", "failed", "one goal", "two goals", "three goals", "extreme"],
)
def test_every_kind_of_study_has_a_card_and_a_line(facts: Facts, said: str) -> None:
    card, line = Text(display.html(facts)), display.text(facts)
    assert said in card.text and said in line and "\n" not in line
    assert not card.open and "script" not in card.tags
    assert ("svg" in card.tags) == bool(facts.placed)
    assert "nan" not in display.html(facts)


def test_the_recommended_trial_is_named_with_its_parameters() -> None:
    card = Text(display.html(facts_of((1.0,), (0.5,), (0.7,)))).text
    assert "best: trial 1" in card and "f0 0.5" in card and "x = 0.5" in card


def test_what_others_wrote_is_escaped() -> None:
    goal = Goal(NASTY, Direction.MAXIMIZE)
    study = StudyRecord(NASTY, NASTY, "name: s", "", (goal,), goal, "", "2026-01-01T00:00:00+00:00")
    trials = (TrialRecord(0, TrialState.COMPLETE, {NASTY: NASTY}, seed=0, values=(1.0,)),)
    told = Annotations(note=NASTY, tags=(NASTY,))
    cards = [display.html(Facts(Snapshot(study, trials, annotations=told))), display.html(facts_of(None)),
             display.best_html(0, {NASTY: NASTY}, {NASTY: 1.0}, {NASTY: 2.0})]  # fmt: skip
    for card in cards:
        found = Text(card)
        assert NASTY in found.text and "script" not in found.tags and "<script" not in card


def test_a_card_has_no_colour_that_one_theme_would_swallow() -> None:
    """Text has the notebook's own colour; what has one of its own stands out 3:1 on white and on JupyterLab's dark."""
    card = display.html(facts_of((1.0, 2.0), (2.0, 1.0), goals=2))
    assert re.findall(r"[; \"]color:([\w#]+)", card) and set(re.findall(r"[; \"]color:([\w#]+)", card)) == {"inherit"}
    own = set(re.findall(r"#[0-9a-f]{6}", card))
    assert own
    for colour in own:
        assert contrast(colour, "#ffffff") > 3 and contrast(colour, "#111111") > 3, colour


def contrast(one: str, other: str) -> float:
    """WCAG 2.1: relative luminances, (lighter + 0.05) / (darker + 0.05)."""

    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_a_picture_says_in_words_what_it_shows_and_stays_small() -> None:
    card = display.html(facts_of(*((float(n % 97) + 1,) for n in range(5000))))
    (label,) = re.findall(r'<svg role="img" aria-label="([^"]+)"', card)
    assert "best f0" in label and len(card) < 40_000


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], hpo.StudyView]:
    folder = tmp_path_factory.mktemp("studies")
    url = f"sqlite:///{folder / 'hpo.db'}"
    usual: dict[str, Any] = {"budget": {"trials": 9, "epochs": 2}, "retrain": {"confirm": 0}, "goals": None}
    launch(folder, url, **{**usual, "name": "one"})
    launch(folder, url, **{**usual, "name": "two", "data": {"function": "zdt1", "dims": 3},
                           "goals": [{"metric": "f1"}, {"metric": "f2"}]})  # fmt: skip
    launch(folder, url, **{**usual, "name": "three", "data": {"function": "dtlz2", "dims": 4},
                           "goals": [{"metric": f"f{i}"} for i in (1, 2, 3)]})  # fmt: skip
    launch(folder, url, **{**usual, "name": "single", "budget": {"trials": 1, "epochs": 1}})
    return lambda name: hpo.open_study(name, storage=url)


@pytest.mark.parametrize(
    ("name", "plot"),
    [
        *(("two", plot) for plot in PLOTS),
        *(("single", plot) for plot in PLOTS),
        *((name, plot) for name in ("one", "three") for plot in ("plot_front", "plot_history", "plot_parallel")),
    ],
)
def test_every_figure_is_one_that_plotly_takes_in_colours_it_knows(
    studies: Callable[[str], hpo.StudyView], name: str, plot: str
) -> None:
    figure = getattr(studies(name), plot)()
    text = figure.to_json()
    assert "var(--" not in text
    said = [figure.layout.title.text, *(note.text for note in figure.layout.annotations)]
    assert any(said), "no sentence"
    assert len(figure.data) or figure.layout.annotations


def test_a_view_is_chosen_by_its_name_or_its_first_words(studies: Callable[[str], hpo.StudyView]) -> None:
    two, three = studies("two"), studies("three")
    trials = two.plot_history("f2 against trials")
    assert trials.layout.yaxis.title.text.startswith("f2") and trials == two.plot_history("f2")
    assert trials != two.plot_history("f1") and trials != two.plot_history("f2 against epochs")
    plane = three.plot_front("f1 × f3")
    assert [plane.layout.xaxis.title.text[:2], plane.layout.yaxis.title.text[:2]] == ["f1", "f3"]
    assert {trace.type for trace in three.plot_front().data} == {"scatter3d"}
    assert two.plot_slices("x0, f2").layout.yaxis.title.text.startswith("f2")
    with pytest.raises(hpo.UserError, match=r"Unknown view 'f4'\. Known: f1 × f2, f1 × f3"):
        three.plot_front("f4")


def test_a_front_of_one_goal_is_a_sentence(studies: Callable[[str], hpo.StudyView]) -> None:
    figure = studies("one").plot_front()
    assert len(figure.data) == 0 and "There is one goal" in figure.layout.annotations[0].text


def test_notes_and_tags_come_back_in_the_frames_and_the_card(tmp_path: Path, sqlite_url: str) -> None:
    launch(tmp_path, sqlite_url, budget={"trials": 2, "epochs": 1})
    study = hpo.open_study("branin", storage=sqlite_url)
    assert study.note() == "" and study.tags == ()
    assert study.note("first <try>") == "first <try>" and study.note("", replace=True) == ""
    study.note("kept <b>")
    assert study.tag("paper", "old") == ("paper", "old") and study.tag("old", remove=True) == ("paper",)
    study.tag("odd", trial=1)
    study.note("look again", trial=1)
    frame = study.trials()
    assert frame["tags"].tolist() == ["", "odd"] and frame["note"].fillna("").tolist() == ["", "look again"]
    assert hpo.studies(storage=sqlite_url)["tags"].tolist() == ["paper"]
    card = Text(study._repr_mimebundle_()["text/html"]).text
    assert "kept <b>" in card and "paper" in card
    with pytest.raises(hpo.UserError, match="no trial 9|trial 9"):
        study.tag("x", trial=9)


def test_the_report_is_where_it_says(tmp_path: Path, studies: Callable[[str], hpo.StudyView]) -> None:
    page = studies("single").report(tmp_path / "page")
    assert page == tmp_path / "page" / "index.html" and page.stat().st_size > 100_000
