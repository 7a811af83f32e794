"""What happens to the sound after the instruments: chorus, echo, reverberation, and a gentle hand on the master.

Signals are stereo, float32 [2, samples]. They are large, so effects change them in place.
"""

from collections.abc import Iterator
from functools import lru_cache

import numpy as np

from generation.sketch.instruments import Array, Sound

CEILING = 10 ** (-1.2 / 20)  # just below -1 dBFS
BLOCK = 256  # samples per step of the master's gain, 5 ms
FFT_SIZE = 1 << 18
SPAN = 512 * BLOCK


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


def chorus(signal: Sound, depth: float, sample_rate: int) -> None:
    """Widen a signal, in place, by mixing in copies whose delay sways differently left and right."""
    longest = int(0.015 * sample_rate)
    for span in reversed(list(_spans(signal.shape[1]))):  # what lies before a span is still dry when it is needed
        before = min(longest, span.start)
        dry = np.pad(signal[:, span.start - before : span.stop], ((0, 0), (longest - before, 0)))
        places = np.arange(span.start, span.stop, dtype=np.int32)
        for channel, (rate_hz, phase) in enumerate(((0.37, 0.0), (0.43, 2.1))):
            sway = np.sin(places * np.float32(2 * np.pi * rate_hz / sample_rate) + np.float32(phase))
            delay = np.float32(0.011 * sample_rate) + np.float32(0.003 * sample_rate) * sway
            whole = delay.astype(np.int32)
            at = places - span.start + longest - whole
            late, later = dry[channel][at], dry[channel][at - 1]
            signal[channel, span] += np.float32(depth) * (late + (delay - whole) * (later - late))
    signal /= np.float32(1 + 0.5 * depth)


def tremolo(signal: Sound, depth: float, rate_hz: float, sample_rate: int) -> None:
    """Swing a signal, in place, softly between left and right, as a stage piano does."""
    for span in _spans(signal.shape[1]):
        places = np.arange(span.start, span.stop, dtype=np.float32)
        sway = np.float32(depth) * np.sin(places * np.float32(2 * np.pi * rate_hz / sample_rate))
        signal[0, span] *= 1 + sway
        signal[1, span] *= 1 - sway


def echo(signal: Sound, delay_s: float, level: float, sample_rate: int) -> None:
    """Repeat a signal three times, in place, each time softer and on the other side."""
    delay = round(delay_s * sample_rate)
    once = signal.mean(axis=0)
    for number in range(1, 4):
        late = once[: max(0, len(once) - number * delay)]
        signal[number % 2, len(once) - len(late) :] += np.float32(level**number) * late


def overdrive(signal: Sound, drive: float) -> None:
    """Bend the peaks of a signal, in place, by an odd polynomial of degree five, fitted to tanh.

    What was below 4 kHz stays below 20 kHz; tanh itself would alias.
    """
    peak = np.float32(max(signal.max(), -signal.min(), 1e-9))
    x = np.linspace(-1, 1, 201)
    powers = np.stack([x, x**3, x**5], axis=1)
    a, b, c = np.linalg.lstsq(powers, np.tanh(drive * x), rcond=None)[0].astype(np.float32)
    for span in _spans(signal.shape[1]):
        y = signal[:, span] / peak
        squared = y * y
        signal[:, span] = y * (a + squared * (b + squared * c)) * (peak / np.float32(drive))


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


def master(mix: Sound, sample_rate: int) -> None:
    """Level a mix, in place, hold its loud moments back a little, and keep every peak below -1 dBFS."""
    power, _ = _block_levels(mix)
    if not power.any():
        return
    mean = power[power > power.max() * 1e-3].mean()  # of the blocks that sound
    gain = 0.16 / np.sqrt(mean)  # RMS -16 dBFS
    smooth_db = 10 * np.log10(_smoothed(power, round(0.4 * sample_rate / BLOCK)) * gain**2 + 1e-9)
    _scale(mix, gain * 10 ** (-0.4 * np.maximum(smooth_db + 16.0, 0) / 20))  # ratio 5:3 above the mean
    _limit(mix)


def _limit(mix: Sound) -> None:
    """Turn the gain down around peaks, before they come: no sample exceeds the ceiling, none is clipped."""
    _, peaks = _block_levels(mix)
    wanted = np.minimum(1.0, CEILING / np.maximum(peaks, 1e-9))
    reach = 4
    padded = np.pad(wanted, reach, mode="edge")
    lowest = np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1).min(axis=1)
    _scale(mix, _smoothed(lowest, 2 * (reach - 1) + 1))


def _block_levels(mix: Sound) -> tuple[Array, Array]:
    """Return mean power and peak of each block, over both channels."""
    power, peaks = [], []
    for span in _spans(mix.shape[1]):
        part = mix[:, span]
        blocks = np.pad(part, ((0, 0), (0, -part.shape[1] % BLOCK))).reshape(2, -1, BLOCK)
        power.append((blocks**2).mean(axis=(0, 2)))
        peaks.append(np.abs(blocks).max(axis=(0, 2)))
    return np.concatenate(power).astype(np.float64), np.concatenate(peaks).astype(np.float64)


def _smoothed(values: Array, width: int) -> Array:
    """Average over a Hann window centred on each value."""
    window = np.hanning(width + 2)[1:-1]
    padded = np.pad(values, (width // 2, width - 1 - width // 2), mode="edge")
    return np.convolve(padded, window / window.sum(), mode="valid")


def _scale(mix: Sound, gains: Array) -> None:
    """Apply gains per block, drawn out in straight lines between the middles of blocks."""
    middles = (np.arange(len(gains)) + 0.5) * BLOCK
    for span in _spans(mix.shape[1]):
        mix[:, span] *= np.interp(np.arange(span.start, span.stop), middles, gains).astype(np.float32)


def _spans(samples: int) -> Iterator[slice]:
    """Cut time into pieces of a few seconds, so that passing values stay small."""
    for start in range(0, samples, SPAN):
        yield slice(start, min(start + SPAN, samples))
