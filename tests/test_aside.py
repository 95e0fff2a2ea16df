"""Work beside a study: in order, waited for, and its failures told once."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from hpo.aside import Aside


@pytest.fixture
def kept() -> list[Any]:
    return []


@pytest.fixture
def aside(kept: list[Any]) -> Aside:
    studies: Any = SimpleNamespace(add_event=lambda study, event: kept.append(event))
    study: Any = SimpleNamespace(name="s")
    return Aside(studies, study, "tracking_failed", "MLflow")


def test_calls_are_made_in_order_and_waited_for(aside: Aside) -> None:
    done: list[int] = []
    for number in range(50):
        aside.do(lambda number=number: done.append(number))  # type: ignore[misc]
    aside.close()
    assert done == list(range(50))


def test_a_failure_is_one_event_however_often_it_comes_and_ends_nothing(
    aside: Aside, kept: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    done: list[str] = []

    def fail() -> None:
        raise OSError(28, "No space left on device")

    for call in (fail, fail, lambda: done.append("after")):
        aside.do(call)
    aside.close()
    assert [(event.kind, event.message) for event in kept] == [
        ("tracking_failed", "MLflow: No space left on device. Trials go on.")
    ]
    assert done == ["after"]
    assert capsys.readouterr().err.count("MLflow") == 1


def test_it_can_be_used_again_after_closing(aside: Aside) -> None:
    done: list[int] = []
    aside.close()  # nothing was ever asked for
    for number in (1, 2):
        aside.do(lambda number=number: done.append(number))  # type: ignore[misc]
        aside.close()
    assert done == [1, 2]
