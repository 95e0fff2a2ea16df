"""The images of a folder, without those that are broken; refused if unusable, split by their pixels. No torch."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from hpo.errors import DataError
from hpo.evaluation.splits import fold_rows, grouped_split
from hpo.trial import derive_seed
from objectives.base import DataFacts
from objectives.image_classification import index
from objectives.image_classification.fields import Fields, checked
from objectives.image_classification.listing import Found, list_images
from objectives.image_classification.pictures import Verdict
from objectives.offenders import MIN_PER_CLASS, SHOWN, listed, small_classes

SHARES = (0.8, 0.1, 0.1)  # to train, to validate, held out
SHOWN_IN_REPORT = 50


@dataclass(frozen=True, eq=False)  # one object for one state of a folder: caches compare it by identity
class Images:
    """n usable images below ``root``: paths (n,), labels (n,) of ``classes``, digests of the pixels (n,).

    ``left_out`` are broken files, each with what is wrong; ``others`` counts files that are
    no images by their name, or lie in no class folder.
    """

    root: Path
    classes: tuple[str, ...]
    paths: np.ndarray
    labels: np.ndarray
    digests: np.ndarray
    left_out: Mapping[str, Verdict]
    others: int

    def __len__(self) -> int:
        return len(self.paths)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of paths and pixels; files that are left out do not count."""
        text = json.dumps([self.classes, self.paths.tolist(), self.digests.tolist()])
        return hashlib.sha256(text.encode()).hexdigest()

    @cached_property
    def contradicting(self) -> list[str]:
        """Paths of images whose very pixels stand in another class as well, sorted."""
        _, group = np.unique(self.digests, return_inverse=True)
        low, high = np.full(len(self), len(self.classes)), np.full(len(self), -1)
        np.minimum.at(low, group, self.labels)
        np.maximum.at(high, group, self.labels)
        return sorted(self.paths[(low != high)[group]].tolist())

    @property
    def counts(self) -> dict[str, int]:
        """How many there are of what, for people."""
        return {
            "images": len(self),
            "classes": len(self.classes),
            "copies": len(self) - len(np.unique(self.digests)),
            "contradicting": len(self.contradicting),
            "left_out": len(self.left_out),
            "other_files": self.others,
        }

    @property
    def notes(self) -> list[str]:
        """What somebody should know of these images before trusting a figure, a sentence each."""
        told = []
        if self.left_out:
            share = len(self.left_out) / (len(self) + len(self.left_out))
            which = offenders(self.left_out, SHOWN_IN_REPORT)
            told.append(f"{len(self.left_out)} broken images are left out ({share:.2%}): {which}.")
        if self.contradicting:
            told.append(
                f"{len(self.contradicting)} images have the same pixels as one of another class: "
                f"{listed(self.contradicting)}. All but one of each are mislabelled."
            )
        return told


@dataclass(frozen=True)
class Parts:
    """Row numbers of the three parts."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def load(data: Mapping[str, Any]) -> tuple[Fields, Images]:
    """The checked fields of ``data``, and the images that they name.

    A folder is listed anew each time; a file is decoded once, until it changes.

    Raises:
        DataError: a field is wrong, a folder cannot be read, there are fewer than two
            classes or ``MIN_PER_CLASS`` images in one, or more than ``max_bad_share`` of the
            files are broken; with their counts and the first offenders.
    """
    fields = checked(data)
    root = Path(fields.path)
    if not root.exists():
        raise DataError(
            f"{root}: there is no such folder. Make one with `hpo make-data image_classification --out {root}`."
        )
    listing = list_images(root)
    images = _usable(root.absolute(), listing.classes, listing.files, listing.others)
    _refuse(images, fields.max_bad_share)
    return fields, images


def facts(data: Mapping[str, Any]) -> DataFacts:
    """What a study keeps of ``data``; the model and how it sees an image are part of the fingerprint.

    Raises:
        DataError: as ``load``.
    """
    fields, images = load(data)
    text = json.dumps([images.fingerprint, fields.identity], sort_keys=True)
    return DataFacts(
        hashlib.sha256(text.encode()).hexdigest(),
        images.counts,
        images.notes,
        {path: verdict.fault for path, verdict in images.left_out.items()},
    )


def split(images: Images, data_seed: int, fold: tuple[int, int] | None = None) -> Parts:
    """80 % to train on, 10 % to validate, 10 % held out: alike in classes, copies together, from the seed alone.

    With a ``fold`` (index from 0, of how many) the same 10 % are held out, and the others
    are dealt out anew.

    Raises:
        DataError: there are too few images, or there is no such fold.
    """
    train, validation, test = grouped_split(images.digests, images.labels, SHARES, data_seed, "images")
    if fold is not None:
        rest = np.concatenate([train, validation])
        seed = derive_seed(data_seed, "folds")
        train, validation = fold_rows(rest, images.digests, images.labels, fold, seed)
    return Parts(train, validation, test)


def split_ids(images: Images, data_seed: int) -> dict[str, list[str]]:
    """The paths of each part, as a split is stored."""
    return {name: images.paths[rows].tolist() for name, rows in vars(split(images, data_seed)).items()}


def offenders(left_out: Mapping[str, Verdict], shown: int = SHOWN) -> str:
    """``3 damaged, 1 empty file; 0/a.png (empty file), ...``."""
    kinds = Counter(verdict.kind for verdict in left_out.values())
    counted = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
    named = [f"{path} ({verdict.fault})" for path, verdict in left_out.items()]
    return f"{counted}; {listed(named, shown)}"


@lru_cache(maxsize=2)
def _usable(root: Path, classes: tuple[str, ...], files: tuple[Found, ...], others: int) -> Images:
    said = list(zip(files, index.verdicts(root, files), strict=True))
    good = [(file, verdict) for file, verdict in said if not verdict.fault]
    number = {name: i for i, name in enumerate(classes)}
    return Images(
        root=root,
        classes=classes,
        paths=np.array([file.path for file, _ in good], dtype=np.str_),
        labels=np.array([number[file.label] for file, _ in good], dtype=np.int64),
        digests=np.array([verdict.digest for _, verdict in good], dtype=np.str_),
        left_out={file.path: verdict for file, verdict in said if verdict.fault},
        others=others,
    )


def _refuse(images: Images, max_bad_share: float) -> None:
    root, seen = images.root, len(images) + len(images.left_out)
    if len(images.classes) < 2:
        found = f"it has the folder {images.classes[0]!r} alone" if images.classes else "it has none"
        raise DataError(
            f"{root} must have a folder for each of two or more classes, with their images in them; {found}."
        )
    if len(images.left_out) > max_bad_share * seen:
        raise DataError(
            f"{root}: {len(images.left_out)} of {seen} images are broken ({len(images.left_out) / seen:.2%}), above "
            f"max_bad_share ({max_bad_share:g}): {offenders(images.left_out)}. Mend or delete them, or raise it."
        )
    labels = np.array(images.classes)[images.labels].tolist()
    few = small_classes(images.classes, labels, images.digests.tolist())
    if few:
        raise DataError(
            f"{root}: every class must have {MIN_PER_CLASS} different images or more; {len(few)} of "
            f"{len(images.classes)} have fewer: {listed(few)}. Add some, or remove those folders."
        )
