"""What goes in and comes out, the lines that run it, and the formats beside each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hpo.export import formats
from hpo.export.card.markdown import bullets, code, number, table, text
from hpo.export.manifest import FormatEntry, Manifest, Shift, TensorFacts

_FIRST = "onnx"  # runs where there is neither PyTorch nor hpo
_OPEN_EXAMPLE = ["import numpy as np", 'example = np.load("example.npz", allow_pickle=False)', ""]


def module_option(manifest: Manifest) -> str:
    """What commands need where the objective is the user's own module."""
    return " --import-from FOLDER" if ":" in manifest.objective else ""


def tensors(manifest: Manifest) -> list[str]:
    rows = [_row("in", one) for one in manifest.inputs] + [_row("out", one) for one in manifest.outputs]
    free = {length for one in (*manifest.inputs, *manifest.outputs) for length in one.shape if isinstance(length, str)}
    named = ", ".join(code(name) for name in sorted(free) if not name.startswith("by "))
    is_told = any(one.meaning for one in (*manifest.inputs, *manifest.outputs))
    return [
        table(["", "name", "type", "shape", "what stands in it"], rows),
        *([f"A length that has a name is free: {named}."] if named else []),
        *([] if is_told else ["The objective does not say what stands in them (`meanings`)."]),
        "`example.npz` holds real validation rows and what PyTorch made of them (`inputs.NAME`, `outputs.BATCH.NAME`), "
        "and a few of them cut along each open axis (`cut.AXIS=LENGTH.inputs.NAME`, `cut.AXIS=LENGTH.outputs.NAME`).",
    ]


def _row(side: str, one: TensorFacts) -> list[str]:
    return [side, code(one.name), one.dtype, f"({', '.join(map(str, one.shape))})", text(one.meaning) or "–"]


def usages(manifest: Manifest) -> list[str]:
    """The lines for each format that ships, those that need the least first."""
    shipped = [name for name, entry in manifest.formats.items() if entry.released and not entry.unverified]
    shipped.sort(key=lambda name: name != _FIRST)
    inputs, outputs = [t.name for t in manifest.inputs], [t.name for t in manifest.outputs]
    parts = ["From this folder:"]
    for place, name in enumerate(shipped):
        usage = formats.find(name).usage(f"formats/{name}", inputs, outputs).rstrip()
        packages = manifest.formats[name].packages
        needs = ", ".join(f"{text(package)} {text(version)}" for package, version in packages.items())
        parts += [f"### {name}", f"Needs numpy and {needs}."]
        parts.append("\n".join(["```python", *_OPEN_EXAMPLE, usage, "```"]))
        if place == 0:
            other = "" if name == _FIRST else f" --format {name}"
            parts.append(
                "Or with hpo, which checks names, shapes and types: "
                f"`hpo predict . INPUT{other}{module_option(manifest)}`, where INPUT is an .npz with the inputs by "
                "name, or a file that the objective knows how to read."
            )
    return parts


def formats_table(manifest: Manifest) -> list[str]:
    """Which formats there are, how near to PyTorch, how fast and how large; why others are not there."""
    batches = sorted({latency.batch for entry in manifest.formats.values() for latency in entry.latency})
    header = ["format", "equal to PyTorch", *(f"ms at batch {batch} (× eager)" for batch in batches)]
    rows = [_format_row(name, entry, batches) for name, entry in manifest.formats.items() if entry.released]
    parts = []
    if rows:
        parts.append(table([*header, "MB", "memory, MB"], rows, numbers=len(batches) + 2))
        parts.append(
            f"Equal: every stored output is within {manifest.atol:g} + {manifest.rtol:g}·|value| of PyTorch's; the "
            "share is that of the worst place. Times are medians of one call on one CPU thread; × eager is how many "
            "times as fast as eager PyTorch. MB are of 2^20 bytes; memory is what a process grew by, at its peak."
        )
    shifts = [
        f"{code(name)}: {text(metric)} on the {_part(metric)} set: {_shift(shift)}"
        for name, entry in manifest.formats.items()
        for metric, shift in entry.metrics.items()
    ]
    parts += [bullets(shifts)] if shifts else []
    lost = [(name, entry) for name, entry in manifest.formats.items() if not entry.released]
    if lost:
        parts.append(bullets([f"{code(name)} is not released. {text(entry.reason or '')}" for name, entry in lost]))
    return parts


def _format_row(name: str, entry: FormatEntry, batches: Sequence[int]) -> list[str]:
    times: Mapping[int, str] = {
        latency.batch: f"{latency.p50_ms:.3g}" + (f" (× {latency.speedup:.3g})" if latency.speedup else "")
        for latency in entry.latency
    }
    size, memory = (number(value) for value in (entry.size_mb, entry.memory_mb))
    return [code(name), _nearness(entry), *(times.get(batch, "–") for batch in batches), size, memory]


def _nearness(entry: FormatEntry) -> str:
    if entry.unverified:
        return f"not verified: {text(entry.unverified)}"
    if entry.relative_error is not None and entry.relative_error.error is not None:
        return f"rounded: relative error {entry.relative_error.error:.2g} of {entry.relative_error.allowed:g}"
    if entry.bound_share is None:
        return "yes"
    return f"yes, {entry.bound_share:.2g} of the allowed"


def _part(metric: str) -> str:
    return "test" if metric.startswith("test_") else "validation"


def _shift(shift: Shift) -> str:
    def shown(value: float | None) -> str:
        return "not finite" if value is None else f"{value:.6g}"

    return f"{shown(shift.rounded)}, PyTorch {shown(shift.pytorch)}"
