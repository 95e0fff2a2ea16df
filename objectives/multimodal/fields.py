"""What a study file's ``data`` says about planets: every field, checked. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from hpo.errors import DataError, UnknownName
from hpo.training.weights import FORMATS
from objectives.given import is_whole, known_fields, require, sha256_of
from objectives.multimodal.presets import PARTS, PRESETS, Preset


@dataclass(frozen=True)
class Fields:
    """The fields of ``data``; README.md says what each means."""

    path: str = "data/planets"
    preset: str = "tiny"
    modalities: tuple[str, ...] = PARTS
    freeze: tuple[str, ...] = ()
    weights: str | None = None
    min_planets: int = 100
    max_nodes: int = 256

    @property
    def sizes(self) -> Preset:
        return PRESETS[self.preset]

    @property
    def identity(self) -> dict[str, Any]:
        """What makes another study of it, besides the planets: weights by their content."""
        told = {**asdict(self), "path": None, "min_planets": None, "max_nodes": None}
        if self.weights is not None:
            told["weights"] = sha256_of(self.weights)
        return told


def checked(data: Mapping[str, Any]) -> Fields:
    """``data`` as ``Fields``, its modalities in the order of ``PARTS``.

    Raises:
        DataError: a field is unknown, of another type or out of range.
    """
    known_fields(data, [field.name for field in fields(Fields)])
    path = data.get("path", Fields.path)
    require(isinstance(path, (str, Path)) and str(path) != "", "path", "name a folder of planets", path)
    preset = data.get("preset", Fields.preset)
    require(isinstance(preset, str) and preset in PRESETS, "preset", f"be one of {', '.join(PRESETS)}", preset)
    modalities = _parts("modalities", data.get("modalities", PARTS))
    require(bool(modalities), "modalities", f"name at least one of {', '.join(PARTS)}", data.get("modalities"))
    freeze = _parts("freeze", data.get("freeze", ()))
    absent = [part for part in freeze if part not in modalities]
    require(not absent, "freeze", f"name parts that are among the modalities, {', '.join(modalities)}", absent)
    for name in ("min_planets", "max_nodes"):
        value = data.get(name, getattr(Fields, name))
        require(is_whole(value, 1), name, "be a whole number of at least 1", value)
    found = {**data, "path": str(path), "modalities": modalities, "freeze": freeze}
    weights = data.get("weights")
    if weights is not None:
        found["weights"] = _checked_weights(weights)
    return Fields(**found)


def _parts(name: str, value: object) -> tuple[str, ...]:
    """Names of parts, each once, in the order of ``PARTS``."""
    require(isinstance(value, (list, tuple)), name, f"be a list of {', '.join(PARTS)}", value)
    given = list(value)  # type: ignore[call-overload]
    for one in given:
        if one not in PARTS:
            raise DataError(f"data: {name}: {UnknownName('part', str(one), PARTS)}")
    require(len(set(given)) == len(given), name, "name each part once", value)
    return tuple(part for part in PARTS if part in given)


def _checked_weights(value: object) -> str:
    is_path = isinstance(value, (str, Path)) and Path(value).suffix in FORMATS
    require(is_path, "weights", f"be a file that ends in {', '.join(FORMATS)}", value)
    path = Path(str(value))
    try:
        with path.open("rb"):
            pass
    except OSError as error:
        raise DataError(f"data: weights: {path}: {error.strerror}. Give a file that is there, or null.") from error
    return str(path)
