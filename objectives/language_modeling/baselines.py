"""What simpler methods reach: counts of tokens and of pairs, and a linear model on words. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from hpo.evaluation.language import perplexity
from hpo.trial import Metrics, derive_seed
from objectives.language_modeling.data import Corpus, Sample, corpus, documents

TOKENS = ("unigram", "bigram")
CLASSES = ("majority", "linear")
Pair = tuple[int, int]  # the token before, and the token


def baselines(data: Mapping[str, Any], data_seed: int, part: str, names: Sequence[str]) -> dict[str, Metrics]:
    """Metrics of each named baseline on ``part``, ``val_`` or ``test_``, learnt from the training texts."""
    fields, _ = documents(data)
    if fields.goal == "classification":
        return {name: _classes(data, data_seed, part, name) for name in names}
    found = corpus(data, data_seed)
    return {name: _tokens(found, part, name) for name in names}


def _tokens(found: Corpus, part: str, name: str) -> Metrics:
    """Counts plus one (Laplace); pairs are mixed half and half with single tokens (Jelinek & Mercer 1980)."""
    train, judged = (_pairs(found, found.parts[p]) for p in ("train", part))
    single = np.bincount(train[:, 1], minlength=found.rows) + 1.0
    single /= single.sum()
    chance, likeliest = single[judged[:, 1]], np.full(len(judged), int(single.argmax()))
    if name == "bigram":
        pairs: dict[int, dict[int, int]] = {}
        for before, token in train.tolist():
            after = pairs.setdefault(before, {})
            after[token] = after.get(token, 0) + 1
        chance, likeliest = chance / 2, likeliest.copy()
        for row, (before, token) in enumerate(judged.tolist()):
            after = pairs.get(before, {})
            if after:
                chance[row] += 0.5 * after.get(token, 0) / sum(after.values())
                likeliest[row] = max(after, key=lambda one: (after[one], -one))
            else:
                chance[row] *= 2
    loss = float(-np.log(chance).mean())
    prefix = "test_" if part == "test" else "val_"
    accuracy = float((likeliest == judged[:, 1]).mean())
    return {f"{prefix}loss": loss, f"{prefix}perplexity": perplexity(loss), f"{prefix}token_accuracy": accuracy}


def _pairs(found: Corpus, samples: Sequence[Sample]) -> np.ndarray:
    """Every token that a model is asked for, with the one before it: (n, 2).

    Of a masked model those are the tokens that may be masked: all but the special ones.
    """
    specials = set(found.tokenizer.all_special_ids) if found.fields.goal == "masked" else set()
    pairs: list[Pair] = []
    for sample in samples:
        ids = (-1, *sample.target) if found.fields.goal == "encoder_decoder" else sample.ids
        pairs += [pair for pair in pairwise(ids) if pair[1] not in specials]
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)


def _classes(data: Mapping[str, Any], data_seed: int, part: str, name: str) -> Metrics:
    """The shares of the classes; or logistic regression on TF–IDF of words."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import accuracy_score, f1_score, log_loss
    from sklearn.pipeline import make_pipeline

    found = corpus(data, data_seed)
    _, texts = documents(data)
    kept = {p: [texts[sample.document] for sample in found.parts[p]] for p in ("train", part)}
    train, judged = ([d.label for d in kept[p]] for p in ("train", part))
    if name == "majority":
        shares = np.array([(train.count(c) + 1) / (len(train) + len(found.classes)) for c in found.classes])
        chances = np.tile(shares, (len(judged), 1))
    else:
        seed = derive_seed(data_seed, "linear baseline") % 2**31
        model = make_pipeline(
            TfidfVectorizer(sublinear_tf=True), LogisticRegression(C=10.0, max_iter=1000, random_state=seed)
        )
        model.fit([d.text for d in kept["train"]], train)
        chances = np.full((len(judged), len(found.classes)), 1e-12)
        chances[:, [found.classes.index(c) for c in model.classes_]] = model.predict_proba([d.text for d in kept[part]])
        chances /= chances.sum(1, keepdims=True)
    said = [found.classes[i] for i in chances.argmax(1)]
    prefix = "test_" if part == "test" else "val_"
    loss = log_loss(judged, chances, labels=list(found.classes))
    return {
        f"{prefix}loss": float(loss),
        f"{prefix}accuracy": float(accuracy_score(judged, said)),
        f"{prefix}macro_f1": float(f1_score(judged, said, average="macro")),
    }
