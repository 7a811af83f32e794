"""Small pieces by hand for the tests of performance and synth."""

import numpy as np

from generation.sketch.score import EIGHTHS_PER_CELL, GENRES, MELODY_FIRST, MELODY_HOLD, PARTS, Piece, nearest_tempo

PATTERNS = {  # drums, bass, keys that suit a genre
    "lofi": (5, 10, 6),
    "house": (3, 8, 3),
    "ambient": (15, 1, 1),
    "rock": (1, 3, 8),
    "jazz": (7, 5, 6),
    "funk": (9, 7, 9),
    "synthwave": (12, 8, 5),
    "folk": (13, 2, 4),
}
CHORDS = (0, 5, 3, 4)


def make_piece(
    genre: str = "lofi",
    *,
    tonic: int = 0,
    mode: int = 0,
    bpm: float = 120.0,
    parts: tuple[str, ...] = PARTS,
    cells: int = 8,
    dynamics: int = 2,
) -> Piece:
    """Write a piece in which a chord lasts a bar and the melody climbs and falls in eighths and held notes."""
    drums, bass, keys = PATTERNS[genre]
    climb = np.array([0, 2, 4, 7, 9, 11, 13, 11, 9, 7, 5, 4, 2, 1]) + MELODY_FIRST
    melody = np.resize(climb, cells * EIGHTHS_PER_CELL)
    melody[3::4] = MELODY_HOLD
    return Piece(
        genre=GENRES.index(genre),
        tonic=tonic,
        mode=mode,
        tempo=nearest_tempo(bpm),
        parts=tuple(part in parts for part in PARTS),  # type: ignore[arg-type]
        chords=np.resize(np.repeat(CHORDS, 2), cells),
        drums=np.full(cells, drums),
        bass=np.full(cells, bass),
        keys=np.full(cells, keys),
        dynamics=np.full(cells, dynamics),
        melody=melody,
        bpm=bpm,
    )
