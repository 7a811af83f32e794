"""How a piece lies in latents: each symbol a point on a sphere, read back by a vote.

A latent frame is a bundle of *streams*, each a few channels that carry one symbol. Decoding compares the mean of all
frames of a symbol's span with the code of every symbol, and the nearest wins: for what holds for the whole piece by
itself, else as part of a phrase (`phrases.py`). So the grid, the key and the tempo are right by construction, and a
latent need only be nearly right.

Gains decide how much noise a stream survives, hence which denoise level lets it change: melody first, then patterns,
then chords, and last what holds for the whole piece (genre, key, tempo, parts).
"""

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from generation.sketch import phrases
from generation.sketch.score import (
    BASS_PATTERNS,
    CELLS_PER_PHRASE,
    CHORD_COUNT,
    DRUM_FILL,
    DRUM_PATTERNS,
    DYNAMICS_COUNT,
    EIGHTHS_PER_CELL,
    GENRES,
    KEYS_PATTERNS,
    MELODY_COUNT,
    MODES,
    PARTS,
    TEMPI,
    TEMPO_COUNT,
    TONICS,
    Piece,
    cells_for,
)

Latents = NDArray[np.float32]  # [T, C]

FRAME_RATE = 20  # frames per second
PATCH = 4  # frames; each of the four carries another of the piece's constants


@dataclass(frozen=True)
class Stream:
    """Channels `start` to `start + width` of a frame, carrying one of `count` symbols at amplitude `gain`."""

    start: int
    width: int
    count: int
    gain: float

    @property
    def channels(self) -> slice:
        return slice(self.start, self.start + self.width)


# What holds for the whole piece shares four channels: frame 0 of each patch tells the genre, 1 the key, 2 the tempo,
# 3 the parts.
GENRE = Stream(0, 4, len(GENRES), 0.45)
KEY = Stream(0, 4, len(TONICS) * len(MODES), 0.45)
TEMPO = Stream(0, 4, TEMPO_COUNT, 0.45)
PART = Stream(0, 4, 2 ** len(PARTS), 0.45)
CONSTANTS = (GENRE, KEY, TEMPO, PART)

CHORD = Stream(4, 4, CHORD_COUNT, 0.55)
DRUMS = Stream(8, 4, len(DRUM_PATTERNS), 0.45)
BASS = Stream(12, 3, len(BASS_PATTERNS), 0.5)
KEYS = Stream(15, 3, len(KEYS_PATTERNS), 0.5)
DYNAMICS = Stream(18, 1, DYNAMICS_COUNT, 0.5)
MELODY = Stream(19, 5, MELODY_COUNT, 0.65)
CELL_STREAMS = {"chords": CHORD, "drums": DRUMS, "bass": BASS, "keys": KEYS, "dynamics": DYNAMICS}
CHANNELS = MELODY.start + MELODY.width


@cache
def codes(width: int, count: int) -> NDArray[np.float64]:
    """Return [count, width] points far apart on the sphere of radius sqrt(width), by repulsion from a fixed seed."""
    if width == 1:
        return np.linspace(-1.6, 1.6, count)[:, None]
    if count == 2**width:  # one channel per bit
        return np.array([[2.0 * (i >> bit & 1) - 1.0 for bit in range(width)] for i in range(count)])
    points = np.random.default_rng(100 * width + count).standard_normal((count, width))
    for step in range(2000):
        points /= np.linalg.norm(points, axis=1, keepdims=True)
        apart = points[:, None] - points[None]
        distance = np.linalg.norm(apart, axis=2) + np.eye(count)
        points += 0.1 * 0.998**step * (apart / distance[..., None] ** 4).sum(axis=1) / count
    sphere: NDArray[np.float64] = points / np.linalg.norm(points, axis=1, keepdims=True) * math.sqrt(width)
    return sphere


def code_table(stream: Stream) -> NDArray[np.float64]:
    """Return [count, width]: the stream's symbols as they stand in a latent."""
    return codes(stream.width, stream.count) * stream.gain


def frame_times(frames: int) -> NDArray[np.float64]:
    """Return the middle of each frame in seconds, [T]."""
    return (np.arange(frames) + 0.5) / FRAME_RATE


