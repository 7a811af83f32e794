"""From symbols to notes: who plays which pitch when, for how long and how hard.

Voicing, register and touch belong to the genre and are rules, so that the same symbols always give the same notes.
"""

from dataclasses import dataclass
from itertools import pairwise

from generation.sketch.score import (
    BASS_PATTERNS,
    DRUM_PATTERNS,
    EIGHTHS_PER_CELL,
    GENRES,
    KEYS_PATTERNS,
    MELODY_FIRST,
    MELODY_HOLD,
    SIXTEENTHS_PER_CELL,
    DrumPattern,
    Piece,
    scale_pitch,
)

DRUMS = ("kick", "snare", "hat", "open_hat", "ride", "tom")
LOWEST_BASS = 28  # E1, the lowest string of a bass
LOWEST_MELODY_TONIC = 66
HIGHEST_KEY = 71  # B4; the melody has the register above to itself
LOWEST_HOME = 41  # where the left hand doubles the tonic
AWAY_TOUCH = 0.76
SHORTEST_NOTE_S = 0.04
OPEN_HAT_S = 0.7  # how long an open hat rings if no other hat stops it

HIT_VELOCITY = {"x": 1.0, "o": 0.74, "-": 0.4}
DYNAMICS_VELOCITY = (0.5, 0.64, 0.79, 0.94)


@dataclass(frozen=True)
class Note:
    part: str  # "bass", "keys" or "melody"
    pitch: int  # MIDI
    start_s: float
    duration_s: float
    velocity: float  # 0..1


@dataclass(frozen=True)
class Hit:
    drum: str  # one of DRUMS
    start_s: float
    duration_s: float  # after this it is damped; most drums have died away long before
    velocity: float  # 0..1


@dataclass(frozen=True)
class Performance:
    genre: str
    beats_per_minute: float
    notes: tuple[Note, ...]
    hits: tuple[Hit, ...]


@dataclass(frozen=True)
class Style:
    """How a genre's keyboard or guitar player plays a chord."""

    steps: tuple[int, ...]  # scale steps above the chord's root: 0 root, 2 third, 4 fifth, 6 seventh, 8 ninth
    lowest: int  # MIDI pitches that the hand keeps between
    highest: int
    is_open: bool = False  # the second lowest voice an octave higher, as on pads and in jazz
    rings: bool = True  # broken chords ring on until the chord changes
    gate: float = 1.0  # share of its written length that a note sounds


STYLES = {
    "lofi": Style(steps=(0, 2, 4, 6), lowest=50, highest=69),
    "house": Style(steps=(0, 2, 4, 6), lowest=52, highest=70, rings=False, gate=0.7),
    "ambient": Style(steps=(0, 2, 4, 8), lowest=43, highest=HIGHEST_KEY, is_open=True),
    "rock": Style(steps=(0, 4, 7), lowest=45, highest=69, rings=False, gate=0.95),
    "jazz": Style(steps=(0, 2, 6, 8), lowest=46, highest=HIGHEST_KEY, is_open=True, gate=0.9),
    "funk": Style(steps=(0, 2, 4, 6), lowest=54, highest=HIGHEST_KEY, rings=False, gate=0.6),
    "synthwave": Style(steps=(0, 2, 4), lowest=50, highest=69, rings=False),
    "folk": Style(steps=(0, 2, 4, 7), lowest=47, highest=HIGHEST_KEY),
}


def perform(piece: Piece, duration_s: float) -> Performance:
    """Play the parts of a piece that are in, for `duration_s` seconds.

    Every onset lies on the sixteenth grid counted from the start, every note ends by itself within `duration_s`.
    """
    grid = _Grid(piece, duration_s)
    has_drums, has_bass, has_keys, has_melody = piece.parts
    notes: list[Note] = []
    if has_bass:
        notes += _bass(piece, grid)
    if has_keys:
        notes += _keys(piece, grid)
    if has_melody:
        notes += _melody(piece, grid)
    return Performance(
        genre=GENRES[piece.genre],
        beats_per_minute=piece.beats_per_minute,
        notes=tuple(notes),
        hits=tuple(_drums(piece, grid)) if has_drums else (),
    )


