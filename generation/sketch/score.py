"""The alphabet of Sketch: what a piece of music can say, as small integers on a grid.

A piece is in 4/4. Its grid is the sixteenth note, counted from the start; a *cell* is half a bar (8 sixteenths).
Chords, drums, bass, keys and dynamics are one symbol per cell, the melody one symbol per eighth note. What a symbol
sounds like is a rule, so it stands here; which symbol comes next is a choice: it belongs to the composer or the model.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Symbols = NDArray[np.int64]

GENRES = ("lofi", "house", "ambient", "rock", "jazz", "funk", "synthwave", "folk")
TONICS = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
MODES = ("major", "minor")
SCALES = {"major": (0, 2, 4, 5, 7, 9, 11), "minor": (0, 2, 3, 5, 7, 8, 10)}  # semitones above the tonic
PARTS = ("drums", "bass", "keys", "melody")

SLOWEST_BPM, FASTEST_BPM, TEMPO_COUNT = 60.0, 180.0, 24
TEMPI = tuple(SLOWEST_BPM * (FASTEST_BPM / SLOWEST_BPM) ** (i / (TEMPO_COUNT - 1)) for i in range(TEMPO_COUNT))

SIXTEENTHS_PER_CELL = 8
EIGHTHS_PER_CELL = 4
CELLS_PER_PHRASE = 8  # four bars
MOTIF_CELLS = 4  # two bars, after which a melody's rhythm repeats
ENTRANCES = (0, 2, 4)  # cells that a part may be silent for at first, in pieces of more than two phrases
CHORD_COUNT = 7  # degrees of the scale, 0 is the tonic's chord
DYNAMICS_COUNT = 4  # 0 is the softest
MELODY_REST, MELODY_HOLD, MELODY_FIRST = 0, 1, 2  # then the scale's degrees over two octaves
MELODY_DEGREES = 14
MELODY_COUNT = MELODY_FIRST + MELODY_DEGREES


@dataclass(frozen=True)
class DrumPattern:
    """Hits of one cell, a string of 8 sixteenths per voice: "x" an accent, "o" a plain hit, "-" a ghost note."""

    kick: str = "........"
    snare: str = "........"
    hat: str = "........"
    open_hat: str = "........"
    ride: str = "........"
    tom: str = "........"


DRUM_PATTERNS = (
    DrumPattern(),
    DrumPattern(kick="x.......", snare="....x...", hat="o.o.o.o."),  # 1 back beat
    DrumPattern(kick="x.o.....", snare="....x...", hat="o.o.o.o."),  # 2 back beat, pushed
    DrumPattern(kick="x...x...", snare="....o...", open_hat="..o...o."),  # 3 four on the floor
    DrumPattern(kick="x...x...", snare="....o...", hat="o-x-o-x-"),  # 4 four on the floor, busy hats
    DrumPattern(kick="x......o", snare="....o...", hat="o.-.o.-."),  # 5 lazy, late kick
    DrumPattern(kick="..x.....", snare="....o..-", hat="o.-.o.-."),  # 6 lazy, displaced kick
    DrumPattern(kick="-.......", hat="....o...", ride="x...x.-."),  # 7 swinging ride
    DrumPattern(kick="-.....-.", snare="..-.....", hat="....o...", ride="x...x.-."),  # 8 swinging ride, comping snare
    DrumPattern(kick="x..o....", snare="....x..-", hat="o-o-o-o-"),  # 9 syncopated
    DrumPattern(kick="..o...x.", snare=".-..x..-", hat="o-o-o-o-"),  # 10 syncopated, off the one
    DrumPattern(kick="x.x...x.", snare="....x...", ride="o.o.o.o."),  # 11 driving
    DrumPattern(kick="x...x...", snare="....x...", hat="oooooooo"),  # 12 machine
    DrumPattern(kick="o.......", hat="-.-.o.-."),  # 13 shaker
    DrumPattern(kick="x.......", snare="..o.o.oo", tom="....o.oo"),  # 14 fill
    DrumPattern(kick="x.......", hat="....-..."),  # 15 half time
)
DRUM_FILL = 14

# One cell of bass: "R" root, "3" third, "5" fifth, "O" octave, "-" holds the note, "." is silence.
BASS_PATTERNS = (
    "........",
    "R-------",
    "R---R---",
    "R.R.R.R.",
    "R-..R.5-",
    "R---3---",
    "5---3---",
    "R.RO.R5.",
    "R.O.R.O.",
    "..R-..R-",
    "R--R--5-",
    "R-----5-",
)

# One cell of keys: "X" the chord, "1" to "4" one of its tones, "-" holds, "." is silence.
KEYS_PATTERNS = (
    "........",
    "X-------",
    "X--.X--.",
    "..X-..X-",
    "1-2-3-2-",
    "12341234",
    "X--X----",
    "X-----X-",
    "X-XXX-X-",
    "..X..X.X",
    "1-3-2-3-",
    "X---....",
)

# Chords of a phrase, one a bar.
POP = {
    "major": ((0, 4, 5, 3), (0, 5, 3, 4), (5, 3, 0, 4), (0, 3, 5, 4), (3, 0, 4, 5)),
    "minor": ((0, 5, 2, 6), (0, 3, 5, 6), (0, 6, 5, 6), (5, 6, 0, 0), (0, 2, 6, 5)),
}
JAZZ = {
    "major": ((1, 4, 0, 0), (0, 5, 1, 4), (2, 5, 1, 4), (0, 3, 1, 4), (1, 4, 2, 5)),
    "minor": ((1, 4, 0, 0), (0, 3, 6, 2), (5, 1, 4, 0), (0, 5, 1, 4)),
}
MODAL = {
    "major": ((0, 0, 3, 3), (0, 0, 1, 1), (3, 3, 0, 0), (0, 4, 3, 3)),
    "minor": ((0, 0, 5, 5), (0, 0, 3, 3), (0, 6, 5, 5), (0, 0, 6, 6)),
}
PROGRESSIONS = {mode: (*POP[mode], *JAZZ[mode], *MODAL[mode]) for mode in MODES}
PASSING_CHORDS = (4, 6, 3)  # what a phrase's last half bar may lead on with


@dataclass(frozen=True)
class Piece:
    """One piece as symbols.

    `chords`, `drums`, `bass`, `keys`, `dynamics` have one entry per cell, `melody` one per eighth note (4 per cell).
    `parts` says which of PARTS may sound at all: a part that is out is silent whatever its symbols say.
    """

    genre: int
    tonic: int
    mode: int
    tempo: int
    parts: tuple[bool, bool, bool, bool]
    chords: Symbols
    drums: Symbols
    bass: Symbols
    keys: Symbols
    dynamics: Symbols
    melody: Symbols
    bpm: float | None = None  # a composer's own tempo; what passed through the codec has its class's

    @property
    def cell_count(self) -> int:
        return len(self.chords)

    @property
    def beats_per_minute(self) -> float:
        return TEMPI[self.tempo] if self.bpm is None else self.bpm

    @property
    def cell_s(self) -> float:
        """Seconds of one cell (two beats)."""
        return 120.0 / self.beats_per_minute

    @property
    def keyscale(self) -> str:
        return f"{TONICS[self.tonic]} {MODES[self.mode]}"


def nearest_tempo(bpm: float) -> int:
    """Return the index in TEMPI nearest to `bpm` on a log scale, halved or doubled into the range first."""
    return int(np.argmin([abs(math.log(tempo / folded_bpm(bpm))) for tempo in TEMPI]))


def folded_bpm(bpm: float) -> float:
    """Bring a tempo into SLOWEST_BPM..FASTEST_BPM by octaves: 200 is felt as 100."""
    while bpm > FASTEST_BPM:
        bpm /= 2
    while bpm < SLOWEST_BPM:
        bpm *= 2
    return bpm


def cells_for(duration_s: float, bpm: float) -> int:
    """Return how many cells begin within `duration_s` seconds."""
    return max(1, math.ceil(duration_s * bpm / 120.0 - 1e-9))


def chord_tones(chord: int) -> tuple[int, ...]:
    """Return the degrees, over the melody's two octaves, of the root, third and fifth of the chord on a degree."""
    return tuple(degree for degree in range(MELODY_DEGREES) if (degree - chord) % 7 in (0, 2, 4))


def scale_pitch(mode: int, degree: int) -> int:
    """Return the semitones of a scale degree above the tonic; degree 7 is the octave."""
    scale = SCALES[MODES[mode]]
    octave, step = divmod(degree, len(scale))
    return 12 * octave + scale[step]
