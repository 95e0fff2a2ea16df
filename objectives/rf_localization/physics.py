"""The physics of a recording: what a transmitter sends, what the way takes off, what a receiver hears.

Every function is one textbook formula with its source. Powers are in dBm, and IQ samples in
units of full scale: a signal of mean power |x|² = 1 has ``FULL_SCALE_DBM`` at the antenna.
"""

from __future__ import annotations

import numpy as np

SPEED_OF_LIGHT_M_S = 299_792_458.0  # SI Brochure, 9th edition, table 1
BOLTZMANN_J_K = 1.380_649e-23  # the same
TEMPERATURE_K = 290.0  # the standard noise temperature, IEEE Std 100

FULL_SCALE_DBM = -10.0  # of our receivers; from elsewhere it may be unknown, but must not change
DEVIATION_HZ = 5_000.0  # peak, of narrow-band FM in 25 kHz channels (ETSI EN 300 086)
VOICE_HZ = (300.0, 3_400.0)  # the telephone band, ITU-T G.712
_FORMANTS_HZ = ((500.0, 1.0), (1_500.0, 0.5), (2_500.0, 0.25))  # of a neutral vowel, with amplitudes
_FORMANT_WIDTH_HZ = 150.0  # Fant 1960, Acoustic Theory of Speech Production: an open tube of 17.5 cm

# ITU-T Q.23, table 1: a key's low tone from its row, the high one from its column.
DTMF_KEYS = ("123A", "456B", "789C", "*0#D")
DTMF_LOW_HZ = (697.0, 770.0, 852.0, 941.0)
DTMF_HIGH_HZ = (1_209.0, 1_336.0, 1_477.0, 1_633.0)

_GUARD = 256  # samples on both sides that a delay may disturb, cut off afterwards


def free_space_loss_db(distance_m: np.ndarray | float, freq_mhz: float) -> np.ndarray:
    """20 log10(4πdf/c): the loss between isotropic antennas (Friis 1946; ITU-R P.525)."""
    return np.asarray(20 * np.log10(4 * np.pi * np.asarray(distance_m) * freq_mhz * 1e6 / SPEED_OF_LIGHT_M_S))


def noise_floor_dbm(bandwidth_hz: float, noise_figure_db: float) -> float:
    """kTB and what the receiver adds (Friis 1944): -174 dBm in 1 Hz at 290 K, without a noise figure."""
    return float(10 * np.log10(BOLTZMANN_J_K * TEMPERATURE_K * bandwidth_hz * 1e3) + noise_figure_db)


def propagation_delay_s(distance_m: np.ndarray | float) -> np.ndarray:
    """How long a wave is on its way: 3.34 µs a kilometre."""
    return np.asarray(distance_m) / SPEED_OF_LIGHT_M_S


def doppler_hz(receding_m_s: np.ndarray | float, freq_mhz: float) -> np.ndarray:
    """-f v/c, for speeds far below that of light; negative where the distance grows."""
    return -np.asarray(receding_m_s) / SPEED_OF_LIGHT_M_S * freq_mhz * 1e6


def sector_gain_db(off_axis_deg: np.ndarray, front_to_back_db: float, beam_deg: float = 70.0) -> np.ndarray:
    """-min(12 (θ/θ3dB)², Am) of a sector antenna (3GPP TR 36.814, table A.2.1.1-2), 0 dB on its axis.

    Args:
        off_axis_deg: any angle; taken into -180 to 180.
        front_to_back_db: Am; 0 is an antenna that hears alike on all sides.
        beam_deg: θ3dB, the width between the half-power points.
    """
    theta = (np.asarray(off_axis_deg) + 180) % 360 - 180
    return np.asarray(-np.minimum(12 * (theta / beam_deg) ** 2, front_to_back_db))


def voice(samples: int, rate_hz: int, rng: np.random.Generator) -> np.ndarray:
    """Noise with the formants of a vowel in the telephone band; (samples,), peak 1.

    A source and a filter (Fant 1960): what is heard of unvoiced speech, and as wide as voiced.
    """
    freqs = np.fft.rfftfreq(samples, 1 / rate_hz)
    shift = rng.uniform(0.85, 1.15)  # throats differ in length
    shape = sum(a / np.hypot(1, (freqs - f * shift) / _FORMANT_WIDTH_HZ) for f, a in _FORMANTS_HZ)
    shape = np.where((freqs >= VOICE_HZ[0]) & (freqs <= VOICE_HZ[1]), shape, 0.0)
    audio = np.fft.irfft(np.fft.rfft(rng.standard_normal(samples)) * shape, samples)
    return np.asarray(audio / np.abs(audio).max())


def tones(freqs_hz: tuple[float, ...], samples: int, rate_hz: int, rng: np.random.Generator) -> np.ndarray:
    """The sum of sines of equal amplitude and random phase; (samples,), at most 1."""
    seconds = np.arange(samples) / rate_hz
    waves = [np.sin(2 * np.pi * f * seconds + rng.uniform(0, 2 * np.pi)) for f in freqs_hz]
    return np.asarray(np.sum(waves, axis=0) / len(freqs_hz))


def dtmf_pair_hz(key: str) -> tuple[float, float]:
    """The two tones of a key of ``DTMF_KEYS``: ``dtmf_pair_hz("5")`` is (770, 1336)."""
    row = next(row for row, keys in enumerate(DTMF_KEYS) if key in keys)
    return DTMF_LOW_HZ[row], DTMF_HIGH_HZ[DTMF_KEYS[row].index(key)]


def frequency_modulated(audio: np.ndarray, rate_hz: int, deviation_hz: float = DEVIATION_HZ) -> np.ndarray:
    """exp(j 2π Δf ∫ audio dt) (Carson 1922): constant envelope 1, (samples,) complex128, around 0 Hz."""
    return np.asarray(np.exp(2j * np.pi * deviation_hz * np.cumsum(audio) / rate_hz))


def heard(
    sent: np.ndarray,
    *,
    rate_hz: int,
    power_dbm: float,
    noise_dbm: float,
    delay_s: float,
    shift_hz: float,
    carrier_mhz: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """What a receiver records of ``sent``: delayed, turned by its carrier, shifted, scaled, with noise.

    The delay is a turn of every frequency by exp(-j 2π f τ), so parts of a sample count too.
    The clock is everybody's: two receivers differ by their delays alone.

    Args:
        sent: (n + 2 · guard,) complex, from ``padded`` samples of audio.
        power_dbm: of the signal at the receiver. noise_dbm: in the whole bandwidth ``rate_hz``.

    Returns:
        (n,) complex64 in units of full scale.
    """
    freqs = np.fft.fftfreq(len(sent), 1 / rate_hz)
    turn = np.exp(-2j * np.pi * (freqs + carrier_mhz * 1e6) * delay_s)
    signal = np.fft.ifft(np.fft.fft(sent) * turn)[_GUARD:-_GUARD]
    signal *= np.exp(2j * np.pi * shift_hz * np.arange(len(signal)) / rate_hz)
    noise = rng.standard_normal((len(signal), 2)) @ np.array([1, 1j]) / np.sqrt(2)
    received = _amplitude(power_dbm) * signal + _amplitude(noise_dbm) * noise
    return received.astype(np.complex64)


def padded(samples: int) -> int:
    """How many samples must be sent for ``samples`` to be heard."""
    return samples + 2 * _GUARD


def _amplitude(power_dbm: float) -> float:
    return float(10 ** ((power_dbm - FULL_SCALE_DBM) / 20))
