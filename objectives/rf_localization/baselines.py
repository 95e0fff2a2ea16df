"""What a network must beat: three ways to a position that learn next to nothing.

The last two see the power that each receiver measured (``snr_db``; all receivers have the same
noise), which the maker's labels give without an error: they are flattered.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hpo.evaluation.localization import localization_metrics
from hpo.trial import Metrics
from objectives.rf_localization.data import Events, load, split
from objectives.rf_localization.fields import checked
from objectives.rf_localization.geometry import Frame

_NEAREST = 1e-3  # of the units of a frame; a distance is no less, or its logarithm has no end


@dataclass(frozen=True)
class Heard:
    """n examples: power (n, R) in dB, NaN where absent, and positions (n, 2); sites (R, 2). All in normalised units."""

    power_db: np.ndarray
    positions: np.ndarray
    sites: np.ndarray

    @classmethod
    def of(cls, events: Events, rows: np.ndarray, frame: Frame, single: bool) -> Heard:
        """The events of ``rows``; with ``single`` each receiver's recording on its own."""
        power = events.snr_db[rows]
        positions = frame.normalised(events.positions[rows])
        if single:
            example, receiver = np.nonzero(events.present[rows])
            alone = np.full((len(example), power.shape[1]), np.nan)
            alone[np.arange(len(example)), receiver] = power[example, receiver]
            power, positions = alone, positions[example]
        return cls(power, positions, frame.normalised(events.sites))


def baselines(data: Mapping[str, Any], data_seed: int, part: str, names: Sequence[str]) -> dict[str, Metrics]:
    """The metrics of the named ``PREDICTORS``, fitted to the training events, on ``part``; no σ, so no loss."""
    fields, events = checked(data), load(data)
    parts = split(events, fields, data_seed)
    frame = Frame.around(events.positions[parts.train])
    rows = parts.validation if part == "validation" else parts.test
    prefix = "val_" if part == "validation" else "test_"
    train, judged = (Heard.of(events, some, frame, fields.receivers == "single") for some in (parts.train, rows))
    wanted = frame.degrees(judged.positions)
    return {
        name: localization_metrics(frame.degrees(PREDICTORS[name](train, judged)), wanted, prefix) for name in names
    }


def training_mean(train: Heard, judged: Heard) -> np.ndarray:
    return np.tile(train.positions.mean(axis=0), (len(judged.positions), 1))


def power_centroid(train: Heard, judged: Heard) -> np.ndarray:
    """The mean of the receivers' sites, weighted by power (Blumenthal et al. 2007, doi:10.1109/WISP.2007.4447528)."""
    weight = np.where(np.isnan(judged.power_db), 0.0, 10 ** (np.nan_to_num(judged.power_db) / 10))
    return np.asarray(weight @ judged.sites / weight.sum(axis=1, keepdims=True))


def least_squares(train: Heard, judged: Heard) -> np.ndarray:
    """The position whose path losses fit the measured powers best, in dB.

    Patwari et al. 2003, doi:10.1109/TSP.2003.814469. Power is taken as A_r - 10 n
    log10(distance); each receiver's A_r and the exponent n are fitted to the training events.
    The best of five starts, within the region and half of it more.
    """
    from scipy.optimize import least_squares as solve

    offset, slope = path_loss(train)
    starts = np.array([[0.0, 0.0], [0.5, 0.5], [0.5, -0.5], [-0.5, 0.5], [-0.5, -0.5]])
    found = np.empty_like(judged.positions)
    for i, power in enumerate(judged.power_db):
        here = ~np.isnan(power)

        def missing(position: np.ndarray, power: np.ndarray = power, here: np.ndarray = here) -> np.ndarray:
            expected = offset[here] + slope * _log_distance(position[None], judged.sites[here])[0]
            return np.asarray(expected - power[here])

        tries = [solve(missing, start, bounds=(-1.5, 1.5)) for start in starts]
        found[i] = min(tries, key=lambda result: result.cost).x
    return found


def path_loss(train: Heard) -> tuple[np.ndarray, float]:
    """The power (R,) at distance 1 and the slope over log10 of the distance, by linear least squares."""
    example, receiver = np.nonzero(~np.isnan(train.power_db))
    distance = _log_distance(train.positions, train.sites)[example, receiver]
    columns = np.column_stack([np.eye(len(train.sites))[receiver], distance])
    solution, *_ = np.linalg.lstsq(columns, train.power_db[example, receiver], rcond=None)
    return solution[:-1], float(solution[-1])


def _log_distance(positions: np.ndarray, sites: np.ndarray) -> np.ndarray:
    """(n, R) log10 of the distances."""
    distance = np.linalg.norm(positions[:, None] - sites[None], axis=2)
    return np.asarray(np.log10(np.maximum(distance, _NEAREST)))


PREDICTORS: Mapping[str, Callable[[Heard, Heard], np.ndarray]] = {
    "training_mean": training_mean,
    "power_centroid": power_centroid,
    "least_squares": least_squares,
}
