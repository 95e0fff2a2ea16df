"""Objectives of a few parameters: one, two inputs; one, two, named outputs; open axes; buffers; tied, bf16 weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from hpo.training.task import Split, Task, build_model
from hpo.trial import Job, Params
from objectives.base import TrainingObjective
from search_spaces import Float, SearchSpace


class Scaled(nn.Module):
    """An MLP that scales its inputs itself: mean and spread are buffers."""

    mean: Tensor

    def __init__(self, features: int, widths: tuple[int, ...], mean: float) -> None:
        super().__init__()
        self.register_buffer("mean", torch.full((features,), mean))
        sizes = [features, *widths]
        layers = [layer for a, b in pairwise(sizes) for layer in (nn.Linear(a, b), nn.ReLU())]
        self.net = nn.Sequential(*layers, nn.Dropout(0.5), nn.Linear(sizes[-1], 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x - self.mean).squeeze(-1)


class TwoInputs(nn.Module):
    """Numbers and a category in; a value and a class out, as a dict in another order than their names."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(5, 3)
        self.head = nn.Linear(7, 4)

    def forward(self, x: Tensor, kind: Tensor) -> dict[str, Tensor]:
        hidden = self.head(torch.cat([x, self.embed(kind)], dim=1))
        return {"value": hidden[:, 0], "class": hidden.argmax(dim=1)}


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.body = nn.TransformerEncoder(layer, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x).mean(dim=1)


class TwoOutputs(nn.Module):
    """Tied weights and two outputs as a tuple."""

    def __init__(self) -> None:
        super().__init__()
        self.there = nn.Linear(4, 4, bias=False)
        self.back = nn.Linear(4, 4, bias=False)
        self.back.weight = self.there.weight

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.there(x)
        return self.back(hidden), hidden.mean()


