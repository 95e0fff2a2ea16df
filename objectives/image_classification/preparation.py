"""From image files to a shipped model's inputs, and from its outputs to classes. No torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hpo.errors import DataError
from objectives.image_classification import index
from objectives.image_classification.data import offenders
from objectives.image_classification.listing import images_below, suffixes
from objectives.image_classification.pictures import decoded, judge
from objectives.prediction import Arrays, Rows
from objectives.preparing import kept, slices, told_classes

LISTED = 3  # classes, beside the likeliest


@dataclass(frozen=True)
class ImagePreparation:
    """For a model that sees squares of ``side_px`` and tells ``classes`` apart."""

    classes: Sequence[str]
    side_px: int
    suffixes: tuple[str, ...] = field(default_factory=lambda: tuple(sorted(suffixes())))
    accepts: str = "an image, or a folder with images in it, at any depth"

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> ImagePreparation:
        """Raises BundleError: the facts are those of an older export."""
        return cls(kept(facts, "classes"), kept(facts, "side_px"))

    def read(self, path: Path, rows: int) -> Iterator[Rows]:
        """Images sorted by their paths. All of a folder are decoded once before the first is told of."""
        root, names = (path, _of_folder(path)) if path.is_dir() else (path.parent, _of_file(path))
        for some in slices(len(names), rows):
            pixels = np.stack([decoded(root / name, self.side_px) for name in names[some]])
            yield Rows(names[some], {"pixels": pixels})

    def tell(self, rows: Rows, outputs: Arrays) -> list[dict[str, Any]]:
        """The class, how probable it is, and the three likeliest with their probabilities."""
        return told_classes(outputs["logits"], self.classes, LISTED)


def _of_file(path: Path) -> list[str]:
    """The name of one image that is whole."""
    fault = judge(path).fault
    if fault:
        raise DataError(f"{path} cannot be used as an image: {fault}. Mend it, or name another.")
    return [path.name]


def _of_folder(folder: Path) -> list[str]:
    """The paths of a folder's images below it, all of them whole."""
    files, others = images_below(folder)
    if not files:
        raise DataError(f"{folder} has no images in it, and {others} other files. Name {ImagePreparation.accepts}.")
    said = zip(files, index.verdicts(folder, files), strict=True)
    broken = {file.path: verdict for file, verdict in said if verdict.fault}
    if broken:
        raise DataError(
            f"{folder}: {len(broken)} of {len(files)} images cannot be used: {offenders(broken)}. "
            "Mend them, or take them away."
        )
    return [file.path for file in files]
