"""What the preparations of several objectives share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpo.errors import BundleError


def kept(facts: Mapping[str, Any], name: str) -> Any:
    """One of the facts that ship with a model.

    Raises:
        BundleError: it is not among them.
    """
    if name not in facts:
        raise BundleError(
            f"The model's facts have no {name!r}: an older hpo exported it, which kept less. Export it again, "
            "or give an .npz with the model's inputs by name."
        )
    return facts[name]


def slices(count: int, most: int) -> Iterator[slice]:
    """``count`` things in order, at most ``most`` at a time."""
    return (slice(first, min(first + most, count)) for first in range(0, count, most))


def told_classes(logits: NDArray[np.generic], classes: Sequence[str], most: int | None = None) -> list[dict[str, Any]]:
    """Of each row of (n, K) logits its class, the probability of it, and those of classes by name, likeliest first.

    Args:
        most: only so many classes are listed, as ``top_MOST``; None: all, as ``probabilities``.
    """
    shifted = np.asarray(logits, dtype=np.float64)
    shifted = np.exp(shifted - shifted.max(axis=1, keepdims=True))
    shares = shifted / shifted.sum(axis=1, keepdims=True)
    listed = "probabilities" if most is None else f"top_{most}"
    rows = []
    for row, order in zip(shares, np.argsort(-shares, axis=1, kind="stable")[:, :most], strict=True):
        likely = {classes[k]: float(row[k]) for k in order}
        name = classes[order[0]]
        rows.append({"class": name, "probability": likely[name], listed: likely})
    return rows
