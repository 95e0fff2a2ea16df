"""A trial's checkpoints: the files, the folder that keeps them, the mirror of it."""

from hpo.training.checkpoints.file import FORMAT, read
from hpo.training.checkpoints.folder import (
    BEST,
    LAST,
    PREVIOUS,
    START,
    CheckpointFolder,
    check_fits,
    find_best,
    kept_epochs,
    kept_name,
    load_weights,
    write_atomically,
)

__all__ = [
    "BEST",
    "FORMAT",
    "LAST",
    "PREVIOUS",
    "START",
    "CheckpointFolder",
    "check_fits",
    "find_best",
    "kept_epochs",
    "kept_name",
    "load_weights",
    "read",
    "write_atomically",
]
