"""What a study file's ``data`` says about images: every field, checked. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hpo.errors import DataError, UnknownName
from hpo.training.weights import FORMATS
from objectives.given import is_whole, known_fields, require, sha256_of
from objectives.image_classification.presets import NORMALISATIONS, PRESETS, TIMM

PRETRAINED = "pretrained"  # the weights that come with a model's own folder or hub page


@dataclass(frozen=True)
class Fields:
    """The fields of ``data``; README.md says what each means."""

    path: str = "data/digits"
    model: str = "convnext-mini"
    weights: str | None = None
    image_size: int | None = None
    normalise: str = "data"
    flip: bool = False
    max_bad_share: float = 0.01
    cache_mb: int = 256

    @property
    def side_px(self) -> int:
        """Height and width of an image as the model gets it."""
        return self.image_size or PRESETS[self.model].image_size

    @property
    def identity(self) -> dict[str, Any]:
        """What makes another study of it, besides the images: weights by their content."""
        content = self.weights
        if self.weights not in (None, PRETRAINED):
            content = sha256_of(str(self.weights))
        return {
            "model": self.model,
            "weights": content,
            "side_px": self.side_px,
            "normalise": self.normalise,
            "flip": self.flip,
        }


def checked(data: Mapping[str, Any]) -> Fields:
    """``data`` as ``Fields``.

    Raises:
        DataError: a field is unknown, of another type, out of range, or needs what is absent.
    """
    known_fields(data, [field.name for field in fields(Fields)])
    values: dict[str, Any] = {name: str(value) if isinstance(value, Path) else value for name, value in data.items()}
    found = Fields(**values)
    require(isinstance(found.path, str) and found.path != "", "path", "name a folder of class folders", found.path)
    require(isinstance(found.model, str) and found.model != "", "model", "be the name of a model", found.model)
    require(found.normalise in NORMALISATIONS, "normalise", f"be one of {', '.join(NORMALISATIONS)}", found.normalise)
    require(isinstance(found.flip, bool), "flip", "be true or false", found.flip)
    is_share = isinstance(found.max_bad_share, (int, float)) and not isinstance(found.max_bad_share, bool)
    require(is_share and 0 <= found.max_bad_share < 1, "max_bad_share", "be in [0, 1)", found.max_bad_share)
    require(is_whole(found.cache_mb, 0, 10**6), "cache_mb", "be a whole number from 0", found.cache_mb)
    size = found.image_size
    require(size is None or is_whole(size, 10, 4096), "image_size", "be a whole number from 10 to 4096 px", size)
    _check_model(found)
    _check_weights(found)
    return found


def _check_model(found: Fields) -> None:
    """A preset is known by its name; a folder must be there; the rest only the hub knows."""
    package, extra = ("timm", "timm") if found.model.startswith(TIMM) else ("transformers", "vision")
    preset = PRESETS.get(found.model)
    if preset is not None and preset.timm:
        package = extra = "timm"
    if find_spec(package) is None:
        raise DataError(f"data: model {found.model} needs the package {package}: pip install 'hpo[{extra}]'.")
    if preset is None:
        if not found.model.startswith(TIMM) and "/" not in found.model and not Path(found.model).is_dir():
            known = (*PRESETS, f"{TIMM}NAME", "a folder with a config.json", "OWNER/NAME of the hub")
            raise DataError(f"data: {UnknownName('model', found.model, known)}")
        if found.image_size is None:
            raise DataError(
                f"data: image_size must be given for model {found.model!r}, in px; "
                f"only the presets ({', '.join(PRESETS)}) have their own."
            )


def _check_weights(found: Fields) -> None:
    if found.weights is None:
        return
    if found.weights == PRETRAINED:
        if found.model in PRESETS and not PRESETS[found.model].timm:
            raise DataError(
                f"data: weights: {PRETRAINED} are those of a model's own folder or hub page; the preset {found.model} "
                "has none. Give a file, or name the model that the weights belong to."
            )
        return
    path = Path(str(found.weights))
    if path.suffix not in FORMATS:
        raise DataError(f"data: weights must be a file that ends in {', '.join(FORMATS)}; got {found.weights!r}.")
    try:
        with path.open("rb"):
            pass
    except OSError as error:
        raise DataError(f"data: weights: {path}: {error.strerror}. Give a file that is there, or null.") from error
