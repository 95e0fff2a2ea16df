"""The physics of the maker against textbook figures, and the geometry against great circles."""

from __future__ import annotations

import numpy as np
import pytest

from hpo.errors import DataError
from hpo.evaluation.localization import great_circle_m
from objectives.rf_localization import physics
from objectives.rf_localization.geometry import Frame
from objectives.rf_localization.world import EVENTS_PER_SESSION, KINDS, World

RATE_HZ, SAMPLES = 192_000, 8_192


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def received(audio: np.ndarray | None = None, **changes: float) -> np.ndarray:
    """A carrier at 0 Hz, or FM of ``audio``, without noise to speak of."""
    silent = np.zeros(physics.padded(SAMPLES))
    sent = physics.frequency_modulated(silent if audio is None else audio, RATE_HZ)
    given = {
        "rate_hz": RATE_HZ, "power_dbm": -50.0, "noise_dbm": -190.0,
        "delay_s": 0.0, "shift_hz": 0.0, "carrier_mhz": 0.0,
    }  # fmt: skip
    return physics.heard(sent, **{**given, **changes}, rng=rng())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("distance_m", "freq_mhz", "loss_db"),
    [(100, 2_400, 80.05), (1_000, 145, 75.67), (384_400e3, 1_296, 206.4)],
)
def test_free_space_loss_is_that_of_the_textbook(distance_m: float, freq_mhz: float, loss_db: float) -> None:
    """32.45 dB + 20 log10(km) + 20 log10(MHz); the last is the way to the Moon at 23 cm."""
    assert float(physics.free_space_loss_db(distance_m, freq_mhz)) == pytest.approx(loss_db, abs=0.05)


def test_the_noise_floor_is_minus_174_dbm_in_a_hertz() -> None:
    assert physics.noise_floor_dbm(1, 0) == pytest.approx(-173.98, abs=0.01)
    assert physics.noise_floor_dbm(192_000, 6) == pytest.approx(-173.98 + 52.83 + 6, abs=0.02)


def test_light_takes_3_microseconds_a_kilometre_and_a_sample_is_1_56_km() -> None:
    assert float(physics.propagation_delay_s(1_000)) == pytest.approx(3.3356e-6, rel=1e-4)
    assert float(physics.propagation_delay_s(1_561.4)) * RATE_HZ == pytest.approx(1, abs=1e-4)


def test_doppler_falls_for_one_who_goes_away() -> None:
    """20 m/s at 145 MHz: 20 / 3e8 of 145e6 Hz."""
    assert float(physics.doppler_hz(20, 145)) == pytest.approx(-9.673, abs=0.001)
    assert float(physics.doppler_hz(-20, 145)) > 0


@pytest.mark.parametrize(
    ("key", "pair_hz"), [("1", (697, 1209)), ("5", (770, 1336)), ("9", (852, 1477)), ("0", (941, 1336)),
                         ("D", (941, 1633)), ("A", (697, 1633)), ("#", (941, 1477)), ("*", (941, 1209))]
)  # fmt: skip
def test_keys_have_the_tones_of_q23(key: str, pair_hz: tuple[int, int]) -> None:
    assert physics.dtmf_pair_hz(key) == pair_hz


def test_a_sector_antenna_is_down_3_db_at_the_edge_of_its_beam() -> None:
    assert physics.sector_gain_db(np.array([0.0, 35, -35, 180, 325]), 25) == pytest.approx([0, -3, -3, -25, -3])
    assert not physics.sector_gain_db(np.array([90.0, 180]), 0).any()


def test_the_power_of_a_recording_is_that_of_the_signal_over_full_scale() -> None:
    power_db = 10 * np.log10(np.mean(np.abs(received(power_dbm=-50)) ** 2))
    assert power_db == pytest.approx(-50 - physics.FULL_SCALE_DBM, abs=1e-3)


def test_noise_has_its_power_in_both_parts_alike() -> None:
    noise = received(power_dbm=-300, noise_dbm=-60)
    for part in (noise.real, noise.imag):
        assert 10 * np.log10(2 * np.mean(part**2)) == pytest.approx(-60 - physics.FULL_SCALE_DBM, abs=0.2)


def test_a_delay_of_part_of_a_sample_is_a_phase_that_grows_with_frequency() -> None:
    """A tone of 10 kHz that comes 2 µs late has turned by 2π · 10 kHz · 2 µs."""
    up = np.full(physics.padded(SAMPLES), 2.0)  # 5 kHz of deviation twice
    turned = np.angle(received(up, delay_s=2e-6) / received(up))[100:-100]
    assert turned == pytest.approx(-2 * np.pi * 10e3 * 2e-6, abs=2e-3)


def test_the_carrier_turns_by_its_own_delay() -> None:
    """A quarter of a period at 145 MHz."""
    turned = np.angle(received(carrier_mhz=145, delay_s=0.25 / 145e6) / received())
    assert turned == pytest.approx(-np.pi / 2, abs=1e-4)


def test_doppler_shifts_the_whole_signal() -> None:
    iq = received(shift_hz=1_000.0)
    spectrum = np.abs(np.fft.fft(iq))
    assert np.fft.fftfreq(SAMPLES, 1 / RATE_HZ)[spectrum.argmax()] == pytest.approx(1_000, abs=RATE_HZ / SAMPLES)


