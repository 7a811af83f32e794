import numpy as np
import pytest

from generation.sketch.drum_kits import stroke
from generation.sketch.instruments import Sound
from generation.sketch.performance import Note, Performance, perform
from generation.sketch.room import CEILING, impulse_response
from generation.sketch.score import GENRES
from generation.sketch.synth import ENSEMBLES, SAMPLE_RATE, render
from tests.generation.sketch.pieces import make_piece


def rms_db(wave: Sound) -> float:
    return 10 * float(np.log10((wave.astype(np.float64) ** 2).mean() + 1e-12))


def solo(genre: str, part: str, pitch: int, *, held_s: float = 0.5) -> Performance:
    return Performance(genre, 120.0, (Note(part, pitch, 0.0, held_s, 0.8),), ())


@pytest.mark.parametrize("duration_s", [0.05, 1.0, 3.21, 5.0])
def test_sound_has_exactly_the_asked_length(duration_s: float) -> None:
    wave = render(perform(make_piece("lofi"), duration_s), duration_s)

    assert wave.shape == (2, round(duration_s * SAMPLE_RATE))
    assert wave.dtype == np.float32


@pytest.mark.parametrize("genre", GENRES)
def test_sound_neither_clips_nor_carries_direct_current(genre: str) -> None:
    wave = render(perform(make_piece(genre, dynamics=3), 6.0), 6.0)

    assert np.isfinite(wave).all()
    assert 0.3 < np.abs(wave).max() <= CEILING + 1e-4 < 10 ** (-1 / 20)
    assert np.abs(wave.mean(axis=1)).max() < 2e-4
    assert np.abs(wave[:, -1]).max() < 1e-4


def test_genres_are_about_equally_loud() -> None:
    loudness = [rms_db(render(perform(make_piece(genre, bpm=100), 6.0), 6.0)) for genre in GENRES]

    assert max(loudness) - min(loudness) < 2.0


def test_nobody_playing_is_silence() -> None:
    assert not render(perform(make_piece("rock", parts=()), 2.0), 2.0).any()


def test_the_same_performance_gives_the_same_bits_whatever_was_played_before() -> None:
    first = render(perform(make_piece("jazz"), 4.0), 4.0)
    stroke.cache_clear()
    impulse_response.cache_clear()
    render(perform(make_piece("house", tonic=3), 4.0), 4.0)

    assert np.array_equal(first, render(perform(make_piece("jazz"), 4.0), 4.0))


@pytest.mark.parametrize("genre", GENRES)
@pytest.mark.parametrize(("part", "pitch"), [("bass", 33), ("keys", 60), ("melody", 76)])
def test_a_note_ends_without_a_click(genre: str, part: str, pitch: int) -> None:
    held_s = 0.5137
    wave = render(solo(genre, part, pitch, held_s=held_s), 2.0)[0].astype(np.float64)

    bend = np.abs(np.diff(wave, n=2))  # a click is a bend far sharper than the tone's own
    end = round(held_s * SAMPLE_RATE)
    while_held = bend[end - 12_000 : end].max()
    assert bend[end:].max() <= 1.3 * while_held
    assert np.abs(wave[-2000:]).max() < 1e-3


@pytest.mark.parametrize("genre", GENRES)
def test_no_part_drowns_the_others(genre: str) -> None:
    loudness = {
        part: rms_db(_unmastered(genre, part)[:, : 5 * SAMPLE_RATE]) for part in ("drums", "bass", "keys", "melody")
    }

    assert loudness["melody"] > loudness["keys"] - 3
    assert loudness["bass"] < loudness["keys"] + 12
    assert loudness["drums"] < loudness["melody"] + 9


def _unmastered(genre: str, part: str) -> Sound:
    from generation.sketch import synth

    piece = make_piece(genre, bpm=100, parts=(part,))
    performance = perform(piece, 6.0)
    samples = 6 * SAMPLE_RATE
    if part == "drums":
        gain = synth._gain(ENSEMBLES[genre].drums_db)
        return synth._play_drums(performance, samples, SAMPLE_RATE) * gain
    channel = getattr(ENSEMBLES[genre], part)
    return synth._play_channel(channel, list(performance.notes), performance, samples, SAMPLE_RATE)


def test_genres_differ_in_timbre_when_they_play_the_same_note() -> None:
    spectra = []
    for genre in GENRES:
        wave = render(solo(genre, "keys", 57, held_s=1.0), 1.5)[0]
        harmonics = np.abs(np.fft.rfft(wave[:SAMPLE_RATE]))[220 : 220 * 21 : 220]
        spectra.append(np.log10(harmonics / harmonics.max() + 1e-4))

    distances = [np.abs(a - b).mean() for i, a in enumerate(spectra) for b in spectra[:i]]
    assert min(distances) > 0.1
