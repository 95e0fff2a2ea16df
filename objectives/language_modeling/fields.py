"""The fields of a study's ``data``: which texts, which model, which task. No torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hpo.errors import DataError, UnknownName
from hpo.training.weights import FORMATS
from objectives.given import is_whole, known_fields, require
from objectives.language_modeling.presets import DROPOUTS, PRESETS, TASKS, Task, task_of

PRETRAINED = "pretrained"
_OTHER_MODELS = ("a folder with a config.json", "OWNER/NAME of the hub")
PATH = "data/stdlib.jsonl"  # where nothing else is said
# What is a whole number, and its least value.
_NUMBERS = {
    "max_samples": 1, "min_tokens": 2, "max_length": 16, "vocabulary": 300,
    "bleu_texts": 0, "bleu_prompt": 1, "bleu_reference": 1,
}  # fmt: skip


@dataclass(frozen=True)
class Fields:
    """``data`` with its defaults.

    ``path`` is a file or a folder of files; ``dataset`` names one of the Hugging Face hub
    instead: ``{name, config, split}``. Columns are those of a CSV, JSON lines or Parquet
    file. ``model`` is a preset, a folder with a ``config.json``, or a name of the hub;
    ``weights`` a file, ``pretrained`` (what lies with that model), or None.
    """

    path: str | None = None
    dataset: Mapping[str, str] | None = None
    text_column: str = "text"
    label_column: str = "label"
    target_column: str = "target"
    max_samples: int = 1000
    min_tokens: int = 16
    max_length: int = 128
    model: str = "gpt2-tiny"
    weights: str | None = None
    task: Task | None = None
    vocabulary: int = 2000
    bleu_texts: int = 32
    bleu_prompt: int = 10
    bleu_reference: int = 10

    @property
    def goal(self) -> Task:
        """The training task: as given, else as the model's configuration says.

        Raises:
            DataError: neither says it.
        """
        found = self.task or (PRESETS[self.model].task if self.model in PRESETS else task_of(self.config))
        if found is None:
            raise DataError(
                f"data: the config of {self.model!r} does not say what it was trained for; give task: one of "
                f"{', '.join(TASKS)}."
            )
        return found

    @property
    def config(self) -> dict[str, Any]:
        """The configuration of the model, as ``transformers`` writes it.

        Raises:
            DataError: there is none.
        """
        if self.model in PRESETS:
            preset = PRESETS[self.model]
            return {"model_type": preset.kind, **preset.config}
        file = Path(self.model) / "config.json"
        try:
            if file.is_file():
                found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
                return found
            from transformers import AutoConfig

            return dict(AutoConfig.from_pretrained(self.model).to_dict())
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
            known = ", ".join((*PRESETS, *_OTHER_MODELS))
            raise DataError(f"data: model {self.model!r} cannot be had: {reason} Known: {known}.") from error

    @property
    def has_dropout(self) -> bool:
        """Whether the model takes a dropout that can be searched."""
        return self.model in PRESETS or any(name in self.config for name in DROPOUTS)


def checked(data: Mapping[str, Any]) -> Fields:
    """``data`` as ``Fields``.

    Raises:
        DataError: a field is unknown, of another type, out of range, or does not go with another.
    """
    known_fields(data, [field.name for field in fields(Fields)])
    given: dict[str, Any] = {name: str(value) if isinstance(value, Path) else value for name, value in data.items()}
    if given.get("dataset") is not None and given.get("path") == PATH:
        given["path"] = None
    found = Fields(**given)
    for name, least in _NUMBERS.items():
        value = getattr(found, name)
        require(is_whole(value, least), name, f"be a whole number of at least {least}", value)
    for name in ("text_column", "label_column", "target_column", "model"):
        require(isinstance(getattr(found, name), str), name, "be a text", getattr(found, name))
    require(found.task is None or found.task in TASKS, "task", f"be one of {', '.join(TASKS)}", found.task)
    require(found.max_length >= found.min_tokens, "max_length", f"be at least min_tokens, {found.min_tokens}",
             found.max_length)  # fmt: skip
    _check_source(found)
    if found.model not in PRESETS and "/" not in found.model and not Path(found.model).is_dir():
        raise DataError(f"data: {UnknownName('model', found.model, (*PRESETS, *_OTHER_MODELS))}")
    for package in ("transformers", "datasets"):
        if find_spec(package) is None:
            raise DataError(f"data: language_modeling needs the package {package}: pip install 'hpo[language]'.")
    _check_weights(found)
    return found


def _check_source(found: Fields) -> None:
    if (found.path is None) == (found.dataset is None):
        raise DataError("data: give either path (a file or folder of texts) or dataset ({name, config, split}).")
    if found.path is not None:
        require(isinstance(found.path, str) and found.path != "", "path", "name a file or folder", found.path)
        return
    parts = ("name", "config", "split")
    given = found.dataset
    require(isinstance(given, Mapping) and "name" in given, "dataset", "be a mapping with a name", given)
    for name in given or {}:
        if name not in parts:
            raise DataError(f"data: {UnknownName('field of dataset', name, parts)}")


def _check_weights(found: Fields) -> None:
    if found.weights is None:
        return
    if found.weights == PRETRAINED:
        if found.model in PRESETS:
            raise DataError(f"data: weights: the preset {found.model} has no {PRETRAINED} ones; give a file, or null.")
        return
    path = Path(str(found.weights))
    if path.suffix not in FORMATS or not path.is_file():
        raise DataError(
            f"data: weights must be {PRETRAINED!r} or a file that is there and ends in {', '.join(FORMATS)}; "
            f"got {found.weights!r}."
        )
