"""What every page is made with: its templates, JSON inside a script, files that appear whole."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpo import durable

if TYPE_CHECKING:
    from jinja2 import Environment


def templates() -> Environment:
    """The templates; every value is escaped, and a name that is not given is an error."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip


def write_files(out: Path, files: Mapping[str, bytes]) -> list[Path]:
    """Write each file into ``out``, whole or not at all; their paths.

    Raises:
        OSError: ``out`` cannot be a folder, or cannot be written to.
    """
    out.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        durable.write(out / name, lambda path, content=content: path.write_bytes(content), sync=False)  # type: ignore[misc]
    return [out / name for name in files]


def script_json(value: Any) -> str:
    """JSON that may stand inside a ``<script>``: no ``</script>`` or ``<!--`` can come of it, and NaN is null."""
    text = json.dumps(_finite(value), allow_nan=False, separators=(",", ":"), ensure_ascii=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _finite(value: Any) -> Any:
    """The same value with every float short (six digits are finer than a pixel) and none that JSON lacks."""
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, (list, tuple)):
        return [_finite(inner) for inner in value]
    return value
