"""The page in a real browser: every figure is drawn, nothing complains, nothing is asked of any network."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from make_snapshot import make_snapshot

from hpo.reports.page import write_report

ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

pytestmark = pytest.mark.browser


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_the_page_draws_fits_and_asks_nobody(width: int, scheme: str, tmp_path: Path) -> None:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("Chromium is not installed")
    playwright = pytest.importorskip("playwright.sync_api")
    index = write_report(make_snapshot(2, 18), tmp_path)[0]
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
        canvases, drawn = (page.locator(s).count() for s in ("[data-figure]", ".js-plotly-plot[data-figure]"))
        too_wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
        heading = page.locator("#trial-table thead th", has_text="val_loss")
        heading.locator("button").focus()
        page.keyboard.press("Enter")
        order = page.locator("#trial-table tbody tr td:nth-child(5)").all_inner_texts()
        sort = heading.get_attribute("aria-sort")
        browser.close()
    assert complaints == []
    assert asked == [index.as_uri()]
    assert canvases == drawn == 6
    assert too_wide <= 0
    assert sort == "ascending"
    numbers = [float(text) for text in order if text != "–"]
    assert numbers == sorted(numbers)
    assert order[len(numbers) :] == ["–"] * (len(order) - len(numbers))