class FixedBatch(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(2, 4) if x.shape[0] == 2 else x


class Tagger(nn.Module):
    """Token ids and a mask of booleans in, six logits for each token out; what is masked is seen by none."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(40, 16)
        self.mix = nn.Linear(16, 16)
        self.head = nn.Linear(16, 6)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        hidden = torch.relu(self.mix(self.embed(ids)))
        kept = hidden * mask[:, :, None]
        return self.head(hidden + kept.sum(1, keepdim=True) / mask.sum(1)[:, None, None])


class Averaged(nn.Module):
    """The mean over a sequence by a number of Python, which a trace takes for a constant."""

    def forward(self, x: Tensor) -> Tensor:
        return x.sum(1) / int(x.shape[1])


class FixedLength(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("positions", torch.arange(6.0)[:, None])

    def forward(self, x: Tensor) -> Tensor:
        return x + self.positions


class LanguageModel(nn.Module):
    """A GPT-2 of transformers inside a wrapper that gives its logits alone, by name."""

    def __init__(self) -> None:
        super().__init__()
        from transformers import GPT2Config, GPT2LMHeadModel

        sizes = {"vocab_size": 50, "n_positions": 16, "n_embd": 16, "n_layer": 1, "n_head": 2}
        self.inner = GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=0, eos_token_id=0, use_cache=False))

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        return {"logits": self.inner(input_ids=input_ids, attention_mask=attention_mask).logits}

    def save_pretrained(self, folder: str) -> None:
        self.inner.save_pretrained(folder)


class _Small(TrainingObjective):
    summary = "for tests"
    default_goals = ("val_loss",)
    own_data: Any = None

    @property
    def space(self) -> SearchSpace:
        return SearchSpace({"lr": Float(1e-4, 1e-1)})

    def task(self, job: Job) -> Task:
        raise NotImplementedError


class NoModel(_Small):
    """Does not say how to build its model again."""


class Mlp(_Small):
    def model(self, params: Params, facts: Mapping[str, Any]) -> nn.Module:
        return Scaled(facts["features"], tuple(params["widths"]), 0.0)


class Worsening(_Small):
    """Training pulls to +1 and validation wants -1: the first epoch is the best, the last the worst."""

    def task(self, job: Job) -> Task:
        return Task(
            model=self.model({}, {}),
            train=Split((torch.ones(64, 1), torch.ones(64, 1))),
            validation=Split((torch.ones(64, 1), -torch.ones(64, 1))),
            test=lambda: Split((torch.ones(64, 1), -torch.ones(64, 1))),
            loss=nn.functional.mse_loss,
            example=(torch.ones(1, 1),),
        )

    def model(self, params: Params, facts: Mapping[str, Any]) -> nn.Module:
        model = nn.Linear(1, 1)
        nn.init.zeros_(model.weight)
        nn.init.zeros_(model.bias)
        return model


class Conv(_Small):
    def model(self, params: Params, facts: Mapping[str, Any]) -> nn.Module:
        return conv(params["channels"])


class Both(_Small):
    def model(self, params: Params, facts: Mapping[str, Any]) -> nn.Module:
        return TwoInputs()


class Tied(_Small):
    def model(self, params: Params, facts: Mapping[str, Any]) -> nn.Module:
        return TwoOutputs()


class Attention(_Small):
    def model(self, params: Params, facts: Mapping[str, Any]) -> nn.Module:
        return Encoder()


class Tags(_Small):
    def model(self, params: Params, facts: Mapping[str, Any]) -> nn.Module:
        return Tagger()


class Language(_Small):
    def model(self, params: Params, facts: Mapping[str, Any]) -> nn.Module:
        return LanguageModel()


def conv(channels: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, channels, 3, padding=1),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(channels, 2),
    )


def task_of(model: nn.Module, *rows: Tensor, outputs: tuple[str, ...] = ("output",), **fields: Any) -> Task:
    """A task whose validation split is ``rows`` with zeros for targets; inputs are named in0, in1, ..."""
    split = Split((*rows, torch.zeros(len(rows[0]))))
    return Task(
        model=model,
        train=split,
        validation=split,
        loss=nn.functional.mse_loss,
        example=tuple(row[:1] for row in rows),
        **{"inputs": tuple(f"in{i}" for i in range(len(rows))), "outputs": outputs, **fields},
    )


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def mlp_task(features: int = 6, widths: tuple[int, ...] = (8, 4), rows: int = 70, mean: float = 0.25) -> Task:
    model = build_model(lambda: Scaled(features, widths, mean), seed=1)
    facts = {"features": features, "scaling": torch.tensor([1.0, 2.0])}
    return task_of(model, noise(rows, features), inputs=("x",), outputs=("score",), facts=facts)


class Texts(Dataset[tuple[Tensor, Tensor, Tensor]]):
    """Texts of 3 to 12 tokens, the longest first; the target of a token is its id modulo 6."""

    def __len__(self) -> int:
        return 70

    def __getitem__(self, place: int) -> tuple[Tensor, Tensor, Tensor]:
        ids = torch.arange(12 - place % 10) * 7 % 40 + place % 3
        return ids % 40, torch.ones(len(ids), dtype=torch.bool), ids % 6


def padded(items: Sequence[tuple[Tensor, Tensor, Tensor]]) -> tuple[Tensor, ...]:
    fill = nn.utils.rnn.pad_sequence
    ids, mask, targets = zip(*items, strict=True)
    ids, mask = fill(list(ids), batch_first=True), fill(list(mask), batch_first=True)
    return ids, mask, fill(list(targets), batch_first=True, padding_value=-100)


def by_tokens(output: Any, targets: Tensor) -> Tensor:
    logits = output["logits"] if isinstance(output, Mapping) else output
    return nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-100)


def text_task(make: Callable[[], nn.Module] = Tagger, inputs: tuple[str, ...] = ("ids", "mask")) -> Task:
    """A task over ``Texts`` whose axis 1 is open in both inputs."""
    split = Split(Texts(), collate=padded)
    ids, mask, _ = padded([Texts()[0]])
    return Task(
        model=build_model(make, seed=1),
        train=split,
        validation=split,
        loss=by_tokens,
        weigh=lambda targets: (targets != -100).sum(),
        keep=lambda output, targets: ((targets != -100).sum(1), (targets != -100).sum(1)),
        example=(ids, mask),
        inputs=inputs,
        outputs=("logits",),
        open_axes=({1: "sequence"}, {1: "sequence"}),
    )


def weights_of(task: Task) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in task.model.state_dict().items()}
