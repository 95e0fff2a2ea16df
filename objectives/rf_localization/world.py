"""The world that the maker records: receivers at fixed sites, and transmitters on their drives.

Everything is drawn from a seed: sites from (seed, 0), a session from (seed, 1, session), an
event from (seed, 2, event), its signals from (seed, 3, event). Real sites are no ideal ones: each hears better on
one side (``front_to_back_db``), and no two have the same gain (``gain_spread_db``). Neither
stands in the records; a model must find it out, as it would have to outside.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from objectives.rf_localization import physics
from objectives.rf_localization.geometry import Frame

CENTRE = (52.0, 5.0)  # degrees
EVENTS_PER_SESSION = 4
SECONDS_BETWEEN = 30.0
EIRP_DBM = 30.0  # 1 W, a hand-held
_HEIGHT_M = 30.0  # of a receiver's mast
_NOISE_FIGURE_DB = 6.0
_BAND_MHZ = (145.0, 146.0)
_SPEED_M_S = (0.0, 20.0)
_ABSENT = 0.1  # how often a receiver misses an event
_LEAST_PRESENT = 2
KINDS, KIND_SHARES = ("voice", "tone", "dtmf"), (0.90, 0.05, 0.05)


@dataclass(frozen=True)
class World:
    """The options of the maker that decide what is recorded."""

    seed: int
    receivers: int = 5
    samples: int = 192_000
    rate_hz: int = 192_000
    region_m: int = 2_000
    label_noise_m: int = 0
    front_to_back_db: int = 10
    gain_spread_db: int = 2
    power_spread_db: int = 1

    @property
    def frame(self) -> Frame:
        return Frame(*CENTRE, scale_m=1.0)

    def sites(self) -> Sites:
        """Receivers around the region, at 0.6 to 1 of half its width, facing anywhere."""
        rng = np.random.default_rng([self.seed, 0])
        n = self.receivers
        angle = (np.arange(n) + rng.uniform(-0.2, 0.2, n)) * 2 * np.pi / n
        radius = self.region_m / 2 * rng.uniform(0.6, 1.0, n)
        return Sites(
            north_east_m=np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1),
            axis_deg=rng.uniform(0, 360, n),
            gain_db=rng.normal(0, self.gain_spread_db, n),
        )

    def drive(self, session: int) -> Drive:
        """A transmitter that keeps its power and frequency, and goes straight on, turning back at the border."""
        rng = np.random.default_rng([self.seed, 1, session])
        half = self.region_m / 2
        start = rng.uniform(-half, half, 2)
        heading, speed = rng.uniform(0, 2 * np.pi), rng.uniform(*_SPEED_M_S)
        return Drive(
            start_m=start,
            velocity_m_s=speed * np.array([np.cos(heading), np.sin(heading)]),
            half_m=half,
            eirp_dbm=EIRP_DBM + rng.uniform(-self.power_spread_db, self.power_spread_db),
            freq_mhz=round(float(rng.uniform(*_BAND_MHZ)) * 40) / 40,  # 25 kHz channels
        )

    def event(self, number: int, sites: Sites) -> Event:
        """Where event ``number`` takes place, and how it reaches each receiver."""
        rng = np.random.default_rng([self.seed, 2, number])
        session, turn = divmod(number, EVENTS_PER_SESSION)
        drive = self.drive(session)
        position, velocity = drive.at(turn * SECONDS_BETWEEN)
        away = np.column_stack([position - sites.north_east_m, np.full(self.receivers, -_HEIGHT_M)])
        distance_m = np.linalg.norm(away, axis=1)
        bearing_deg = np.degrees(np.arctan2(away[:, 1], away[:, 0]))
        power_dbm = (
            drive.eirp_dbm
            - physics.free_space_loss_db(distance_m, drive.freq_mhz)
            + physics.sector_gain_db(bearing_deg - sites.axis_deg, self.front_to_back_db)
            + sites.gain_db
        )
        present = rng.random(self.receivers) >= _ABSENT
        present[rng.permutation(self.receivers)[:_LEAST_PRESENT]] = True
        label_m = position + rng.normal(0, self.label_noise_m / 2, 2)  # ±30 m holds for 95 % of each axis
        latitude, longitude = self.frame.degrees(label_m[None])[0].tolist()
        return Event(
            number=number,
            session=session,
            seconds=turn * SECONDS_BETWEEN,
            latitude=latitude,
            longitude=longitude,
            freq_mhz=drive.freq_mhz,
            kind=str(rng.choice(KINDS, p=KIND_SHARES)),
            present=np.flatnonzero(present).tolist(),
            power_dbm=power_dbm,
            noise_dbm=physics.noise_floor_dbm(self.rate_hz, _NOISE_FIGURE_DB),
            delay_s=physics.propagation_delay_s(distance_m),
            shift_hz=physics.doppler_hz(away[:, :2] @ velocity / distance_m, drive.freq_mhz),
        )

    def recordings(self, event: Event) -> dict[int, np.ndarray]:
        """What the receivers that are present record of it: (samples,) complex64 each."""
        rng = np.random.default_rng([self.seed, 3, event.number])
        sent = physics.frequency_modulated(self._audio(event.kind, rng), self.rate_hz)
        return {
            r: physics.heard(
                sent,
                rate_hz=self.rate_hz,
                power_dbm=float(event.power_dbm[r]),
                noise_dbm=event.noise_dbm,
                delay_s=float(event.delay_s[r]),
                shift_hz=float(event.shift_hz[r]),
                carrier_mhz=event.freq_mhz,
                rng=rng,
            )
            for r in event.present
        }

    def _audio(self, kind: str, rng: np.random.Generator) -> np.ndarray:
        samples = physics.padded(self.samples)
        if kind == "voice":
            return physics.voice(samples, self.rate_hz, rng)
        key = str(rng.choice(list("".join(physics.DTMF_KEYS))))
        freqs_hz = physics.dtmf_pair_hz(key) if kind == "dtmf" else (float(rng.uniform(400, 3_000)),)
        return physics.tones(freqs_hz, samples, self.rate_hz, rng)


@dataclass(frozen=True)
class Sites:
    """Receivers: (R, 2) metres from the centre, the bearing of each antenna's axis (R,), its gain (R,)."""

    north_east_m: np.ndarray
    axis_deg: np.ndarray
    gain_db: np.ndarray


@dataclass(frozen=True)
class Drive:
    """A transmitter's way within a square of ``half_m`` to each side."""

    start_m: np.ndarray
    velocity_m_s: np.ndarray
    half_m: float
    eirp_dbm: float
    freq_mhz: float

    def at(self, seconds: float) -> tuple[np.ndarray, np.ndarray]:
        """Position and velocity, (2,) each, north and east."""
        straight = self.start_m + self.velocity_m_s * seconds + self.half_m
        laps, rest = np.divmod(straight, 2 * self.half_m)
        back = laps % 2 == 1
        position = np.where(back, 2 * self.half_m - rest, rest) - self.half_m
        return position, np.where(back, -self.velocity_m_s, self.velocity_m_s)


@dataclass(frozen=True)
class Event:
    """One transmission: when and where (degrees), who records it, and how it reaches each receiver, (R,)."""

    number: int
    session: int
    seconds: float
    latitude: float
    longitude: float
    freq_mhz: float
    kind: str
    present: list[int]
    power_dbm: np.ndarray
    noise_dbm: float
    delay_s: np.ndarray
    shift_hz: np.ndarray
