"""Mel spectrograms of I, Q and magnitude, in dB of full scale; computed once and kept as files.

The level is not taken away: 0 dB is a sine of full scale, whatever recording it is in, because
received power is what says how far away a transmitter is. NumPy and SciPy, no torch: what predicts
computes them too.
"""

from __future__ import annotations

import functools
import hashlib
import json
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.fft
from scipy.sparse import csr_array

from hpo import durable
from hpo.errors import DataError
from objectives.rf_localization import recordings
from objectives.rf_localization.data import N_FFT, Events
from objectives.rf_localization.fields import Fields

VERSION = 2  # raise it whenever the same recording gives other features
HOP, BANDS, FRAMES, CHANNELS, COEFFICIENTS = 512, 128, 32, 3, 13
FLOOR_DB = -100.0


@dataclass(frozen=True)
class Recipe:
    """What decides the features of a recording, besides itself."""

    rate_hz: int
    frames: str
    mfcc: bool

    @classmethod
    def of(cls, fields: Fields) -> Recipe:
        return cls(fields.rate_hz, fields.frames, fields.mfcc)

    @property
    def rows(self) -> int:
        """Bands, and the cepstral coefficients below them where there are some."""
        return BANDS + (COEFFICIENTS if self.mfcc else 0)

    def windows(self, samples: int) -> int:
        """How many spectrograms are made of a recording of ``samples``.

        Raises:
            DataError: windows of 32 frames are wanted and there are fewer frames.
        """
        if self.frames == "pool":
            return 1
        count, needed = 1 + samples // HOP, (FRAMES - 1) * HOP
        if count < FRAMES:
            raise DataError(f"frames: window needs {FRAMES} frames, {needed} samples; a recording has {count}.")
        return count // FRAMES


def cached(events: Events, fields: Fields) -> np.ndarray:
    """The features of all recordings, in the order of ``events.files``: (N, W, 3, rows, 32) float32.

    W is the number of windows, 1 where frames are pooled. Found by the content of the
    recordings and the recipe, memory-mapped; computed where they are not there yet, while
    other processes wait.

    Raises:
        DataError: a recording cannot be read or holds NaN, or the cache cannot be written.
    """
    recipe = Recipe.of(fields)
    key = hashlib.sha256(f"{VERSION} {recipe} {events.fingerprint}".encode()).hexdigest()[:24]
    path = fields.cache_folder / f"{key}.npy"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with durable.locked(path.parent):
            if not path.exists():
                _compute(path, events, fields, recipe)
        return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: features cannot be kept or read: {error}. Name another folder as cache.") from error


def _compute(path: Path, events: Events, fields: Fields, recipe: Recipe) -> None:
    place = recordings.place_of(fields.recordings_place)
    began = time.monotonic()

    def fill(temporary: Path) -> None:
        kept = None
        for i, name in enumerate(events.files.tolist()):
            found = features(recordings.read(place, name), recipe)
            if kept is None:
                shape = (len(events.files), *found.shape)
                kept = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.float32, shape=shape)
            kept[i] = found
        if kept is not None:
            kept.flush()

    durable.write(path, fill)
    cost = {"recordings": len(events.files), "seconds": round(time.monotonic() - began, 2), **vars(recipe)}
    durable.write(path.with_suffix(".json"), lambda file: file.write_text(json.dumps(cost), encoding="utf-8"))


def features(iq: np.ndarray, recipe: Recipe) -> np.ndarray:
    """(n,) complex64 to (W, 3, rows, 32) float32 dB in [-100, 0] (coefficients: any).

    Raises:
        DataError: as ``Recipe.windows``.
    """
    count = recipe.windows(len(iq))
    power = mel_power(np.stack([iq.real, iq.imag, np.abs(iq)]), recipe.rate_hz)
    if recipe.frames == "pool":
        windows = pooled(power)[None]
    else:
        windows = power[..., : count * FRAMES].reshape(*power.shape[:2], count, FRAMES).transpose(2, 0, 1, 3)
    decibels = np.clip(10 * np.log10(np.maximum(windows, 1e-12)), FLOOR_DB, 0)
    found = np.concatenate([decibels, cepstrum(decibels)], axis=2) if recipe.mfcc else decibels
    return np.ascontiguousarray(found, dtype=np.float32)


def mel_power(signals: np.ndarray, rate_hz: int) -> np.ndarray:
    """(C, n) real signals to (C, 128, 1 + n // 512): power in each band, a sine of amplitude 1 about 1.

    Hann windows, centred, mirrored at both ends, as librosa's and torchaudio's defaults are.
    """
    padded = np.pad(signals, ((0, 0), (N_FFT // 2, N_FFT // 2)), mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, N_FFT, axis=1)[:, ::HOP]
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(N_FFT) / N_FFT)
    spectrum = scipy.fft.rfft(frames * (hann / (hann.sum() / 2)).astype(signals.dtype))
    power = spectrum.real**2 + spectrum.imag**2
    bands = _sparse_filters(rate_hz) @ power.reshape(-1, power.shape[-1]).T
    return np.asarray(bands.reshape(BANDS, *power.shape[:2]).swapaxes(0, 1))


def pooled(power: np.ndarray) -> np.ndarray:
    """(..., n) to (..., 32): means over 32 stretches that cover all frames, each at least one."""
    count, place = power.shape[-1], np.arange(FRAMES)
    first, end = place * count // FRAMES, -(-(place + 1) * count // FRAMES)
    return np.stack([power[..., a:b].mean(axis=-1) for a, b in zip(first, end, strict=True)], axis=-1)


@functools.cache
def mel_filters(rate_hz: int) -> np.ndarray:
    """Triangles over the 1025 bins of a spectrum: (128, 1025) float32, peak 1, from 0 Hz to half the rate.

    Their corners are even on the HTK mel scale, 2595 log10(1 + f/700) (Young et al. 2006, The HTK
    Book, 5.4). Where bands are narrower than a bin some hold none and stay empty.
    """
    bins_hz = np.linspace(0, rate_hz / 2, N_FFT // 2 + 1)
    highest = 2595 * np.log10(1 + rate_hz / 2 / 700)
    corners_hz = 700 * (10 ** (np.linspace(0, highest, BANDS + 2) / 2595) - 1)
    low, middle, high = corners_hz[:-2, None], corners_hz[1:-1, None], corners_hz[2:, None]
    filters = np.minimum((bins_hz - low) / (middle - low), (high - bins_hz) / (high - middle))
    return np.maximum(filters, 0).astype(np.float32)


@functools.cache
def _sparse_filters(rate_hz: int) -> csr_array:
    """Every bin lies in two bands at most; a dense product would wake BLAS's threads for each recording."""
    return csr_array(mel_filters(rate_hz))


def cepstrum(decibels: np.ndarray) -> np.ndarray:
    """The first 13 coefficients of the orthonormal DCT-II over the bands: (..., 128, T) to (..., 13, T).

    Davis & Mermelstein 1980, doi:10.1109/TASSP.1980.1163420.
    """
    order, band = np.arange(COEFFICIENTS)[:, None], np.arange(BANDS)
    basis = np.cos(np.pi / BANDS * (band + 0.5) * order) * (2 / BANDS) ** 0.5
    basis[0] /= 2**0.5
    return np.asarray(basis.astype(decibels.dtype) @ decibels)
