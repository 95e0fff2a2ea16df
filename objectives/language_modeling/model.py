"""A model of ``transformers`` that gives its logits, whatever form its output has.

Axes in names: B batch, L tokens, V vocabulary, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from hpo.errors import DataError
from hpo.training.weights import load_weights, read_weights
from objectives.language_modeling.data import Corpus
from objectives.language_modeling.fields import PRETRAINED, Fields
from objectives.language_modeling.framing import INPUTS
from objectives.language_modeling.presets import DROPOUTS, Task

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_CLASSES: Mapping[Task, str] = {
    "causal": "AutoModelForCausalLM",
    "masked": "AutoModelForMaskedLM",
    "classification": "AutoModelForSequenceClassification",
    "encoder_decoder": "AutoModelForSeq2SeqLM",
}


class LanguageModel(nn.Module):
    """Logits of tokens (B, L, V), or of classes (B, K), from ids and masks (B, L) int64.

    ``inner`` may return a tensor, a tuple, a mapping or a ``ModelOutput``.
    """

    def __init__(self, inner: nn.Module, inputs: Sequence[str]) -> None:
        super().__init__()
        self.inner = inner
        self.tokenizer: PreTrainedTokenizerFast | None = None
        self._inputs = tuple(inputs)

    def forward(self, *inputs: Tensor) -> Tensor:
        return logits_of(self.inner(**dict(zip(self._inputs, inputs, strict=True))))

    def save_pretrained(self, folder: str) -> None:
        """The folder that ``from_pretrained`` reads, with the tokenizer where it is known."""
        self.inner.save_pretrained(folder)  # type: ignore[operator]
        if self.tokenizer is not None:
            self.tokenizer.save_pretrained(folder)


def logits_of(output: Any) -> Tensor:
    """The logits among what a model returns: the tensor, the entry ``logits``, or the first tensor of a tuple
    that is no single number (a loss).

    Raises:
        TypeError: there are none.
    """
    if isinstance(output, Tensor):
        return output
    if isinstance(output, Mapping) and isinstance(output.get("logits"), Tensor):
        return output["logits"]
    if isinstance(output, (tuple, list)):
        found = next((part for part in output if isinstance(part, Tensor) and part.ndim >= 2), None)
        if found is not None:
            return found
    raise TypeError(f"a language model must return logits: a tensor, a tuple or a mapping; got {type(output).__name__}")


def description(corpus: Corpus) -> dict[str, Any]:
    """What ``build`` needs besides the parameters, as JSON: kept with a model that ships."""
    fields, tokenizer = corpus.fields, corpus.tokenizer
    config = {**fields.config, "vocab_size": corpus.rows}
    specials = {
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }
    config.update({name: value for name, value in specials.items() if config.get(name) is None})
    if fields.goal == "encoder_decoder" and config.get("decoder_start_token_id") is None:
        config["decoder_start_token_id"] = tokenizer.pad_token_id
    if fields.goal == "classification":
        config.update(num_labels=len(corpus.classes), id2label=dict(enumerate(corpus.classes)))
    return {"task": fields.goal, "config": config}


def build(told: Mapping[str, Any], dropout: float | None) -> LanguageModel:
    """The untrained model; with ``torch.device("meta")`` around it, it takes no memory.

    Raises:
        DataError: ``transformers`` has no model of this kind for the task.
    """
    import transformers

    task: Task = told["task"]
    given = dict(told["config"])
    if "id2label" in given:
        given["id2label"] = {int(number): name for number, name in given["id2label"].items()}
        given["label2id"] = {name: number for number, name in given["id2label"].items()}
        given.pop("num_labels", None)
    config = transformers.AutoConfig.for_model(**given)
    if hasattr(config, "use_cache"):
        config.use_cache = False  # what generation reuses is of no use to training
    if dropout is not None:
        for name in DROPOUTS:
            if hasattr(config, name):
                setattr(config, name, dropout)
    kind = getattr(transformers, _CLASSES[task])
    try:
        inner: nn.Module = kind.from_config(config, attn_implementation="eager")
    except ValueError as error:
        raise DataError(
            f"data: transformers has no {config.model_type} for the task {task}: {' '.join(str(error).split())[:150]}"
        ) from error
    return LanguageModel(inner, INPUTS[task])


def fill(model: LanguageModel, corpus: Corpus) -> None:
    """Put the pretrained weights that the study names into ``model``, in place.

    What stands on top of the body, its pooler included, begins anew where they have none that
    fits; the head of another task is passed over.

    Raises:
        DataError: they cannot be read, or are another model's.
    """
    weights = corpus.fields.weights
    if weights is None:
        return
    given = _own_weights(model.inner, corpus.fields) if weights == PRETRAINED else read_weights(Path(weights))
    given = {name.removeprefix("inner."): value for name, value in given.items()}
    state = model.inner.state_dict()
    body = _body(model.inner)
    usable = {name: value for name, value in given.items() if name in state or name.startswith(body)}
    filled = {state[name].data_ptr() for name in usable if name in state}
    own = {
        name
        for name, value in state.items()
        if not name.startswith(body)
        or ".pooler." in name
        or (name not in usable and value.data_ptr() in filled)  # tied to one that is given
    }
    load_weights(model.inner, usable, weights, own=own, remedy="Name the model that they belong to.")


def _own_weights(inner: nn.Module, fields: Fields) -> dict[str, Tensor]:
    """What lies with the model, and of the head what was drawn here where there is none."""
    import transformers

    kind = getattr(transformers, _CLASSES[fields.goal])
    try:
        found, told = kind.from_pretrained(
            fields.model, config=inner.config, use_safetensors=True, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"data: weights: {fields.model!r} has none here: {reason}") from error
    fresh = set(told["missing_keys"])
    return {name: value for name, value in found.state_dict().items() if name not in fresh}


def _body(inner: nn.Module) -> str:
    """What the names of the body begin with; empty where they have nothing in common, as T5's."""
    prefix = f"{getattr(inner, 'base_model_prefix', '')}."
    return prefix if any(name.startswith(prefix) for name in inner.state_dict()) else ""


def blocks_of(model: nn.Module) -> list[nn.Module]:
    """The layers: the parts of every list of modules that does not stand inside another layer."""
    found: list[nn.Module] = []
    inside: set[int] = set()
    for module in model.modules():
        if isinstance(module, nn.ModuleList) and id(module) not in inside:
            for layer in module:
                found.append(layer)
                inside |= {id(part) for part in layer.modules()}
    return found


def greedy(model: nn.Module, prompts: Tensor, new_tokens: int) -> Tensor:
    """The likeliest continuation of ``prompts`` (B, L), token by token: (B, new_tokens).

    Not ``generate`` of transformers: a model that several processes train together, or a
    compiled one, has only its forward pass.
    """
    ids = prompts
    for _ in range(new_tokens):
        logits = model(ids, torch.ones_like(ids))
        ids = torch.cat([ids, logits[:, -1].argmax(-1, keepdim=True)], dim=1)
    return ids[:, prompts.shape[1] :]


def greedy_targets(model: nn.Module, ids: Tensor, mask: Tensor, start: int, new_tokens: int) -> Tensor:
    """What an encoder–decoder writes for texts (B, L): (B, new_tokens)."""
    written = torch.full((len(ids), 1), start, dtype=ids.dtype, device=ids.device)
    for _ in range(new_tokens):
        logits = model(ids, mask, written)
        written = torch.cat([written, logits[:, -1].argmax(-1, keepdim=True)], dim=1)
    return written[:, 1:]
