"""The tokenizer: the model's own where it has one, else a BPE trained on the training texts. No torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpo.errors import DataError
from objectives.language_modeling.fields import Fields
from objectives.language_modeling.presets import PRESETS

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

PAD, UNKNOWN, START, END, MASK = "<pad>", "<unk>", "<s>", "</s>", "<mask>"
FILE = "tokenizer.json"
SPECIALS = (PAD, UNKNOWN, START, END, MASK)
_FEW = 0.5  # of the embedding's rows


def tokenizer_for(fields: Fields, texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """The tokenizer of the model's folder or hub page; for a preset one trained on ``texts``.

    Raises:
        DataError: the model has none, or it lacks a token that the task needs.
    """
    if fields.model in PRESETS:
        return _trained(texts, fields.vocabulary)
    from transformers import AutoTokenizer

    try:
        found: Any = AutoTokenizer.from_pretrained(fields.model)
    except (OSError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"data: model {fields.model!r} has no usable tokenizer: {reason}") from error
    if found.pad_token_id is None:
        found.pad_token = found.eos_token  # what is padded is masked, so any token will do
    if found.pad_token_id is None:
        raise DataError(f"data: the tokenizer of {fields.model!r} needs a padding or an end token; it has neither.")
    if fields.goal == "masked" and found.mask_token_id is None:
        raise DataError(f"data: the tokenizer of {fields.model!r} needs a mask token for the task masked.")
    return found


def _trained(texts: Iterable[str], vocabulary: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE (Sennrich et al. 2016, arXiv 1508.07909; on bytes as GPT-2's) from the library tokenizers."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE(unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(SPECIALS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=PAD, unk_token=UNKNOWN, bos_token=START, eos_token=END,
        cls_token=START, sep_token=END, mask_token=MASK,
    )  # fmt: skip


def embedding_rows(fields: Fields, tokens: int) -> tuple[int, str | None]:
    """Rows of the model's embedding for a tokenizer of so many ``tokens``, and a warning where far fewer are used.

    Raises:
        DataError: there are more tokens than rows.
    """
    if fields.model in PRESETS:
        return tokens, None
    config = fields.config
    rows = int(config.get("vocab_size") or config.get("text_config", {}).get("vocab_size") or tokens)
    if tokens > rows:
        raise DataError(
            f"data: the tokenizer of {fields.model!r} has {tokens} tokens, and the model's embedding {rows} rows; "
            "every token needs a row. Use the tokenizer that belongs to the model."
        )
    if tokens < _FEW * rows:
        return rows, f"The tokenizer has {tokens} tokens for {rows} rows of the embedding: most are never trained."
    return rows, None


def assets(tokenizer: PreTrainedTokenizerFast) -> Callable[[Path], None] | None:
    """Leaves the tokenizer in a folder as the library tokenizers reads it; None for one that is not of that library."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    return None if backend is None else lambda folder: backend.save(str(folder / FILE))
