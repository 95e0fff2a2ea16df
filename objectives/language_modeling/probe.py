"""What the model writes: BLEU of a fixed number of held-out texts, once an epoch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hpo.evaluation.language import bleu
from hpo.trial import Metrics
from objectives.language_modeling.batches import Collate, Texts, start_token
from objectives.language_modeling.data import Corpus, Sample
from objectives.language_modeling.model import greedy, greedy_targets


@dataclass(frozen=True)
class Writing:
    """Prompts with what really follows; ``probe(model)`` gives ``val_bleu``.

    Of a text the first tokens are the prompt and the next ones the reference; for an
    encoder–decoder the whole text is, and the first tokens of its target.
    """

    corpus: Corpus
    samples: tuple[Sample, ...]

    @classmethod
    def of(cls, corpus: Corpus, samples: Sequence[Sample]) -> Writing | None:
        """Over the first texts that are long enough; None where the task writes nothing, or none is."""
        fields = corpus.fields
        if fields.goal == "causal":
            needed = fields.bleu_prompt + fields.bleu_reference
            able = [sample for sample in samples if len(sample.ids) >= needed]
        elif fields.goal == "encoder_decoder":
            able = list(samples)
        else:
            return None
        chosen = tuple(able[: fields.bleu_texts])
        return cls(corpus, chosen) if chosen else None

    def __call__(self, model: nn.Module) -> Metrics:
        device = next(model.parameters()).device
        written, references = self._written(model, device)
        decode = self.corpus.tokenizer.batch_decode
        return bleu(decode(written.tolist(), skip_special_tokens=True),
                    decode(references, skip_special_tokens=True), prefix="val_")  # fmt: skip

    def _written(self, model: nn.Module, device: torch.device) -> tuple[Tensor, list[list[int]]]:
        fields = self.corpus.fields
        if fields.goal == "causal":
            start, end = fields.bleu_prompt, fields.bleu_prompt + fields.bleu_reference
            prompts = torch.tensor([sample.ids[:start] for sample in self.samples], device=device)
            return greedy(model, prompts, fields.bleu_reference), [list(s.ids[start:end]) for s in self.samples]
        texts = Texts(self.samples, self.corpus)
        ids, mask, *_ = (part.to(device) for part in Collate(self.corpus)([texts[i] for i in range(len(texts))]))
        found = greedy_targets(model, ids, mask, start_token(self.corpus), fields.bleu_reference)
        return found, [list(sample.target[: fields.bleu_reference]) for sample in self.samples]
