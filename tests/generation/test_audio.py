"""Files that other programs can read, tags included; peaks and loudness."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from tinytag import TinyTag

from generation.audio import MAX_COMMENT_BYTES, Audio, AudioFormat, Tags, encode, loudness_lufs, peaks

RATE = 48_000
FORMATS: list[AudioFormat] = ["flac", "wav", "mp3", "opus"]
TAGGED: list[AudioFormat] = ["flac", "mp3", "opus"]
TAGS = Tags(
    title="Nachtzug – 夜行列車",
    prompt="warm lofi, piano ♪",
    lyrics="[verse]\nGrüße",
    bpm=84,
    keyscale="F# minor",
    seed=2**63 - 1,
    latent_id="0f5f1f7e-3c8b-4c39-9a51-6a1f9d1c2b3a",
    params={"caption": "warm lofi, piano ♪", "shift": 3.0},
)


def tone(seconds: float = 0.5, *, level: float = 0.5, hz: float = 440.0) -> Audio:
    time = np.arange(round(RATE * seconds)) / RATE
    wave = level * np.sin(2 * np.pi * hz * time)
    return np.stack([wave, wave], axis=1).astype(np.float32)


def read(encoded: bytes) -> tuple[Audio, int]:
    audio, rate = soundfile.read(io.BytesIO(encoded), dtype="float32", always_2d=True)
    return audio, rate


def comment(encoded: bytes) -> dict[str, Any]:
    with soundfile.SoundFile(io.BytesIO(encoded)) as file:
        return json.loads(file.copy_metadata()["comment"])


@pytest.mark.parametrize("audio_format", FORMATS)
def test_every_format_keeps_length_rate_channels_and_level(audio_format: AudioFormat) -> None:
    audio, rate = read(encode(tone(), RATE, audio_format, TAGS))
    assert rate == RATE
    assert audio.shape[1] == 2
    assert len(audio) == pytest.approx(RATE / 2, abs=RATE / 20)
    assert np.sqrt(np.mean(audio**2)) == pytest.approx(0.5 / np.sqrt(2), rel=0.05)


@pytest.mark.parametrize("audio_format", ["flac", "wav"])
def test_lossless_formats_keep_every_sample_to_16_bits(audio_format: AudioFormat) -> None:
    audio, _ = read(encode(tone(), RATE, audio_format))
    assert np.abs(audio - tone()).max() <= 2**-15


@pytest.mark.parametrize("audio_format", FORMATS)
def test_overdriven_audio_is_clipped_and_never_wraps(audio_format: AudioFormat) -> None:
    overdriven = np.full((RATE, 2), 1.5, np.float32)
    overdriven[:, 1] = -40.0
    audio, _ = read(encode(overdriven, RATE, audio_format))
    middle = audio[RATE // 4 : RATE // 2]
    if audio_format in ("flac", "wav"):
        assert np.allclose(middle, [1.0, -1.0], atol=1e-4)
    else:  # lossy codecs remove the offset, but may not turn a sign around at its start
        assert audio[:, 0].max() > 0.5
        assert audio[:, 1].min() < -0.5


@pytest.mark.parametrize("audio_format", TAGGED)
def test_another_library_reads_the_title_back(audio_format: AudioFormat, tmp_path: Path) -> None:
    path = tmp_path / f"take.{audio_format}"
    path.write_bytes(encode(tone(), RATE, audio_format, TAGS))
    tag = TinyTag.get(path)
    assert tag.title == TAGS.title
    assert tag.duration == pytest.approx(0.5, abs=0.06)


@pytest.mark.parametrize("letter", ["T", "夜"])
def test_wav_carries_title_seed_latent_and_what_else_is_short(letter: str, tmp_path: Path) -> None:
    path = tmp_path / "take.wav"
    for lyrics, prompt, kept in [
        ("la", "p", {"prompt", "lyrics"}),
        ("la " * 5000, "p", {"prompt"}),
        ("", "p" * 1500, set()),
    ]:
        facts = Tags(title=letter * 5000, prompt=prompt, lyrics=lyrics, seed=7, latent_id="0f5f", params={"bpm": 9})
        path.write_bytes(encode(tone(), RATE, "wav", facts))
        tag = TinyTag.get(path)
        assert tag.title == letter * 120
        said = json.loads(str(tag.comment))
        assert (said["seed"], said["latent_id"]) == (7, "0f5f")
        assert said.keys() & {"prompt", "lyrics"} == kept
        assert len(soundfile.read(path)[0]) == RATE // 2


@pytest.mark.parametrize("audio_format", TAGGED)
def test_comment_holds_everything_needed_to_make_the_take_again(audio_format: AudioFormat) -> None:
    assert comment(encode(tone(), RATE, audio_format, TAGS)) == {
        "prompt": TAGS.prompt,
        "lyrics": TAGS.lyrics,
        "bpm": 84,
        "keyscale": "F# minor",
        "seed": 2**63 - 1,
        "latent_id": TAGS.latent_id,
        "params": TAGS.params,
    }


def test_mp3_says_tempo_key_lyrics_seed_and_latent_in_fields_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "take.mp3"
    path.write_bytes(encode(tone(), RATE, "mp3", TAGS))
    tag = TinyTag.get(path)
    fields = tag.as_dict()
    assert fields["bpm"] in (84, [84], ["84"])
    assert "F#m" in fields["initial_key"]
    assert tag.other["lyrics"] == [TAGS.lyrics]
    assert tag.other["latent_id"] == [TAGS.latent_id]
    assert tag.other["seed"] == [str(TAGS.seed)]


@pytest.mark.parametrize(
    ("keyscale", "key"),
    [
        ("C major", "C"),
        ("Bb minor", "Bbm"),
        ("eb Major", "Eb"),
        ("A", "A"),
        ("D dorian", "D dorian"),  # ID3 knows no modes: left as it is
    ],
)
def test_mp3_key_is_written_as_id3_writes_keys(keyscale: str, key: str, tmp_path: Path) -> None:
    path = tmp_path / "take.mp3"
    path.write_bytes(encode(tone(), RATE, "mp3", Tags(keyscale=keyscale)))
    assert TinyTag.get(path).other["initial_key"] == [key]


@pytest.mark.parametrize("audio_format", TAGGED)
def test_very_long_lyrics_are_left_out_of_the_comment_and_the_file_stays_readable(audio_format: AudioFormat) -> None:
    encoded = encode(tone(), RATE, audio_format, Tags(title="Long", prompt="p", lyrics="夜" * 30_000, seed=1))
    assert comment(encoded) == {"prompt": "p", "seed": 1}
    assert len(read(encoded)[0]) > RATE / 3


def test_comment_never_exceeds_its_limit() -> None:
    huge = "x" * MAX_COMMENT_BYTES
    tags = Tags(prompt=huge, lyrics=huge, seed=5, params={"caption": huge})
    assert json.loads(tags.comment(MAX_COMMENT_BYTES)) == {"seed": 5}


@pytest.mark.parametrize("audio_format", FORMATS)
def test_text_that_no_tag_can_hold_does_not_break_the_file(audio_format: AudioFormat) -> None:
    encoded = encode(tone(), RATE, audio_format, Tags(title="a\0b\ud800", prompt="c\0\ud800", lyrics="\0"))
    assert len(read(encoded)[0]) > RATE / 3


@pytest.mark.parametrize("audio_format", FORMATS)
def test_untagged_audio_is_written_too(audio_format: AudioFormat) -> None:
    assert len(read(encode(tone(), RATE, audio_format))[0]) > RATE / 3


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_audio_that_is_not_finite_is_refused(bad: float) -> None:
    audio = tone()
    audio[7, 1] = bad
    with pytest.raises(ValueError, match="expected finite audio"):
        encode(audio, RATE, "flac")


@pytest.mark.parametrize("shape", [(0, 2), (48_000,)])
def test_audio_without_samples_or_channels_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected audio \[samples, channels\]"):
        encode(np.zeros(shape, np.float32), RATE, "flac")


def test_peaks_are_the_loudest_value_of_each_part_over_both_channels() -> None:
    audio = np.zeros((1000, 2), np.float32)
    audio[250, 0] = -0.5
    audio[999, 1] = 3.0
    assert peaks(audio, bins=4) == [0.0, 0.5, 0.0, 1.0]


def test_peaks_of_audio_shorter_than_the_bins_still_fill_them() -> None:
    assert peaks(np.array([[0.25, 0.0], [0.0, -0.75]], np.float32), bins=4) == [0.25, 0.25, 0.75, 0.75]


def test_full_scale_tone_measures_what_the_standard_says() -> None:
    # ITU-R BS.1770-4: a 0 dBFS sine of 997 Hz in one channel measures -3.01 LUFS, in both 0.00.
    both = tone(5, level=1.0, hz=997)
    assert loudness_lufs(both, RATE) == pytest.approx(0.0, abs=0.1)
    assert loudness_lufs(both * [1, 0], RATE) == pytest.approx(-3.01, abs=0.1)


def test_halving_the_level_lowers_the_loudness_by_six_decibels() -> None:
    loud, soft = (loudness_lufs(tone(2, level=level), RATE) for level in (0.8, 0.4))
    assert loud is not None
    assert soft is not None
    assert loud - soft == pytest.approx(6.02, abs=0.05)


@pytest.mark.parametrize(
    "audio",
    [
        pytest.param(np.zeros((RATE, 2), np.float32), id="silence"),
        pytest.param(tone(0.39), id="shorter than one block"),
    ],
)
def test_silence_and_very_short_audio_have_no_loudness(audio: Audio) -> None:
    assert loudness_lufs(audio, RATE) is None


def test_measuring_leaves_the_audio_as_it_was() -> None:
    audio = tone()
    before = audio.copy()
    loudness_lufs(audio, RATE)
    peaks(audio)
    encode(audio, RATE, "mp3", TAGS)
    assert np.array_equal(audio, before)
