"""The pitched instruments: each note a sum of decaying partials, so that nothing aliases and nothing loops.

An instrument is a function from pitch (Hz) and velocity (0..1) to a `Tone`; `sound` turns a tone into samples. Partials
end well below half the sample rate; the upper ones die away sooner, which is what brings strings and bars to life.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

Sound = NDArray[np.float32]
Array = NDArray[np.float64]

HIGHEST_PARTIAL_HZ = 12_000.0
BLOCK = 256  # samples that share one step of every partial's rotation


@dataclass(frozen=True)
class Tone:
    hz: Array  # [K] partials
    levels: Array  # [K]
    decays: Array  # [K], per second: a partial falls as exp(-decay * t)
    attack_s: float = 0.003
    release_s: float = 0.12
    vibrato_cents: float = 0.0
    noise: float = 0.0  # level of breath or bow, lasting as long as the note
    strike: float = 0.0  # level of pick or hammer, at the start only
    noise_hz: float = 3_000.0  # where that noise is strongest


Instrument = Callable[[float, float], Tone]


def sound(tone: Tone, samples: int, sample_rate: int) -> Sound:
    """Return `samples` of a tone held without end, [samples]; ending the note is up to the caller."""
    wave = ring(tone.hz, tone.levels / np.sqrt((tone.levels**2).sum()), tone.decays, samples, sample_rate)
    if tone.vibrato_cents:
        wave = _with_vibrato(wave, tone.vibrato_cents, sample_rate)
    if tone.noise:
        wave += np.float32(tone.noise) * _noise(samples, tone.noise_hz, sample_rate)
    if tone.strike:
        burst = min(samples, int(0.03 * sample_rate))
        fall = np.exp(-np.arange(burst) / (0.006 * sample_rate)) * np.linspace(1, 0, burst)
        wave[:burst] += (tone.strike * fall).astype(np.float32) * _noise(burst, tone.noise_hz, sample_rate)
    rise = min(samples, max(2, int(tone.attack_s * sample_rate)))
    wave[:rise] *= np.sin(np.linspace(0, np.pi / 2, rise, dtype=np.float32)) ** 2
    return wave


def ring(hz: Array, levels: Array, decays: Array, samples: int, sample_rate: int) -> Sound:
    """Return the sum of decaying sines, [samples].

    A rotation by n = m * BLOCK + b is a rotation by m * BLOCK times one by b, so the whole sum over partials is one
    matrix product: tens of times faster than a sine per partial and sample.
    """
    audible = hz < HIGHEST_PARTIAL_HZ
    hz, levels, decays = hz[audible], levels[audible], decays[audible]
    phases = (
        2 * np.pi * np.modf(np.arange(1, len(hz) + 1) * 0.618034)[0]
    )  # spread, so that partials do not peak together
    rate = (-decays + 2j * np.pi * hz) / sample_rate
    coarse = np.exp(np.outer(np.arange(-(-samples // BLOCK)) * BLOCK, rate) + 1j * phases) * levels
    fine = np.exp(np.outer(rate, np.arange(BLOCK)))
    left = np.concatenate([coarse.real, -coarse.imag], axis=1).astype(np.float32)
    right = np.concatenate([fine.real, fine.imag], axis=0).astype(np.float32)
    return np.ascontiguousarray((left @ right).reshape(-1)[:samples])


def _with_vibrato(wave: Sound, cents: float, sample_rate: int, rate_hz: float = 5.2) -> Sound:
    """Sway the pitch by reading the wave early and late, setting in after a quarter of a second."""
    time_s = np.arange(len(wave)) / sample_rate
    depth_s = (2 ** (cents / 1200) - 1) / (2 * np.pi * rate_hz) * np.clip((time_s - 0.25) / 0.5, 0, 1)
    shifted = np.arange(len(wave)) + depth_s * sample_rate * np.sin(2 * np.pi * rate_hz * time_s)
    return np.interp(shifted, np.arange(len(wave)), wave).astype(np.float32)


@cache
def _white(samples: int) -> NDArray[np.complex128]:
    noise: NDArray[np.complex128] = np.fft.rfft(np.random.default_rng(1).standard_normal(samples))
    return noise


def _noise(samples: int, centre_hz: float, sample_rate: int) -> Sound:
    """Return noise of unit power around a frequency, an octave and a half to each side; repeats after a second."""
    period = sample_rate
    octaves = np.log2(np.maximum(np.fft.rfftfreq(period, 1 / sample_rate), 1.0) / centre_hz)
    noise = np.fft.irfft(_white(period) * np.exp(-0.5 * (octaves / 0.8) ** 2), period)
    return np.resize(noise / noise.std(), samples).astype(np.float32)


def _harmonics(hz: float, count: int, stretch: float = 0.0) -> tuple[Array, Array]:
    """Return numbers 1..count and their frequencies; `stretch` is a string's stiffness."""
    number = np.arange(1.0, min(count, max(1, int(HIGHEST_PARTIAL_HZ / hz))) + 1)
    return number, hz * number * np.sqrt(1 + stretch * number**2)