def encode_piece(piece: Piece, frames: int) -> Latents:
    """Write a piece into latents [T, C]; the piece must have a cell for every frame."""
    latents = np.empty((frames, CHANNELS), dtype=np.float32)
    cell_s = 120.0 / TEMPI[piece.tempo]
    cells = np.minimum((frame_times(frames) / cell_s).astype(int), piece.cell_count - 1)
    eighths = np.minimum((frame_times(frames) / cell_s * EIGHTHS_PER_CELL).astype(int), len(piece.melody) - 1)
    constants = np.stack([code_table(s)[i] for s, i in zip(CONSTANTS, _constant_symbols(piece), strict=True)])
    latents[:, GENRE.channels] = constants[np.arange(frames) % PATCH]
    for name, stream in CELL_STREAMS.items():
        latents[:, stream.channels] = code_table(stream)[getattr(piece, name)[cells]]
    latents[:, MELODY.channels] = code_table(MELODY)[piece.melody[eighths]]
    return latents


def _constant_symbols(piece: Piece) -> tuple[int, int, int, int]:
    part_bits = sum(1 << i for i, part in enumerate(piece.parts) if part)
    return piece.genre, piece.tonic * len(MODES) + piece.mode, piece.tempo, part_bits


def decode_piece(latents: Latents) -> Piece:
    """Read the nearest piece out of latents [T, C]."""
    frames = len(latents)
    genre, key, tempo, part_bits = (
        _vote(latents[phase::PATCH, stream.channels], stream) if frames > phase else 0
        for phase, stream in enumerate(CONSTANTS)
    )
    cell_s = 120.0 / TEMPI[tempo]
    count = cells_for(frames / FRAME_RATE, TEMPI[tempo])
    cells = (frame_times(frames) / cell_s).astype(int)
    eighths = (frame_times(frames) / cell_s * EIGHTHS_PER_CELL).astype(int)
    distances = {name: _distances(latents, stream, cells, count) for name, stream in CELL_STREAMS.items()}
    chords = phrases.read_chords(distances["chords"], MODES[key % len(MODES)])
    return Piece(
        genre=genre,
        tonic=key // len(MODES),
        mode=key % len(MODES),
        tempo=tempo,
        parts=tuple(bool(part_bits >> i & 1) for i in range(len(PARTS))),  # type: ignore[arg-type]
        chords=chords,
        drums=phrases.read_groove(distances["drums"], fill=DRUM_FILL),
        bass=phrases.read_groove(distances["bass"]),
        keys=phrases.read_groove(distances["keys"]),
        dynamics=phrases.read_steady(distances["dynamics"]),
        melody=phrases.read_melody(_distances(latents, MELODY, eighths, count * EIGHTHS_PER_CELL), chords),
    )


def _vote(values: Latents, stream: Stream) -> int:
    """Return the symbol whose code is nearest to the mean of [N, width]."""
    return int(((values.mean(axis=0) - code_table(stream)) ** 2).sum(axis=1).argmin())


def _distances(latents: Latents, stream: Stream, index: NDArray[np.int64], count: int) -> NDArray[np.float64]:
    """Return [count, symbols]: how far the frames of each span lie from each symbol's code, squared and summed.

    `index` says which span a frame belongs to; a span without a frame repeats the one before.
    """
    index = np.minimum(index, count - 1)
    sums = np.zeros((count, stream.width))
    np.add.at(sums, index, latents[:, stream.channels])
    sizes = np.bincount(index, minlength=count)
    for empty in np.flatnonzero(sizes == 0):
        sums[empty], sizes[empty] = sums[empty - 1], sizes[empty - 1]
    means = sums / sizes[:, None]
    distances: NDArray[np.float64] = sizes[:, None] * ((means[:, None, :] - code_table(stream)[None]) ** 2).sum(axis=2)
    return distances


def clock(frames: int) -> Latents:
    """Return the context [T, C] that tells the model where it is in time.

    Text-to-music passes the condition encoder's silence buffer as source latents; Sketch fills it with clocks. Per
    patch and tempo: cosine and sine of the phase within a half bar and within four bars. The model only has to pick
    the clock of the tempo it was asked for, which it learns in minutes; keeping time by itself it did not in hours.
    """
    patches = -(-frames // PATCH)
    times = (np.arange(patches) + 0.5) * PATCH / FRAME_RATE
    cells = times[:, None] * np.array(TEMPI)[None] / 120.0
    turns = np.concatenate([cells, cells / CELLS_PER_PHRASE], axis=1) * 2 * np.pi
    features = np.concatenate([np.cos(turns), np.sin(turns)], axis=1)
    return features.reshape(patches * PATCH, CHANNELS)[:frames].astype(np.float32)
