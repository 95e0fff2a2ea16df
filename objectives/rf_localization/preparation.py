"""From recordings of new events to a shipped model's inputs, and from its outputs to positions. No torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hpo import places
from hpo.errors import DataError
from objectives.prediction import Arrays, Rows
from objectives.preparing import kept, slices
from objectives.rf_localization import labels, recordings
from objectives.rf_localization.data import ABSENT, N_FFT, grouped
from objectives.rf_localization.features import Recipe, features
from objectives.rf_localization.fields import Fields
from objectives.rf_localization.geometry import Frame
from objectives.rf_localization.inputs import INPUTS, assembled
from objectives.rf_localization.maker import LABELS, RECEIVERS, RECORDINGS


@dataclass(frozen=True)
class RecordingPreparation:
    """``samples`` is the length of training's recordings; with ``single`` each recording is an example of its own."""

    frame: Frame
    recipe: Recipe
    samples: int
    single: bool
    suffixes: tuple[str, ...] = (".parquet", ".csv")
    accepts: str = (
        f"a folder with {LABELS} or labels.csv (columns {', '.join(labels.TEXTS)}), {RECEIVERS} "
        f"({', '.join((*labels.SITE_TEXTS, *labels.SITE_NUMBERS))}) and the recordings in {RECORDINGS}/, or that table"
    )

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> RecordingPreparation:
        """Raises BundleError: the facts are those of an older export."""
        return cls(Frame.of(facts), Recipe(**kept(facts, "recipe")), kept(facts, "samples"), kept(facts, "single"))

    def read(self, path: Path, rows: int) -> Iterator[Rows]:
        """Events in the order of session and time. Every recording is read through before the first event is told."""
        table = _table(path)
        heard = labels.from_file(table, labels.TEXTS, ())
        sites = labels.from_file(table.parent / RECEIVERS, labels.SITE_TEXTS, labels.SITE_NUMBERS)
        first, _, recording = grouped(heard, sites)
        place, files = places.Folder(table.parent / RECORDINGS), heard["file"]
        samples = self._checked(place, files.tolist())
        degrees = np.stack([sites["latitude"], sites["longitude"]], axis=1)
        where = np.broadcast_to(self.frame.normalised(degrees), (*recording.shape, 2))
        if self.single:
            present = recording != ABSENT
            recording, where = recording[present][:, None], where[present][:, None]
            ids = files[recording[:, 0]].tolist()
        else:
            ids = [f"{heard['session_id'][row]} {heard['time'][row]}" for row in first]
        windows = self.recipe.windows(samples)
        if windows > 1:
            ids = [f"{one} window {w + 1}" for one in ids for w in range(windows)]
        for some in slices(len(recording), max(1, rows // windows)):
            inputs = self._inputs(place, files, recording[some], where[some])
            names = ids[some.start * windows : some.stop * windows]
            for part in slices(len(names), rows):
                yield Rows(names[part], {name: array[part] for name, array in inputs.items()})

    def tell(self, rows: Rows, outputs: Arrays) -> list[dict[str, Any]]:
        """Degrees and metres; ``sigma_m`` is the root mean square distance to expect, of both axes together."""
        said = np.asarray(outputs["position_and_sigma"], dtype=np.float64)
        sigma_m = said[:, 2:] * self.frame.scale_m
        columns = {
            "latitude": self.frame.degrees(said[:, :2])[:, 0],
            "longitude": self.frame.degrees(said[:, :2])[:, 1],
            "sigma_m": np.hypot(sigma_m[:, 0], sigma_m[:, 1]),
            "sigma_north_m": sigma_m[:, 0],
            "sigma_east_m": sigma_m[:, 1],
        }
        values = zip(*(column.tolist() for column in columns.values()), strict=True)
        return [dict(zip(columns, row, strict=True)) for row in values]

    def _checked(self, place: places.Place, files: list[str]) -> int:
        """How many samples each recording has."""
        samples = recordings.heads(place, files, N_FFT)[0].samples
        if self.recipe.frames == "pool" and samples != self.samples:
            raise DataError(
                f"{place}: recordings must have {self.samples} samples, as those of training; they have {samples}. Cut "
                f"them, or record {self.samples / self.recipe.rate_hz:g} s at {self.recipe.rate_hz} samples a second."
            )
        recordings.refuse_not_finite(place, files)
        return samples

    def _inputs(self, place: places.Place, files: np.ndarray, recording: np.ndarray, where: np.ndarray) -> Arrays:
        """Of the events of ``recording`` (n, R), rows of ``files`` or ``ABSENT``, at ``where`` (n, R, 2)."""
        present = recording != ABSENT
        found = [features(recordings.read(place, name), self.recipe) for name in files[recording[present]].tolist()]
        own = np.full_like(recording, ABSENT)
        own[present] = np.arange(len(found))
        return dict(zip(INPUTS, assembled(np.stack(found), own, where), strict=True))


def _table(path: Path) -> Path:
    """The table of a folder, or the one that is named."""
    try:
        if path.is_file():
            return path
        table = Fields(path=str(path)).labels_file
        if table.is_file():
            return table
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}. Choose a folder that you may read.") from error
    raise DataError(f"{path} must be {RecordingPreparation.accepts}; there is no such table.")
