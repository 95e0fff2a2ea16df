"""How the tokens of a text become a sequence that the model takes: the same in training and for new texts. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from objectives.language_modeling.fields import Fields
from objectives.language_modeling.presets import Task

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

INPUTS: Mapping[Task, tuple[str, ...]] = {
    "causal": ("input_ids", "attention_mask"),
    "masked": ("input_ids", "attention_mask"),
    "classification": ("input_ids", "attention_mask"),
    "encoder_decoder": ("input_ids", "attention_mask", "decoder_input_ids"),
}


@dataclass(frozen=True)
class Framing:
    """Sequences of ``max_length`` tokens at most, the special ones among them; ids of those, None where there is none.

    ``start`` and ``end`` stand around what a masked model or a classifier reads, ``eos`` after what an
    encoder–decoder reads and writes; a decoder begins with ``decoder_start``.
    """

    task: Task
    max_length: int
    padding: int
    decoder_start: int
    start: int | None
    end: int | None
    eos: int | None
    mask: int | None

    @classmethod
    def of(cls, fields: Fields, tokenizer: PreTrainedTokenizerFast) -> Framing:
        """A decoder begins with what its configuration says, else with the padding token, as T5 does."""
        given: Any = tokenizer
        began = fields.config.get("decoder_start_token_id")
        return cls(
            task=fields.goal,
            max_length=fields.max_length,
            padding=int(given.pad_token_id),
            decoder_start=int(given.pad_token_id if began is None else began),
            start=given.cls_token_id,
            end=given.sep_token_id,
            eos=given.eos_token_id,
            mask=given.mask_token_id,
        )

    @property
    def room(self) -> int:
        """How many of a text's own tokens a sequence has place for."""
        return self.max_length - (0 if self.task == "causal" else 2)

    def pieces(self, ids: Sequence[int]) -> list[Sequence[int]]:
        """A text's tokens, as many as go into each sequence; only the first where the task is of whole texts."""
        starts = range(0, len(ids), self.room) if self.task in ("causal", "masked") else (0,)
        return [ids[start : start + self.room] for start in starts]

    def sequence(self, piece: Sequence[int]) -> tuple[int, ...]:
        """A piece with the special tokens of its task."""
        if self.task == "causal":
            return tuple(piece)
        if self.task == "encoder_decoder":
            return (*piece, *_there(self.eos))
        return (*_there(self.start), *piece, *_there(self.end))


def _there(token: int | None) -> tuple[int, ...]:
    return () if token is None else (token,)
