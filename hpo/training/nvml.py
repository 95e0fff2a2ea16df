"""How busy and how hot the GPU of a trial is, as NVIDIA's management library (NVML) tells it.

The figures are the device's, not the trial's alone: other processes on it are in them.
Nothing here ever stops a training.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import pynvml
import torch

UTILISATION = "gpu_utilisation_pct"
TEMPERATURE = "gpu_temperature_c"

# NVML's own figure is over the last sixth of a second to a second, depending on the card.
_EVERY_S = 1.0


class DeviceWatch:
    """Utilisation and temperature of one device, an epoch at a time.

    Without an NVIDIA driver, or on a CPU, it is empty and silent. What the device does not
    tell (a MIG slice has no utilisation of its own) is left out. Any other failure of NVML
    ends the watch, and ``event`` hears of it once.

    Args:
        device: the trial's device.
        event: told the kind and a sentence (``TrialContext.event``).
        clock: seconds, ever growing.
    """

    def __init__(
        self,
        device: torch.device,
        event: Callable[[str, str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._event, self._clock = event, clock
        self._handle: Any = None
        self._samples: dict[str, list[float]] = {UTILISATION: [], TEMPERATURE: []}
        self._next = float("-inf")
        if device.type == "cuda":
            self._handle = self._find(device)

    def sample(self) -> None:
        """Look at the device, at most once a second; cheap, for between two updates."""
        if self._handle is None:
            return
        now = self._clock()
        if now >= self._next:
            self._next = now + _EVERY_S
            self._read(UTILISATION, _utilisation_pct)
            self._read(TEMPERATURE, _temperature_c)

    def take(self) -> dict[str, float]:
        """Since the last call: mean ``gpu_utilisation_pct``, highest ``gpu_temperature_c``; {} where unknown."""
        if not any(self._samples.values()):  # shorter than a second
            self._next = float("-inf")
            self.sample()
        found = {
            name: summary(self._samples[name])
            for name, summary in ((UTILISATION, statistics.fmean), (TEMPERATURE, max))
            if self._samples[name]
        }
        self._samples = {name: [] for name in self._samples}
        return found

    def _find(self, device: torch.device) -> Any:
        try:
            pynvml.nvmlInit()
            return _handle_of(device)
        except (pynvml.NVMLError_LibraryNotFound, pynvml.NVMLError_DriverNotLoaded):
            pass  # a ROCm build, or a container without the driver's tools
        except pynvml.NVMLError as error:
            self._give_up(error)
        return None

    def _read(self, name: str, read: Callable[[Any], float]) -> None:
        if self._handle is None:  # the reading before this one failed
            return
        try:
            self._samples[name].append(read(self._handle))
        except pynvml.NVMLError_NotSupported:
            pass  # told by the metric's absence
        except pynvml.NVMLError as error:
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        self._handle = None
        self._event(
            "nvml_failed", f"GPU utilisation and temperature are no longer watched: NVML says {str(error).lower()}"
        )


def _handle_of(device: torch.device) -> Any:
    """NVML's handle of a torch device: by UUID, because CUDA_VISIBLE_DEVICES numbers devices anew.

    Of a MIG slice, whose temperature nobody measures, the whole card's.
    """
    uuid = torch.cuda.get_device_properties(device).uuid
    try:
        return pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")
    except (pynvml.NVMLError_NotFound, pynvml.NVMLError_InvalidArgument):
        part = pynvml.nvmlDeviceGetHandleByUUID(f"MIG-{uuid}")
        return pynvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(part)


def _utilisation_pct(handle: Any) -> float:
    """Share of the time in which at least one kernel ran, 0–100."""
    return float(pynvml.nvmlDeviceGetUtilizationRates(handle).gpu)


def _temperature_c(handle: Any) -> float:
    try:
        return float(pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU))
    except pynvml.NVMLError_FunctionNotFound:  # to be gone with CUDA 14; its successor is not in older drivers
        return float(pynvml.nvmlDeviceGetTemperatureV(handle, pynvml.NVML_TEMPERATURE_GPU))
