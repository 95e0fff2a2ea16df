"""The page of a comparison in a real browser: it draws, fits, asks nobody, and can be used without a mouse."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from make_snapshot import make_snapshot

from hpo.reports.comparison.page import write_page
from hpo.reports.comparison.sides import Entrant, SideBySide, labelled

pytestmark = pytest.mark.browser


def side_by_side() -> SideBySide:
    def entrant(name: str, seed: int, sampler: str) -> Entrant:
        identity = {"objective": "quality_regression", "sampler": {"name": sampler}, "seed": seed, "epochs": 20}
        return Entrant(name, make_snapshot(2, 18, seed=seed), identity, 0)

    groups = [[entrant(f"{name}-{seed}", seed, name) for seed in (1, 2)] for name in ("tpe", "random")]
    return SideBySide(labelled(groups))


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), pytest.param(390, "dark", marks=pytest.mark.slow)])
def test_the_comparison_draws_fits_asks_nobody_and_is_for_everybody(
    width: int, scheme: str, opened: Any, barriers: Any, tmp_path: Path
) -> None:
    index = write_page(side_by_side(), tmp_path)[0]
    page = opened(index, width, scheme)
    assert page.locator(".js-plotly-plot[data-figure]").count() == 2
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    title = page.locator("#figure-curves .xtitle")
    assert title.text_content() == "trials that had ended"
    page.locator("#figure-curves select").nth(1).focus()
    page.keyboard.press("ArrowDown")
    title.filter(has_text="epochs of ended trials").wait_for(state="attached")
    assert barriers(page) == []
    assert page.complaints == []
    assert page.asked == [index.as_uri()]
    page.close()
