"""Texts to token ids and back, by the library ``tokenizers``. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hpo.errors import DataError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

UNKNOWN = "[UNK]"


def write_tokenizer(path: Path, words: Sequence[str]) -> None:
    """A tokenizer with an id a word, for texts in lower case; 0 stands for all that it does not know."""
    _require_package()
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({UNKNOWN: 0, **{word: i for i, word in enumerate(words, 1)}}, UNKNOWN))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(path))


def read_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer of a ``tokenizer.json``.

    Raises:
        DataError: the package is absent, or the file is, or cannot be read.
    """
    _require_package()
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_str(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}. Planets with texts need a tokenizer.json beside them.") from error
    except Exception as error:  # the library raises bare Exceptions
        raise DataError(f"{path} cannot be read as a tokenizer of the library tokenizers: {error}") from error


def encode(tokenizer: Tokenizer, texts: Sequence[str | None], length: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Token ids (n, longest) int32 padded with 0, how many each text has (n,), and how many texts were cut.

    A text that is None has no token, and no text has more than ``length``.
    """
    encoded = [one.ids for one in tokenizer.encode_batch([text or "" for text in texts], add_special_tokens=False)]
    sizes = np.array([0 if text is None else len(ids) for ids, text in zip(encoded, texts, strict=True)])
    counts = np.minimum(sizes, length).astype(np.int32)
    ids = np.zeros((len(texts), max(1, int(counts.max(initial=0)))), np.int32)
    for row, (tokens, count) in enumerate(zip(encoded, counts.tolist(), strict=True)):
        ids[row, :count] = tokens[:count]
    return ids, counts, int((sizes > length).sum())


def _require_package() -> None:
    if find_spec("tokenizers") is None:
        raise DataError("Texts need the package tokenizers: pip install 'hpo[multimodal]'.")
