"""What happens to the sound after the instruments: chorus, echo, reverberation, and a gentle hand on the master.

Signals are stereo, float32 [2, samples].
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from generation.sketch.instruments import Array, Sound

CEILING = 10 ** (-1.2 / 20)  # just below -1 dBFS
BLOCK = 256  # samples per step of the master's gain, 5 ms
FFT_SIZE = 1 << 18


def convolve(*filtered: tuple[Sound, Sound]) -> Sound:
    """Return the sum of signals, each filtered by its impulse response, cut to the signals' length (overlap-add)."""
    channels, samples = filtered[0][0].shape
    step = FFT_SIZE - max(response.shape[1] for _, response in filtered) + 1
    spectra = [np.fft.rfft(response, FFT_SIZE) for _, response in filtered]
    result = np.zeros((channels, samples + FFT_SIZE), dtype=np.float32)
    for start in range(0, samples, step):
        blocks = [np.fft.rfft(signal[:, start : start + step], FFT_SIZE) for signal, _ in filtered]
        total = sum(block * spectrum for block, spectrum in zip(blocks, spectra, strict=True))
        result[:, start : start + FFT_SIZE] += np.fft.irfft(total, FFT_SIZE)
    return result[:, :samples]


@lru_cache(maxsize=4)
def band(low_hz: float, high_hz: float, sample_rate: int) -> Sound:
    """Return the impulse response [1, samples] of a second-order Butterworth high-pass and low-pass in series."""
    size = 1 << 14
    hz = np.maximum(np.fft.rfftfreq(size, 1 / sample_rate), 1e-3)
    high, low = 1j * hz / high_hz, low_hz / (1j * hz)
    root = np.sqrt(2)
    spectrum = 1 / ((1 + root * high + high**2) * (1 + root * low + low**2))
    response = np.fft.irfft(spectrum, size)[None, : size // 2].astype(np.float32)
    response -= response.mean()  # exactly no direct current
    response.setflags(write=False)
    return response


@lru_cache(maxsize=16)
def impulse_response(decay_s: float, brightness_hz: float, sample_rate: int) -> Sound:
    """Return a room of unit energy, [2, samples]: noise that falls by 60 dB in `decay_s`, its treble sooner."""
    rng = np.random.default_rng(3)
    samples = int(decay_s * sample_rate)
    time_s = np.arange(samples) / sample_rate
    hz = np.fft.rfftfreq(samples, 1 / sample_rate)
    response = np.zeros((2, samples))
    for centre_hz, share in ((300.0, 1.0), (1000.0, 0.9), (3000.0, 0.6), (8000.0, 0.3)):
        octaves = np.log2(np.maximum(hz, 1.0) / centre_hz)
        band = np.exp(-0.5 * (octaves / 0.75) ** 2) / (1 + (hz / brightness_hz) ** 2)
        noise = np.fft.irfft(np.fft.rfft(rng.standard_normal((2, samples))) * band, samples)
        response += noise * np.exp(-6.91 * time_s / (decay_s * (0.4 + 0.6 * share)))
    response *= np.minimum(1.0, time_s / 0.012) * np.minimum(1.0, time_s[::-1] / 0.05)
    ready: Sound = (response / np.sqrt((response**2).sum(axis=1, keepdims=True))).astype(np.float32)
    ready.setflags(write=False)
    return ready


def chorus(signal: Sound, depth: float, sample_rate: int) -> Sound:
    """Widen a signal by mixing in copies whose delay sways differently left and right."""
    samples = signal.shape[1]
    places = np.arange(samples, dtype=np.int32)
    longest = int(0.015 * sample_rate)
    past = np.pad(signal, ((0, 0), (longest, 0)))
    widened = signal.copy()
    for channel, (rate_hz, phase) in enumerate(((0.37, 0.0), (0.43, 2.1))):
        sway = np.sin(places * np.float32(2 * np.pi * rate_hz / sample_rate) + np.float32(phase))
        delay = np.float32(0.011 * sample_rate) + np.float32(0.003 * sample_rate) * sway
        whole = delay.astype(np.int32)
        at = places + longest - whole
        later, earlier = past[channel][at], past[channel][at - 1]
        widened[channel] += np.float32(depth) * (later + (delay - whole) * (earlier - later))
    return widened / np.float32(1 + 0.5 * depth)


def tremolo(signal: Sound, depth: float, rate_hz: float, sample_rate: int) -> Sound:
    """Swing softly between left and right, as a stage piano does."""
    sway = np.sin(np.arange(signal.shape[1], dtype=np.float32) * np.float32(2 * np.pi * rate_hz / sample_rate))
    return signal * (1 + np.float32(depth) * np.stack([sway, -sway]))


def echo(signal: Sound, delay_s: float, level: float, sample_rate: int) -> Sound:
    """Repeat a signal three times, each softer and on the other side."""
    delay = round(delay_s * sample_rate)
    repeated = signal.copy()
    for number in range(1, 4):
        if number * delay < signal.shape[1]:
            late = signal[:, : signal.shape[1] - number * delay].mean(axis=0)
            repeated[number % 2, number * delay :] += np.float32(level**number) * late
    return repeated


def overdrive(signal: Sound, drive: float) -> Sound:
    """Bend the peaks of a signal by an odd polynomial of degree five: content below 4 kHz stays below 20 kHz.

    The polynomial is the least-squares fit to tanh, since tanh itself would alias.
    """
    peak = float(np.abs(signal).max())
    if peak == 0.0:
        return signal
    x = np.linspace(-1, 1, 201)
    powers = np.stack([x, x**3, x**5], axis=1)
    a, b, c = np.linalg.lstsq(powers, np.tanh(drive * x), rcond=None)[0].astype(np.float32)
    y = signal / np.float32(peak)
    squared = y * y
    bent: Sound = y * (a + squared * (b + squared * c)) * np.float32(peak / drive)
    return bent


def pump(kicks_s: list[float], samples: int, depth: float, sample_rate: int) -> Sound:
    """Return a gain [samples] that ducks at every kick and swells back within a fifth of a second."""
    gain = np.ones(samples, dtype=np.float32)
    length = int(0.24 * sample_rate)
    along = np.linspace(0, 1, length)
    duck = (1 - depth * (1 - along) ** 1.6 * np.minimum(1, along / 0.03)).astype(np.float32)
    for kick_s in kicks_s:
        start = round(kick_s * sample_rate)
        span = gain[start : start + length]
        np.minimum(span, duck[: len(span)], out=span)
    return gain


def master(mix: Sound, sample_rate: int) -> Sound:
    """Level a mix, hold its loud moments back a little, and keep every peak below -1 dBFS."""
    level = _block_power(mix)
    loud = level[level > level.max() * 1e-3]
    if not len(loud) or level.max() == 0.0:
        return mix
    gain = 0.16 / np.sqrt(loud.mean())  # RMS of the sounding blocks: -16 dBFS
    smooth_db = 10 * np.log10(_smoothed(level, round(0.4 * sample_rate / BLOCK)) * gain**2 + 1e-9)
    gains = gain * 10 ** (-0.4 * np.maximum(smooth_db + 16.0, 0) / 20)  # ratio 5:3 above the mean
    return _limited(mix * _per_sample(gains, mix.shape[1]))


def _limited(mix: Sound) -> Sound:
    """Turn the gain down around peaks, before they come: no sample exceeds the ceiling, none is clipped."""
    peaks = np.abs(_blocks(mix)).max(axis=(0, 2))
    wanted = np.minimum(1.0, CEILING / np.maximum(peaks, 1e-9))
    reach = 4
    padded = np.pad(wanted, reach, mode="edge")
    lowest = np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1).min(axis=1)
    return mix * _per_sample(_smoothed(lowest, 2 * (reach - 1) + 1), mix.shape[1])


def _blocks(mix: Sound) -> Sound:
    """Cut into blocks, [2, blocks, BLOCK]."""
    channels, samples = mix.shape
    return np.pad(mix, ((0, 0), (0, -samples % BLOCK))).reshape(channels, -1, BLOCK)


def _block_power(mix: Sound) -> Array:
    power: Array = (_blocks(mix).astype(np.float32) ** 2).mean(axis=(0, 2)).astype(np.float64)
    return power


def _smoothed(values: Array, width: int) -> Array:
    """Average over a Hann window centred on each value."""
    window = np.hanning(width + 2)[1:-1]
    padded = np.pad(values, (width // 2, width - 1 - width // 2), mode="edge")
    return np.convolve(padded, window / window.sum(), mode="valid")


def _per_sample(gains: Array, samples: int) -> NDArray[np.float32]:
    """Draw straight lines between the middles of blocks."""
    middles = (np.arange(len(gains)) + 0.5) * BLOCK
    return np.interp(np.arange(samples), middles, gains).astype(np.float32)
