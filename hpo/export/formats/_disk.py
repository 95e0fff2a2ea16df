"""What the operating system said, out of what libraries make of it."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def system_errors(path: Path) -> Iterator[None]:
    """Turn an error of the safetensors library that the system caused back into that ``OSError`` for ``path``."""
    from safetensors import SafetensorError

    try:
        yield
    except SafetensorError as error:
        number = re.search(r"\(os error (\d+)\)", str(error))  # how Rust ends what the system said
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from error
