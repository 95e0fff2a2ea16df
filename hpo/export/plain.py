"""Facts as JSON text. Knows numpy and torch values by their ``tolist``, and imports neither."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence, Set
from enum import Enum
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from hpo.errors import ExportFailed


def to_plain(value: Any, name: str, *, finite: bool = False) -> Any:
    """``value`` as what JSON can hold; tuples become lists, keys become text.

    NaN and infinities become None, or with ``finite`` an error: what a model is rebuilt
    from must not change on the way.

    Raises:
        ExportFailed: something in it, named by its path from ``name``, is no JSON value.
    """
    if isinstance(value, Enum):
        return to_plain(value.value, name, finite=finite)
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        if math.isfinite(value):
            return value
        if finite:
            raise ExportFailed(f"What is kept to rebuild a model must be finite; {name} is {value}.")
        return None
    if isinstance(value, BaseModel):
        return to_plain(value.model_dump(), name, finite=finite)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        shallow = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return to_plain(shallow, name, finite=finite)
    if isinstance(value, Mapping):
        return {str(key): to_plain(item, f"{name}.{key}", finite=finite) for key, item in value.items()}
    if isinstance(value, Sequence | Set) and not isinstance(value, bytes | bytearray):
        return [to_plain(item, f"{name}[{i}]", finite=finite) for i, item in enumerate(value)]
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):
        return to_plain(value.tolist(), name, finite=finite)
    raise ExportFailed(
        f"A bundle keeps numbers, text, lists and mappings; {name} is a {type(value).__name__}. Give its parts as such."
    )


def to_json(value: Any, name: str) -> str:
    """``to_plain`` as indented JSON text that ends with a newline."""
    return json.dumps(to_plain(value, name), indent=2, allow_nan=False, ensure_ascii=False) + "\n"
