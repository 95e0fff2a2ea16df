"""What the trainer's options cost and save: time and memory of an update, checkpoints, meters.

    python benchmarks/trainer_options.py [--rounds 7] [--threads 1] [--device cpu]

One model (a transformer of 6 layers, width 128, 64 tokens, batch 32), its options one by
one in interleaved rounds. Time is the ratio of the median update to the plain one's of the
same round, memory what ``peak_memory_mb`` counts: the tensors alive at the peak of an
update. Checkpoints and meters are in milliseconds, once per epoch and once per trial.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hpo.training.batches import make_batches
from hpo.training.blocks import checkpointed_blocks
from hpo.training.checkpoints import CheckpointFolder
from hpo.training.device_lock import DeviceLock
from hpo.training.meters import MEASURED, Subject, measure, median_s, peak_memory_mb
from hpo.training.settings import TrainerSettings
from hpo.training.state import RunState
from hpo.training.task import Split, Task
from hpo.training.update import Updater, groups
from hpo.trial import Goal, Job

OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "accumulation 4 x 8": {"batch_size": 8, "accumulation": 4},
    "gradient_checkpointing": {"gradient_checkpointing": True},
    "adamw8bit": {"optimizer": "adamw8bit"},
    "bf16": {"precision": "bf16"},
    "fp16": {"precision": "fp16"},
    "bf16, checkpointing, 8 bit, 4 x 8": {
        "precision": "bf16", "gradient_checkpointing": True, "optimizer": "adamw8bit", "batch_size": 8,
        "accumulation": 4,
    },
}  # fmt: skip


class Transformer(nn.Module):
    def __init__(self, layers: int, width: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(width, 4, 4 * width, dropout=0.0, batch_first=True) for _ in range(layers)
        )
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        out: Tensor = self.head(x.mean(1))
        return out


def make_task(device: torch.device) -> Task:
    gpu = device.type == "cuda"
    layers, width, tokens = (12, 768, 256) if gpu else (6, 128, 64)
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(256, tokens, width, generator=generator)
    y = torch.randint(10, (256,), generator=generator)
    model = Transformer(layers, width)
    split = Split((x, y))
    return Task(model, split, split, nn.functional.cross_entropy, (x[:1],), blocks=list(model.layers))


def subject(task: Task, settings: TrainerSettings, device: torch.device) -> Subject:
    return Subject(
        task, make_batches(task.train, "training", settings.batch_size, device, shuffle=True), settings, device
    )


def update_s(task: Task, settings: TrainerSettings, device: torch.device) -> float:
    measured = subject(task, settings, device)
    with checkpointed_blocks(task.blocks, wanted=settings.gradient_checkpointing):
        updater = measured.updater()
        group = next(iter(groups(measured.batches.epoch(1), settings.accumulation)))
        return median_s(lambda: updater.update(group), device, 1.0)


def memory_mb(task: Task, settings: TrainerSettings, device: torch.device) -> float:
    with checkpointed_blocks(task.blocks, wanted=settings.gradient_checkpointing):
        return peak_memory_mb(subject(task, settings, device))


def options(rounds: int, device: torch.device) -> dict[str, Any]:
    task = make_task(device)
    task.model.to(device)
    settings = {name: TrainerSettings(batch_size=32, **{"precision": "fp32", **over}) if "batch_size" not in over
                else TrainerSettings(**{"precision": "fp32", **over}) for name, over in OPTIONS.items()}  # fmt: skip
    times: dict[str, list[float]] = {name: [] for name in OPTIONS}
    for _ in range(rounds):
        for name in OPTIONS:
            times[name].append(update_s(task, settings[name], device))
    memory = {name: memory_mb(task, settings[name], device) for name in OPTIONS}
    plain = times["plain"]
    return {
        name: {
            "time_ratio": round(statistics.median(t / p for t, p in zip(times[name], plain, strict=True)), 3),
            "memory_mb": round(memory[name], 1),
            "memory_ratio": round(memory[name] / memory["plain"], 3),
        }
        for name in OPTIONS
    } | {"plain_ms_per_update": round(statistics.median(plain) * 1e3, 2)}


def checkpoint_ms(device: torch.device, rounds: int) -> dict[str, Any]:
    """Milliseconds of a whole ``last.pt`` (fsynced), alone and with a mirror, beside plain ``torch.save``."""
    found: dict[str, Any] = {}
    task = make_task(device)
    settings = TrainerSettings(batch_size=32, precision="fp32")
    updater: Updater = Subject(task, make_batches(task.train, "t", 32, device), settings, device).updater_of(
        task.model.to(device)
    )
    updater.update([next(iter(make_batches(task.train, "t", 32, device).epoch(1)))])
    goal = Goal("val_loss")
    with tempfile.TemporaryDirectory() as place:
        job = Job("b", "search", 0, "b", {}, {}, settings, (goal,), goal, 0, 0, 10, place)
        state = RunState(job, settings, task, updater, device)
        for name, mirror in (("last.pt", None), ("last.pt with a mirror", Path(place) / "mirror")):
            folder = CheckpointFolder(Path(place) / name.replace(" ", "-"), settings, lambda *a, **k: None, mirror)
            folder.begin(resume=False)
            found[name + " ms"] = median_ms(lambda folder=folder: folder.write_last(state.capture()), rounds * 3)  # type: ignore[misc]
            folder.finish()
            size = next(Path(place).glob("*/last.pt")).stat().st_size
        found["torch.save ms"] = median_ms(lambda: torch.save(state.capture(), Path(place) / "plain.pt"), rounds * 3)
        found["file_mb"] = round(size / 2**20, 1)
    return found


def meters_ms(device: torch.device) -> dict[str, float]:
    """Milliseconds that each once-measured figure costs a trial."""
    task = make_task(device)
    task.model.to(device)
    settings = TrainerSettings(batch_size=32, precision="fp32")
    found = {}
    with DeviceLock(device):
        measure(subject(task, settings, device), set(MEASURED))  # what is imported for the first time
        for name in MEASURED:
            found[name] = median_ms(lambda name=name: measure(subject(task, settings, device), {name}), 3)  # type: ignore[misc]
    return found


def median_ms(work: Any, times: int) -> float:
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return round(statistics.median(taken) * 1e3, 2)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    device = torch.device(given.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    print(
        json.dumps(
            {
                "device": name,
                "threads": given.threads,
                "options": options(given.rounds, device),
                "checkpoint": checkpoint_ms(device, given.rounds),
                "meters_ms": meters_ms(device),
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
