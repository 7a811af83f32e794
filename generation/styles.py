"""Words that a model is known to understand, for those who do not know what to write.

Sketch knows exactly the words that its composer writes prompts with. ACE-Step takes any description, and has no list.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from generation.sketch.composer import BRIGHT, BUSY, DARK, FAST, HABITS, LOUD, NEUTRAL, SLOW, SOFT, SPARSE, Genre
from generation.variants import Variant


class Words(NamedTuple):
    about: str
    words: tuple[str, ...]


def known_words(variant: Variant) -> tuple[Words, ...]:
    """Return the words that this model understands, by what they are about."""
    return _sketch_words() if variant.kind == "sketch" else ()


@cache
def _sketch_words() -> tuple[Words, ...]:
    genres = list(HABITS.values())
    return (
        Words("Genre", tuple(genre.words[0] for genre in genres)),
        Words("Mood", (*SOFT[:3], *LOUD[:3], *BRIGHT[:3], *DARK[:3], *NEUTRAL[:4])),
        Words("Pace", (SLOW[0], FAST[0], SPARSE[0], BUSY[0])),
        Words("Drums", (*_one_of_each(genres, "drum_words"), "no drums")),
        Words("Bass", (*_one_of_each(genres, "bass_words"), "no bass")),
        Words("Chords", (*_one_of_each(genres, "key_words"), "no keys")),
        Words("Melody", (*_one_of_each(genres, "leads"), "no melody")),
    )


def _one_of_each(genres: list[Genre], part: str) -> tuple[str, ...]:
    """Return how each genre calls its instrument for a part, each name once."""
    return tuple(dict.fromkeys(getattr(genre, part)[0] for genre in genres))
