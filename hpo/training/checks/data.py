"""Whether batches and samples are what a model can be trained on: finite, in range, of one shape.

Everything is looked at on the CPU, where an index out of range is an error that can be
told and not a device that answers no more.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from hpo.errors import HpoError
from hpo.training.batches import Batch, make_batches
from hpo.training.task import Split

BATCHES, SAMPLES = 10, 100
IGNORED = -100  # the label that PyTorch's losses leave out

_LARGE = 1e4
_BUDGET_S = 10.0  # for one check: loading may be slow
_CHUNK_BYTES = 64 * 2**20
Shapes = tuple[tuple[int, ...], ...]  # of one sample's parts
_CPU = torch.device("cpu")


class Fault(Exception):
    """A check failed; the message says what, where, and what to do."""

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.details = details


@dataclass
class Told:
    """What a check has to say when it does not fail."""

    message: str
    warnings: list[str] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)


def reason(error: BaseException) -> str:
    """An exception in one line."""
    text = " ".join(str(error).split())
    text = text if len(text) <= 400 else text[:397] + "..."
    if isinstance(error, (Fault, HpoError)):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def class_count(output: Tensor, target: Tensor) -> int | None:
    """How many classes an output has, when its whole-number target says which: (n, C, ...) and (n, ...).

    None for any other pair. The classes may be the last axis as well, as in (n, length, C).
    """
    if target.is_floating_point() or target.dtype == torch.bool or target.is_complex():
        return None
    shape = tuple(output.shape)
    axes = [axis for axis in range(1, output.ndim) if shape[:axis] + shape[axis + 1 :] == tuple(target.shape)]
    count = max((shape[axis] for axis in axes), default=1)
    return count if count > 1 else None


def check_batches(split: Split, batch_size: int, seed: int, classes: int | None) -> Told:
    """Ten batches of the first epoch, in the order in which training would see them.

    Raises:
        Fault: a batch cannot be made, holds NaN or infinity or a label out of range, or
            has other parts than the ones before.
    """
    numbered = _numbered(split)
    batches = make_batches(numbered, "training", batch_size, _CPU, seed=seed, shuffle=True)
    ranges = _Ranges()
    stream, looked, ends = batches.epoch(1), 0, time.monotonic() + _BUDGET_S
    wanted = min(BATCHES, len(batches))
    while looked < wanted and (looked == 0 or time.monotonic() < ends):
        name = f"training batch {looked + 1}"
        numbers, *parts = _next(stream, name, numbered.data)
        if len(parts) < 2:
            raise Fault(f"{name} must be inputs and a target; it has {len(parts)} part.")
        ranges.see(parts, name)
        _check_values(parts, classes, partial(_in_batch, name, numbers))
        looked += 1
    which = f"{looked} of {len(batches)}" if looked < len(batches) else f"all {looked}"
    rushed = f" (the rest was left out after {_BUDGET_S:g} s)" if looked < wanted else ""
    return Told(
        f"{which} training batches are finite: {ranges}{rushed}",
        ranges.warnings(),
        {"batches": looked, "ranges": ranges.facts(), "classes": classes},
    )


def check_samples(split: Split, name: str, batch_size: int, seed: int, classes: int | None) -> str:
    """A hundred random samples of a data set, or every row of tensors; how many, in words.

    Raises:
        Fault: there is none, one cannot be loaded, is not finite, has a label out of
            range, or a shape that does not go into a batch with the others.
    """
    if len(split) == 0:
        raise Fault(f"the {name} data is empty; check how it was split")
    if isinstance(split.data, tuple):
        return _check_rows(split.data, name, classes)
    generator = torch.Generator().manual_seed(seed)
    picked = torch.randperm(len(split), generator=generator)[:SAMPLES].tolist()
    first: tuple[int, Shapes] | None = None
    ends, looked = time.monotonic() + _BUDGET_S, 0
    for index in picked:
        if looked and time.monotonic() > ends:
            break
        parts = _loaded(split.data, index, name)
        own = (index, _shapes(parts))
        first = first or own
        _check_alike(split, first, own, name, batch_size)
        _check_values([part[None] for part in parts], classes, partial(_in_split, name, index))
        looked += 1
    return f"{looked} of {len(split)}" if looked < len(split) else f"all {looked}"


def _in_batch(name: str, numbers: Tensor, row: int) -> str:
    return f"{name}, sample {row} (sample {int(numbers[row])} of the training data)"


def _in_split(name: str, begin: int, row: int) -> str:
    return f"{name} sample {begin + row}"


def _check_rows(tensors: Batch, name: str, classes: int | None) -> str:
    rows = len(tensors[0])
    if any(len(tensor) != rows for tensor in tensors):
        raise Fault(f"the {name} tensors must have equal lengths; they have {[len(tensor) for tensor in tensors]}")
    step = max(1, _CHUNK_BYTES // max(1, max(tensor[:1].nbytes for tensor in tensors)))
    ends = time.monotonic() + _BUDGET_S
    for begin in range(0, rows, step):
        if begin and time.monotonic() > ends:
            return f"{begin} of {rows}"
        parts = [tensor[begin : begin + step] for tensor in tensors]
        _check_values(parts, classes, partial(_in_split, name, begin))
    return f"all {rows}"


def _check_alike(
    split: Split, first: tuple[int, Shapes], other: tuple[int, Shapes], name: str, batch_size: int
) -> None:
    """Other shapes are fine where they go into one batch all the same, as padded sequences do."""
    (a, usual), (b, shapes) = first, other
    if shapes == usual:
        return
    same_axes = [len(shape) for shape in shapes] == [len(shape) for shape in usual]
    if same_axes and (batch_size == 1 or _go_together(split, a, b)):
        return
    raise Fault(
        f"{name} sample {b} {_odd(shapes, usual)} (as sample {a} has); bring all samples to one shape, or drop it",
        sample=b,
    )


def _shapes(parts: Sequence[Tensor]) -> Shapes:
    return tuple(tuple(part.shape) for part in parts)


def _odd(shapes: Shapes, usual: Shapes) -> str:
    if len(shapes) != len(usual):
        return f"has {len(shapes)} parts, not {len(usual)}"
    i = next(i for i, (shape, other) in enumerate(zip(shapes, usual, strict=True)) if shape != other)
    return f"has {_part_name(i, len(shapes))} of shape {shapes[i]}, not {usual[i]}"


def _go_together(split: Split, a: int, b: int) -> bool:
    try:
        next(make_batches(replace(split, data=_Pair(split.data, a, b)), "paired", 2, _CPU).epoch(0))
    except Exception:  # that is the answer; what is wrong is said by the caller
        return False
    return True


def _next(stream: Any, name: str, data: Batch | Dataset[Any]) -> Batch:
    try:
        batch: Batch = next(stream)
    except Fault:
        raise
    except Exception as error:
        odd = data.odd_one() if isinstance(data, _Numbered) else None
        if odd is not None:
            index, told = odd
            raise Fault(
                f"{name} cannot be made: sample {index} of the data {told}. Bring all samples to one shape, or drop it",
                sample=index,
            ) from error
        raise Fault(f"{name} cannot be made: {reason(error)}") from error
    return batch


def _check_values(parts: Sequence[Tensor], classes: int | None, where: Callable[[int], str]) -> None:
    for i, part in enumerate(parts):
        if part.is_floating_point() or part.is_complex():
            _check_finite(part, _part_name(i, len(parts)), where)
    if classes is not None:
        _check_labels(parts[-1], classes, where)


def _check_finite(part: Tensor, name: str, where: Callable[[int], str]) -> None:
    bad = ~torch.isfinite(part)
    if not bad.any():
        return
    at = bad.nonzero()[0].tolist()
    more = int(bad.flatten(1).any(1).sum()) - 1 if bad.ndim > 1 else int(bad.sum()) - 1
    place = f" at {at[1:]}" if len(at) > 1 else ""
    value = part[tuple(at)].item()
    also = f"; {more} more samples there have such values" if more else ""
    raise Fault(
        f"{where(at[0])}: {name} holds {value}{place}{also}. Drop or mend what is not finite",
        value=str(value),
        position=at,
    )


def _check_labels(target: Tensor, classes: int, where: Callable[[int], str]) -> None:
    bad = (target != IGNORED) & ((target < 0) | (target >= classes))
    if not bad.any():
        return
    at = bad.nonzero()[0].tolist()
    value = int(target[tuple(at)])
    place = f" at {at[1:]}" if len(at) > 1 else ""
    raise Fault(
        f"{where(at[0])}: the label is {value}{place}; with {classes} outputs a label is 0 to {classes - 1}, or "
        f"{IGNORED} to be ignored. Mend the labels, or give the model as many outputs as there are classes",
        value=value,
        position=at,
    )


class _Ranges:
    """Smallest and largest value of every part, and the shapes they came in."""

    def __init__(self) -> None:
        self._low: list[float] = []
        self._high: list[float] = []
        self._shapes: list[set[tuple[int, ...]]] = []
        self._kinds: list[tuple[torch.dtype, int]] = []
        self._samples = 0

    def see(self, parts: Sequence[Tensor], name: str) -> None:
        kinds = [(part.dtype, part.ndim) for part in parts]
        if not self._kinds:
            self._kinds = kinds
            self._low, self._high = [float("inf")] * len(parts), [float("-inf")] * len(parts)
            self._shapes = [set() for _ in parts]
        if kinds != self._kinds:
            raise Fault(f"{name} has parts (type, axes) {_spoken(kinds)}; the ones before have {_spoken(self._kinds)}")
        self._samples += len(parts[0])
        for i, part in enumerate(parts):
            self._shapes[i].add(tuple(part.shape[1:]))
            if part.numel() and not part.is_complex():
                low, high = torch.aminmax(part)
                self._low[i], self._high[i] = min(self._low[i], float(low)), max(self._high[i], float(high))

    def warnings(self) -> list[str]:
        told = []
        last = len(self._kinds) - 1
        for i, (low, high) in enumerate(zip(self._low, self._high, strict=True)):
            name, real = _part_name(i, last + 1), self._kinds[i][0].is_floating_point
            is_full_mask = i != last and low == high == 1  # of what is there, with nothing missing
            if low == high and self._samples > 1 and (real or i == last) and not is_full_mask:
                told.append(f"{name} is {low:g} in every sample: nothing can be learnt from it")
            largest = low if -low > high else high
            if real and abs(largest) > _LARGE:
                told.append(f"{name} reaches {largest:g}; values above {_LARGE:g} make training unstable: normalise it")
        return told

    def facts(self) -> dict[str, list[float]]:
        names = [_part_name(i, len(self._kinds)) for i in range(len(self._kinds))]
        return dict(zip(names, ([*pair] for pair in zip(self._low, self._high, strict=True)), strict=True))

    def __str__(self) -> str:
        told = [f"{name} {low:.4g} to {high:.4g}" for name, (low, high) in self.facts().items()]
        varying = [_part_name(i, len(self._shapes)) for i, shapes in enumerate(self._shapes) if len(shapes) > 1]
        return ", ".join(told) + (f"; {' and '.join(varying)} of varying length" if varying else "")


def _spoken(kinds: Sequence[tuple[torch.dtype, int]]) -> str:
    return ", ".join(f"({str(dtype).removeprefix('torch.')}, {axes})" for dtype, axes in kinds)


def _part_name(i: int, parts: int) -> str:
    if i == parts - 1:
        return "the target"
    return "the input" if parts == 2 else f"input {i + 1}"


def _loaded(data: Dataset[Any], index: int, name: str) -> list[Tensor]:
    try:
        item = data[index]
    except (Exception, SystemExit) as error:
        raise Fault(
            f"{name} sample {index} cannot be loaded: {reason(error)}. Mend or drop it", sample=index
        ) from error
    if not isinstance(item, (tuple, list)) or len(item) < 2:
        raise Fault(
            f"{name} sample {index} must be a tuple of inputs and a target; it is a {type(item).__name__}"
            + (f" of {len(item)}" if isinstance(item, (tuple, list)) else ""),
            sample=index,
        )
    try:
        return [torch.as_tensor(part) for part in item]
    except (TypeError, ValueError, RuntimeError) as error:
        kinds = ", ".join(type(part).__name__ for part in item)
        raise Fault(
            f"{name} sample {index} must hold tensors or numbers; it holds {kinds} ({reason(error)})", sample=index
        ) from error


def _numbered(split: Split) -> Split:
    """The same data with every sample's number as its first part."""
    if isinstance(split.data, tuple):
        return Split((torch.arange(len(split)), *split.data))
    return Split(_Numbered(split.data), collate=partial(_collate_numbered, split.collate or default_collate))


def _collate_numbered(collate: Callable[..., Batch], items: Sequence[tuple[Any, ...]]) -> Batch:
    return torch.tensor([number for number, *_ in items]), *collate([tuple(parts) for _, *parts in items])


class _Numbered(Dataset[Any]):
    """Items that begin with their own number; the shapes of all that were given are remembered."""

    def __init__(self, data: Dataset[Any]) -> None:
        self._data = data
        self._shapes: dict[int, Shapes] = {}

    def __len__(self) -> int:
        return len(self._data)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> tuple[int | Tensor, ...]:
        parts = _loaded(self._data, index, "training")
        self._shapes[index] = _shapes(parts)
        return (index, *parts)

    def odd_one(self) -> tuple[int, str] | None:
        """Among the items given so far, one whose shapes are not those of most, and how it differs."""
        counts = Counter(self._shapes.values())
        usual = counts.most_common(1)[0][0] if counts else ()
        for index, shapes in self._shapes.items():
            if shapes != usual:
                return index, _odd(shapes, usual)
        return None


class _Pair(Dataset[Any]):
    """Two items of a data set."""

    def __init__(self, data: Any, a: int, b: int) -> None:
        self._data, self._picked = data, (a, b)

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> Any:
        return self._data[self._picked[index]]
