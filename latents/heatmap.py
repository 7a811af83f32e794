"""Draw latents as a picture: time to the right, channels upwards, one band per item of the batch."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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
    import numpy as np

    # The picture is averaged from the latents and the thumbnail from the picture: one pass over the numbers.
    items = np.swapaxes(_average(latents, 1, _PICTURE_WIDTH), 1, 2)[:, ::-1]
    items = _average(items, 1, max(_PICTURE_HEIGHT // len(items), 2))
    small = _average(_average(items, 2, _THUMBNAIL_WIDTH), 1, max(_THUMBNAIL_HEIGHT // len(items), 2))
    return Drawing(thumbnail=_png(_shades(small)), picture=_png(_shades(items)))


def _average(values: NDArray[np.float32], axis: int, length: int) -> NDArray[np.float32]:
    """Average neighbours along an axis until it has at most `length` places."""
    import numpy as np

    places = values.shape[axis]
    if places <= length:
        return values
    starts = np.arange(length) * places // length
    sums = np.add.reduceat(values, starts, axis=axis)
    counts = np.diff(starts, append=places).astype(np.float32)
    return sums / np.expand_dims(counts, tuple(range(1, values.ndim - axis)))  # type: ignore[no-any-return]


def _shades(items: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Map values [B, C, T] to palette indices [B * C, T]; the outermost hundredths share the end colours."""
    import numpy as np

    low, high = np.percentile(items, [1, 99])
    shades = np.clip((items - low) * (_SHADES / max(high - low, 1e-9)), 0, _SHADES - 1)
    rows: NDArray[np.uint8] = shades.reshape(-1, items.shape[2]).astype(np.uint8)
    return rows


def _png(shades: NDArray[np.uint8]) -> bytes:
    from PIL import Image

    image = Image.fromarray(shades, "P")
    image.putpalette(_palette())
    file = BytesIO()
    image.save(file, "PNG", compress_level=6)
    return file.getvalue()


def _palette() -> list[int]:
    import numpy as np

    points = np.array([list(bytes.fromhex(colour)) for colour in _COLOURS.split()])
    places = np.linspace(0, len(points) - 1, _SHADES)
    channels = [np.interp(places, np.arange(len(points)), points[:, channel]) for channel in range(3)]
    return [int(value) for value in np.stack(channels, axis=1).round().ravel()]
