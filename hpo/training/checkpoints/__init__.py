"""A trial's checkpoints: the files, the folder that keeps them, the mirror of it."""

from hpo.training.checkpoints.file import FORMAT, read
from hpo.training.checkpoints.folder import (
    BEST,
    LAST,
    PREVIOUS,
    START,
    CheckpointFolder,
    check_fits,
    epoch_of,
    find_best,
    kept_epochs,
    kept_name,
    load_weights,
    write_atomically,
)
from hpo.training.checkpoints.pruned import PRUNED, note_pruned, why_pruned

__all__ = [
    "BEST",
    "FORMAT",
    "LAST",
    "PREVIOUS",
    "PRUNED",
    "START",
    "CheckpointFolder",
    "check_fits",
    "epoch_of",
    "find_best",
    "kept_epochs",
    "kept_name",
    "load_weights",
    "note_pruned",
    "read",
    "why_pruned",
    "write_atomically",
]
