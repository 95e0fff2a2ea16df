"""The page in a real browser: every figure is drawn, nothing complains, nothing is asked of any network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from make_snapshot import make_snapshot

from hpo.reports.page import write_report
from hpo.trial import TrialState

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(make_snapshot(2, 24), tmp_path_factory.mktemp("report"))[0]


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), pytest.param(390, "dark", marks=pytest.mark.slow)])
def test_the_page_draws_fits_asks_nobody_and_is_for_everybody(
    width: int, scheme: str, opened: Any, barriers: Any, index: Path
) -> None:
    page = opened(index, width, scheme)
    canvases, drawn = (page.locator(s).count() for s in ("[data-figure]", ".js-plotly-plot[data-figure]"))
    assert barriers(page) == []
    assert page.complaints == []
    assert page.asked == [index.as_uri()]
    assert canvases == drawn == 11
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    page.close()


def test_every_table_sorts_by_keyboard_and_choices_beside_each_other_show_their_product(
    opened: Any, index: Path
) -> None:
    page = opened(index)
    heading = page.locator("#trial-table thead th", has_text="val_loss")
    heading.locator("button").focus()
    for direction in ("ascending", "descending"):
        page.keyboard.press("Enter")
        order = page.locator("#trial-table tbody tr td:nth-child(5)").all_inner_texts()
        numbers = [float(text) for text in order if text != "–"]
        assert heading.get_attribute("aria-sort") == direction
        assert numbers == sorted(numbers, reverse=direction == "descending")
        assert order[len(numbers) :] == ["–"] * (len(order) - len(numbers))
    unsorted = page.evaluate(
        "[...document.querySelectorAll('main table')].filter(t => t.tBodies[0].rows.length > 1)"
        ".filter(t => !t.tHead.querySelector('button')).length"
    )
    assert unsorted == 0
    what, against = page.locator("#history select").all()
    what.select_option("val_loss")
    against.select_option("epochs")
    page.locator("[data-figure=history] .xtitle", has_text="epochs").wait_for(state="attached")
    title, names = page.evaluate(
        "(({layout, data}) => [layout.xaxis.title.text, data.map((t) => t.name)])"
        "(document.querySelector('[data-figure=history]'))"
    )
    assert title == "epochs of all trials that had ended" and "best so far" in names
    page.locator("#slices select").first.select_option("latency_ms")
    titles = page.evaluate(
        "[...document.querySelectorAll('[data-figure^=slice-]')].map((f) => f.layout.yaxis.title.text)"
    )
    assert {title.split(" ")[0] for title in titles} == {"latency_ms"}
    page.close()


@pytest.mark.slow
def test_paper_is_white_and_figures_fit_it(opened: Any, index: Path) -> None:
    page = opened(index, scheme="dark")
    page.set_viewport_size({"width": 700, "height": 1000})
    page.emulate_media(media="print")
    # Figures are drawn once more; the table of trials has a wider page of its own.
    page.wait_for_function("[...document.querySelectorAll('.main-svg')].every((e) => e.clientWidth <= 700)")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.evaluate("getComputedStyle(document.querySelector('header')).display") == "none"
    assert page.pdf()[:5] == b"%PDF-"
    page.close()


@pytest.mark.slow
def test_a_long_study_is_paged_and_a_link_finds_its_trial(opened: Any, tmp_path: Path) -> None:
    made = make_snapshot(1, 520, extras=False)
    index = write_report(replace(made, trials=tuple(replace(t, points=t.points[:2]) for t in made.trials)), tmp_path)[0]
    page = opened(index, address="#trial-517")
    rows, status = page.locator("#trial-table tbody tr"), page.locator("#trial-pages [role=status]")
    assert status.inner_text() == "Rows 401 to 520 of 520"
    assert page.locator("tr.sought").get_attribute("id") == "trial-517"
    page.locator("#trial-table thead button").first.click()  # descending
    assert rows.first.get_attribute("id") == "trial-519" and rows.count() == 200
    page.get_by_role("button", name="Later rows").click()
    assert rows.first.get_attribute("id") == "trial-319"
    page.locator("#filter").fill("failed")
    failures = sum(trial.state is TrialState.FAIL for trial in made.trials)
    assert page.locator("#matching").inner_text() == f"{failures} of 520" and rows.count() == failures
    assert page.complaints == []
    page.close()
