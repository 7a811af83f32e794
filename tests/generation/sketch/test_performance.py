import numpy as np
import pytest

from generation.sketch.performance import (
    DYNAMICS_VELOCITY,
    HIGHEST_KEY,
    LOWEST_BASS,
    LOWEST_HOME,
    LOWEST_MELODY_TONIC,
    STYLES,
    perform,
    voice_chord,
)
from generation.sketch.score import DRUM_PATTERNS, GENRES, MELODY_HOLD, MELODY_REST, PARTS
from tests.generation.sketch.pieces import make_piece


@pytest.mark.parametrize("genre", GENRES)
@pytest.mark.parametrize("bpm", [60.0, 97.3, 180.0])
def test_every_onset_lies_on_the_sixteenth_grid(genre: str, bpm: float) -> None:
    performance = perform(make_piece(genre, bpm=bpm), 10.0)

    sixteenth_s = 15.0 / bpm
    onsets = np.array([event.start_s for event in (*performance.notes, *performance.hits)]) / sixteenth_s
    assert np.abs(onsets - onsets.round()).max() < 1e-9


@pytest.mark.parametrize("duration_s", [1.0, 5.03, 12.0])
def test_nothing_sounds_past_the_end(duration_s: float) -> None:
    performance = perform(make_piece("jazz", bpm=90), duration_s)

    assert all(event.start_s + event.duration_s <= duration_s + 1e-9 for event in performance.notes + performance.hits)
    assert all(event.duration_s > 0 for event in performance.notes + performance.hits)


@pytest.mark.parametrize("part", PARTS)
def test_a_part_that_is_out_is_silent(part: str) -> None:
    others = tuple(other for other in PARTS if other != part)

    performance = perform(make_piece("funk", parts=others), 8.0)

    sounding = {note.part for note in performance.notes} | ({"drums"} if performance.hits else set())
    assert sounding == set(others)


@pytest.mark.parametrize("genre", GENRES)
@pytest.mark.parametrize("mode", [0, 1])
def test_parts_keep_to_their_registers_in_every_key(genre: str, mode: int) -> None:
    for tonic in range(12):
        notes = perform(make_piece(genre, tonic=tonic, mode=mode, cells=16), 16.0).notes
        pitches = {part: [note.pitch for note in notes if note.part == part] for part in PARTS}
        assert min(pitches["bass"]) >= LOWEST_BASS
        assert max(pitches["bass"]) <= LOWEST_BASS + 23
        assert min(pitches["keys"]) >= LOWEST_HOME
        assert max(pitches["keys"]) <= HIGHEST_KEY
        assert min(pitches["melody"]) >= LOWEST_MELODY_TONIC


@pytest.mark.parametrize("genre", GENRES)
def test_every_chord_of_every_key_can_be_voiced_without_doubling_a_pitch(genre: str) -> None:
    for mode in (0, 1):
        for tonic in range(12):
            piece = make_piece(genre, tonic=tonic, mode=mode)
            for degree in range(7):
                voicing = voice_chord(piece, degree, STYLES[genre], previous=())
                assert len(set(voicing)) == len(voicing) >= 3
                assert list(voicing) == sorted(voicing)


def test_voices_move_little_from_chord_to_chord() -> None:
    piece = make_piece("lofi")
    voicing = voice_chord(piece, 0, STYLES["lofi"], previous=())
    for degree in (5, 3, 4, 0):
        following = voice_chord(piece, degree, STYLES["lofi"], previous=voicing)
        assert max(min(abs(pitch - before) for before in voicing) for pitch in following) <= 4
        voicing = following


def test_rock_plays_power_chords_and_jazz_plays_sevenths() -> None:
    rock = voice_chord(make_piece("rock"), 0, STYLES["rock"], previous=())
    jazz = voice_chord(make_piece("jazz"), 0, STYLES["jazz"], previous=())

    assert {pitch % 12 for pitch in rock} == {0, 7}
    assert {pitch % 12 for pitch in jazz} == {0, 2, 4, 11}


def test_a_minor_ninth_is_left_out() -> None:
    voicing = voice_chord(make_piece("ambient"), 2, STYLES["ambient"], previous=())  # E minor; its ninth would be F

    assert {pitch % 12 for pitch in voicing} == {4, 7, 11}


def test_the_chord_of_the_tonic_is_played_fullest() -> None:
    notes = perform(make_piece("folk", bpm=120, parts=("keys",)), 8.0).notes  # a bar is 2 s; chords 0 5 3 4

    home = [note for note in notes if note.start_s < 2]
    away = [note for note in notes if note.start_s >= 2]
    assert 48 in {note.pitch for note in home if note.start_s == 0}
    assert np.mean([note.velocity for note in home]) > 1.1 * np.mean([note.velocity for note in away])


def test_melody_holds_and_rests_as_written() -> None:
    piece = make_piece("folk", bpm=120, parts=("melody",), cells=1)
    melody = piece.melody.copy()
    melody[:] = (4, MELODY_HOLD, MELODY_REST, 5)

    notes = perform(type(piece)(**{**vars(piece), "melody": melody}), 1.0).notes

    assert [round(note.start_s, 6) for note in notes] == [0.0, 0.75]
    assert notes[0].duration_s == pytest.approx(0.5 * 0.96)


def test_dynamics_set_how_hard_everything_is_played() -> None:
    loudness = [
        np.mean([note.velocity for note in perform(make_piece("house", dynamics=level), 8.0).notes])
        for level in range(len(DYNAMICS_VELOCITY))
    ]

    assert loudness == sorted(loudness)
    assert loudness[-1] > 1.5 * loudness[0]


def test_velocity_is_uneven_within_bounds_and_the_same_each_time() -> None:
    first, second = perform(make_piece("rock"), 8.0), perform(make_piece("rock"), 8.0)

    velocities = [event.velocity for event in (*first.notes, *first.hits)]
    assert first == second
    assert len(set(velocities)) > 10
    assert 0 < min(velocities) <= max(velocities) <= 1


def test_an_open_hat_is_closed_by_the_next_hat() -> None:
    house = DRUM_PATTERNS.index(next(pattern for pattern in DRUM_PATTERNS if pattern.open_hat != "........"))
    piece = make_piece("house", bpm=120, cells=2)
    assert set(piece.drums) == {house}

    first = next(hit for hit in perform(piece, 2.0).hits if hit.drum == "open_hat")

    assert first.start_s == pytest.approx(0.25)
    assert first.duration_s == pytest.approx(0.5)
