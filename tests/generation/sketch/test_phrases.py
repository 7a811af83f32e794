"""What the composer does by rule is read by rule."""

import numpy as np
import pytest

from generation.sketch.phrases import read_chords, read_groove, read_melody, read_steady
from generation.sketch.score import (
    CHORD_COUNT,
    DRUM_FILL,
    DRUM_PATTERNS,
    MELODY_COUNT,
    MELODY_FIRST,
    MELODY_HOLD,
    MELODY_REST,
    MODES,
    PROGRESSIONS,
    chord_tones,
)


def heard(symbols, count, doubts=()):
    """Return distances [spans, count] of spans that sound like `symbols`; `doubts`: what some spans are nearer to."""
    distances = np.ones((len(symbols), count))
    distances[np.arange(len(symbols)), symbols] = 0.0
    for span, symbol in dict(doubts).items():
        distances[span, symbols[span]] = 0.4
        distances[span, symbol] = 0.0
    return distances


@pytest.mark.parametrize("mode", MODES)
def test_one_chord_misheard_in_a_phrase_does_not_change_it(mode):
    for progression in PROGRESSIONS[mode]:
        chords = np.repeat(progression, 2)
        stray = (chords[3] + 1) % CHORD_COUNT
        assert (read_chords(heard(chords, CHORD_COUNT, {3: stray}), mode) == chords).all()


def test_a_passing_chord_is_heard_at_the_end_of_a_phrase():
    chords = np.array([0, 0, 3, 3, 4, 4, 3, 6])
    chords[:7] = np.repeat(PROGRESSIONS["minor"][0], 2)[:7]
    assert (read_chords(heard(chords, CHORD_COUNT), "minor") == chords).all()


def test_chords_of_a_short_last_phrase_begin_a_progression():
    whole = np.repeat(PROGRESSIONS["major"][1], 2)
    chords = np.concatenate([whole, whole[:3]])
    assert (read_chords(heard(chords, CHORD_COUNT), "major") == chords).all()


def test_a_groove_alternates_two_patterns_whatever_one_cell_says():
    pair = np.array([5, 6] * 4)
    assert (read_groove(heard(pair, 16, {2: 9})) == pair).all()


def test_each_phrase_may_have_a_groove_of_its_own():
    grooves = np.array([5, 6] * 4 + [1, 2] * 4 + [3])
    assert (read_groove(heard(grooves, 16)) == grooves).all()


@pytest.mark.parametrize("late", [2, 4])
def test_a_part_may_come_in_late_in_a_longer_piece(late):
    groove = np.array([5, 6] * 12)
    groove[:late] = 0
    assert (read_groove(heard(groove, 16)) == groove).all()


def test_a_part_does_not_pause_once_it_came_in():
    groove = np.array([5, 6] * 12)
    paused = groove.copy()
    paused[8:10] = 0
    assert (read_groove(heard(paused, 16)) == groove).all()


def test_drums_may_end_a_phrase_with_a_fill():
    groove = np.array([1, 2] * 4)
    groove[-1] = DRUM_FILL
    assert (read_groove(heard(groove, len(DRUM_PATTERNS)), fill=DRUM_FILL) == groove).all()
    assert (read_groove(heard(groove, len(DRUM_PATTERNS)))[-1]) == 2


def test_dynamics_hold_for_a_phrase():
    assert list(read_steady(heard([2] * 8 + [1] * 3, 4, {4: 0}))) == [2] * 8 + [1] * 3


def test_a_melody_repeats_its_rhythm_whatever_one_bar_says():
    motif = np.array([MELODY_FIRST, MELODY_HOLD, MELODY_FIRST, MELODY_REST] * 4)
    melody = np.tile(motif, 3)
    melody_read = read_melody(heard(melody, MELODY_COUNT, {17: MELODY_REST, 36: MELODY_REST}), np.zeros(12, int))
    assert (melody_read == melody).all()


def test_a_melody_keeps_the_number_of_its_notes_where_no_two_bars_agree():
    repeats = [np.full(16, MELODY_HOLD) for _ in range(4)]
    for number, repeat in enumerate(repeats):
        repeat[number::4] = MELODY_FIRST
    melody = read_melody(heard(np.concatenate(repeats), MELODY_COUNT), np.zeros(16, int))
    assert (melody >= MELODY_FIRST).sum() == 16


def test_a_melody_may_come_in_late_in_a_longer_piece():
    motif = np.array([MELODY_FIRST, MELODY_HOLD, MELODY_HOLD, MELODY_REST] * 4)
    melody = np.concatenate([np.full(16, MELODY_REST), np.tile(motif, 5)])
    assert (read_melody(heard(melody, MELODY_COUNT), np.zeros(24, int)) == melody).all()


def test_a_leap_is_doubted_where_a_step_is_as_near():
    melody = np.array([MELODY_FIRST + 4, MELODY_HOLD] * 8)
    distances = heard(melody, MELODY_COUNT, {4: MELODY_FIRST + 11})
    assert (read_melody(distances, np.zeros(4, int)) == melody).all()


def test_a_note_on_the_beat_is_the_nearest_tone_of_the_chord():
    chords = np.array([3])
    melody = np.array([MELODY_FIRST + 4, MELODY_FIRST + 4, MELODY_HOLD, MELODY_REST])
    distances = heard(melody, MELODY_COUNT)
    distances[0, MELODY_FIRST + 5] = 0.5
    assert 5 in chord_tones(3)
    assert 4 not in chord_tones(3)
    assert read_melody(distances, chords)[0] == MELODY_FIRST + 5
