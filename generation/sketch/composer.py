"""The composer: procedural music theory that writes the pieces and prompts Sketch learns from.

A *brief* is what a prompt asks for, a *piece* is one answer. The same brief composed twice gives two different pieces;
what the brief leaves open is drawn from the genre's habits.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from generation.sketch.score import (
    CELLS_PER_PHRASE,
    CHORD_COUNT,
    DRUM_FILL,
    DYNAMICS_COUNT,
    EIGHTHS_PER_CELL,
    ENTRANCES,
    FASTEST_BPM,
    GENRES,
    JAZZ,
    MELODY_DEGREES,
    MELODY_FIRST,
    MELODY_HOLD,
    MELODY_REST,
    MODAL,
    MODES,
    MOTIF_CELLS,
    PARTS,
    PASSING_CHORDS,
    POP,
    SLOWEST_BPM,
    TEMPI,
    TONICS,
    Piece,
    Symbols,
    cells_for,
    chord_tones,
    folded_bpm,
    nearest_tempo,
)

Rng = np.random.Generator
T = TypeVar("T")


@dataclass(frozen=True)
class Genre:
    """The habits of one genre: what its words are and what the composer draws from when a brief leaves it open.

    Patterns are pairs (first half of the bar, second half) of indices into score's tables.
    """

    words: tuple[str, ...]
    bpm: tuple[int, int]
    minor: float  # share of pieces in minor
    part_odds: tuple[float, float, float, float]  # drums, bass, keys, melody
    drums: tuple[tuple[int, int], ...]
    bass: tuple[tuple[int, int], ...]
    keys: tuple[tuple[int, int], ...]
    progressions: Mapping[str, tuple[tuple[int, ...], ...]]  # four chords, one a bar
    melody_density: float  # share of eighths that begin a note in an ordinary bar
    dynamics: int
    leads: tuple[str, ...]
    key_words: tuple[str, ...]
    drum_words: tuple[str, ...]
    bass_words: tuple[str, ...]


HABITS: dict[str, Genre] = {
    "lofi": Genre(
        ("lofi", "lo-fi hip hop", "chillhop", "lofi beats"), (68, 92), 0.6, (0.9, 0.85, 0.97, 0.75),
        ((5, 5), (5, 6), (6, 5), (15, 1)), ((1, 1), (10, 1), (11, 5), (2, 1)), ((1, 1), (6, 1), (1, 7), (4, 1)),
        {"major": JAZZ["major"] + POP["major"][:2], "minor": JAZZ["minor"] + POP["minor"][:2]}, 0.34, 1,
        ("mellow lead", "soft melody", "vibraphone melody"), ("electric piano", "rhodes", "piano", "warm keys"),
        ("dusty drums", "drums", "lazy beat", "beat"), ("bass", "round bass", "soft bass"),
    ),
    "house": Genre(
        ("house", "deep house", "club house", "house music"), (116, 130), 0.65, (0.98, 0.95, 0.9, 0.55),
        ((3, 3), (4, 4), (3, 4)), ((9, 9), (8, 8), (3, 3), (10, 9)), ((3, 3), (2, 2), (9, 9), (1, 1)),
        {"major": POP["major"] + MODAL["major"][:2], "minor": POP["minor"] + MODAL["minor"][:2]}, 0.4, 2,
        ("synth lead", "hook", "lead melody"), ("chord stabs", "organ", "synth chords", "piano"),
        ("four on the floor drums", "drums", "club beat", "beat"), ("bassline", "bass", "deep bass"),
    ),
    "ambient": Genre(
        ("ambient", "ambient soundscape", "drone ambient", "atmospheric ambient"), (60, 84), 0.5,
        (0.06, 0.5, 0.98, 0.6),
        ((15, 0), (13, 0)), ((1, 1), (1, 0)), ((1, 1), (10, 10), (4, 1)), MODAL, 0.16, 0,
        ("glassy melody", "slow melody", "bells"), ("pads", "warm pad", "synth pads", "soft piano"),
        ("soft percussion", "drums", "sparse drums"), ("sub bass", "bass", "deep bass"),
    ),
    "rock": Genre(
        ("rock", "indie rock", "classic rock", "garage rock"), (104, 160), 0.45, (0.98, 0.95, 0.95, 0.6),
        ((1, 2), (2, 1), (11, 11), (1, 1)), ((3, 3), (3, 3), (10, 3)), ((8, 8), (7, 7), (2, 2), (8, 7)), POP, 0.42, 3,
        ("guitar lead", "guitar solo", "lead guitar"), ("guitars", "power chords", "electric guitar", "organ"),
        ("rock drums", "drums", "driving drums", "drum kit"), ("bass guitar", "bass", "driving bass"),
    ),
    "jazz": Genre(
        ("jazz", "jazz trio", "swing jazz", "cool jazz"), (88, 160), 0.4, (0.85, 0.95, 0.95, 0.8),
        ((7, 7), (7, 8), (8, 7)), ((5, 6), (5, 5), (2, 6)), ((6, 11), (11, 6), (7, 11), (1, 6)), JAZZ, 0.5, 1,
        ("saxophone melody", "vibraphone solo", "melody", "lead"), ("piano", "comping piano", "jazz guitar", "keys"),
        ("brushed drums", "drums", "ride cymbal", "jazz drums"), ("walking bass", "upright bass", "bass"),
    ),
    "funk": Genre(
        ("funk", "funky groove", "disco funk", "funk soul"), (92, 118), 0.6, (0.98, 0.98, 0.92, 0.5),
        ((9, 10), (10, 9), (9, 9)), ((7, 7), (4, 7), (7, 4), (8, 7)), ((9, 9), (3, 9), (9, 3)), MODAL, 0.4, 2,
        ("horn line", "brass hook", "synth lead", "melody"),
        ("wah guitar", "clavinet", "electric piano", "rhythm guitar"),
        ("tight drums", "drums", "breakbeat", "drum groove"), ("slap bass", "bass", "funky bassline"),
    ),
    "synthwave": Genre(
        ("synthwave", "retrowave", "80s synthwave", "outrun"), (84, 118), 0.75, (0.95, 0.97, 0.95, 0.7),
        ((12, 12), (12, 2), (1, 12)), ((3, 3), (8, 8), (3, 8)), ((5, 5), (1, 1), (4, 4), (5, 1)), POP, 0.36, 2,
        ("synth lead", "soaring lead", "lead melody"), ("arpeggios", "synth pads", "analog synth", "arpeggiator"),
        ("drum machine", "drums", "gated drums", "electronic drums"), ("synth bass", "bass", "pulsing bass"),
    ),
    "folk": Genre(
        ("folk", "acoustic folk", "indie folk", "country folk"), (80, 124), 0.35, (0.35, 0.6, 0.98, 0.75),
        ((13, 13), (13, 15)), ((2, 2), (11, 11), (1, 1)), ((8, 8), (10, 10), (4, 4), (10, 8)), POP, 0.38, 1,
        ("flute melody", "whistle", "fiddle melody", "melody"),
        ("acoustic guitar", "strummed guitar", "fingerpicked guitar"),
        ("shaker", "drums", "light percussion", "hand drums"), ("bass", "upright bass", "soft bass"),
    ),
}  # fmt: skip

SOFT = ("calm", "gentle", "soft", "quiet", "relaxing", "peaceful", "sleepy", "tender")
LOUD = ("energetic", "driving", "loud", "powerful", "intense", "upbeat", "punchy", "big")
BRIGHT = ("happy", "bright", "cheerful", "sunny", "hopeful", "joyful", "playful")
DARK = ("sad", "dark", "melancholic", "moody", "nostalgic", "wistful", "brooding", "lonely")
NEUTRAL = ("warm", "smooth", "dreamy", "vintage", "modern", "cosmic", "late night", "rainy day", "summer", "cinematic")
SLOW, FAST = ("slow", "unhurried", "downtempo"), ("fast", "uptempo", "quick")
BUSY, SPARSE = ("busy", "dense", "lively"), ("sparse", "minimal", "simple")
FILLER = ("for studying", "for a walk", "with a steady groove", "that keeps going", "in the evening", "for a road trip")
EXCLUDE = ("no {}", "without {}")
PLAIN_NAMES = {"drums": "drums", "bass": "bass", "keys": "keys", "melody": "melody"}


@dataclass(frozen=True)
class Brief:
    """What a prompt asks for. None leaves it to the composer; `parts` pairs a part with asked or excluded."""

    genre: int
    tonic: int | None = None
    mode: int | None = None
    bpm: int | None = None
    pace: int = 0  # -1 slow, 1 fast, within the genre
    dynamics: int | None = None
    density: int = 0  # -1 sparse, 1 busy
    parts: tuple[tuple[str, bool], ...] = ()


@dataclass(frozen=True)
class Prompt:
    """The text side of a brief, in the fields that the pipeline formats."""

    caption: str
    bpm: int | None = None
    keyscale: str | None = None
    timesignature: str | None = None


def pick(rng: Rng, options: Sequence[T]) -> T:
    return options[int(rng.integers(len(options)))]


def draw_brief(rng: Rng) -> Brief:
    """Draw what somebody might ask for."""
    genre = int(rng.integers(len(GENRES)))
    with_key, with_bpm = rng.random() < 0.75, rng.random() < 0.75
    low, high = HABITS[GENRES[genre]].bpm
    wide = rng.random()
    if wide < 0.25:
        low, high = (int(SLOWEST_BPM), int(FASTEST_BPM)) if wide < 0.2 else (30, 300)
    mode = int(rng.integers(len(MODES))) if with_key or rng.random() < 0.3 else None
    return Brief(
        genre=genre,
        tonic=int(rng.integers(len(TONICS))) if with_key else None,
        mode=mode,
        bpm=int(rng.integers(low, high + 1)) if with_bpm else None,
        pace=0 if with_bpm else int(rng.choice((-1, 0, 0, 1))),
        dynamics=int(rng.choice((0, 3))) if rng.random() < 0.3 else None,
        density=int(rng.choice((-1, 0, 0, 0, 1))),
        parts=_draw_parts(rng, HABITS[GENRES[genre]]),
    )


def _draw_parts(rng: Rng, habits: Genre) -> tuple[tuple[str, bool], ...]:
    asked = []
    for part, odds in zip(PARTS, habits.part_odds, strict=True):
        draw = rng.random()
        if draw < 0.35:
            asked.append((part, True))
        elif draw < 0.35 + (0.14 if odds < 0.99 else 0.05):
            asked.append((part, False))
    if all((part, False) in asked for part in PARTS):
        asked.remove(("keys", False))
    return tuple(asked)


def compose(rng: Rng, brief: Brief, duration_s: float) -> Piece:
    """Write one piece of at least `duration_s` seconds (whole cells) that keeps to the brief."""
    habits = HABITS[GENRES[brief.genre]]
    mode = brief.mode if brief.mode is not None else int(rng.random() < habits.minor)
    bpm = float(brief.bpm) if brief.bpm is not None else _draw_bpm(rng, habits, brief.pace)
    parts = _decide_parts(rng, habits, dict(brief.parts))
    tempo = nearest_tempo(bpm)
    count = cells_for(duration_s, max(folded_bpm(bpm), TEMPI[tempo]))  # enough at its own tempo and at its class's
    chords = _chords(rng, habits, MODES[mode], count)
    entrance = _entrances(rng, parts, count)
    return Piece(
        genre=brief.genre,
        tonic=brief.tonic if brief.tonic is not None else int(rng.integers(len(TONICS))),
        mode=mode,
        tempo=tempo,
        parts=parts,
        chords=chords,
        drums=_drums(rng, habits, count) * entrance[0],
        bass=_alternating(rng, habits.bass, count, change=0.12) * entrance[1],
        keys=_alternating(rng, habits.keys, count, change=0.15) * entrance[2],
        dynamics=_dynamics(rng, habits, brief.dynamics, count),
        melody=_melody(rng, habits, brief.density, chords) * np.repeat(entrance[3], EIGHTHS_PER_CELL),
        bpm=folded_bpm(bpm),
    )


def _draw_bpm(rng: Rng, habits: Genre, pace: int) -> float:
    low, high = habits.bpm
    third = (high - low) / 3
    return float(rng.uniform(low + third * (pace == 1) * 2, high - third * (pace == -1) * 2))


def _decide_parts(rng: Rng, habits: Genre, asked: dict[str, bool]) -> tuple[bool, bool, bool, bool]:
    drums, bass, keys, melody = (
        asked.get(part, bool(rng.random() < odds)) for part, odds in zip(PARTS, habits.part_odds, strict=True)
    )
    if not (drums or bass or keys or melody):
        keys, melody = ("keys" not in asked), ("keys" in asked)
    return drums, bass, keys, melody


def _entrances(rng: Rng, parts: tuple[bool, ...], count: int) -> Symbols:
    """Return [4, cells] of 0 and 1: one part at a time may come in a bar or two late, never the only one."""
    entrance = np.ones((len(PARTS), count), dtype=np.int64)
    if count > 2 * CELLS_PER_PHRASE and sum(parts) >= 3 and rng.random() < 0.5:
        late = pick(rng, [i for i, part in enumerate(parts) if part and PARTS[i] != "keys"])
        entrance[late, : int(rng.choice(ENTRANCES[1:]))] = 0
    return entrance * np.array(parts, dtype=np.int64)[:, None]


def _chords(rng: Rng, habits: Genre, mode: str, count: int) -> Symbols:
    """Repeat one four-bar progression; every second phrase may answer with another."""
    first, second = pick(rng, habits.progressions[mode]), pick(rng, habits.progressions[mode])
    answers = rng.random() < 0.4
    phrases = [np.repeat(second if answers and i % 2 else first, 2) for i in range(count // CELLS_PER_PHRASE + 1)]
    chords = np.concatenate(phrases)[:count].astype(np.int64) % CHORD_COUNT
    if rng.random() < 0.25:  # a passing chord in the last half bar of each phrase
        chords[CELLS_PER_PHRASE - 1 :: CELLS_PER_PHRASE] = pick(rng, (4, 6) if mode == "major" else PASSING_CHORDS)
    return chords


def _alternating(rng: Rng, pairs: tuple[tuple[int, int], ...], count: int, change: float) -> Symbols:
    """Play one pair of patterns, half bar by half bar; at a phrase's start it may change to another."""
    cells = np.empty(count, dtype=np.int64)
    pair = pick(rng, pairs)
    for cell in range(count):
        if cell % CELLS_PER_PHRASE == 0 and cell and rng.random() < change:
            pair = pick(rng, pairs)
        cells[cell] = pair[cell % 2]
    return cells


