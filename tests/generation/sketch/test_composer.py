"""The composer keeps to the brief, and never writes the same piece twice."""

import numpy as np
import pytest

from generation.sketch.composer import Brief, compose, draw_brief, write_prompt
from generation.sketch.score import (
    BASS_PATTERNS,
    CHORD_COUNT,
    DRUM_PATTERNS,
    DYNAMICS_COUNT,
    GENRES,
    KEYS_PATTERNS,
    MELODY_COUNT,
    PARTS,
)

LIMITS = {
    "chords": CHORD_COUNT,
    "drums": len(DRUM_PATTERNS),
    "bass": len(BASS_PATTERNS),
    "keys": len(KEYS_PATTERNS),
    "dynamics": DYNAMICS_COUNT,
    "melody": MELODY_COUNT,
}


@pytest.mark.parametrize("seed", range(40))
def test_a_piece_keeps_to_its_brief(seed):
    rng = np.random.default_rng(seed)
    brief = draw_brief(rng)
    piece = compose(rng, brief, 20.0)
    assert piece.genre == brief.genre
    assert brief.tonic in (None, piece.tonic)
    assert brief.mode in (None, piece.mode)
    assert all(piece.parts[PARTS.index(part)] == wanted for part, wanted in brief.parts)
    assert any(piece.parts)


@pytest.mark.parametrize("seed", range(40))
def test_every_symbol_is_in_its_alphabet(seed):
    rng = np.random.default_rng(seed)
    piece = compose(rng, draw_brief(rng), float(rng.uniform(1, 60)))
    for name, count in LIMITS.items():
        symbols = getattr(piece, name)
        assert symbols.min() >= 0
        assert symbols.max() < count


@pytest.mark.parametrize("part", range(len(PARTS)))
def test_a_part_that_is_out_has_no_symbols(part):
    brief = Brief(genre=GENRES.index("rock"), parts=((PARTS[part], False),))
    piece = compose(np.random.default_rng(0), brief, 20.0)
    symbols = (piece.drums, piece.bass, piece.keys, piece.melody)[part]
    assert not symbols.any()


def test_the_same_seed_composes_the_same_piece():
    first, second = (compose(np.random.default_rng(3), Brief(genre=0), 10.0) for _ in range(2))
    assert (first.melody == second.melody).all()


def test_another_seed_composes_another_melody():
    first, second = (compose(np.random.default_rng(seed), Brief(genre=0, bpm=80), 20.0) for seed in (1, 2))
    assert (first.melody != second.melody).mean() > 0.1


def test_an_excluded_part_is_said_in_the_caption():
    brief = Brief(genre=GENRES.index("jazz"), parts=(("drums", False),))
    captions = [write_prompt(np.random.default_rng(seed), brief).caption for seed in range(20)]
    assert all("no drums" in caption or "without drums" in caption for caption in captions)


def test_tempo_and_key_are_always_told_somewhere():
    brief = Brief(genre=0, tonic=2, mode=0, bpm=93)
    for seed in range(30):
        prompt = write_prompt(np.random.default_rng(seed), brief)
        assert prompt.bpm == 93 or "93 bpm" in prompt.caption
        assert prompt.keyscale == "D major" or "D major" in prompt.caption
