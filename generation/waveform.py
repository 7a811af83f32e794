"""Draw the stored peaks of a sample as the path of an SVG."""

from __future__ import annotations

from collections.abc import Sequence

WIDTH, HEIGHT = 480, 48
_STEP = 3  # from one bar to the next: 160 bars, about as many as a phone can show


def path(peaks: Sequence[float]) -> str:
    """Return one vertical bar per group of peaks, mirrored at the middle, in whole units: short to send."""
    count = min(WIDTH // _STEP, len(peaks))
    highest = max(peaks, default=0) or 1
    groups = (peaks[i * len(peaks) // count : (i + 1) * len(peaks) // count] for i in range(count))
    halves = (max(round(max(group) / highest * (HEIGHT / 2 - 2)), 1) for group in groups)
    return "".join(f"M{round(i * WIDTH / count) + 1} {HEIGHT // 2 - half}v{2 * half}" for i, half in enumerate(halves))
