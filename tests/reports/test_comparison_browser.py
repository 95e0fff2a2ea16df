"""The page of a comparison in a real browser: it draws, fits, asks nobody, and can be used without a mouse."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from make_snapshot import make_snapshot
from test_report_browser import ARGUMENTS

from hpo.reports.comparison import Entrant, SideBySide, labelled
from hpo.reports.comparison_page import write_page

pytestmark = pytest.mark.browser


def side_by_side() -> SideBySide:
    def entrant(name: str, seed: int, sampler: str) -> Entrant:
        identity = {"objective": "quality_regression", "sampler": {"name": sampler}, "seed": seed, "epochs": 20}
        return Entrant(name, make_snapshot(2, 18, seed=seed), identity, 0)

    groups = [[entrant(f"{name}-{seed}", seed, name) for seed in (1, 2)] for name in ("tpe", "random")]
    return SideBySide(labelled(groups))


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_the_comparison_draws_fits_and_asks_nobody(width: int, scheme: str, tmp_path: Path) -> None:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("Chromium is not installed")
    playwright = pytest.importorskip("playwright.sync_api")
    axe = pytest.importorskip("axe_core_python.sync_playwright")
    index = write_page(side_by_side(), tmp_path)[0]
    complaints: list[str] = []
    asked: list[str] = []
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(index.as_uri())
        page.wait_for_selector("html[data-drawn]", timeout=60_000)
        drawn = page.locator(".js-plotly-plot[data-figure]").count()
        too_wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
        title = "#figure-curves .xtitle"
        before = page.locator(title).text_content()
        page.locator("#figure-curves select").nth(1).focus()
        page.keyboard.press("ArrowDown")
        after = page.locator(title).text_content()
        broken = [found["id"] for found in axe.Axe().run(page)["violations"]]
        browser.close()
    assert complaints == []
    assert asked == [index.as_uri()]
    assert drawn == 2
    assert too_wide <= 0
    assert (before, after) == ("trials that had ended", "epochs of ended trials")
    assert broken == []
