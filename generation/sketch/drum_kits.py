"""The drum kits: every drum struck once, in samples, from fixed seeds.

Skins are decaying sines that fall in pitch, cymbals are many partials close together, snares and claps are shaped noise
on top.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from generation.sketch.instruments import Array, Sound, ring


@dataclass(frozen=True)
class Kit:
    kick_hz: float  # where the kick's pitch settles
    kick_sweep: float  # how many times higher it starts
    kick_decay_s: float
    kick_click: float
    snare_hz: float
    snare_body: float  # level of the skin; the rest is wires
    snare_decay_s: float
    snare_noise_hz: tuple[float, float]  # band of the wires
    hat_decay_s: float
    hat_hz: float  # where the hats begin
    metal: float  # level of partials in the hats; the rest is noise
    top_hz: float = 16_000.0  # everything above is rolled off
    claps: bool = False  # a clap in the snare's place
    shakes: bool = False  # a shaker in the hat's place


KITS = {
    "lofi": Kit(52, 2.2, 0.16, 0.05, 180, 0.7, 0.09, (900, 5200), 0.030, 5200, 0.3, top_hz=7_000),
    "house": Kit(49, 4.2, 0.26, 0.25, 190, 0.0, 0.13, (900, 7500), 0.035, 7500, 0.6, claps=True),
    "ambient": Kit(46, 1.6, 0.30, 0.02, 160, 0.5, 0.16, (600, 4500), 0.060, 5000, 0.2, top_hz=9_000, shakes=True),
    "rock": Kit(58, 2.6, 0.20, 0.40, 195, 0.9, 0.16, (1200, 9000), 0.045, 5500, 0.5),
    "jazz": Kit(66, 1.5, 0.16, 0.06, 205, 0.45, 0.11, (1400, 7500), 0.040, 6000, 0.6, top_hz=13_000),
    "funk": Kit(60, 2.3, 0.13, 0.35, 225, 0.9, 0.10, (1500, 9500), 0.028, 6500, 0.5),
    "synthwave": Kit(50, 3.4, 0.24, 0.30, 170, 0.8, 0.24, (700, 8500), 0.050, 7000, 0.8),
    "folk": Kit(72, 1.4, 0.17, 0.05, 240, 0.35, 0.07, (1800, 7000), 0.045, 4500, 0.0, top_hz=12_000, shakes=True),
}  # fmt: skip

PANS = {"kick": 0.0, "snare": 0.06, "hat": 0.38, "open_hat": 0.38, "ride": -0.42, "tom": -0.25}
LEVELS = {"kick": 1.0, "snare": 0.72, "hat": 0.27, "open_hat": 0.3, "ride": 0.26, "tom": 0.8}
VARIATIONS = 3  # different strokes of each drum, taken in turn


@lru_cache(maxsize=len(KITS) * len(PANS) * VARIATIONS)
def stroke(genre: str, drum: str, variation: int, sample_rate: int) -> Sound:
    """Return one drum struck hard, [samples], peak at its level in the kit."""
    kit = KITS[genre]
    rng = np.random.default_rng(100 * variation + sum(drum.encode()))
    wave = _STROKES[drum](kit, rng, sample_rate)
    wave = _shaped(wave, 25.0, kit.top_hz, sample_rate)
    wave *= np.minimum(1.0, np.arange(len(wave))[::-1] / (0.004 * sample_rate))  # ends at zero
    ready: Sound = (wave * LEVELS[drum] / np.abs(wave).max()).astype(np.float32)
    ready.setflags(write=False)
    return ready


def _kick(kit: Kit, rng: np.random.Generator, sample_rate: int) -> Array:
    time_s = np.arange(int(5 * kit.kick_decay_s * sample_rate)) / sample_rate
    fall_s = 0.022
    turns = kit.kick_hz * (time_s + (kit.kick_sweep - 1) * fall_s * (1 - np.exp(-time_s / fall_s)))
    body = np.sin(2 * np.pi * turns) * np.exp(-time_s / kit.kick_decay_s) * np.minimum(1.0, time_s / 0.0015)
    click = _noise(rng, len(body), 1500, 6000, sample_rate) * np.exp(-time_s / 0.004)
    return body + 0.5 * kit.kick_click * click


def _snare(kit: Kit, rng: np.random.Generator, sample_rate: int) -> Array:
    time_s = np.arange(int(6 * kit.snare_decay_s * sample_rate)) / sample_rate
    wires = _noise(rng, len(time_s), *kit.snare_noise_hz, sample_rate)
    if kit.claps:
        hands = sum(np.exp(-np.abs(time_s - late) / 0.004) * (time_s >= late) for late in (0.0, 0.009, 0.019))
        return wires * (hands + 0.8 * np.exp(-np.maximum(time_s - 0.026, 0) / kit.snare_decay_s) * (time_s >= 0.026))
    bend = kit.snare_hz * (time_s + 0.35 * 0.02 * (1 - np.exp(-time_s / 0.02)))
    skin = np.sin(2 * np.pi * bend) * np.exp(-time_s / 0.07) + 0.5 * np.sin(2 * np.pi * 1.72 * bend) * np.exp(
        -time_s / 0.04
    )
    return kit.snare_body * skin + 0.45 * wires * np.exp(-time_s / kit.snare_decay_s)


def _hat(kit: Kit, rng: np.random.Generator, sample_rate: int) -> Array:
    return _pair_of_hats(kit, rng, kit.hat_decay_s, sample_rate)


def _open_hat(kit: Kit, rng: np.random.Generator, sample_rate: int) -> Array:
    return _pair_of_hats(kit, rng, 0.22, sample_rate)


def _pair_of_hats(kit: Kit, rng: np.random.Generator, decay_s: float, sample_rate: int) -> Array:
    time_s = np.arange(int(7 * decay_s * sample_rate)) / sample_rate
    noise = _noise(rng, len(time_s), kit.hat_hz, 13_000, sample_rate) * np.exp(-time_s / decay_s)
    if kit.shakes:
        return np.asarray(noise * np.minimum(1.0, time_s / 0.012) ** 2)
    return noise + kit.metal * _cymbal(rng, 60, kit.hat_hz * 0.8, 11_500, decay_s, len(time_s), sample_rate)


def _ride(kit: Kit, rng: np.random.Generator, sample_rate: int) -> Array:
    samples = int(1.4 * sample_rate)
    wash = _cymbal(rng, 140, 900, 11_500, 0.32, samples, sample_rate)
    ping = ring(
        np.array([2890.0, 4310, 5670, 7230]), np.array([1.0, 0.7, 0.6, 0.4]), np.full(4, 9.0), samples, sample_rate
    )
    stick = _noise(rng, samples, 3000, 12_000, sample_rate) * np.exp(-np.arange(samples) / (0.006 * sample_rate))
    return 0.6 * wash + 0.5 * ping + 2.0 * stick


def _tom(kit: Kit, rng: np.random.Generator, sample_rate: int) -> Array:
    time_s = np.arange(int(0.7 * sample_rate)) / sample_rate
    bend = 1.7 * kit.kick_hz * (time_s + 0.5 * 0.05 * (1 - np.exp(-time_s / 0.05)))
    skin = np.sin(2 * np.pi * bend) * np.exp(-time_s / 0.16) + 0.3 * np.sin(2 * np.pi * 1.6 * bend) * np.exp(
        -time_s / 0.06
    )
    return skin * np.minimum(1.0, time_s / 0.001) + 0.25 * _noise(rng, len(time_s), 400, 4000, sample_rate) * np.exp(
        -time_s / 0.03
    )


Stroke = Callable[[Kit, np.random.Generator, int], Array]
_STROKES: dict[str, Stroke] = {
    "kick": _kick,
    "snare": _snare,
    "hat": _hat,
    "open_hat": _open_hat,
    "ride": _ride,
    "tom": _tom,
}


def _cymbal(
    rng: np.random.Generator, count: int, low_hz: float, high_hz: float, decay_s: float, samples: int, sample_rate: int
) -> Array:
    """Return unit-power metal: partials strewn over a band, the high ones dying first."""
    hz = low_hz * (high_hz / low_hz) ** rng.random(count)
    decays = (0.6 + 0.8 * rng.random(count)) * np.sqrt(hz / 4000) / decay_s
    wave = ring(hz, rng.uniform(0.3, 1.0, count), decays, samples, sample_rate)
    return np.asarray(wave / wave[: int(0.02 * sample_rate)].std(), dtype=np.float64)


def _noise(rng: np.random.Generator, samples: int, low_hz: float, high_hz: float, sample_rate: int) -> Array:
    noise = _shaped(rng.standard_normal(samples), low_hz, high_hz, sample_rate)
    return np.asarray(noise / noise.std())


def _shaped(wave: Array, low_hz: float, high_hz: float, sample_rate: int) -> Array:
    """Keep what lies between two frequencies, with slopes of 12 dB an octave."""
    hz = np.fft.rfftfreq(2 * len(wave), 1 / sample_rate)
    ratio = np.maximum(hz, 1e-3) / low_hz
    gains = ratio**2 / (1 + ratio**2) / (1 + (hz / high_hz) ** 2)
    shaped: Array = np.fft.irfft(np.fft.rfft(wave, 2 * len(wave)) * gains)[: len(wave)]
    return shaped
