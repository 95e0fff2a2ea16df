"""The kernel's count of what a process grew by."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from hpo.export import memory

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the count is Linux's")


def test_growth_is_what_was_touched_at_the_peak_even_if_it_is_gone() -> None:
    before = memory.begin()
    block = np.ones(64 * 2**20, np.uint8)
    del block
    grown = memory.peak_growth(before)
    assert grown is not None and 60 < grown < 80


def test_an_earlier_peak_is_forgotten() -> None:
    block = np.ones(64 * 2**20, np.uint8)
    del block
    grown = memory.peak_growth(memory.begin())
    assert grown is not None and grown < 8


def test_where_the_kernel_does_not_tell_there_is_no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "PEAK_RESET", memory.STATUS.parent / "nothing" / "here")
    assert memory.peak_growth(memory.begin()) is None
