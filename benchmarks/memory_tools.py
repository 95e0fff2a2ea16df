"""What each memory tool of the trainer saves and costs, on the multimodal model: measured memory by part, and time.

    python benchmarks/memory_tools.py [--size small] [--rounds 3] [--threads 1] [--out FILE.md]

One update of the model at a batch of 8 on this machine's CPU, each tool alone and all
together. Parameters, gradients and optimiser state are the tensors that are there after an
update, activations what a forward pass leaves for the backward pass, the peak the most
that is alive at one moment (``peak_memory_mb``); ``estimated`` is the peak as it is reckoned
without running. Time is the ratio to the plain update of the same round, which updates as
many samples; the median over interleaved rounds.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from hpo.training.batches import make_batches
from hpo.training.blocks import checkpointed_blocks
from hpo.training.checks.estimate import memory_of, with_activations
from hpo.training.checks.outlined import estimate_outline, outline_of
from hpo.training.meters import Subject
from hpo.training.settings import TrainerSettings
from hpo.training.task import Split, Task
from hpo.training.update import Updater, groups
from objectives.multimodal.model import PlanetModel, blocks_of
from objectives.multimodal.presets import (
    PARTS,
    PRESETS,
    CubeSize,
    Dimensions,
    FusionSize,
    GraphSize,
    Preset,
    TextSize,
)

CPU = torch.device("cpu")
SAMPLES = 8  # of an update, however it is cut
TOOLS: dict[str, dict[str, Any]] = {
    "plain fp32, AdamW": {},
    "gradient_checkpointing": {"gradient_checkpointing": True},
    "adamw8bit": {"optimizer": "adamw8bit"},
    "bf16": {"precision": "bf16"},
    f"accumulation, 1 x {SAMPLES}": {"batch_size": 1, "accumulation": SAMPLES},
    "all together": {
        "gradient_checkpointing": True, "optimizer": "adamw8bit", "precision": "bf16", "batch_size": 1,
        "accumulation": SAMPLES,
    },
}  # fmt: skip
SIZES = {
    "middle": Preset(
        TextSize(width=256, depth=8, heads=8, vocabulary=4096, length=128),
        GraphSize(width=128, depth=4, heads=4, latent=16),
        CubeSize(channels=(16, 32), width=192, depth=6, heads=6),
        FusionSize(width=128, depth=2, heads=4, queries=4),
    ),
    "small": PRESETS["small"],
}
DIMENSIONS, LENGTH, NODES = Dimensions(16, (4, 8, 16, 32), 8), 128, 32


def make_task(size: str) -> Task:
    torch.manual_seed(0)
    model = PlanetModel(SIZES[size], DIMENSIONS, dropout=0.1)
    mask = torch.ones(SAMPLES, LENGTH, dtype=torch.bool)
    adjacency = torch.ones(SAMPLES, NODES, NODES, dtype=torch.bool)
    split = Split((
        torch.randint(SIZES[size].text.vocabulary, (SAMPLES, LENGTH)), mask,
        torch.randn(SAMPLES, NODES, DIMENSIONS.node_features), adjacency, adjacency[:, 0].clone(),
        torch.randn(SAMPLES, *DIMENSIONS.cube), mask[:, :1].clone(),
        torch.randint(DIMENSIONS.classes, (SAMPLES,)),
    ))  # fmt: skip
    return Task(model, split, split, loss, (), blocks=blocks_of(model, PARTS))


def loss(output: dict[str, Tensor], target: Tensor) -> Tensor:
    parts = [output[name].mean() for name in ("graph_reconstruction", "graph_kl", "cube_reconstruction")]
    return cross_entropy(output["logits"], target) + 0.1 * torch.stack(parts).sum()


def updater_of(task: Task, settings: TrainerSettings) -> tuple[Updater, list[tuple[Tensor, ...]]]:
    batches = make_batches(task.train, "training", settings.batch_size, CPU)
    group = next(iter(groups(batches.epoch(1), settings.accumulation)))
    return Subject(task, batches, settings, CPU).updater(), group


def memory(task: Task, settings: TrainerSettings) -> dict[str, float]:
    """MB by part, measured."""
    with checkpointed_blocks(task.blocks, wanted=settings.gradient_checkpointing):
        updater, group = updater_of(task, settings)
        updater.update(group)
        states = [v for state in updater.optimizer.state.values() for v in state.values() if isinstance(v, Tensor)]
        parameters = list(updater.model.parameters())
        counted = memory_of(task.model, settings)
        found = with_activations(counted, updater, group[0], accumulation=settings.accumulation)
    return {
        "parameters": sum(p.nbytes for p in parameters) / 2**20,
        "gradients": sum(p.nbytes for p in parameters if p.requires_grad) / 2**20,
        "optimiser": sum(v.nbytes for v in states) / 2**20,
        "activations": found.activations_mb or 0.0,
        "peak": found.peak_mb or 0.0,
        "estimated": estimate_outline(outline_of(task), settings, CPU).peak_mb or 0.0,
    }


def update_s(task: Task, settings: TrainerSettings) -> float:
    """The quicker of two updates after one that warms up: a busy machine makes updates slower, never quicker."""
    with checkpointed_blocks(task.blocks, wanted=settings.gradient_checkpointing):
        updater, group = updater_of(task, settings)
        updater.update(group)
        taken = []
        for _ in range(2):
            began = time.perf_counter()
            updater.update(group)
            taken.append(time.perf_counter() - began)
        return min(taken)


def table(size: str, rounds: int) -> str:
    task = make_task(size)
    settings = {
        name: TrainerSettings(**{"precision": "fp32", "batch_size": SAMPLES, **given}) for name, given in TOOLS.items()
    }
    memories = {name: memory(task, given) for name, given in settings.items()}
    times: dict[str, list[float]] = {name: [] for name in TOOLS}
    for _ in range(rounds):
        for name, given in settings.items():
            times[name].append(update_s(task, given))
    plain_name, *_ = TOOLS
    plain, plain_s = memories[plain_name], times[plain_name]
    weights = sum(parameter.numel() for parameter in task.model.parameters())
    lines = [
        f"{size}, {weights / 1e6:.1f} M weights; a plain update took {statistics.median(plain_s) * 1e3:.0f} ms. In MB, "
        "with the share of the plain one in brackets.",
        "",
        "| tool | " + " | ".join(plain) + " | estimated / peak | time |",
        "|---" * (len(plain) + 3) + "|",
    ]
    for name, found in memories.items():
        cells = [f"{mb:.1f} ({mb / plain[part]:.2f})" for part, mb in found.items()]
        ratio = statistics.median(a / b for a, b in zip(times[name], plain_s, strict=True))
        lines.append(f"| {name} | {' | '.join(cells)} | {found['estimated'] / found['peak']:.3f} | {ratio:.2f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", choices=list(SIZES), default="small")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    before = os.getloadavg()[0]
    text = (
        f"{table(given.size, given.rounds)}\n\nLoad of the machine {before:.1f} before, {os.getloadavg()[0]:.1f} after."
    )
    print(text)
    if given.out:
        given.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
