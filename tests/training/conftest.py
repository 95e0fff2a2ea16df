from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def own_locks(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Locks of these tests only, whatever else trains on this machine."""
    folder = tmp_path_factory.mktemp("locks")
    monkeypatch.setenv("HPO_LOCK_DIR", str(folder))
    return folder
