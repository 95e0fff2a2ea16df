"""Spectrograms against an independent library's, and the files that keep them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.fft import dct
from transformers import audio_utils

from hpo.errors import DataError
from objectives.rf_localization import OBJECTIVE, features
from objectives.rf_localization.data import load
from objectives.rf_localization.features import Recipe, cached, cepstrum, mel_filters, mel_power, pooled
from objectives.rf_localization.fields import checked

RATE_HZ = 192_000
POOL = Recipe(RATE_HZ, "pool", mfcc=False)


def noise(samples: int = 16_000) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((samples, 2)).astype(np.float32) @ np.array([0.1, 0.1j])


@pytest.mark.filterwarnings("ignore:At least one mel filter")
@pytest.mark.parametrize("rate_hz", [192_000, 48_000])
def test_the_filters_are_those_of_an_independent_library(rate_hz: int) -> None:
    theirs = audio_utils.mel_filter_bank(1_025, 128, 0.0, rate_hz / 2, rate_hz, norm=None, mel_scale="htk")
    np.testing.assert_allclose(mel_filters(rate_hz), theirs.T, atol=1e-6)


@pytest.mark.filterwarnings("ignore:At least one mel filter")
def test_a_spectrogram_is_that_of_an_independent_library() -> None:
    signal = noise().real
    window = audio_utils.window_function(2_048, "hann")
    filters = audio_utils.mel_filter_bank(1_025, 128, 0.0, RATE_HZ / 2, RATE_HZ, norm=None, mel_scale="htk")
    theirs = audio_utils.spectrogram(signal, window, 2_048, 512, power=2.0, mel_filters=filters, mel_floor=0.0)
    ours = mel_power(signal.astype(np.float32)[None], RATE_HZ)[0]
    assert ours.shape == theirs.shape == (128, 1 + 16_000 // 512)
    np.testing.assert_allclose(ours * (window.sum() / 2) ** 2, theirs, rtol=1e-3, atol=1e-4)


def test_a_sine_of_full_scale_stands_at_0_db_in_its_band() -> None:
    """15 kHz is bin 160; a sine between two bins' filters gives its power to both, 1 in all, and 0.5 beside it."""
    seconds = np.arange(16_000) / RATE_HZ
    power = mel_power(np.cos(2 * np.pi * 15_000 * seconds).astype(np.float32)[None], RATE_HZ)[0]
    middle = power[:, 16]
    assert float(middle.sum()) == pytest.approx(1 + 2 * 0.25, abs=0.02)  # Hann: half the amplitude on both sides
    assert int(middle.argmax()) == int(mel_filters(RATE_HZ)[:, 160].argmax())


def test_level_is_kept_in_decibels() -> None:
    iq = noise().astype(np.complex64)
    loud, quiet = features.features(iq, POOL), features.features(iq / 10, POOL)
    inside = (loud > -75) & (loud < 0)
    assert inside.mean() > 0.9
    assert (loud - quiet)[inside] == pytest.approx(20, abs=1e-3)
    silent = features.features(np.zeros(16_000, np.complex64), POOL)
    assert (silent == -100).all()
    assert features.features(iq * 1e4, POOL).max() == 0


def test_channels_are_i_q_and_magnitude() -> None:
    envelope = np.full(16_000, 0.5, np.complex64)  # I is 0.5, Q nothing
    i, q, magnitude = features.features(envelope, POOL)[0]
    assert np.array_equal(i, magnitude) and (q == -100).all() and i.max() > -20


def test_a_second_has_376_frames_pooled_to_32_or_cut_into_11_windows() -> None:
    iq = noise(192_000).astype(np.complex64)
    assert mel_power(iq.real[None], RATE_HZ).shape == (1, 128, 376)
    assert features.features(iq, POOL).shape == (1, 3, 128, 32)
    windows = features.features(iq, Recipe(RATE_HZ, "window", mfcc=False))
    assert windows.shape == (11, 3, 128, 32)
    power = mel_power(iq.real[None], RATE_HZ)[0, :, 32:64]
    expected = np.clip(10 * np.log10(np.maximum(power, 1e-12)), -100, 0)
    np.testing.assert_allclose(windows[1, 0], expected, rtol=1e-6)
    short = noise(2_048).astype(np.complex64)
    with pytest.raises(DataError, match="needs 32 frames, 15872 samples; a recording has 5"):
        features.features(short, Recipe(RATE_HZ, "window", mfcc=False))


@pytest.mark.parametrize("frames", [5, 32, 33, 376])
def test_frames_are_pooled_as_an_independent_library_does(frames: int) -> None:
    power = np.random.default_rng(2).random((3, 128, frames), dtype=np.float32)
    theirs = torch.nn.functional.adaptive_avg_pool1d(torch.from_numpy(power), 32)
    np.testing.assert_allclose(pooled(power), theirs.numpy(), rtol=1e-5)


def test_cepstral_coefficients_are_scipys() -> None:
    decibels = np.random.default_rng(1).normal(-50, 10, (2, 128, 7)).astype(np.float32)
    expected = dct(decibels, type=2, norm="ortho", axis=-2)[:, :13]
    np.testing.assert_allclose(cepstrum(decibels), expected, rtol=1e-4, atol=1e-3)
    iq = noise().astype(np.complex64)
    assert features.features(iq, Recipe(RATE_HZ, "pool", mfcc=True)).shape == (1, 3, 141, 32)


@pytest.fixture
def made(tmp_path: Path) -> dict[str, Any]:
    path = OBJECTIVE().make_data(
        tmp_path / "rf", seed=3, records=32, samples=2_048, receivers=3, progress=False, label_noise_m=30
    )
    return {"path": str(path)}


def test_features_are_computed_once_and_say_what_it_cost(made: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    events, fields = load(made), checked(made)
    first = np.array(cached(events, fields))
    assert first.shape == (len(events.files), 1, 3, 128, 32) and first.dtype == np.float32
    (cost,) = (Path(made["path"]) / "features").glob("*.json")
    told = json.loads(cost.read_text())
    assert told["recordings"] == len(events.files) and told["seconds"] >= 0
    monkeypatch.setattr(features, "features", None)  # to be asked no more
    again = cached(events, fields)
    np.testing.assert_array_equal(first, again)
    assert isinstance(again, np.memmap) or isinstance(again.base, np.memmap)


def test_every_recipe_has_a_file_of_its_own_and_nothing_half_written_stays(
    made: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    data = {**made, "cache": str(cache)}
    cached(load(data), checked(data))
    cached(load(data), checked({**data, "mfcc": True}))
    assert len(list(cache.glob("*.npy"))) == 2

    def broken(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(features, "features", broken)
    with pytest.raises(KeyboardInterrupt):
        cached(load(data), checked({**data, "rate_hz": 96_000}))
    assert len(list(cache.iterdir())) == 4


def test_samples_that_are_not_finite_are_found_when_features_are_computed(made: dict[str, Any]) -> None:
    name = str(load(made).files[2])
    path = Path(made["path"]) / "iq" / name
    iq = np.load(path)
    iq[[1_000, 1_500]] = np.nan
    np.save(path, iq)
    with pytest.raises(DataError, match=f"{name} holds NaN or infinity in 2 of 2048 samples, first at 1000"):
        cached(load(made), checked(made))
