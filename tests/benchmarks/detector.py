"""Hears key, tempo, onsets, parts and genre in decoded audio, and sees nothing else.

Tempo and onsets are measured by fixed rules. Key, parts and genre are read by linear models that are fitted, at the
time of the benchmark, to the composer's own pieces (of other seeds than the judged ones), so every score has to be
quoted beside the score of the composer's pieces under the same detector.

- tempo: 60 to 180 BPM, to about 0.1 %. Whether a piece is felt at 70 or 140 is a matter of taste, so a tempo is
  right within 3 % of the asked one, its half or its double.
- onsets on the grid: an onset is a moment at which the sound grows, on average over 25 bands, by 25 % (log) within
  21 ms. It is on the grid if it lies within a fifth of a sixteenth of it, counted from the start at the heard tempo, in
  the octave asked for; at random, two of five do.
- key: tonic and mode must both be right; the relative key is wrong.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter1d
from scipy.optimize import minimize

from generation.sketch.score import FASTEST_BPM, GENRES, MODES, SLOWEST_BPM, TONICS

Array = NDArray[np.float64]

HOP, WINDOW = 256, 2048  # samples; for rhythm and timbre
PITCH_HOP_S, PITCH_WINDOW = 0.1, 32_768
BAND_HZ = 60 * 2 ** np.arange(0, 8.1, 0.33)
PITCHES = np.arange(28, 104)
LAG = 4  # hops over which growth is measured
GROWTH = 0.25
QUIET = 0.05  # of the mean level; growth below it is not heard
BEAT_MULTIPLES = (0.25, 0.5, 1, 2, 4)  # bar, half bar, beat, eighth, sixteenth
TEMPO_TOLERANCE = 0.03
GRID_TOLERANCE = 0.2  # of a sixteenth


@dataclass(frozen=True)
class Heard:
    """One recording, reduced to what the detector needs."""

    bpm: float
    onsets_s: Array
    chromas: Array  # [kinds, 12]
    timbre: Array


@dataclass(frozen=True)
class Truth:
    key: int  # tonic * 2 + mode
    genre: int
    parts: tuple[bool, ...]


def is_tempo(heard_bpm: float, asked_bpm: float) -> bool:
    octaves = np.log2(heard_bpm / asked_bpm)
    return bool(abs(octaves - np.clip(np.round(octaves), -1, 1)) < np.log2(1 + TEMPO_TOLERANCE))


def grid_share(heard: Heard, asked_bpm: float) -> float:
    """Return the share of onsets on the sixteenth grid; a piece in which nothing begins has none."""
    if not len(heard.onsets_s):
        return 0.0
    octave = np.clip(np.round(np.log2(asked_bpm / heard.bpm)), -1, 1)
    sixteenths = heard.onsets_s * heard.bpm * 2**octave / 15
    return float((np.abs(sixteenths - np.round(sixteenths)) < GRID_TOLERANCE).mean())


# ---- listening


def listen(audio: NDArray[np.float32], sample_rate: int) -> Heard:
    """Analyse stereo sound [2, samples]."""
    mono = audio.mean(axis=0)
    levels = _spectrogram(mono, WINDOW, HOP) @ _bands(BAND_HZ, 0.4, WINDOW, sample_rate)
    levels /= levels.mean() + 1e-9
    growth = _growth(levels)
    hop_s = HOP / sample_rate
    bpm = _tempo(growth, hop_s)
    hop = int(PITCH_HOP_S * sample_rate)
    pitch_bands = _bands(440 * 2 ** ((PITCHES - 69) / 12), 1 / 12, PITCH_WINDOW, sample_rate)
    pitches = (_spectrogram(mono, PITCH_WINDOW, hop) ** 2) @ pitch_bands
    return Heard(
        bpm=bpm,
        onsets_s=_onsets(growth, hop_s),
        chromas=_chromas(pitches + 1e-12, bpm),
        timbre=_timbre(levels, growth, pitches),
    )


def _spectrogram(wave: NDArray[np.float32], window: int, hop: int) -> NDArray[np.float32]:
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(wave, window // 2), window)[::hop]
    return np.abs(np.fft.rfft(frames * np.hanning(window).astype(np.float32), axis=1))


def _bands(centres_hz: Array, width_octaves: float, window: int, sample_rate: int) -> NDArray[np.float32]:
    """Return triangles on a scale of octaves, [bins, bands], each of unit sum."""
    hz = np.maximum(np.fft.rfftfreq(window, 1 / sample_rate), 1.0)
    triangles = np.clip(1 - np.abs(np.log2(hz[:, None] / centres_hz)) / width_octaves, 0, None)
    return (triangles / (triangles.sum(axis=0) + 1e-9)).astype(np.float32)


def _growth(levels: NDArray[np.float32]) -> Array:
    """Return by how much each band grew around each frame, [frames, bands]."""
    loudness = np.log(levels.astype(np.float64) + QUIET)
    rise = np.maximum(loudness[LAG:] - loudness[:-LAG], 0.0)
    return np.pad(rise, ((LAG // 2, len(levels) - len(rise) - LAG // 2), (0, 0)))


def _onsets(growth: Array, hop_s: float) -> Array:
    mean = growth.mean(axis=1)
    peaks = (mean == maximum_filter1d(mean, 19)) & (mean > GROWTH)
    return np.flatnonzero(peaks) * hop_s


def _tempo(growth: Array, hop_s: float) -> float:
    """Return the tempo whose metre explains the growth best.

    For each candidate, the Fourier coefficients of growth in bass, middle and treble at the frequencies of its bar,
    half bar, beat, eighth and sixteenth are added up: by size, and by how far they point at the grid from the start.
    """
    size = 1 << 18
    envelopes = [band.mean(axis=1) for band in np.array_split(growth, 3, axis=1)]
    spectra = [np.fft.rfft(envelope, size) / (envelope.sum() + 1e-3 * len(envelope)) for envelope in envelopes]

    def score(tempi: Array) -> Array:
        total = np.zeros(len(tempi))
        for multiple in BEAT_MULTIPLES:
            place = tempi / 60 * multiple * size * hop_s
            below = place.astype(int)
            for spectrum in spectra:
                value = spectrum[below] + (place - below) * (spectrum[below + 1] - spectrum[below])
                total += np.abs(value) + value.real
        return total

    steps = max(440, int(22 * len(growth) * hop_s))  # a longer piece has sharper peaks
    tempi = SLOWEST_BPM * (FASTEST_BPM / SLOWEST_BPM) ** (np.arange(steps + 1) / steps)
    best = tempi[score(tempi).argmax()]
    near = best * np.linspace(1 - 1.2 / steps, 1 + 1.2 / steps, 41)
    return float(near[score(near).argmax()])


def _chromas(pitches: Array, bpm: float) -> Array:
    """Return pitch classes under several lights, [kinds, 12], each of zero mean.

    Over the whole and at the start: all, and by register; once more as logarithms, since a pitch class that is missing
    tells more than one that is soft. By half bar, since chords change there: which pitch class lies lowest, over the
    whole, at the start, and where it is loud.
    """
    peaks = pitches.copy()
    peaks[:, 1:-1] *= (pitches[:, 1:-1] >= pitches[:, :-2]) & (pitches[:, 1:-1] >= pitches[:, 2:])
    cells = (np.arange(len(peaks)) * PITCH_HOP_S * bpm / 120).astype(int)
    energy = np.stack([peaks[cells == cell].mean(axis=0) for cell in range(cells[-1] + 1) if (cells == cell).any()])
    low = _folded(energy**0.5, 28, 60)
    roots = low**4 / (low**4).sum(axis=1, keepdims=True)
    loudness = np.log(energy.sum(axis=1))
    shares = [
        _share(_folded(energy**0.5, 40, 100).sum(axis=0)),
        _share(_folded(energy**0.25, 53, 100).sum(axis=0)),
        _share(_folded(energy**0.5, 66, 104).sum(axis=0)),
        _share(_folded(energy, 66, 104).sum(axis=0)),
        _share(_folded(energy, 41, 53).sum(axis=0)),
        _share(_folded(energy**0.5, 40, 100)[:2].sum(axis=0)),
    ]
    chromas = [
        *shares,
        *(np.log(share + 0.004) for share in shares),
        roots.mean(axis=0),
        roots[:2].mean(axis=0),
        (roots * (loudness - loudness.mean())[:, None]).mean(axis=0),
    ]
    return np.stack([chroma - chroma.mean() for chroma in chromas])


def _folded(energy: Array, low: int, high: int) -> Array:
    """Add up the octaves of pitches from `low` to below `high`, [cells, 12]."""
    within = np.isin(PITCHES, np.arange(low, high))
    return energy[:, within] @ np.eye(12)[PITCHES[within] % 12]


def _share(chroma: Array) -> Array:
    return chroma / chroma.sum()


def _timbre(levels: NDArray[np.float32], growth: Array, pitches: Array) -> Array:
    """Describe the spectrum, its attacks, and how loud and how pointed each register is, over time."""
    quantiles = np.percentile(np.log(levels + 0.01), (10, 50, 90), axis=0)
    attacks = np.log(np.percentile(growth, 97, axis=0) + 0.01)
    registers = np.array_split(np.log(pitches / (pitches.mean() + 1e-12) + 1e-5), 11, axis=1)
    tops = np.stack([register.max(axis=1) for register in registers])
    points = tops - np.stack([register.mean(axis=1) for register in registers])
    described = [np.percentile(values, (15, 50, 85), axis=1) for values in (tops, points)]
    return np.concatenate(
        [part.ravel() for part in (quantiles, np.log(growth.mean(axis=0) + 1e-3), attacks, *described)]
    )


# ---- judging


class Detector:
    """Reads key, parts and genre after having heard examples of known truth."""

    def __init__(self, examples: Sequence[Heard], truths: Sequence[Truth]) -> None:
        timbres = np.stack([heard.timbre for heard in examples])
        self._mean, self._spread = timbres.mean(axis=0), timbres.std(axis=0) + 1e-6
        genres = np.eye(len(GENRES))[[truth.genre for truth in truths]]
        parts = np.array([truth.parts for truth in truths], dtype=float)
        self._genre_weights = _fit_ridge(self._described(timbres), 2 * genres - 1)
        self._part_weights = _fit_ridge(self._described(timbres), 2 * parts - 1)
        chromas = np.stack([heard.chromas for heard in examples])
        self._chroma_spread = chromas.std(axis=(0, 2), keepdims=True)[0]
        self._key_weights = _fit_choice(self._key_views(chromas), np.array([truth.key for truth in truths]))

    def key(self, heard: Heard) -> int:
        """Return tonic * 2 + mode."""
        return int((self._key_views(heard.chromas[None])[0] @ self._key_weights).argmax())

    def genre(self, heard: Heard) -> int:
        return int((self._described(heard.timbre[None]) @ self._genre_weights).argmax())

    def parts(self, heard: Heard) -> tuple[bool, ...]:
        return tuple(bool(score > 0) for score in (self._described(heard.timbre[None]) @ self._part_weights)[0])

    def _described(self, timbres: Array) -> Array:
        scaled = (timbres - self._mean) / self._spread
        return np.concatenate([scaled, np.ones((len(scaled), 1))], axis=1)

    def _key_views(self, chromas: Array) -> Array:
        """Look at chromas [N, kinds, 12] from each of 24 keys: [N, 24, features]; each mode has its own features."""
        scaled = chromas / self._chroma_spread
        size = scaled.shape[1] * 12
        views = np.zeros((len(scaled), len(TONICS) * len(MODES), size * len(MODES)))
        for tonic in range(len(TONICS)):
            turned = np.roll(scaled, -tonic, axis=2).reshape(len(scaled), -1)
            for mode in range(len(MODES)):
                views[:, tonic * len(MODES) + mode, mode * size : (mode + 1) * size] = turned
        return views


def _fit_ridge(features: Array, targets: Array, penalty: float = 30.0) -> Array:
    gram = features.T @ features + penalty * np.eye(features.shape[1])
    weights: Array = np.linalg.solve(gram, features.T @ targets)
    return weights


def _fit_choice(views: Array, chosen: NDArray[np.int64], penalty: float = 0.01) -> Array:
    """Return weights [F] of a softmax over the options of views [N, options, F]."""
    is_chosen = np.eye(views.shape[1])[chosen]

    def loss(weights: Array) -> tuple[float, Array]:
        scores = views @ weights
        scores -= scores.max(axis=1, keepdims=True)
        odds = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
        likelihood = float(np.log((odds * is_chosen).sum(axis=1) + 1e-12).mean())
        slope = np.einsum("no,nof->f", odds - is_chosen, views) / len(views)
        return penalty * float(weights @ weights) - likelihood, slope + 2 * penalty * weights

    result: Array = minimize(loss, np.zeros(views.shape[2]), jac=True, method="L-BFGS-B").x
    return result
