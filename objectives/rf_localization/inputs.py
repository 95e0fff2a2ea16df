"""The model's inputs from the features of recordings. No torch."""

from __future__ import annotations

import numpy as np

from objectives.rf_localization.data import ABSENT
from objectives.rf_localization.features import FLOOR_DB

INPUTS = ("features_db", "sites", "present")
Inputs = tuple[np.ndarray, np.ndarray, np.ndarray]


def assembled(features: np.ndarray, recording: np.ndarray, sites: np.ndarray) -> Inputs:
    """The ``INPUTS`` of n events, each heard by R receivers: (nW, R, 3, M, 32), (nW, R, 2) and (nW, R) float32.

    Args:
        features: (N, W, 3, M, 32) of N recordings in W windows; every window is an example of its own.
        recording: (n, R), a row of ``features``, or ``ABSENT``.
        sites: (n, R, 2), normalised.
    """
    windows, present = features.shape[1], recording != ABSENT
    found = np.full((*recording.shape, *features.shape[1:]), FLOOR_DB, dtype=np.float32)
    found[present] = features[recording[present]]
    spread = np.moveaxis(found, 2, 1).reshape(-1, recording.shape[1], *features.shape[2:])
    return spread, repeated(sites, windows), repeated(present, windows)


def repeated(values: np.ndarray, windows: int) -> np.ndarray:
    """What belongs to an event, (n, ...), beside each of its examples: (nW, ...) float32."""
    return np.repeat(values, windows, axis=0).astype(np.float32)
