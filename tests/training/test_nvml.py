"""Watching a GPU through a fake NVML, and through the real one where there is no GPU."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest
import torch

from hpo.training.nvml import DeviceWatch
from objectives.base import TRAINER_METRICS

UUID = "9f1c2e3d-0000-1111-2222-333344445555"


def failure(name: str) -> Callable[..., Any]:
    """A call that fails as NVML does, with the code of this name."""

    def call(*arguments: object) -> Any:
        raise pynvml.NVMLError(getattr(pynvml, f"NVML_ERROR_{name}"))

    return call


class Card:
    """A driver with one GPU: torch's index 0, whatever NVML's index is; and a clock."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.monkeypatch = monkeypatch
        self.busy_pct, self.degrees_c, self.now_s, self.reads = 50, 60, 0.0, 0
        self.asked: list[str] = []
        self.events: list[tuple[str, str]] = []
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid=UUID))
        self.put("nvmlInit", lambda: None)
        self.put("nvmlDeviceGetHandleByUUID", self._handle)
        self.put("nvmlDeviceGetUtilizationRates", self._rates)
        self.put("nvmlDeviceGetTemperature", lambda handle, sensor: self.degrees_c)

    def put(self, name: str, call: Callable[..., Any]) -> None:
        self.monkeypatch.setattr(pynvml, name, call)

    def watch(self) -> DeviceWatch:
        return DeviceWatch(torch.device("cuda", 0), lambda *said: self.events.append(said), lambda: self.now_s)

    def _handle(self, name: str) -> str:
        self.asked.append(name)
        return "handle"

    def _rates(self, handle: str) -> SimpleNamespace:
        assert handle == "handle"
        self.reads += 1
        return SimpleNamespace(gpu=self.busy_pct, memory=1)


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Card:
    return Card(monkeypatch)


def test_an_epoch_has_the_mean_utilisation_and_the_highest_temperature(card: Card) -> None:
    watch = card.watch()
    for second, (busy, degrees) in enumerate([(90, 60), (100, 71), (50, 65)]):
        card.now_s, card.busy_pct, card.degrees_c = float(second), busy, degrees
        watch.sample()
    assert watch.take() == {"gpu_utilisation_pct": 80.0, "gpu_temperature_c": 71.0}
    card.now_s, card.busy_pct, card.degrees_c = 10.0, 10, 40
    watch.sample()
    assert watch.take() == {"gpu_utilisation_pct": 10.0, "gpu_temperature_c": 40.0}
    assert card.asked == [f"GPU-{UUID}"]
    assert card.events == []


def test_the_device_is_asked_at_most_once_a_second(card: Card) -> None:
    watch = card.watch()
    for update in range(250):
        card.now_s = update / 100
        watch.sample()
    assert card.reads == 3


def test_an_epoch_shorter_than_a_second_has_its_figures_too(card: Card) -> None:
    watch = card.watch()
    for _ in range(2):
        watch.sample()
        assert watch.take() == {"gpu_utilisation_pct": 50.0, "gpu_temperature_c": 60.0}


def test_a_mig_slice_is_found_by_its_card_and_has_a_temperature_alone(card: Card) -> None:
    def by_uuid(name: str) -> str:
        card.asked.append(name)
        return "slice" if name.startswith("MIG-") else failure("NOT_FOUND")()

    card.put("nvmlDeviceGetHandleByUUID", by_uuid)
    card.put("nvmlDeviceGetDeviceHandleFromMigDeviceHandle", lambda part: {"slice": "handle"}[part])
    card.put("nvmlDeviceGetUtilizationRates", failure("NOT_SUPPORTED"))
    watch = card.watch()
    watch.sample()
    assert card.asked == [f"GPU-{UUID}", f"MIG-{UUID}"]
    assert watch.take() == {"gpu_temperature_c": 60.0}
    assert card.events == []


def test_a_driver_without_the_old_call_is_asked_by_the_new_one(card: Card) -> None:
    card.put("nvmlDeviceGetTemperature", failure("FUNCTION_NOT_FOUND"))
    card.put("nvmlDeviceGetTemperatureV", lambda handle, sensor: 55)
    assert card.watch().take()["gpu_temperature_c"] == 55.0


@pytest.mark.parametrize("name", ["LIBRARY_NOT_FOUND", "DRIVER_NOT_LOADED"])
def test_without_a_driver_it_is_silent(card: Card, name: str) -> None:
    card.put("nvmlInit", failure(name))
    watch = card.watch()
    watch.sample()
    assert watch.take() == {}
    assert card.events == []


@pytest.mark.parametrize(
    ("call", "name"),
    [
        ("nvmlInit", "LIB_RM_VERSION_MISMATCH"),
        ("nvmlDeviceGetHandleByUUID", "NO_PERMISSION"),
        ("nvmlDeviceGetHandleByUUID", "NOT_FOUND"),
        ("nvmlDeviceGetUtilizationRates", "GPU_IS_LOST"),
        ("nvmlDeviceGetTemperature", "UNKNOWN"),
    ],
)
def test_an_unexpected_failure_is_told_once_and_ends_the_watch(card: Card, call: str, name: str) -> None:
    card.put(call, failure(name))
    watch = card.watch()
    for second in range(3):
        card.now_s = float(second)
        watch.sample()
        watch.take()
    assert watch.take() == {}
    assert [kind for kind, _ in card.events] == ["nvml_failed"]
    assert "no longer watched: NVML says" in card.events[0][1]
    assert card.reads <= 1


def test_a_cpu_is_never_asked_about(card: Card) -> None:
    card.put("nvmlInit", failure("UNKNOWN"))
    watch = DeviceWatch(torch.device("cpu"), lambda *said: card.events.append(said))
    watch.sample()
    assert watch.take() == {}
    assert card.events == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_where_there_is_no_gpu_the_real_library_gives_nothing_and_says_nothing() -> None:
    events: list[object] = []
    watch = DeviceWatch(torch.device("cuda", 0), lambda *said: events.append(said))
    watch.sample()
    assert watch.take() == {}
    assert events == []


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_real_gpu_has_plausible_figures() -> None:
    events: list[object] = []
    found = DeviceWatch(torch.device("cuda", 0), lambda *said: events.append(said)).take()
    assert events == []
    assert 0 <= found.get("gpu_utilisation_pct", 0) <= 100
    assert 10 < found["gpu_temperature_c"] < 120


def test_the_trainer_declares_both_as_depending_on_the_clock() -> None:
    for name in ("gpu_utilisation_pct", "gpu_temperature_c"):
        assert TRAINER_METRICS[name].timing
        assert not TRAINER_METRICS[name].once
