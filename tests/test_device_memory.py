"""What ``hpo check --device-memory SIZE --devices N`` means."""

from __future__ import annotations

import pytest

from hpo.errors import UserError
from hpo.preflight import Devices
from hpo.printing import devices


@pytest.mark.parametrize(
    ("memory", "number", "meant"),
    [
        ("24GB", 2, Devices(24 * 1024, 2)),
        ("1.5 GiB", 1, Devices(1536)),
        ("8000mb", 1, Devices(8000)),
        (None, 1, None),
    ],
)
def test_a_size_is_read_in_powers_of_1024(memory: str | None, number: int, meant: Devices | None) -> None:
    assert devices(memory, number) == meant


@pytest.mark.parametrize("memory", ["24", "0GB", "-3GB", "24TB", "lots", ""])
def test_what_is_no_size_is_refused(memory: str) -> None:
    with pytest.raises(UserError, match="write a size such as 24GB"):
        devices(memory, 1)


def test_a_number_of_devices_needs_their_memory() -> None:
    with pytest.raises(UserError, match="give that too"):
        devices(None, 2)
