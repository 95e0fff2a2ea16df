"""Degrees and metres around a point: the local tangent plane, and positions in normalised units."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from hpo.errors import DataError
from hpo.evaluation.localization import EARTH_RADIUS_M


@dataclass(frozen=True)
class Frame:
    """Where positions are counted from, and in what: ``scale_m`` metres north and east are 1.

    The sphere is unrolled around the origin. Within 50 km of it a distance is off by under
    0.1 % at latitudes up to 60 degrees; across a pole or the date line it cannot be used.
    """

    latitude: float
    longitude: float
    scale_m: float

    @classmethod
    def around(cls, degrees: np.ndarray) -> Frame:
        """The middle of these positions, (n, 2) degrees, and the farthest one's distance along an axis.

        Raises:
            DataError: all positions are the same.
        """
        low, high = degrees.min(axis=0), degrees.max(axis=0)
        middle = (low + high) / 2
        scale_m = float(np.abs(cls(float(middle[0]), float(middle[1]), 1.0).normalised(degrees)).max())
        if scale_m < 1:
            raise DataError("All positions of the training sessions are within a metre; there is nothing to learn.")
        return cls(float(middle[0]), float(middle[1]), scale_m)

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Frame:
        """From ``facts``, a mapping of its fields."""
        return cls(**{name: float(facts[name]) for name in ("latitude", "longitude", "scale_m")})

    @property
    def facts(self) -> dict[str, float]:
        return asdict(self)

    def normalised(self, degrees: np.ndarray) -> np.ndarray:
        """(n, 2) degrees, latitude first, as (n, 2) north and east in units of ``scale_m``."""
        return (
            np.radians(np.asarray(degrees) - np.array([self.latitude, self.longitude])) * self._radii_m / self.scale_m
        )

    def degrees(self, normalised: np.ndarray) -> np.ndarray:
        """The way back: (n, 2) degrees, latitude first."""
        turned = np.degrees(np.asarray(normalised, dtype=np.float64) * self.scale_m / self._radii_m)
        return np.asarray(turned + np.array([self.latitude, self.longitude]))

    @property
    def _radii_m(self) -> np.ndarray:
        """Of the circles along which latitude and longitude run."""
        return np.array([EARTH_RADIUS_M, EARTH_RADIUS_M * np.cos(np.radians(self.latitude))])
