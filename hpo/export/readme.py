"""The README inside a bundle: what it is, its shapes, how to run it, its figures, where it comes from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hpo.export import formats
from hpo.export.compare import describe
from hpo.export.manifest import FormatEntry, Manifest, Shift, TensorFacts


def readme(manifest: Manifest, metrics: Mapping[str, Any]) -> str:
    """Markdown. Numbers found at the top of ``metrics`` are listed; the rest stays in metrics.json."""
    parts = [
        f"# A model of `{manifest.objective}`",
        f"**{manifest.release}**",
        f"Made {manifest.created_at} by hpo {manifest.environment.get('hpo', '?')}.",
        "## Inputs and outputs",
        _tensors("in", manifest.inputs) + "\n" + _tensors("out", manifest.outputs),
        "`example.npz` holds real validation rows and what PyTorch made of them (`inputs.NAME`, `outputs.BATCH.NAME`), "
        "and a few of them cut along each open axis (`cut.AXIS=LENGTH.inputs.NAME`, `cut.AXIS=LENGTH.outputs.NAME`).",
        "## Run it",
        "From this folder:",
    ]
    names = [t.name for t in manifest.inputs], [t.name for t in manifest.outputs]
    for name, entry in manifest.formats.items():
        if entry.released:
            usage = formats.find(name).usage(f"formats/{name}", *names).rstrip()
            parts.append(f"### {name}\n\nNeeds numpy and {_listed(entry.packages)}.")
            parts.append("\n".join(["```python", *_OPEN_EXAMPLE, usage, "```"]))
    parts += ["## Figures", *(_figures(name, entry, manifest) for name, entry in manifest.formats.items())]
    numbers = [f"- {k}: {v:.6g}" for k, v in metrics.items() if isinstance(v, int | float) and not isinstance(v, bool)]
    parts += [
        "\n".join(["**metrics** (every seed's in `metrics.json`):", "", *(numbers or ["- none at its top level"])])
    ]
    if manifest.gates:
        parts += ["## Gates before release", "\n".join(f"- {gate.line}" for gate in manifest.gates)]
    parts += [
        "## Reproduce and check",
        "`config.yaml` is the study file: `hpo launch config.yaml`, then `hpo retrain` and `hpo export`.",
        "\n".join(["Parameters:", "", *(f"- {key}: {value}" for key, value in manifest.params.items())]),
        *(
            ["\n".join(["Origin:", "", *(f"- {k}: {v}" for k, v in manifest.origin.items())])]
            if manifest.origin
            else []
        ),
        "\n".join(["Made with:", "", *(f"- {k} {v}" for k, v in manifest.environment.items())]),
        "`hpo verify .` holds every byte and every format against what they were; without hpo, "
        "`sha256sum -c checksums.sha256` checks the bytes.",
    ]
    return "\n\n".join(parts) + "\n"


_OPEN_EXAMPLE = ["import numpy as np", 'example = np.load("example.npz", allow_pickle=False)', ""]


def _tensors(side: str, tensors: Sequence[TensorFacts]) -> str:
    return "\n".join(f"- {side} `{t.name}`: {t.dtype} ({', '.join(map(str, t.shape))})" for t in tensors)


def _listed(packages: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in packages.items())


def _figures(name: str, entry: FormatEntry, manifest: Manifest) -> str:
    if not entry.released:
        return f"**{name}** is not released. {entry.reason}"
    lines = [f"**{name}**: {entry.size_mb:.2f} MB (2^20 bytes)", ""]
    worst = entry.comparison
    if worst is not None and worst.difference is not None and worst.bound_share is not None:
        lines.append(
            f"- worst difference from PyTorch {worst.difference:.3g} ({worst.bound_share:.2g} of the allowed "
            f"{manifest.atol:g} + {manifest.rtol:g} x |value|), output `{worst.output}`, {worst.place}"
        )
    rounded = entry.relative_error
    if rounded is not None and rounded.error is not None:
        lines.append(
            f"- rounded: relative error {rounded.error:.3g} of at most {rounded.allowed:g} (the root mean square "
            f"difference from PyTorch over the spread of its output), output `{rounded.output}`"
        )
    lines += [f"- {metric} on the validation set: {_shift(shift)}" for metric, shift in entry.metrics.items()]
    lines += [f"- {line} (one CPU thread)" for line in describe(entry.latency)]
    return "\n".join(lines)


def _shift(shift: Shift) -> str:
    def shown(value: float | None) -> str:
        return "not finite" if value is None else f"{value:.6g}"

    return f"{shown(shift.rounded)}, PyTorch {shown(shift.pytorch)}"