def test_fm_swings_by_its_deviation_and_keeps_its_envelope() -> None:
    audio = physics.tones((1_000.0,), SAMPLES, RATE_HZ, rng())
    sent = physics.frequency_modulated(audio, RATE_HZ)
    freq_hz = np.diff(np.unwrap(np.angle(sent))) * RATE_HZ / (2 * np.pi)
    assert np.abs(sent) == pytest.approx(1)
    assert (freq_hz.max(), freq_hz.min()) == pytest.approx((5_000, -5_000), rel=1e-3)


def test_a_voice_stays_in_the_telephone_band() -> None:
    audio = physics.voice(SAMPLES, RATE_HZ, rng())
    power, freqs_hz = np.abs(np.fft.rfft(audio)) ** 2, np.fft.rfftfreq(SAMPLES, 1 / RATE_HZ)
    inside = (freqs_hz >= 300) & (freqs_hz <= 3_400)
    assert power[inside].sum() / power.sum() == pytest.approx(1, abs=1e-9)
    assert np.abs(audio).max() == pytest.approx(1)


def test_two_tones_are_two_lines() -> None:
    power = np.abs(np.fft.rfft(physics.tones((770.0, 1336.0), RATE_HZ, RATE_HZ, rng()))) ** 2  # bins of 1 Hz
    assert sorted(np.argsort(power)[-2:].tolist()) == [770, 1336]


def test_nine_in_ten_signals_are_voices_and_none_is_a_bare_carrier() -> None:
    world = World(seed=1, receivers=3, samples=2_048)
    sites = world.sites()
    events = [world.event(number, sites) for number in range(2_000)]
    shares = [sum(event.kind == kind for event in events) / len(events) for kind in KINDS]
    assert shares == pytest.approx([0.90, 0.05, 0.05], abs=0.02)  # 4 standard deviations are 0.027 and 0.019
    for event in events[:40]:
        (iq, *_) = world.recordings(event).values()
        assert np.ptp(np.diff(np.unwrap(np.angle(iq[100:-100])))) > 0.05  # rad a sample: the frequency moves


def test_a_drive_stays_in_the_region_and_its_speed_in_metres_is_right() -> None:
    world = World(seed=3, region_m=500)
    for session in range(20):
        drive = world.drive(session)
        places = np.array([drive.at(second)[0] for second in range(0, 300, 7)])
        assert np.abs(places).max() <= 250
        position, velocity = drive.at(10.0)
        assert drive.at(10.001)[0] - position == pytest.approx(velocity * 0.001, abs=1e-9)


def test_an_event_follows_from_its_place() -> None:
    """Powers, delays and Doppler of an ideal world, computed again from the label alone."""
    world = World(seed=5, front_to_back_db=0, gain_spread_db=0, power_spread_db=0)
    sites = world.sites()
    event = world.event(EVENTS_PER_SESSION + 1, sites)
    degrees = world.frame.degrees(sites.north_east_m)
    ground_m = great_circle_m(np.tile([event.latitude, event.longitude], (len(degrees), 1)), degrees)
    distance_m = np.hypot(ground_m, 30)
    loss_db = 32.4478 + 20 * np.log10(distance_m / 1e3) + 20 * np.log10(event.freq_mhz)
    assert event.power_dbm == pytest.approx(30 - loss_db, abs=0.01)
    assert event.delay_s == pytest.approx(distance_m / 299_792_458, rel=1e-3)
    assert np.abs(event.shift_hz).max() <= 20 / 299_792_458 * 146e6


def test_label_noise_is_within_30_m_for_most() -> None:
    quiet, noisy = World(seed=2), World(seed=2, label_noise_m=30)
    sites = quiet.sites()
    off_m = []
    for number in range(300):
        a, b = (world.event(number, sites) for world in (quiet, noisy))
        places = np.array([[one.latitude, one.longitude] for one in (a, b)])
        off_m.append(np.diff(quiet.frame.normalised(places), axis=0)[0])
    assert np.mean(np.abs(off_m) <= 30) == pytest.approx(0.954, abs=0.03)


@pytest.mark.parametrize(("latitude", "longitude"), [(52.0, 5.0), (-33.9, 151.2), (0.0, -78.5)])
def test_metres_of_a_frame_are_those_of_great_circles(latitude: float, longitude: float) -> None:
    frame = Frame(latitude, longitude, scale_m=1_000.0)
    points = rng().uniform(-5, 5, (50, 2))
    here = np.tile([latitude, longitude], (50, 1))
    along_m = great_circle_m(frame.degrees(points), here)
    assert np.linalg.norm(points, axis=1) * 1_000 == pytest.approx(along_m, rel=1e-3)
    assert frame.normalised(frame.degrees(points)) == pytest.approx(points, abs=1e-9)


def test_a_frame_spans_its_positions_and_one_place_is_refused() -> None:
    frame = Frame.around(np.array([[52.0, 5.0], [52.1, 5.0], [52.05, 5.01]]))
    assert (frame.latitude, frame.longitude) == pytest.approx((52.05, 5.005))
    assert frame.scale_m == pytest.approx(0.05 * 111_195, rel=1e-3)  # a degree of latitude on that sphere
    with pytest.raises(DataError, match="nothing to learn"):
        Frame.around(np.array([[52.0, 5.0], [52.0, 5.0]]))