def _below(hz: Array, cutoff_hz: float, steepness: float = 2.0) -> Array:
    """Return the gains of a low-pass filter without resonance."""
    return (1 + (hz / cutoff_hz) ** 2) ** (-steepness / 2)


def _detuned(tone: Tone, *cents: float, beside: float = 0.6) -> Tone:
    """Play a tone on several oscillators at once, softer off pitch: equal ones would cancel each other now and then."""
    ratios = [2 ** (cent / 1200) for cent in cents]
    return Tone(
        hz=np.concatenate([tone.hz * ratio for ratio in ratios]),
        levels=np.concatenate([tone.levels * (beside if cent else 1.0) for cent in cents]),
        decays=np.tile(tone.decays, len(ratios)),
        attack_s=tone.attack_s,
        release_s=tone.release_s,
        vibrato_cents=tone.vibrato_cents,
    )


# ---- keys, guitars, pads


def electric_piano(hz: float, velocity: float) -> Tone:
    number, partials = _harmonics(hz, 9)
    levels = number ** -(2.3 - 0.9 * velocity)
    tine = 0.10 * velocity * (hz / 260) ** -0.5
    return Tone(
        hz=np.append(partials, 9.4 * hz),
        levels=np.append(levels, tine),
        decays=np.append(0.7 + 0.9 * (number - 1), 14.0),
        release_s=0.16,
        strike=0.05 * velocity,
        noise_hz=900.0,
    )


def piano(hz: float, velocity: float) -> Tone:
    number, partials = _harmonics(hz, 24, stretch=2e-4)
    levels = np.abs(np.sin(np.pi * number / 8.3)) / number * _below(partials, 900 + 2600 * velocity)
    decays = 0.55 * (hz / 220) ** 0.5 * (1 + 0.32 * number)
    tone = Tone(partials, levels, decays, attack_s=0.002, release_s=0.14, strike=0.06 * velocity, noise_hz=1500.0)
    return _detuned(tone, 0, 1.3)


def organ_stab(hz: float, velocity: float) -> Tone:
    number, partials = _harmonics(hz, 20)
    levels = _below(partials, 1100 + 1800 * velocity) / number
    return _detuned(Tone(partials, levels, 1.5 + 1.6 * number**0.7, attack_s=0.003, release_s=0.09), -6, 0, 6)


def warm_pad(hz: float, velocity: float) -> Tone:
    number, partials = _harmonics(hz, 16)
    levels = _below(partials, 500 + 700 * velocity) / number
    return _detuned(Tone(partials, levels, 0.02 * number, attack_s=0.1, release_s=0.9), -8, 0, 7, beside=0.4)


def analog_synth(hz: float, velocity: float) -> Tone:
    number, partials = _harmonics(hz, 26)
    levels = _below(partials, 1400 + 2400 * velocity) / number
    return _detuned(Tone(partials, levels, 0.25 + 0.22 * number, attack_s=0.006, release_s=0.22), -9, 0, 8)


def _string(hz: float, number: Array, partials: Array, *, pluck: float, cutoff_hz: float, damping: float) -> Tone:
    levels = np.abs(np.sin(np.pi * number * pluck)) / number * _below(partials, cutoff_hz)
    return Tone(partials, levels, damping * (1 + (partials / 1500) ** 1.3), attack_s=0.0015, release_s=0.09)


def acoustic_guitar(hz: float, velocity: float) -> Tone:
    number, partials = _harmonics(hz, 40, stretch=4e-5)
    tone = _string(hz, number, partials, pluck=0.17, cutoff_hz=2200 + 3800 * velocity, damping=1.1)
    return Tone(tone.hz, tone.levels, tone.decays, 0.0015, 0.12, strike=0.10, noise_hz=3200.0)


def electric_guitar(hz: float, velocity: float) -> Tone:
    number, partials = _harmonics(hz, 20)
    partials, number = partials[partials < 3600], number[partials < 3600]  # overdrive adds the rest
    return _string(hz, number, partials, pluck=0.13, cutoff_hz=1800 + 1200 * velocity, damping=0.55)


def clavinet(hz: float, velocity: float) -> Tone:
    number, partials = _harmonics(hz, 36)
    tone = _string(hz, number, partials, pluck=0.09, cutoff_hz=2600 + 4200 * velocity, damping=2.0)
    return Tone(tone.hz, tone.levels, tone.decays, 0.001, 0.05, strike=0.08, noise_hz=4000.0)


# ---- basses


