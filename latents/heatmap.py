"""Draw latents as a picture: time to the right, channels upwards, one band per item of the batch."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from functools import cache
from io import BytesIO

import numpy as np
from numpy.typing import NDArray

# From the dark of the studio's displays through its orange to paper: lightness rises evenly, so equal steps look equal.
_COLOURS = "14100d 2f1a10 522413 7c2f14 a83c17 d44f20 f2703f ff966a ffbf9c fff0e2"
_SHADES = 32

_THUMBNAIL_WIDTH, _THUMBNAIL_HEIGHT = 96, 32
_PICTURE_WIDTH, _PICTURE_HEIGHT = 640, 128


@dataclass(frozen=True)
class Drawing:
    """Two PNG files."""

    thumbnail: bytes
    picture: bytes


def draw(latents: NDArray[np.float32]) -> Drawing:
    """Draw latents [B, T, C]."""
    # The thumbnail is averaged from the picture: one pass over all the numbers is enough.
    picture = _average(latents, _PICTURE_WIDTH, _PICTURE_HEIGHT)
    thumbnail = _average(picture, _THUMBNAIL_WIDTH, _THUMBNAIL_HEIGHT)
    return Drawing(thumbnail=_png(_shades(thumbnail)), picture=_png(_shades(picture)))


def _average(values: NDArray[np.float32], width: int, height: int) -> NDArray[np.float32]:
    """Average neighbours in time and channel until all items [B, T, C] fit below each other into width and height.

    What is left over at the ends, less than one block, is not drawn.
    """
    items, frames, channels = values.shape
    block_t, block_c = -(-frames // width), -(-channels // max(height // items, 2))
    columns, rows = frames // block_t, channels // block_c
    with np.errstate(over="ignore", invalid="ignore"):  # absurd values may add up to infinity
        # einsum, because mean() takes four times as long over short axes; and time first, which leaves little to do.
        in_time = np.einsum("itkc->itc", values[:, : columns * block_t].reshape(items, columns, block_t, channels))
        sums = np.einsum("itrc->itr", in_time[:, :, : rows * block_c].reshape(items, columns, rows, block_c))
    averages: NDArray[np.float32] = np.clip(np.nan_to_num(sums / (block_t * block_c)), -1e30, 1e30)
    return averages


def _shades(items: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Map values [B, T, C] to palette indices [B * C, T]; what lies far out shares the end colours."""
    middle, spread = float(items.mean(dtype=np.float64)), 2.5 * float(items.std(dtype=np.float64)) + 1e-9
    scaled = (items - (middle - spread)) * (_SHADES / (2 * spread))
    shades: NDArray[np.uint8] = np.clip(scaled, 0, _SHADES - 1).astype(np.uint8)
    return shades.transpose(0, 2, 1)[:, ::-1].reshape(-1, items.shape[1])


def _png(shades: NDArray[np.uint8]) -> bytes:
    from PIL import Image

    image = Image.fromarray(shades, "P")
    image.putpalette(_palette())
    file = BytesIO()
    # Noise does not compress: looking for more than runs of one colour takes twice the time for the same size.
    image.save(file, "PNG", compress_level=1, compress_type=zlib.Z_RLE)
    return file.getvalue()


@cache
def _palette() -> list[int]:
    points = np.array([list(bytes.fromhex(colour)) for colour in _COLOURS.split()])
    places = np.linspace(0, len(points) - 1, _SHADES)
    channels = [np.interp(places, np.arange(len(points)), points[:, channel]) for channel in range(3)]
    return [int(value) for value in np.stack(channels, axis=1).round().ravel()]
