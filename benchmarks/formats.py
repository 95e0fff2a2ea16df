"""Every format of exported bundles as a table: made or why not, equal, fast, large, and its memory.

    python benchmarks/formats.py logo-quality=BUNDLE language=BUNDLE ... > table.md

The bundles come from ``hpo export STUDY --format NAME`` with each name of ``hpo/export/formats``: the
figures are those of the export, which times a format and eager PyTorch in turns on one CPU thread.
The rows are those of docs/export.md.

    python benchmarks/formats.py --full-network > table.md

does the same for the untrained full network of quality_regression, 2056-1024-512-256-1.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import torch

from hpo.export.bundle import ModelBundle
from hpo.export.manifest import FormatEntry, Latency
from hpo.export.release import export_model
from hpo.training.task import Split, Task, build_model
from objectives import registry

HEADER = ("system", "format", "share of the bound", "ms at 1", "at 8", "at the largest", "MB", "memory MB")


def main(given: list[str]) -> int:
    if given == ["--full-network"]:
        with tempfile.TemporaryDirectory() as folder:
            return main([f"full network={full_network(Path(folder) / 'bundle')}"])
    print(f"| {' | '.join(HEADER)} |\n|{'---|' * len(HEADER)}")
    refused = []
    for word in given:
        system, _, folder = word.partition("=")
        for name, entry in sorted(ModelBundle.open(Path(folder)).manifest.formats.items()):
            if entry.released:
                print(f"| {' | '.join([system, f'`{name}`', *_cells(entry)])} |")
            else:
                refused.append(f"- {system}, `{name}`: {entry.reason}")
    print("\nNot made:\n\n" + "\n".join(refused) if refused else "")
    return 0


def full_network(out: Path) -> Path:
    """A bundle of the network that is picked by hand, with random weights and inputs; as fast as a trained one."""
    name = "quality_regression"
    objective = registry.find(name)
    params = {**objective.default_params, "depth": 3, "width": 1024}
    rows = Split((torch.randn(64, 2056, generator=torch.Generator().manual_seed(1)), torch.zeros(64, 1)))
    task = Task(
        model=build_model(lambda: objective.model(params, {}), seed=1),
        train=rows,
        validation=rows,
        loss=torch.nn.functional.mse_loss,
        example=(rows.data[0][:1],),
    )
    formats = ["onnx", "onnx_int8", "torch_export", "torchscript", "aotinductor", "safetensors"]
    export_model(task, task.model.state_dict(), objective=name, params=params, out=out, formats=formats)
    return out


def _cells(entry: FormatEntry) -> list[str]:
    size = f"{entry.size_mb:.3g}"
    if entry.unverified is not None:
        return ["not verified", "–", "–", "–", size, "–"]
    rounded = "rounded, " if entry.relative_error is not None else ""
    share = "–" if entry.bound_share is None else f"{rounded}{entry.bound_share:.2g}"
    by_batch = {one.batch: _time(one) for one in entry.latency}
    largest = max(by_batch, default=0)
    times = [by_batch.get(1, "–"), by_batch.get(8, "–"), f"{by_batch[largest]} ({largest})" if largest > 8 else "–"]
    return [share, *times, size, "–" if entry.memory_mb is None else f"{entry.memory_mb:.3g}"]


def _time(latency: Latency) -> str:
    return f"{latency.p50_ms:.3g}" + ("" if latency.speedup is None else f" × {latency.speedup:.3g}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