class _Grid:
    """Places sixteenths in time and gives each its touch."""

    def __init__(self, piece: Piece, duration_s: float) -> None:
        self._sixteenth_s = piece.cell_s / SIXTEENTHS_PER_CELL
        self._duration_s = duration_s
        self._dynamics = piece.dynamics

    def note(self, part: str, pitch: int, start: int, end: int, *, gate: float = 1.0, touch: float = 1.0) -> list[Note]:
        """Return the note from sixteenth `start` to `end`, or nothing where the music is already over."""
        start_s, duration_s = self._span(start, start + (end - start) * gate)
        if duration_s < SHORTEST_NOTE_S:
            return []
        return [Note(part, pitch, start_s, duration_s, touch * self._velocity(part, start))]

    def hit(self, drum: str, start: int, *, touch: float, until: int | None) -> list[Hit]:
        """Return the hit on sixteenth `start`, damped at sixteenth `until`."""
        longest = OPEN_HAT_S / self._sixteenth_s if until is None else until - start
        start_s, duration_s = self._span(start, start + longest)
        if duration_s < SHORTEST_NOTE_S:
            return []
        return [Hit(drum, start_s, duration_s, touch * self._velocity(drum, start))]

    def _span(self, start: float, end: float) -> tuple[float, float]:
        start_s = start * self._sixteenth_s
        return start_s, min(end * self._sixteenth_s, self._duration_s) - start_s

    def _velocity(self, player: str, sixteenth: int) -> float:
        """Return 0..1: the dynamics, a little more on the beat, and a hand that is never quite even."""
        loudness = DYNAMICS_VELOCITY[int(self._dynamics[sixteenth // SIXTEENTHS_PER_CELL])]
        beat = (1.0, 0.9, 0.95, 0.9)[sixteenth % 4]
        return loudness * beat * (1.0 + 0.06 * _unevenness(player, sixteenth))


def _unevenness(player: str, sixteenth: int) -> float:
    """Return -1..1, fixed for each player and place: a hash, because music must not depend on a random state."""
    value = (sixteenth * 0x9E3779B1 + sum(player.encode()) * 0x85EBCA6B) & 0xFFFFFFFF
    value = ((value ^ (value >> 15)) * 0x2C1B3C6D) & 0xFFFFFFFF
    return float((value ^ (value >> 12)) & 0xFFFF) / 0x8000 - 1.0


def _drums(piece: Piece, grid: _Grid) -> list[Hit]:
    hits = []
    for drum in DRUMS:
        line = "".join(getattr(DRUM_PATTERNS[symbol], drum) for symbol in piece.drums)
        for start, mark in enumerate(line):
            if mark != ".":
                until = _next_hat(piece, start) if drum == "open_hat" else None
                hits += grid.hit(drum, start, touch=HIT_VELOCITY[mark], until=until)
    return hits


def _next_hat(piece: Piece, start: int) -> int | None:
    """Return the sixteenth of the next hat within a cell's length: a drummer has one pair of hats."""
    for sixteenth in range(start + 1, min(start + SIXTEENTHS_PER_CELL, piece.cell_count * SIXTEENTHS_PER_CELL)):
        pattern: DrumPattern = DRUM_PATTERNS[piece.drums[sixteenth // SIXTEENTHS_PER_CELL]]
        place = sixteenth % SIXTEENTHS_PER_CELL
        if pattern.hat[place] != "." or pattern.open_hat[place] != ".":
            return sixteenth
    return None


def _bass(piece: Piece, grid: _Grid) -> list[Note]:
    notes = []
    for cell, symbol in enumerate(piece.bass):
        degree = int(piece.chords[cell])
        root = _pitch(piece, degree)
        lowest = LOWEST_BASS + (root - LOWEST_BASS) % 12
        above = {"R": 0, "3": _pitch(piece, degree + 2) - root, "5": _pitch(piece, degree + 4) - root, "O": 12}
        for start, end, mark in _spans(BASS_PATTERNS[symbol]):
            first = cell * SIXTEENTHS_PER_CELL
            gate = 0.92 if end - start > 1 else 0.8
            pitch = lowest + above[mark]
            notes += grid.note("bass", pitch, first + start, first + end, gate=gate, touch=_weight(degree))
    return notes


def _keys(piece: Piece, grid: _Grid) -> list[Note]:
    style = STYLES[GENRES[piece.genre]]
    notes = []
    voicing: tuple[int, ...] = ()
    for cell, symbol in enumerate(piece.keys):
        degree = int(piece.chords[cell])
        voicing = voice_chord(piece, degree, style, previous=voicing)
        first = cell * SIXTEENTHS_PER_CELL
        for start, end, mark in _spans(KEYS_PATTERNS[symbol]):
            pitches = list(voicing) if mark == "X" else [_tone(voicing, int(mark) - 1)]
            if degree == 0 and mark in "X1":
                pitches = _with_home_bass(pitches, piece)
            if mark != "X":
                end = _ringing_until(KEYS_PATTERNS[symbol], start, mark) if style.rings else end
            for pitch in pitches:
                touch = _weight(degree) * (1.0 if pitch == pitches[-1] else 0.88)  # the top voice sings
                notes += grid.note("keys", pitch, first + start, first + end, gate=style.gate, touch=touch)
    return notes


def _weight(degree: int) -> float:
    """Return the touch of a chord or tone. Home weighs most: a loop alone leaves a key and its relative open."""
    return 1.0 if degree == 0 else AWAY_TOUCH


def _with_home_bass(pitches: list[int], piece: Piece) -> list[int]:
    """Put the tonic below the hand."""
    home = LOWEST_HOME + (piece.tonic - LOWEST_HOME) % 12
    return [home, *pitches] if home < pitches[0] else pitches


def _tone(voicing: tuple[int, ...], index: int) -> int:
    """Return a tone of a broken chord; past the top it goes on an octave higher while below the melody's register."""
    octave, voice = divmod(index, len(voicing))
    pitch = voicing[voice] + 12 * octave
    return pitch if pitch <= HIGHEST_KEY else voicing[voice]


def _ringing_until(pattern: str, start: int, mark: str) -> int:
    again = pattern.find(mark, start + 1)
    return len(pattern) if again < 0 else again


def _melody(piece: Piece, grid: _Grid) -> list[Note]:
    notes = []
    tonic = LOWEST_MELODY_TONIC + (piece.tonic - LOWEST_MELODY_TONIC) % 12
    per_eighth = SIXTEENTHS_PER_CELL // EIGHTHS_PER_CELL
    tokens = [int(token) for token in piece.melody]
    for start, token in enumerate(tokens):
        if token < MELODY_FIRST:
            continue
        end = start + 1
        while end < len(tokens) and tokens[end] == MELODY_HOLD:
            end += 1
        pitch = tonic + scale_pitch(piece.mode, token - MELODY_FIRST)
        touch = _weight((token - MELODY_FIRST) % 7)
        notes += grid.note("melody", pitch, start * per_eighth, end * per_eighth, gate=0.96, touch=touch)
    return notes


def voice_chord(piece: Piece, degree: int, style: Style, previous: tuple[int, ...]) -> tuple[int, ...]:
    """Return the chord's pitches, low to high: of all inversions within reach, the one nearest to `previous`."""
    root = _pitch(piece, degree)
    tones = _chord_tones(piece, degree, style)
    inversions = []
    for bottom in range(style.lowest, style.highest + 1):
        pitches = _stack(bottom, [root + tone for tone in tones])
        if style.is_open:
            pitches = sorted([pitches[0], pitches[1] + 12, *pitches[2:]])
        if pitches[0] == bottom and pitches[-1] <= style.highest:
            inversions.append(tuple(pitches))
    return min(inversions, key=lambda inversion: _effort(inversion, previous, style))


def _stack(bottom: int, tones: list[int]) -> list[int]:
    """Return the tones in close position from `bottom` up, a doubled one an octave above its first."""
    pitches: list[int] = []
    for tone in tones:
        pitch = bottom + (tone - bottom) % 12
        pitches.append(pitch + 12 if pitch in pitches else pitch)
    return sorted(pitches)


def _chord_tones(piece: Piece, degree: int, style: Style) -> list[int]:
    """Return semitones above the root, without what would grate: a minor ninth, a diminished power chord."""
    root = _pitch(piece, degree)
    third, fifth, ninth = (_pitch(piece, degree + step) - root for step in (2, 4, 8))
    tones = []
    for step in style.steps:
        if step == 8 and ninth == 13:
            tones += [] if 4 in style.steps else [fifth]
        elif step == 4 and fifth == 6 and 2 not in style.steps:
            tones.append(third)
        else:
            tones.append(_pitch(piece, degree + step) - root)
    return tones


def _effort(inversion: tuple[int, ...], previous: tuple[int, ...], style: Style) -> float:
    """Return how far the hand moves, plus a little for leaving its place and for two voices a semitone apart."""
    centre = (style.lowest + style.highest) / 2
    strain = 0.3 * abs(sum(inversion) / len(inversion) - centre)
    friction = 4.0 * sum(upper - lower == 1 for lower, upper in pairwise(inversion))
    movement = sum(min(abs(pitch - before) for before in previous) for pitch in inversion) if previous else 0
    return movement + strain + friction


def _pitch(piece: Piece, degree: int) -> int:
    """Return semitones of a scale degree, counted from the C below the tonic."""
    return piece.tonic + scale_pitch(piece.mode, degree)


def _spans(pattern: str) -> list[tuple[int, int, str]]:
    """Return (start, end, mark) of every note in a pattern, its "-" included."""
    spans = []
    for start, mark in enumerate(pattern):
        if mark in ".-":
            continue
        end = start + 1
        while end < len(pattern) and pattern[end] == "-":
            end += 1
        spans.append((start, end, mark))
    return spans
