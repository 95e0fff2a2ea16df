"""One checkpoint file: plain containers and tensors, written and read with checksums.

``torch.save`` makes a zip that stores a CRC-32 of everything in it; reading checks them all
before anything is loaded, and loads with ``weights_only=True``.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from hpo.errors import DataError

FORMAT = 1

State = dict[str, Any]


def read(path: Path | str) -> State:
    """A checkpoint's content, on the CPU.

    Raises:
        DataError: there is no such file, it is damaged, or of another format.
    """
    path = Path(path)
    try:
        with zipfile.ZipFile(path) as file:
            damaged = file.testzip()
        if damaged is not None:
            raise DataError(f"{path} is damaged: {damaged!r} in it fails its checksum. Use another checkpoint.")
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise DataError(f"There is no checkpoint {path}.") from error
    except DataError:
        raise
    except Exception as error:  # zipfile and torch raise a dozen types on damaged files
        raise DataError(f"{path} is no intact checkpoint ({error}). Use another one.") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        found = state.get("format") if isinstance(state, dict) else type(state).__name__
        raise DataError(f"{path} must be a checkpoint of format {FORMAT}, not {found!r}.")
    return state


def progress(path: Path) -> tuple[int, int, int]:
    """How far a checkpoint has come: recoveries, finished epochs, updates of the one in progress. Reads no weights.

    Recoveries count most: they go back, and what is written after one is newer than all before it.
    """
    try:
        return _progress(torch.load(path, map_location="cpu", weights_only=True, mmap=True))
    except Exception:  # damaged, or on a file system that maps no files: read it with its checksums
        return _progress(read(path))


def _progress(state: State) -> tuple[int, int, int]:
    recoveries = len(state.get("recovery", {}).get("causes", ()))
    return recoveries, int(state.get("epoch", 0)), int(state.get("updates", 0))


def save(state: Mapping[str, Any], path: Path) -> None:
    """Write a checkpoint to ``path``, with its format; use it within ``durable.write``.

    Raises:
        OSError: it cannot be written, with the system's own reason (disk full, ...).
    """
    with path.open("wb") as file:
        written = _Written(file)
        try:
            torch.save({**state, "format": FORMAT}, written)  # type: ignore[arg-type]  # it needs ``write`` alone
        except RuntimeError as error:
            if written.error is None:
                raise
            raise written.error from error


def on_cpu(value: Any) -> Any:
    """A copy of nested plain containers with every tensor copied to the CPU."""
    if isinstance(value, Tensor):
        return value.detach().cpu().clone()
    if isinstance(value, Mapping):
        return {key: on_cpu(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(on_cpu(entry) for entry in value)
    return value


class _Written:
    """An open file that remembers why it could not be written to; ``torch.save`` hides it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        try:
            return self._file.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        try:
            self._file.flush()
        except OSError as error:
            self.error = error
            raise
