"""The picture of a sound."""

import re

import pytest

from generation.waveform import HEIGHT, WIDTH, path


def bars(drawn: str) -> list[tuple[int, int, int]]:
    return [tuple(map(int, bar)) for bar in re.findall(r"M(\d+) (\d+)v(\d+)", drawn)]  # type: ignore[misc]


def test_bars_fit_into_the_picture() -> None:
    drawn = bars(path([i / 400 for i in range(400)]))
    assert len(drawn) == 160
    assert all(0 <= x < WIDTH and y >= 0 and y + length <= HEIGHT for x, y, length in drawn)


def test_louder_part_has_the_longer_bar() -> None:
    lengths = [length for _, _, length in bars(path([0.1, 0.9, 0.5]))]
    assert lengths[0] < lengths[2] < lengths[1]


@pytest.mark.parametrize(("peaks", "count"), [([], 0), ([0.0, 0.0], 2), ([1.0], 1)])
def test_silence_and_very_short_sounds_are_drawn(peaks: list[float], count: int) -> None:
    assert len(bars(path(peaks))) == count
