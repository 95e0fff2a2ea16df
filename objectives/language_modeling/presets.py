"""Models that are built from a configuration: three shapes, each small for a CPU and as published. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Task = Literal["causal", "masked", "classification", "encoder_decoder"]
TASKS: tuple[Task, ...] = ("causal", "masked", "classification", "encoder_decoder")


@dataclass(frozen=True)
class Preset:
    """A configuration of ``transformers``; ``vocabulary`` is the size that was published with it, None for ours."""

    kind: str
    task: Task
    config: Mapping[str, Any]
    vocabulary: int | None = None


PRESETS: Mapping[str, Preset] = {
    "gpt2-tiny": Preset("gpt2", "causal", {"n_embd": 128, "n_layer": 2, "n_head": 4, "n_positions": 512}),
    # Radford et al. 2019, "Language Models are Unsupervised Multitask Learners", table 2; the
    # 117 M of the table are 124,439,808 as released.
    "gpt2": Preset("gpt2", "causal", {"n_embd": 768, "n_layer": 12, "n_head": 12, "n_positions": 1024}, 50257),
    "bert-tiny": Preset(
        "bert",
        "masked",
        {"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 512},
    ),
    # Devlin et al. 2018, arXiv 1810.04805, section 3.
    "bert-base": Preset(
        "bert",
        "masked",
        {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072},
        30522,
    ),
    "t5-tiny": Preset(
        "t5", "encoder_decoder", {"d_model": 128, "d_kv": 32, "d_ff": 512, "num_layers": 2, "num_heads": 4}
    ),
    # Raffel et al. 2019, arXiv 1910.10683, section 3.7.
    "t5-small": Preset(
        "t5", "encoder_decoder", {"d_model": 512, "d_kv": 64, "d_ff": 2048, "num_layers": 6, "num_heads": 8}, 32128
    ),
}

# What each kind of model calls its dropout; ``dropout`` of the search space sets all that a configuration has.
DROPOUTS = (
    "resid_pdrop", "embd_pdrop", "attn_pdrop", "hidden_dropout_prob", "attention_probs_dropout_prob",
    "dropout_rate", "dropout", "attention_dropout", "hidden_dropout",
)  # fmt: skip


def task_of(config: Mapping[str, Any]) -> Task | None:
    """The training task that a model's ``config.json`` speaks of, by the class that its weights were saved from."""
    architectures = config.get("architectures") or [""]
    name = str(architectures[0])
    endings: tuple[tuple[str, Task], ...] = (
        ("ForSequenceClassification", "classification"),
        ("ForMaskedLM", "masked"),
        ("ForConditionalGeneration", "encoder_decoder"),
        ("ForCausalLM", "causal"),
        ("LMHeadModel", "encoder_decoder" if config.get("is_encoder_decoder") else "causal"),
    )
    if config.get("is_encoder_decoder"):
        return "encoder_decoder"
    return next((task for ending, task in endings if name.endswith(ending)), None)