def _drums(rng: Rng, habits: Genre, count: int) -> Symbols:
    drums = _alternating(rng, habits.drums, count, change=0.1)
    if habits.dynamics > 0 and rng.random() < 0.6:
        drums[CELLS_PER_PHRASE - 1 :: CELLS_PER_PHRASE * int(rng.choice((1, 2)))] = DRUM_FILL
    return drums


def _dynamics(rng: Rng, habits: Genre, asked: int | None, count: int) -> Symbols:
    level = habits.dynamics if asked is None else round((asked * 2 + habits.dynamics) / 3)
    phrases = level + rng.choice((-1, 0, 0, 0, 1), size=count // CELLS_PER_PHRASE + 1)
    return np.repeat(phrases, CELLS_PER_PHRASE)[:count].clip(0, DYNAMICS_COUNT - 1).astype(np.int64)


def _melody(rng: Rng, habits: Genre, density: int, chords: Symbols) -> Symbols:
    """Write a two-bar motif in steps above the chords, repeat it, and vary it from phrase to phrase."""
    rhythm = _motif_rhythm(rng, habits.melody_density * (1 + 0.45 * density), MOTIF_CELLS * EIGHTHS_PER_CELL)
    contour = rng.integers(-2, 3, size=len(rhythm))
    melody = np.full(len(chords) * EIGHTHS_PER_CELL, MELODY_REST, dtype=np.int64)
    degree = int(rng.integers(4, 10))
    for i in range(len(melody)):
        step = i % len(rhythm)
        if i % (CELLS_PER_PHRASE * EIGHTHS_PER_CELL) == 0 and i and rng.random() < 0.5:
            at = int(rng.integers(len(contour)))
            contour[at] = int(rng.integers(-3, 4))
        kind = rhythm[step]
        if kind == MELODY_FIRST:
            degree = _next_degree(degree + int(contour[step]), int(chords[i // EIGHTHS_PER_CELL]), i % 2 == 0)
            melody[i] = MELODY_FIRST + degree
        else:
            melody[i] = kind
    return melody


def _motif_rhythm(rng: Rng, density: float, length: int) -> Symbols:
    """Draw where notes begin (MELODY_FIRST), sound on (MELODY_HOLD) and pause (MELODY_REST)."""
    weight = np.tile((1.5, 0.6, 1.2, 0.7), length // 4) * density
    begins = rng.random(length) < weight
    begins[0] = True
    rhythm = np.where(begins, MELODY_FIRST, MELODY_HOLD)
    rests = rng.random(length) < 0.12
    rhythm[rests & ~begins] = MELODY_REST
    for i in range(1, length):  # silence lasts until the next note begins
        if rhythm[i] == MELODY_HOLD and rhythm[i - 1] == MELODY_REST:
            rhythm[i] = MELODY_REST
    return rhythm


def _next_degree(wanted: int, chord: int, strong: bool) -> int:
    """Keep a note within the two octaves, and on strong eighths on a tone of the chord."""
    wanted = min(max(wanted, 0), MELODY_DEGREES - 1)
    if not strong:
        return wanted
    return min(chord_tones(chord), key=lambda tone: abs(tone - wanted))


def write_prompt(rng: Rng, brief: Brief) -> Prompt:
    """Put a brief into words, each time other ones; tempo and key go into the caption, the fields, or both."""
    habits = HABITS[GENRES[brief.genre]]
    words = [pick(rng, habits.words)]
    mood = _mood_words(rng, brief)
    clauses = [clause for clause in (_part_words(rng, habits, brief),) if clause]
    keyscale = _spell_key(rng, brief.tonic, brief.mode) if brief.tonic is not None and brief.mode is not None else None
    field_bpm, field_key = brief.bpm, keyscale
    if brief.bpm is not None and rng.random() < 0.25:
        clauses.append(pick(rng, ("at {} bpm", "{} bpm")).format(brief.bpm))
        field_bpm = None
    if keyscale is not None and rng.random() < 0.25:
        clauses.append(pick(rng, ("in {}", "key of {}")).format(keyscale))
        field_key = None
    if rng.random() < 0.3:
        clauses.append(pick(rng, FILLER))
    rng.shuffle(clauses)
    opening = " ".join([*mood, *words])
    joint = pick(rng, (", ", ", ", " "))
    caption = joint.join([opening, *clauses])
    return Prompt(caption, field_bpm, field_key, "4" if rng.random() < 0.5 else None)


def _spell_key(rng: Rng, tonic: int, mode: int) -> str:
    name = TONICS[tonic]
    if name.endswith("#") and rng.random() < 0.5:
        name = f"{TONICS[(tonic + 1) % len(TONICS)]}b"
    return f"{name} {MODES[mode]}"


def _mood_words(rng: Rng, brief: Brief) -> list[str]:
    groups: list[tuple[str, ...]] = []
    if brief.dynamics is not None:
        groups.append(LOUD if brief.dynamics == DYNAMICS_COUNT - 1 else SOFT)
    if brief.mode is not None and (brief.tonic is None or rng.random() < 0.3):
        groups.append(DARK if MODES[brief.mode] == "minor" else BRIGHT)
    if brief.pace:
        groups.append(FAST if brief.pace > 0 else SLOW)
    if brief.density:
        groups.append(BUSY if brief.density > 0 else SPARSE)
    if rng.random() < 0.4:
        groups.append(NEUTRAL)
    words = [pick(rng, group) for group in groups]
    rng.shuffle(words)
    return words


def _part_words(rng: Rng, habits: Genre, brief: Brief) -> str:
    named = {"drums": habits.drum_words, "bass": habits.bass_words, "keys": habits.key_words, "melody": habits.leads}
    asked = [pick(rng, named[part] + (PLAIN_NAMES[part],)) for part, wanted in brief.parts if wanted]
    excluded = [pick(rng, EXCLUDE).format(PLAIN_NAMES[part]) for part, wanted in brief.parts if not wanted]
    rng.shuffle(asked)
    rng.shuffle(excluded)
    listing = asked[0] if len(asked) == 1 else ", ".join(asked[:-1]) + " and " + asked[-1] if asked else ""
    opening = pick(rng, ("with ", "", "featuring ")) if listing else ""
    return ", ".join(part for part in (opening + listing, *excluded) if part)
