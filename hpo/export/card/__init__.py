"""The model card: the bundle's README.md, which somebody reads before using the model."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hpo.export.card import figures, running, source
from hpo.export.card.markdown import bullets, code, table, text
from hpo.export.card.running import module_option
from hpo.export.manifest import Manifest

__all__ = ["card"]

MB = 2**20


def card(manifest: Manifest, metrics: Mapping[str, Any], folder: Path) -> str:
    """Markdown. ``folder`` holds the bundle's other files already: they are listed with their checksums."""
    sections = {
        "": _head(manifest),
        "Inputs and outputs": running.tensors(manifest),
        "Run it": running.usages(manifest),
        "Figures": figures.figures(manifest, metrics),
        "Gates before release": _gates(manifest),
        "Data": source.data(manifest),
        "Parameters": source.parameters(manifest),
        "Limits": source.limits(manifest, metrics),
        "Formats": running.formats_table(manifest),
        "Reproduce it": source.reproduce(manifest),
        "Files": _files(manifest, folder),
    }
    blocks = [[f"## {title}", *found] if title else found for title, found in sections.items()]
    return "\n\n".join(block for found in blocks for block in found) + "\n"


def _head(manifest: Manifest) -> list[str]:
    name = manifest.origin.get("study")
    summary = text(manifest.summary.rstrip("."))
    what = f"A model of {code(manifest.objective)}" + (f": {summary}." if summary else ".")
    if not name:
        title, intro = f"A model of {code(manifest.objective)}", f"{summary}." if summary else ""
    else:
        title, intro = text(name), what
    unmet = [gate.line for gate in manifest.gates if gate.met is not True]
    return [
        f"# {title}",
        *([intro] if intro else []),
        f"**{manifest.release}**",
        *([bullets(list(map(text, unmet)))] if unmet else []),
        *([_from_checkpoint(manifest)] if "checkpoint" in manifest.origin else []),
        f"Made {text(manifest.created_at)} by hpo {text(manifest.environment.get('hpo', '?'))}.",
    ]


def _from_checkpoint(manifest: Manifest) -> str:
    origin = manifest.origin
    return (
        f"It was made from a checkpoint alone: {code(origin['checkpoint'])}, epoch {origin.get('epoch', '?')}. "
        "Nobody has held it against a test set, and what a checkpoint does not tell is said below."
    )


def _gates(manifest: Manifest) -> list[str]:
    if not manifest.gates:
        none = "None was set." if manifest.released else "None was evaluated: a checkpoint alone says too little."
        return [none]
    return [bullets([text(gate.line) for gate in manifest.gates])]


_CHECK = [
    "import hashlib, pathlib",
    "",
    'for line in open("checksums.sha256", encoding="utf-8"):',
    '    digest, name = line.rstrip("\\n").split("  ", 1)',
    "    assert hashlib.sha256(pathlib.Path(name).read_bytes()).hexdigest() == digest, name",
]


def _files(manifest: Manifest, folder: Path) -> list[str]:
    rows = []
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        with file.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        name = file.relative_to(folder).as_posix()
        rows.append([code(name), code(digest[:16]), f"{file.stat().st_size / MB:.3g}"])
    return [
        table(["file", "SHA-256 begins with", "MB"], rows, numbers=1),
        f"`hpo verify .{module_option(manifest)}` holds every byte and every format against what they were. Without "
        "hpo, `sha256sum -c checksums.sha256` checks the bytes (the whole sums stand there), and so does Python:",
        "\n".join(["```python", *_CHECK, "```"]),
    ]
