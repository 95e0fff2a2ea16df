import random

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset
from training_kit import regression

from hpo.errors import TrialFailed
from hpo.training.batches import Batches, Loading, make_batches
from hpo.training.seeds import preserved_rng, rng_state, seed_everything, set_rng_state
from hpo.training.task import Split

CPU = torch.device("cpu")


class Pairs(Dataset[tuple[Tensor, Tensor]]):
    """The same numbers as a map-style data set; noise from the global generators on request."""

    def __init__(self, tensors: tuple[Tensor, Tensor], noise: bool = False) -> None:
        self.tensors, self.noise = tensors, noise

    def __len__(self) -> int:
        return len(self.tensors[0])

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        x, y = (tensor[index] for tensor in self.tensors)
        if self.noise:
            x = x + torch.rand(()) + random.random() + np.random.rand()
        return x.float(), y


def epoch_of(batches: Batches, epoch: int) -> Tensor:
    return torch.cat([batch[0] for batch in batches.epoch(epoch)])


def test_every_sample_comes_once_an_epoch_with_its_target() -> None:
    x, y = regression(300)
    batches = make_batches(Split((x, y)), "training", 7, CPU, seed=1, shuffle=True)
    got = list(batches.epoch(1))
    assert len(got) == len(batches) == 43
    assert [len(batch[0]) for batch in got] == [7] * 42 + [6]
    torch.testing.assert_close(torch.cat([b[0] for b in got]).sum(1, keepdim=True), torch.cat([b[1] for b in got]))
    assert torch.equal(torch.cat([b[0] for b in got])[:, 0].sort().values, x[:, 0].sort().values)


def test_the_order_depends_on_seed_and_epoch_and_on_nothing_else() -> None:
    split = Split(regression(50))
    batches = make_batches(split, "training", 8, CPU, seed=1, shuffle=True)
    first = epoch_of(batches, 1)
    torch.manual_seed(99)
    again = make_batches(split, "training", 16, CPU, seed=1, shuffle=True)
    assert torch.equal(epoch_of(again, 1), first)
    assert not torch.equal(epoch_of(again, 2), first)
    assert not torch.equal(epoch_of(make_batches(split, "training", 8, CPU, seed=2, shuffle=True), 1), first)


def test_a_data_set_is_batched_in_the_same_order_as_tensors_in_memory() -> None:
    tensors = regression(30)
    in_memory = make_batches(Split(tensors), "training", 8, CPU, seed=1, shuffle=True)
    loaded = make_batches(Split(Pairs(tensors)), "training", 8, CPU, seed=1, shuffle=True)
    assert len(loaded) == len(in_memory)
    assert torch.equal(epoch_of(loaded, 3), epoch_of(in_memory, 3))


@pytest.mark.parametrize("persistent", [True, False])
def test_workers_draw_the_same_noise_whenever_an_epoch_is_repeated(persistent: bool) -> None:
    def loaded(workers: int) -> Batches:
        loading = Loading(workers=workers, persistent=persistent)
        split = Split(Pairs(regression(12), noise=True))
        return make_batches(split, "training", 4, CPU, seed=1, shuffle=True, loading=loading)

    batches = loaded(1)
    first = epoch_of(batches, 2)
    seed_everything(123)
    state = rng_state(CPU)["torch"]
    assert torch.equal(epoch_of(batches, 2), first)
    assert torch.equal(rng_state(CPU)["torch"], state)  # nothing was drawn here
    assert not torch.equal(epoch_of(batches, 3).sort(0).values, first.sort(0).values)
    assert torch.equal(epoch_of(loaded(2), 2), first)  # whoever loads it


@pytest.mark.parametrize("workers", [None, 0, 2])
def test_an_epoch_goes_on_from_any_batch_with_the_same_batches(workers: int | None) -> None:
    data = regression(300) if workers is None else Pairs(regression(300), noise=workers > 0)
    loading = Loading(workers=workers or 0)
    batches = make_batches(Split(data), "training", 7, CPU, seed=1, shuffle=True, loading=loading)
    whole = [batch[0] for batch in batches.epoch(2)]
    for start in (1, 5, 42):
        rest = [batch[0] for batch in batches.epoch(2, start=start)]
        assert len(rest) == 43 - start
        assert all(torch.equal(a, b) for a, b in zip(rest, whole[start:], strict=True))
    assert list(batches.epoch(2, start=43)) == []


@pytest.mark.parametrize("loaded", [False, True])
def test_a_limit_leaves_so_many_whole_batches(loaded: bool) -> None:
    data = Pairs(regression(30)) if loaded else regression(30)
    split, limited = Split(data), Loading(limit=2)
    batches = make_batches(split, "training", 8, CPU, seed=1, shuffle=True, loading=limited)
    assert [len(batch[0]) for batch in batches.epoch(1)] == [8, 8]
    assert (len(batches), batches.samples) == (2, 16)
    more = make_batches(split, "training", 8, CPU, seed=1, shuffle=True, loading=Loading(limit=9))
    assert [len(batch[0]) for batch in more.epoch(1)] == [8, 8, 8, 6]


def test_a_batch_larger_than_the_data_is_one_partial_batch() -> None:
    batches = make_batches(Split(regression(5)), "training", 64, CPU, shuffle=True)
    assert [len(batch[0]) for batch in batches.epoch(1)] == [5]


def test_empty_or_ragged_data_are_refused_with_the_numbers() -> None:
    x, y = regression(5)
    with pytest.raises(TrialFailed, match="training data must hold at least one sample"):
        make_batches(Split((x[:0], y[:0])), "training", 4, CPU)
    with pytest.raises(TrialFailed, match=r"lengths \[5, 4\]"):
        make_batches(Split((x, y[:4])), "validation", 4, CPU)


def test_generators_are_put_back_exactly() -> None:
    def draw() -> tuple[float, float, float, float]:
        return random.random(), random.gauss(0, 1), float(np.random.randn()), float(torch.rand(()))

    seed_everything(5)
    draw()  # leaves Python and NumPy with half of a Gaussian pair
    state = rng_state(CPU)
    with preserved_rng(CPU):
        first = draw()
    assert draw() == first
    set_rng_state(state, CPU)
    assert draw() == first
