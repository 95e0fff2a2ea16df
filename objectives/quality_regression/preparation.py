"""From files of features and settings to a shipped model's input, and from its output to SSIM. No torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpo.errors import DataError
from objectives.prediction import Arrays, Rows
from objectives.preparing import kept
from objectives.quality_regression import formats
from objectives.quality_regression.data import FEATURES, SETTINGS, check_inputs, joined


@dataclass(frozen=True)
class LogoPreparation:
    """For a model that was trained on features of ``kind``."""

    kind: str
    suffixes: tuple[str, ...] = (".csv", ".npz", ".parquet")
    accepts: str = (
        f"columns features, {FEATURES} numbers, and settings, {SETTINGS} in [0, 1], and logo_id where there is one; in "
        f"a CSV features_0 to features_{FEATURES - 1} and settings_0 to settings_{SETTINGS - 1}"
    )

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> LogoPreparation:
        """Raises BundleError: the facts are those of an older export."""
        return cls(kept(facts, "features"))

    def read(self, path: Path, rows: int) -> Iterator[Rows]:
        """Records in the order of the file; ids are those of the logos, or the numbers of the rows.

        A file that says that its features are of another kind is refused; one that says nothing is believed.
        """
        if path.is_dir():
            raise DataError(f"{path} is a folder; name one file with {self.accepts}.")
        kind = formats.kind_of(path)
        if kind not in (self.kind, formats.UNKNOWN):
            raise DataError(
                f"{path} holds features of the kind {kind!r}, and the model was trained on {self.kind!r}. "
                "Compute those for the same logos."
            )
        first = 0
        for columns in formats.parts(path, {"logo_id": 0, "features": FEATURES, "settings": SETTINGS}, rows):
            count = len(columns["features"])
            logos = columns.get("logo_id", range(first, first + count))
            part = formats.Rows(path, logos, first)
            features = part.vectors("features", columns["features"], FEATURES)
            settings = part.vectors("settings", columns["settings"], SETTINGS)
            check_inputs(part, features, settings)
            yield Rows([str(logo) for logo in logos], {"features_and_settings": joined(features, settings)})
            first += count

    def tell(self, rows: Rows, outputs: Arrays) -> list[dict[str, Any]]:
        """SSIM after vectorising; about [0, 1], and by a little outside where the model goes too far."""
        return [{"ssim": float(value)} for value in outputs["ssim"][:, 0]]