def upright_bass(hz: float, velocity: float) -> Tone:
    number, partials = _harmonics(hz, 24)
    tone = _string(hz, number, partials, pluck=0.28, cutoff_hz=380 + 420 * velocity, damping=1.5)
    return Tone(tone.hz, tone.levels, tone.decays, 0.004, 0.08, strike=0.05, noise_hz=700.0)


def finger_bass(hz: float, velocity: float) -> Tone:
    number, partials = _harmonics(hz, 28)
    tone = _string(hz, number, partials, pluck=0.22, cutoff_hz=480 + 700 * velocity, damping=0.9)
    return Tone(tone.hz, tone.levels, tone.decays, 0.003, 0.07, strike=0.04, noise_hz=1000.0)


def slap_bass(hz: float, velocity: float) -> Tone:
    number, partials = _harmonics(hz, 44)
    tone = _string(hz, number, partials, pluck=0.14, cutoff_hz=900 + 2000 * velocity, damping=1.4)
    return Tone(tone.hz, tone.levels, tone.decays, 0.0015, 0.05, strike=0.16 * velocity, noise_hz=2600.0)


def sub_bass(hz: float, velocity: float) -> Tone:
    number, partials = _harmonics(hz, 6)
    return Tone(partials, (0.55 * velocity) ** (number - 1), 0.15 * number, attack_s=0.012, release_s=0.12)


def synth_bass(hz: float, velocity: float) -> Tone:
    number, partials = _harmonics(hz, 32)
    levels = _below(partials, 450 + 900 * velocity) / number
    return _detuned(Tone(partials, levels, 0.6 + 0.32 * number, attack_s=0.003, release_s=0.06), 0, 5, beside=0.3)


# ---- leads


def flute(hz: float, velocity: float) -> Tone:
    number, partials = _harmonics(hz, 7)
    levels = np.array([1.0, 0.34, 0.22, 0.07, 0.04, 0.02, 0.012])[: len(number)] * (0.5 + 0.5 * velocity) ** (
        number - 1
    )
    return Tone(
        partials,
        levels,
        0.05 * number,
        attack_s=0.035,
        release_s=0.13,
        vibrato_cents=13,
        noise=0.035,
        noise_hz=1.7 * hz,
    )


def mellow_lead(hz: float, velocity: float) -> Tone:
    number, partials = _harmonics(hz, 10)
    levels = _below(partials, 900 + 900 * velocity) / number**1.4
    return _detuned(Tone(partials, levels, 0.2 + 0.2 * number, 0.012, 0.18, vibrato_cents=9), 0, 6)


def saw_lead(hz: float, velocity: float) -> Tone:
    number, partials = _harmonics(hz, 24)
    levels = _below(partials, 1900 + 2600 * velocity) / number
    return _detuned(Tone(partials, levels, 0.1 + 0.05 * number, 0.010, 0.16, vibrato_cents=11), -7, 0, 7)


def synth_pluck(hz: float, velocity: float) -> Tone:
    number, partials = _harmonics(hz, 20)
    levels = _below(partials, 2200 + 3000 * velocity) / number
    return _detuned(Tone(partials, levels, 1.2 + 0.8 * number, 0.002, 0.14), 0, 8)


def vibraphone(hz: float, velocity: float) -> Tone:
    ratios = np.array([1.0, 2.0, 3.984, 9.9])
    levels = np.array([1.0, 0.05, 0.16 + 0.2 * velocity, 0.05 * velocity])
    return Tone(hz * ratios, levels, np.array([1.0, 1.8, 3.2, 11.0]), 0.002, 0.35, strike=0.03, noise_hz=1800.0)


def glass_bells(hz: float, velocity: float) -> Tone:
    ratios = np.array([1.0, 2.0, 3.0, 4.07, 6.8])
    levels = np.array([1.0, 0.32, 0.10, 0.12 + 0.1 * velocity, 0.04 * velocity])
    return _detuned(Tone(hz * ratios, levels, np.array([0.7, 1.1, 1.9, 2.8, 5.0]), 0.004, 0.9), 0, 4, beside=0.4)


def lead_guitar(hz: float, velocity: float) -> Tone:
    number, partials = _harmonics(hz, 12)
    number, partials = number[partials < 5000], partials[partials < 5000]
    levels = _below(partials, 1500 + 1500 * velocity) / number**0.9
    return Tone(partials, levels, 0.15 + 0.12 * number, 0.006, 0.10, vibrato_cents=16, strike=0.05, noise_hz=2800.0)


def brass(hz: float, velocity: float) -> Tone:
    number, partials = _harmonics(hz, 16)
    levels = _below(partials, 1300 + 2200 * velocity, 3.0) / number**0.6
    return _detuned(Tone(partials, levels, 0.3 + 0.12 * number, 0.022, 0.09, vibrato_cents=7), 0, 5)
