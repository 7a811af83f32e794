"""Heat maps: small PNG files that look like the numbers they are made from."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from latents.heatmap import draw


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(BytesIO(png)).convert("RGB"), dtype=int)


@pytest.mark.parametrize(("batch_size", "frames", "channels"), [(1, 1, 1), (1, 100, 24), (8, 3000, 64), (16, 700, 64)])
def test_pictures_are_small_whatever_is_drawn(batch_size: int, frames: int, channels: int) -> None:
    drawing = draw(np.random.default_rng(1).normal(size=(batch_size, frames, channels)).astype("f4"))
    thumbnail, picture = Image.open(BytesIO(drawing.thumbnail)), Image.open(BytesIO(drawing.picture))
    assert thumbnail.format == picture.format == "PNG"
    assert min(frames, 48) < thumbnail.width + 1 <= 97
    assert min(frames, 320) < picture.width + 1 <= 641
    assert thumbnail.height <= 32
    assert picture.height <= 128
    assert len(drawing.thumbnail) < 4_000
    assert len(drawing.picture) < 80_000


def test_time_runs_to_the_right_and_channels_upwards() -> None:
    latents = np.zeros((1, 10, 4), "f4")
    latents[0, 9, 3] = 100  # last frame, last channel
    picture = pixels(draw(latents).picture)
    assert picture.shape == (4, 10, 3)
    odd = [(y, x) for y in range(4) for x in range(10) if (picture[y, x] != picture[2, 5]).any()]
    assert odd == [(0, 9)]


def test_items_of_a_batch_lie_below_each_other() -> None:
    latents = np.concatenate([np.zeros((1, 10, 4), "f4"), np.ones((1, 10, 4), "f4")])
    picture = pixels(draw(latents).picture)
    assert (picture[:4] == picture[0, 0]).all()
    assert (picture[4:] == picture[-1, 0]).all()
    assert (picture[0, 0] != picture[-1, 0]).any()


def test_absurd_values_are_drawn_too() -> None:
    latents = np.full((1, 2000, 64), 3e38, "f4")
    latents[0, ::3] *= -1
    assert draw(latents).picture


def test_same_latents_give_the_same_bytes() -> None:
    latents = np.random.default_rng(1).normal(size=(2, 50, 8)).astype("f4")
    assert draw(latents) == draw(latents)
