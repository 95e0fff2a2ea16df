from pathlib import Path

import pytest
from training_kit import Clock

from hpo.training.checks import data
from hpo.training.device_lock import WorkClock


@pytest.fixture(autouse=True)
def own_locks(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Locks of these tests only, whatever else trains on this machine."""
    folder = tmp_path_factory.mktemp("locks")
    monkeypatch.setenv("HPO_LOCK_DIR", str(folder))
    return folder


@pytest.fixture(autouse=True)
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """A look at the data ends with the data, and not early because the machine is busy."""
    monkeypatch.setattr(data, "_BUDGET_S", 3600.0)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Trials count what this says, so that a limit passes at the same update on any machine."""
    made = Clock()
    monkeypatch.setattr(WorkClock, "now", lambda self: made.now_s)
    return made
