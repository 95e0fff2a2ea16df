"""From texts to a shipped model's inputs, and from its logits to tokens and classes. No torch, no transformers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hpo.errors import BundleError, DataError, UserError
from hpo.evaluation.language import perplexity
from objectives.language_modeling.framing import INPUTS, Framing
from objectives.language_modeling.texts import KINDS, Document, stream
from objectives.language_modeling.tokens import FILE
from objectives.prediction import Arrays, Rows
from objectives.preparing import kept, told_classes

if TYPE_CHECKING:
    from tokenizers import Tokenizer

LISTED = 5  # tokens, the likeliest first
Ids = Sequence[int]


@dataclass(frozen=True)
class _Asked:
    """One sequence: its id, its tokens, those of the target without its end, and how many of the text were left out."""

    id: str
    ids: Ids
    target: Ids
    left_out: int


@dataclass(frozen=True)
class TextPreparation:
    """For a model whose tokens ``tokenizer`` makes; ``text_column`` and ``target_column`` as in training."""

    tokenizer: Tokenizer
    framing: Framing
    text_column: str
    target_column: str
    classes: Sequence[str]
    suffixes: tuple[str, ...] = KINDS

    @classmethod
    def of(cls, facts: Mapping[str, Any], assets: Path) -> TextPreparation:
        """
        Raises:
            BundleError: the facts or assets are those of an older export. UserError: tokenizers is not installed.
        """
        columns = kept(facts, "columns")
        framing = Framing(**kept(facts, "framing"))
        return cls(_tokenizer(assets / FILE), framing, columns["text"], columns["target"], kept(facts, "classes"))

    @property
    def accepts(self) -> str:
        """For people."""
        masks = f" with {self._word(self.framing.mask)} where a token is missing" if self._fills else ""
        target = f", the target so far in {self.target_column!r}" if self._writes else ""
        return (
            f"texts{masks}: in a .txt or .md file with empty lines between them, or in the column "
            f"{self.text_column!r}{target}; or a folder of such files"
        )

    def read(self, path: Path, rows: int) -> Iterator[Rows]:
        """Texts in their order, a long one in pieces as in training, each a row; none is too short here."""
        documents = stream(path, self.text_column, self.target_column if self._writes else None)
        asked = (one for document in documents for one in self._asked(document))
        while some := list(islice(asked, rows)):
            ids, padding = [one.ids for one in some], self.framing.padding
            targets = [(self.framing.decoder_start, *one.target) for one in some]
            known = {
                "input_ids": _padded(ids, padding),
                "attention_mask": _padded([[1] * len(one) for one in ids], 0),
                "decoder_input_ids": _padded(targets, padding),
            }
            beside = {"left_out": np.array([one.left_out for one in some])}
            yield Rows([one.id for one in some], {name: known[name] for name in INPUTS[self.framing.task]}, beside)

    def tell(self, rows: Rows, outputs: Arrays) -> list[dict[str, Any]]:
        """How many tokens were read, and left out of a text that is too long; then as the task says.

        causal: mean nats of each token after those before it, perplexity, and what comes next. masked: the
        text with its masks filled. classification: the class. encoder_decoder: loss and perplexity of the
        target where there is one, its end included, and what comes next in it.
        """
        logits, ids = outputs["logits"], rows.inputs["input_ids"]
        counts = rows.inputs["attention_mask"].sum(1)
        left_out = rows.beside.get("left_out", np.zeros_like(counts))
        read = [{"tokens": int(n), "left_out": int(k)} for n, k in zip(counts, left_out, strict=True)]
        if self.framing.task == "classification":
            said = told_classes(logits, self.classes)
        elif self._fills:
            said = [self._filled(own[:n], row) for own, n, row in zip(ids, counts, logits, strict=True)]
        elif self._writes:
            said = list(map(self._written, rows.inputs["decoder_input_ids"], logits))
        else:
            said = [
                self._continued(own[1:n].tolist(), row[:n]) for own, n, row in zip(ids, counts, logits, strict=True)
            ]
        return [one | other for one, other in zip(read, said, strict=True)]

    @property
    def _fills(self) -> bool:
        return self.framing.task == "masked"

    @property
    def _writes(self) -> bool:
        return self.framing.task == "encoder_decoder"

    def _asked(self, document: Document) -> Iterator[_Asked]:
        ids, framing = self._ids(document.text), self.framing
        if self._fills and framing.mask not in ids:
            raise DataError(
                f"The text {document.id} must have a {self._word(framing.mask)} for the model to fill; it has none."
            )
        target = framing.pieces(self._ids(document.target or ""))[0] if self._writes else ()
        pieces = framing.pieces(ids)
        for number, piece in enumerate(pieces, 1):
            if not self._fills or framing.mask in piece:
                id = document.id if len(pieces) == 1 else f"{document.id} part {number}"
                left_out = max(0, len(ids) - sum(map(len, pieces)))
                yield _Asked(id, framing.sequence(piece), target, left_out)

    def _filled(self, ids: NDArray[Any], logits: NDArray[Any]) -> dict[str, Any]:
        """``ids`` (L,) and ``logits`` (L or more, V) of one text."""
        places = np.flatnonzero(ids == self.framing.mask)
        found = ids.copy()
        found[places] = logits[places].argmax(-1)
        return {
            "filled": self.tokenizer.decode(found.tolist()),
            "masks": [self._likeliest(log_softmax(logits[place])) for place in places],
        }

    def _written(self, ids: NDArray[Any], logits: NDArray[Any]) -> dict[str, Any]:
        """``ids`` (T,) of a target so far, padding after it, and ``logits`` (T, V)."""
        count = 1 + int(np.flatnonzero(ids[1:] != self.framing.padding).max(initial=-1) + 1)
        target = ids[1:count].tolist()
        end = [] if self.framing.eos is None or not target else [self.framing.eos]
        return self._continued([*target, *end], logits[:count])

    def _continued(self, then: Ids, logits: NDArray[Any]) -> dict[str, Any]:
        """What stands after ``logits`` (n, V), of which the first belong to ``then``: its loss, and what comes last."""
        shares = log_softmax(logits)
        loss = float(-shares[np.arange(len(then)), list(then)].mean()) if len(then) else None
        likeliest = self._likeliest(shares[-1])
        return {
            "loss": loss,
            "perplexity": None if loss is None else perplexity(loss),
            "next": likeliest[0]["token"],
            "next_probability": likeliest[0]["probability"],
            "likeliest": likeliest,
        }

    def _likeliest(self, shares: NDArray[Any]) -> list[dict[str, Any]]:
        """The likeliest tokens of log probabilities (V,)."""
        order = np.argsort(-shares, kind="stable")[:LISTED]
        return [{"token": self._word(int(k)), "probability": float(np.exp(shares[k]))} for k in order]

    def _ids(self, text: str) -> list[int]:
        found: list[int] = self.tokenizer.encode(text, add_special_tokens=False).ids
        return found

    def _word(self, token: int | None) -> str:
        """A token as text; of one that is a part of a character its name."""
        if token is None:
            return ""
        text = self.tokenizer.decode([token], skip_special_tokens=False)
        return text if text and "\ufffd" not in text else self.tokenizer.id_to_token(token) or str(token)


def log_softmax(logits: NDArray[Any]) -> NDArray[np.float64]:
    """Natural logarithms of probabilities over the last axis."""
    shifted = np.asarray(logits, dtype=np.float64)
    shifted = shifted - shifted.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def _padded(rows: Sequence[Ids], padding: int) -> NDArray[np.int64]:
    """(rows, the longest) with ``padding`` at the ends."""
    found = np.full((len(rows), max(map(len, rows))), padding, dtype=np.int64)
    for row, ids in zip(found, rows, strict=True):
        row[: len(ids)] = ids
    return found


def _tokenizer(file: Path) -> Tokenizer:
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise UserError("Reading texts needs the package tokenizers: pip install tokenizers") from error
    if not file.is_file():
        raise BundleError(
            f"The bundle has no {file.parent.name}/{file.name}: an older hpo exported it, or its tokenizer cannot "
            "be shipped. Give an .npz with the model's inputs by name."
        )
    found = Tokenizer.from_file(str(file))
    found.no_truncation()
    found.no_padding()
    return found
