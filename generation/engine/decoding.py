"""Sound from latents, through a codec with the interface of diffusers' AutoencoderOobleck, in tiles where it is long.

Tiles are cut here and not by the codec's own `use_tiling`, so that a cancel is heard between them.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from generation.engine.memory import is_out_of_memory, release_memory

# Up to this length a piece is decoded whole; a longer one, or one that ran out of memory, is cut into tiles.
WHOLE_S = 60.0
TILE_S = 20.0
SMALL_TILE_S = 5.0
# Each tile is decoded with this much around it, which is then cut off. AutoencoderOobleck reaches about 10 frames far;
# its own tiles have the same margin.
MARGIN_FRAMES = 64

PEAK = 10 ** (-1.0 / 20.0)  # -1 dBFS

OnTile = Callable[[int, int], None]


class DecodeOutOfMemory(Exception):
    """Not even small tiles fit into memory; the latents are untouched and can be decoded later."""


@torch.no_grad()
def decode(
    codec: Any, latents: Tensor, *, tile_s: float | None = None, on_tile: OnTile | None = None
) -> npt.NDArray[np.float32]:
    """Turn latents [B, T, C] into stereo sound [B, samples, 2], each item with its peak at -1 dBFS.

    Tiles last `tile_s` seconds; where it is None, a short piece is decoded whole, and what does not fit into memory is
    tried again in small tiles. A codec that reads a piece as a whole says so by `tileable=False` in its configuration.
    `on_tile(done, tiles)` is called before each tile and stops the decode by raising.
    """
    frame_rate = codec.config.sampling_rate / _samples_per_frame(codec)
    for seconds in _tile_lengths(codec, latents.shape[1] / frame_rate, tile_s):
        tile_frames = latents.shape[1] if seconds == math.inf else max(1, round(seconds * frame_rate))
        try:
            return _decode_tiled(codec, latents, tile_frames, on_tile)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        # Only here, after the except block: its traceback held the very tensors that filled the memory.
        release_memory()
    raise DecodeOutOfMemory("Not enough memory to decode, even in small pieces. The latents are kept.")


def _tile_lengths(codec: Any, duration_s: float, tile_s: float | None) -> list[float]:
    """Return the tile lengths to try in turn, in seconds."""
    if not codec.config.get("tileable", True):
        return [math.inf]
    if tile_s is not None:
        return [tile_s]
    return [math.inf if duration_s <= WHOLE_S else TILE_S, SMALL_TILE_S]


def _decode_tiled(codec: Any, latents: Tensor, tile_frames: int, on_tile: OnTile | None) -> npt.NDArray[np.float32]:
    """Decode item by item, so that an item's sound does not depend on its batch."""
    starts = range(0, latents.shape[1], tile_frames)
    items: list[npt.NDArray[np.float32]] = []
    for item in latents:
        tiles: list[Tensor] = []
        for start in starts:
            if on_tile:
                on_tile(len(items) * len(starts) + len(tiles), len(latents) * len(starts))
            tiles.append(_decode_tile(codec, item, start, start + tile_frames))
        items.append(_normalise(torch.cat(tiles, dim=-1)).T.numpy())
    return np.stack(items)


def _decode_tile(codec: Any, item: Tensor, start: int, end: int) -> Tensor:
    """Decode frames `start` to `end` of an item [T, C] with a margin around them that is cut off: [2, samples]."""
    first, last = max(0, start - MARGIN_FRAMES), min(len(item), end + MARGIN_FRAMES)
    z = item[first:last].T.unsqueeze(0).to(codec.device, codec.dtype)  # [1, C, T], as codecs want it
    sound: Tensor = codec.decode(z).sample[0].float().cpu()
    # The last tile keeps all: a codec may ring out past the last frame.
    stop = (end - first) * _samples_per_frame(codec) if end < len(item) else None
    return sound[:, (start - first) * _samples_per_frame(codec) : stop]


def _samples_per_frame(codec: Any) -> int:
    return math.prod(codec.config.downsampling_ratios)


def _normalise(sound: Tensor) -> Tensor:
    """Scale one item's sound to a peak of -1 dBFS, in the two stages of AceStepPipeline.__call__, for its bits."""
    sound = sound / sound.abs().amax().clamp(min=1.0)
    return sound * (PEAK / sound.abs().amax().clamp(min=1e-6))
