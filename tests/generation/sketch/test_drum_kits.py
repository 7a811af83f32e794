import numpy as np
import pytest

from generation.sketch.drum_kits import KITS, LEVELS, VARIATIONS, stroke
from generation.sketch.score import GENRES
from generation.sketch.synth import SAMPLE_RATE


def test_every_genre_has_a_kit() -> None:
    assert set(KITS) == set(GENRES)


@pytest.mark.parametrize("genre", sorted(KITS))
def test_drums_start_at_once_and_die_away(genre: str) -> None:
    for drum, level in LEVELS.items():
        for variation in range(VARIATIONS):
            wave = stroke(genre, drum, variation, SAMPLE_RATE)
            assert np.abs(wave).max() == pytest.approx(level, rel=1e-3)
            assert np.abs(wave).argmax() < 0.06 * SAMPLE_RATE
            assert np.abs(wave[-1]) < 1e-4
