"""Read a phrase at a time: of all that could have been written, what lies nearest to the latents.

A model that dreams half bars one by one gets most of them right, and a phrase with one wrong chord in eight is spoilt.
So what the composer does by rule is read by rule: harmony moves in progressions, grooves alternate two half bars, a
melody repeats its rhythm, moves in small steps and sings a tone of the chord on the beat. All of it compares squared
distances [spans, symbols] from each span of latents to each symbol's code, weighted with the length of the span.
"""

import numpy as np
from numpy.typing import NDArray

from generation.sketch.score import (
    CELLS_PER_PHRASE,
    EIGHTHS_PER_CELL,
    ENTRANCES,
    MELODY_FIRST,
    MELODY_REST,
    MOTIF_CELLS,
    PASSING_CHORDS,
    PROGRESSIONS,
    Symbols,
    chord_tones,
)

Distances = NDArray[np.float64]

LEAP_WEIGHT = 0.3  # dreamt melodies then leap as the composer's do, and the composer's are still read as written


def phrases(distances: Distances) -> list[Distances]:
    """Cut [cells, symbols] into phrases; the last may be short."""
    return [distances[start : start + CELLS_PER_PHRASE] for start in range(0, len(distances), CELLS_PER_PHRASE)]


def read_chords(distances: Distances, mode: str) -> Symbols:
    """Return the nearest known progression of each phrase, with or without a passing chord in its last half bar."""
    known = np.array([np.repeat(progression, 2) for progression in PROGRESSIONS[mode]])
    passing = [known]
    for chord in PASSING_CHORDS:
        varied = known.copy()
        varied[:, -1] = chord
        passing.append(varied)
    candidates = np.concatenate(passing)
    return np.concatenate([_nearest(phrase, candidates[:, : len(phrase)]) for phrase in phrases(distances)])


def read_groove(distances: Distances, fill: int | None = None) -> Symbols:
    """Return each phrase's nearest pair of patterns in turn; it may end in the `fill`, and the first may begin late."""
    read = []
    for number, phrase in enumerate(phrases(distances)):
        late = _entrances(len(distances)) if number == 0 else ENTRANCES[:1]
        ends = (None,) if fill is None or len(phrase) < CELLS_PER_PHRASE else (None, fill)
        read.append(_nearest(phrase, np.array([_groove(phrase, cells, end) for cells in late for end in ends])))
    return np.concatenate(read)


def read_steady(distances: Distances) -> Symbols:
    """Return the nearest symbol of each phrase, for all of its cells."""
    return np.concatenate([np.full(len(phrase), phrase.sum(axis=0).argmin()) for phrase in phrases(distances)])


def read_melody(distances: Distances, chords: Symbols) -> Symbols:
    """Return the nearest melody [eighths]: one rhythm that repeats, in small steps, on the beat a tone of the chord."""
    notes = distances[:, MELODY_FIRST:].copy()
    for beat, chord in enumerate(np.repeat(chords, EIGHTHS_PER_CELL // 2)):
        is_off = np.ones(notes.shape[1], dtype=bool)
        is_off[list(chord_tones(int(chord)))] = False
        notes[2 * beat, is_off] = np.inf
    melody = _rhythm(np.column_stack([distances[:, :MELODY_FIRST], notes.min(axis=1)]), len(chords))
    begins = np.flatnonzero(melody == MELODY_FIRST)
    if len(begins):
        melody[begins] += _line(notes[begins])
    return melody


def _entrances(cells: int) -> tuple[int, ...]:
    return ENTRANCES if cells > 2 * CELLS_PER_PHRASE else ENTRANCES[:1]


def _rhythm(kinds: Distances, cells: int) -> Symbols:
    """Return rest, hold or MELODY_FIRST for each eighth of [eighths, 3], as one motif that repeats once it came in."""
    candidates = []
    for late in _entrances(cells):
        start = late * EIGHTHS_PER_CELL
        repeated = np.resize(_motif(kinds[start:]), len(kinds) - start)
        candidates.append(np.concatenate([np.full(start, MELODY_REST), repeated]))
    return _nearest(kinds, np.array(candidates))


def _motif(kinds: Distances) -> Symbols:
    """Return the motif that lies nearest to all its repeats, with as many notes as they have on average.

    A vote alone would lose them: where each repeat has its notes at other places, most repeats have none at any.
    """
    length = min(MOTIF_CELLS * EIGHTHS_PER_CELL, len(kinds))
    sums = np.array([kinds[place::length].sum(axis=0) for place in range(length)])
    whole = len(kinds) // length  # the end may be cut, and is not counted
    count = round((kinds[: whole * length].argmin(axis=1) == MELODY_FIRST).sum() / whole)
    motif: Symbols = sums[:, :MELODY_FIRST].argmin(axis=1)
    likeliest = np.argsort(sums[:, MELODY_FIRST] - sums[:, :MELODY_FIRST].min(axis=1), kind="stable")
    motif[likeliest[:count]] = MELODY_FIRST
    return motif


def _line(notes: Distances) -> Symbols:
    """Return degrees [N]: the path through [N, degrees] that stays near the latents and leaps little (Viterbi)."""
    degrees = np.arange(notes.shape[1])
    leaps = LEAP_WEIGHT * (degrees[:, None] - degrees[None]) ** 2.0
    cost, steps = notes[0], []
    for note in notes[1:]:
        ways = cost[:, None] + leaps
        steps.append(ways.argmin(axis=0))
        cost = ways.min(axis=0) + note
    line = [int(cost.argmin())]
    for step in reversed(steps):
        line.append(int(step[line[-1]]))
    return np.array(line[::-1], dtype=np.int64)


def _groove(phrase: Distances, late: int, fill: int | None) -> Symbols:
    cells = np.zeros(len(phrase), dtype=np.int64)
    end = len(phrase) - (fill is not None)
    for first in (late, late + 1):
        if first < end:
            cells[first:end:2] = phrase[first:end:2].sum(axis=0).argmin()
    if fill is not None:
        cells[-1] = fill
    return cells


def _nearest(phrase: Distances, candidates: NDArray[np.int64]) -> Symbols:
    """Return the candidate [cells] with the least sum of distances."""
    sums = phrase[np.arange(len(phrase)), candidates].sum(axis=1)
    nearest: Symbols = candidates[sums.argmin()]
    return nearest
