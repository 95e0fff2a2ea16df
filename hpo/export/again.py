"""Is a model that was trained a second time the one in a bundle?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from hpo.export.bundle import ModelBundle
from hpo.export.compare import compare
from hpo.export.example import StoredExample
from hpo.export.formats import safetensors
from hpo.export.forward import load_weights_strictly, predictor
from hpo.export.manifest import Comparison
from hpo.export.weights import weights_sha256
from hpo.training.task import Task


@dataclass(frozen=True)
class Sameness:
    """How the weights of a second training stand to those of a bundle.

    ``is_equal``: bit for bit, where the bundle tells its weights (``by_weights``); else its outputs on the
    stored rows are within its tolerance. ``n_equal`` of ``n_tensors`` are bit for bit the same, None where
    the bundle does not hold them. ``difference`` is the largest relative one of a tensor, |now - then| / |then|
    (Frobenius norms), at ``tensor``. ``outputs`` is the worst place on the stored rows.
    """

    is_equal: bool
    by_weights: bool
    n_tensors: int
    n_equal: int | None = None
    difference: float | None = None
    tensor: str | None = None
    outputs: Comparison | None = None


def held_against(bundle: ModelBundle, weights: Mapping[str, Tensor], task: Callable[[], Task]) -> Sameness:
    """Hold ``weights`` against those of ``bundle``: by their checksum, one by one, and by what they make of its rows.

    ``task`` is asked only where the outputs have to be compared; its model is changed.

    Raises:
        ExportFailed: the weights are another model's.
    """
    known = bundle.manifest.weights_sha256
    if known is not None and weights_sha256(weights) == known:
        return Sameness(True, True, len(weights), len(weights))
    stored = _stored(bundle)
    if stored is None:
        worst = _worst_output(bundle, weights, task())
        is_near = worst is None or (worst.bound_share is not None and worst.bound_share <= 1)
        return Sameness(known is None and is_near, known is not None, len(weights), outputs=worst)
    same, furthest = 0, (-1.0, "")
    for name in sorted(stored.keys() | weights.keys()):
        distance = _distance(stored.get(name), weights.get(name))
        same += distance == 0
        furthest = max(furthest, (distance, name))
    if known is None and same == len(stored):
        return Sameness(True, True, len(weights), same)
    worst = _worst_output(bundle, weights, task())
    return Sameness(False, True, len(weights), same, *furthest, outputs=worst)


def _stored(bundle: ModelBundle) -> dict[str, Tensor] | None:
    """The weights that ship as safetensors; None where they do not."""
    entry = bundle.manifest.formats.get("safetensors")
    if entry is None or not entry.released:
        return None
    from safetensors.torch import load_file

    return load_file(str(bundle.folder / "formats" / "safetensors" / safetensors.FILE))


def _distance(then: Tensor | None, now: Tensor | None) -> float:
    """|now - then| / |then|; infinite where there is nothing to compare, or a number is not finite."""
    if then is None or now is None or then.shape != now.shape:
        return float("inf")
    left, right = then.detach().cpu(), now.detach().cpu().to(then.dtype)  # a bundle's are fp32
    if torch.equal(left, right):
        return 0.0
    left, right = left.double(), right.double()
    norm = left.norm().item() or 1.0
    distance = (right - left).norm().item() / norm
    return distance if distance > 0 else float("inf")  # NaN is above nothing


def _worst_output(bundle: ModelBundle, weights: Mapping[str, Tensor], task: Task) -> Comparison | None:
    """None where every output is equal as it is."""
    load_weights_strictly(task.model, weights)
    predict = predictor(task.model, task.inputs, task.outputs)
    return compare(predict, StoredExample.load(bundle.folder), bundle.manifest.atol, bundle.manifest.rtol).comparison
