"""How much this process grew, by the kernel's own count of its resident memory."""

from __future__ import annotations

import re
from pathlib import Path

STATUS, PEAK_RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
KB_PER_MB = 1024


def begin() -> float | None:
    """Forget the peak so far; the resident memory in MB of 2**20 bytes, or None where the kernel does not tell."""
    try:
        PEAK_RESET.write_text("5")
        return _field("VmRSS")
    except OSError:
        return None


def peak_growth(before: float | None) -> float | None:
    """MB by which the peak since ``begin`` is above what that gave."""
    return None if before is None else max(0.0, _field("VmHWM") - before)


def _field(name: str) -> float:
    found = re.search(rf"^{name}:\s+(\d+) kB", STATUS.read_text("ascii", "replace"), re.MULTILINE)
    if found is None:
        raise OSError(f"{STATUS} has no {name}")
    return int(found[1]) / KB_PER_MB
