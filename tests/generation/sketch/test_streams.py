"""A piece survives its way through latents, and the vote is what makes it robust."""

import numpy as np
import pytest

from generation.sketch.composer import compose, draw_brief
from generation.sketch.score import FASTEST_BPM, SLOWEST_BPM, TEMPI, folded_bpm, nearest_tempo
from generation.sketch.streams import (
    CELL_STREAMS,
    CHANNELS,
    CONSTANTS,
    FRAME_RATE,
    MELODY,
    clock,
    code_table,
    decode_piece,
    encode_piece,
)

SYMBOLS = ("chords", "drums", "bass", "keys", "dynamics", "melody")


def piece_and_latents(seed: int, seconds: float = 20.0):
    rng = np.random.default_rng(seed)
    piece = compose(rng, draw_brief(rng), seconds)
    return piece, encode_piece(piece, int(seconds * FRAME_RATE))


def constants(piece):
    return piece.genre, piece.tonic, piece.mode, piece.tempo, piece.parts


@pytest.mark.parametrize("seed", range(20))
def test_a_piece_comes_back_from_its_latents(seed):
    piece, latents = piece_and_latents(seed)
    back = decode_piece(latents)
    assert constants(back) == constants(piece)
    for name in SYMBOLS:
        written, read = getattr(piece, name), getattr(back, name)
        length = min(len(written), len(read)) - 4  # the last cell may be cut by the end
        assert (written[:length] == read[:length]).all(), name


def test_constants_survive_noise_as_strong_as_half_the_code():
    for seed in range(20):
        piece, latents = piece_and_latents(seed)
        noise = np.random.default_rng(seed).standard_normal(latents.shape).astype(np.float32)
        assert constants(decode_piece(latents + 0.25 * noise)) == constants(piece)


def test_melody_is_the_first_to_change_under_noise_and_chords_the_last():
    kept = dict.fromkeys(("melody", "drums", "chords"), 0.0)
    for seed in range(20):
        piece, latents = piece_and_latents(seed)
        noise = np.random.default_rng(seed).standard_normal(latents.shape).astype(np.float32)
        back = decode_piece(latents + 1.2 * noise)
        for name in kept:
            length = min(len(getattr(piece, name)), len(getattr(back, name)))
            kept[name] += float((getattr(piece, name)[:length] == getattr(back, name)[:length]).mean()) / 20
    assert kept["melody"] < kept["drums"] < kept["chords"]


@pytest.mark.parametrize("frames", [1, 3, 7, 100])
def test_latents_of_any_length_decode_to_a_piece(frames):
    rng = np.random.default_rng(frames)
    piece = decode_piece(rng.standard_normal((frames, CHANNELS)).astype(np.float32))
    assert piece.cell_count >= 1
    assert len(piece.melody) == 4 * piece.cell_count


def test_codes_of_one_stream_stand_apart():
    for stream in (*CONSTANTS, *CELL_STREAMS.values(), MELODY):
        table = code_table(stream) / stream.gain
        apart = np.linalg.norm(table[:, None] - table[None], axis=2) + 10 * np.eye(stream.count)
        assert apart.min() > 0.7


def test_streams_fill_the_channels_without_overlap():
    used = [c for stream in (CONSTANTS[0], *CELL_STREAMS.values(), MELODY) for c in range(CHANNELS)[stream.channels]]
    assert sorted(used) == list(range(CHANNELS))


def test_the_clock_of_a_longer_piece_begins_like_that_of_a_shorter():
    assert (clock(1000)[:333] == clock(333)).all()


@pytest.mark.parametrize(("bpm", "folded"), [(120, 120), (200, 100), (30, 60), (300, 150), (45, 90)])
def test_tempi_outside_the_range_are_felt_at_half_or_double(bpm, folded):
    assert folded_bpm(bpm) == folded


def test_every_tempo_in_range_has_a_class_within_3_percent():
    for bpm in range(int(SLOWEST_BPM), int(FASTEST_BPM) + 1):
        assert abs(TEMPI[nearest_tempo(bpm)] / bpm - 1) < 0.03
