"""How well text is predicted: loss, perplexity and accuracy by token, and BLEU of what is generated.

Tokens are counted as sums that add up, so that a long text weighs more than a short one
and batches weigh nothing. Sequence classification is judged by ``classification``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

PADDING = -100  # the target of a position that does not count; PyTorch's and transformers' own
LARGEST_EXPONENT = 100.0
NAMES = ("loss", "perplexity", "token_accuracy")
HIGHER_IS_BETTER = frozenset({"token_accuracy", "bleu"})


@dataclass(frozen=True)
class TokenTally:
    """Sums over tokens; add those of all batches, then ask for ``metrics``.

    ``loss_sum`` is in nats. A vocabulary's logits for a whole split need not fit in memory.
    """

    loss_sum: float = 0.0
    correct: int = 0
    tokens: int = 0

    @classmethod
    def of(cls, logits: Tensor, targets: Tensor, *, ignore_index: int = PADDING) -> TokenTally:
        """The sums of one batch.

        Args:
            logits: (..., vocabulary), before softmax; position i predicts ``targets[i]``,
                so a causal model's have been shifted by the caller.
            targets: (...) token ids; ``ignore_index`` does not count.

        Raises:
            ValueError: the shapes do not fit.
        """
        from torch.nn.functional import cross_entropy

        if logits.shape[:-1] != targets.shape:
            raise ValueError(
                "Logits must have the targets' shape and the vocabulary after it; "
                f"got {tuple(logits.shape)} and {tuple(targets.shape)}."
            )
        counts = targets != ignore_index
        said, wanted = logits[counts].float(), targets[counts]
        losses = cross_entropy(said, wanted, reduction="none")
        likeliest = said.max(dim=-1) if len(wanted) else None
        correct = 0 if likeliest is None else int(((likeliest.indices == wanted) & ~likeliest.values.isnan()).sum())
        return cls(float(losses.double().sum()), correct, len(wanted))

    def __add__(self, other: TokenTally) -> TokenTally:
        return TokenTally(self.loss_sum + other.loss_sum, self.correct + other.correct, self.tokens + other.tokens)

    def metrics(self, prefix: str = "") -> dict[str, float]:
        """``NAMES``, each with ``prefix``: nats per token; its exp; share of tokens in [0, 1].

        The exponent of the perplexity is capped at ``LARGEST_EXPONENT``. All NaN without a
        token; loss and perplexity are NaN where a logit is.
        """
        if self.tokens == 0:
            return {prefix + name: math.nan for name in NAMES}
        loss = self.loss_sum / self.tokens
        return {prefix + "loss": loss, prefix + "perplexity": perplexity(loss),
                prefix + "token_accuracy": self.correct / self.tokens}  # fmt: skip


def token_metrics(
    logits: Tensor, targets: Tensor, prefix: str = "", *, ignore_index: int = PADDING
) -> dict[str, float]:
    """``TokenTally.metrics`` of a whole split at once; arguments and errors as ``TokenTally.of``."""
    return TokenTally.of(logits, targets, ignore_index=ignore_index).metrics(prefix)


def perplexity(loss: float) -> float:
    """exp of a loss in nats per token, the exponent capped at ``LARGEST_EXPONENT``; NaN of NaN."""
    return math.nan if math.isnan(loss) else math.exp(min(loss, LARGEST_EXPONENT))


def bleu(generated: Sequence[str], references: Sequence[str], prefix: str = "") -> dict[str, float]:
    """``bleu`` of the whole corpus, 0 to 100, with ``prefix``; NaN without a text.

    sacrebleu's default (Post 2018, https://aclanthology.org/W18-6319; 13a tokens, exponential
    smoothing). torchmetrics' ``sacre_bleu_score`` knows no such smoothing: it gives 0 as long
    as no four words in a row are right, as in the first epochs of any small model.

    Args:
        generated, references: equally many plain texts, one reference each.

    Raises:
        ValueError: their numbers differ.
    """
    if len(generated) != len(references):
        raise ValueError(f"Every generated text needs one reference; got {len(generated)} and {len(references)}.")
    if not generated:
        return {prefix + "bleu": math.nan}
    from sacrebleu import corpus_bleu

    return {prefix + "bleu": float(corpus_bleu(list(generated), [list(references)]).score)}
