"""Samples as tensors, for each of the four tasks, and how they become a batch.

Labels are shifted here and not in the loss: label i is what position i has to say. A label
of -100 does not count. Axes: L tokens of a text, T tokens of a target.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from hpo.evaluation.language import PADDING
from hpo.trial import derive_seed
from objectives.language_modeling.data import Corpus, Sample
from objectives.language_modeling.framing import INPUTS, Framing

MASKED_SHARE = 0.15


class Texts(Dataset[tuple[Tensor, ...]]):
    """The items of one part: the model's inputs and the labels.

    ``fixed_seed``: masks are drawn anew each time an item is asked for, unless it is given.
    """

    def __init__(self, samples: Sequence[Sample], corpus: Corpus, fixed_seed: int | None = None) -> None:
        self._samples, self._task, self._fixed = samples, corpus.fields.goal, fixed_seed
        self._masking = Masking.of(corpus) if self._task == "masked" else None
        self._start = start_token(corpus)

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        sample = self._samples[index]
        ids = torch.tensor(sample.ids)
        if self._task == "causal":
            return ids[:-1], torch.ones(len(ids) - 1, dtype=torch.long), ids[1:]
        if self._masking is not None:
            generator = None if self._fixed is None else torch.Generator().manual_seed(derive_seed(self._fixed, index))
            shown, labels = self._masking(ids, generator)
            return shown, torch.ones_like(ids), labels
        if self._task == "classification":
            return ids, torch.ones_like(ids), torch.tensor(sample.label)
        labels = torch.tensor(sample.target)
        return ids, torch.ones_like(ids), torch.cat([torch.tensor([self._start]), labels[:-1]]), labels


@dataclass(frozen=True)
class Masking:
    """BERT's: of 15 % of the tokens 80 % become the mask, 10 % any token, 10 % stay (Devlin et al. 2018, arXiv
    1810.04805, section 3.1). Special tokens are left alone, and at least one token is chosen, so that every
    sequence has something to say."""

    mask: int
    tokens: int
    specials: tuple[int, ...]

    @classmethod
    def of(cls, corpus: Corpus) -> Masking:
        tokenizer: Any = corpus.tokenizer
        return cls(tokenizer.mask_token_id, len(tokenizer), tuple(tokenizer.all_special_ids))

    def __call__(self, ids: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """What is shown, and the labels, both (L,)."""
        free = ~torch.isin(ids, torch.tensor(self.specials))
        draws = torch.rand(len(ids), generator=generator).masked_fill(~free, 2.0)
        chosen = (draws < MASKED_SHARE) | (draws == draws.min())
        chosen &= free
        how = torch.rand(len(ids), generator=generator)
        others = torch.randint(self.tokens, (len(ids),), generator=generator)
        shown = torch.where(chosen & (how < 0.8), torch.tensor(self.mask), ids)
        shown = torch.where(chosen & (how >= 0.9), others, shown)
        return shown, torch.where(chosen, ids, torch.tensor(PADDING))


class Collate:
    """Pads each tensor of the items to the longest of the batch: ids with the padding token, masks with 0,
    labels with -100."""

    def __init__(self, corpus: Corpus) -> None:
        padding = int(corpus.tokenizer.pad_token_id)
        pads = {"input_ids": padding, "attention_mask": 0, "decoder_input_ids": padding}
        self._pads = [*(pads[name] for name in INPUTS[corpus.fields.goal]), PADDING]

    def __call__(self, items: Sequence[tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        return tuple(
            pad_sequence(list(column), batch_first=True, padding_value=pad) if column[0].ndim else torch.stack(column)
            for column, pad in zip(zip(*items, strict=True), self._pads, strict=True)
        )


def start_token(corpus: Corpus) -> int:
    """What a decoder begins with."""
    return Framing.of(corpus.fields, corpus.tokenizer).decoder_start
