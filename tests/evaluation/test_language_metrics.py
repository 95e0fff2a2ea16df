"""Token metrics against torchmetrics, PyTorch and by hand; BLEU against figures published elsewhere."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import cross_entropy
from torchmetrics.functional.classification import multiclass_accuracy
from torchmetrics.functional.text import perplexity as torchmetrics_perplexity
from torchmetrics.functional.text import sacre_bleu_score

from hpo.evaluation.language import TokenTally, bleu, perplexity, token_metrics


def made(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (6, 9, 30) and targets (6, 9), padded to very different lengths."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(6, 9, 30, generator=generator)
    targets = torch.randint(30, (6, 9), generator=generator)
    targets[0, 1:], targets[3, 5:] = -100, -100
    targets[1, :4] = logits[1, :4].argmax(-1)
    return logits, targets


def test_loss_perplexity_and_accuracy_equal_torch_and_torchmetrics() -> None:
    logits, targets = made()
    found = token_metrics(logits, targets, "val_")
    assert found["val_loss"] == pytest.approx(cross_entropy(logits.flatten(0, 1), targets.flatten()).item())
    expected = torchmetrics_perplexity(logits, targets, ignore_index=-100)
    assert found["val_perplexity"] == pytest.approx(expected.item(), rel=1e-5)
    accuracy = multiclass_accuracy(logits.flatten(0, 1), targets.flatten(), 30, average="micro", ignore_index=-100)
    assert found["val_token_accuracy"] == pytest.approx(accuracy.item())


def test_batches_weigh_by_their_tokens_whatever_their_number() -> None:
    logits, targets = made()
    whole = token_metrics(logits, targets)
    tally = TokenTally()
    for rows in (slice(0, 1), slice(1, 2), slice(2, 6)):
        tally += TokenTally.of(logits[rows], targets[rows])
    assert tally.tokens == 6 * 9 - 8 - 4
    assert tally.metrics() == pytest.approx(whole)
    unweighted = [token_metrics(logits[i : i + 1], targets[i : i + 1])["loss"] for i in range(6)]
    assert sum(unweighted) / 6 != pytest.approx(whole["loss"], rel=1e-3)


def test_the_exponent_of_a_perplexity_ends_at_100() -> None:
    assert perplexity(2.0) == pytest.approx(7.38905609893065)
    assert perplexity(100.5) == perplexity(1e9) == pytest.approx(2.6881171418161356e43)
    assert math.isnan(perplexity(math.nan))


def test_padding_alone_and_broken_logits() -> None:
    logits, targets = made()
    assert all(map(math.isnan, token_metrics(logits, torch.full_like(targets, -100)).values()))
    broken = torch.full((1, 2, 3), math.nan)
    found = token_metrics(broken, torch.zeros(1, 2, dtype=torch.long))
    assert math.isnan(found["loss"]) and math.isnan(found["perplexity"]) and found["token_accuracy"] == 0
    with pytest.raises(ValueError, match=r"got \(6, 9, 30\) and \(6, 8\)"):
        token_metrics(logits, targets[:, :8])


def test_half_precision_logits_are_summed_in_full() -> None:
    logits, targets = made()
    half = token_metrics(logits.bfloat16(), targets)
    assert half == token_metrics(logits.bfloat16().float(), targets)


REFERENCES = ["the cat is on the mat today", "a quick brown fox jumps over the dog"]
NEARLY = ["the cat is on the mat", "a quick brown fox jumped over the dog"]


def test_bleu_equals_another_implementation_where_no_smoothing_is_needed() -> None:
    expected = sacre_bleu_score(NEARLY, [[reference] for reference in REFERENCES])
    assert bleu(NEARLY, REFERENCES, "val_") == {"val_bleu": pytest.approx(100 * expected.item(), rel=1e-5)}
    assert bleu(REFERENCES, REFERENCES)["bleu"] == pytest.approx(100)


def test_bleu_by_hand_with_its_smoothing() -> None:
    # One text of 5 words, 4 of them right in pairs: precisions 4/5, 2/4, 0/3, 0/2; the zeros
    # become 1/(2*3) and 1/(4*2); equally long, so no brevity penalty.
    expected = 100 * (4 / 5 * 2 / 4 * 1 / 6 * 1 / 8) ** 0.25
    assert bleu(["a b x c d"], ["a b y c d"])["bleu"] == pytest.approx(expected)
    assert sacre_bleu_score(["a b x c d"], [["a b y c d"]]) == 0


def test_bleu_of_nothing_is_nan_and_unpaired_texts_are_refused() -> None:
    assert math.isnan(bleu([], [])["bleu"])
    assert bleu([""], ["a b"])["bleu"] == 0
    with pytest.raises(ValueError, match="got 2 and 1"):
        bleu(["a", "b"], ["a"])
