"""A real browser for the pages, and what it is asked of each: figures, no complaints, no requests, no barriers."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

WAIT_MS = 300_000  # for what takes a second, where the machine is busy with something else
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


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("Chromium is not installed")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=chromium, args=ARGUMENTS, timeout=WAIT_MS)
        yield started
        started.close()


@pytest.fixture
def opened(browser: Any) -> Callable[..., Any]:
    """Opens a page and waits until its figures are drawn; ``complaints`` and ``asked`` are lists on it."""

    def opened(index: Path, width: int = 1280, scheme: str = "light", address: str = "") -> Any:
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        page.set_default_timeout(WAIT_MS)
        page.complaints, page.asked = [], []
        page.on("console", lambda message: page.complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        page.on("request", lambda request: page.asked.append(request.url))
        page.goto(index.as_uri() + address)
        page.wait_for_selector("html[data-drawn]")
        return page

    return opened


@pytest.fixture
def barriers() -> Callable[[Any], list[Any]]:
    """What axe-core finds on a page against WCAG 2 A and AA: the rule, and where."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")

    def barriers(page: Any) -> list[Any]:
        found = axe.Axe().run(page, options={"runOnly": ["wcag2a", "wcag2aa"]}).response["violations"]
        return [(violation["id"], violation["nodes"][0]["target"]) for violation in found]

    return barriers


@pytest.fixture
def light(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A smaller forest, and no plotly.js: nearly 5 MB a page to parse; one test has the real one."""
    monkeypatch.setattr("hpo.reports.forest._TREES", 6)
    if "outside" not in request.node.name:
        monkeypatch.setattr("plotly.offline.get_plotlyjs", lambda: "/* plotly.js */")


@pytest.fixture
def no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests of words."""
    monkeypatch.setattr("hpo.reports.plots.plots", lambda *_: {})
