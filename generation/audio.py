"""Sound on its way to a file: encode with tags, find peaks, measure loudness. No torch: web and worker use it."""

import io
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import soundfile

Audio = npt.NDArray[np.float32]  # [samples, channels]; what lies outside -1..1 is clipped on encoding
AudioFormat = Literal["flac", "wav", "mp3", "opus"]

MEDIA_TYPES: Mapping[AudioFormat, str] = {
    "flac": "audio/flac",
    "wav": "audio/wav",
    "mp3": "audio/mpeg",
    "opus": "audio/ogg",
}

# libsndfile's names, with its options: MP3 at a variable rate of about 190 kbit/s for music.
_ENCODINGS: Mapping[AudioFormat, dict[str, Any]] = {
    "flac": {"format": "FLAC", "subtype": "PCM_16"},
    "wav": {"format": "WAV", "subtype": "PCM_16"},
    "mp3": {
        "format": "MP3",
        "subtype": "MPEG_LAYER_III",
        "bitrate_mode": "VARIABLE",
        "compression_level": 0.2,
    },
    "opus": {"format": "OGG", "subtype": "OPUS"},
}

MAX_TITLE = 120
# libsndfile 1.2.2 writes Ogg files that nobody can read when a comment reaches 60 KB; of a WAV it loses the comment at
# 2 KB, and damages the file with a longer one.
MAX_COMMENT_BYTES = 32_000
MAX_WAV_COMMENT_BYTES = 1500
# BS.1770 measures in blocks of 0.4 s: anything shorter has no loudness.
MIN_LOUDNESS_S = 0.4


@dataclass(frozen=True)
class Tags:
    """What a file says of itself. Empty fields are left out."""

    title: str = ""
    prompt: str = ""
    lyrics: str = ""
    bpm: int | None = None
    keyscale: str = ""
    seed: int | None = None
    latent_id: str = ""
    params: Mapping[str, Any] = field(default_factory=dict)  # the request, as JSON

    def comment(self, max_bytes: int) -> str:
        """Return everything as JSON, where necessary without its longest parts."""
        facts = {name: value for name, value in vars(self).items() if value not in (None, "", {}) and name != "title"}
        for omitted in ("", "lyrics", "params", "prompt"):
            facts.pop(omitted, None)
            comment = json.dumps(facts, ensure_ascii=False, allow_nan=False)
            if len(_utf8(comment)) <= max_bytes:
                break
        return comment


def encode(audio: Audio, sample_rate: int, audio_format: AudioFormat, tags: Tags | None = None) -> bytes:
    """Encode audio [samples, channels] as a whole file.

    Raises ValueError if the audio is empty or not finite. Opus takes 8, 12, 16, 24 and 48 kHz only.
    """
    if audio.ndim != 2 or not audio.size:
        raise ValueError(f"expected audio [samples, channels], found shape {list(audio.shape)}")
    if not np.isfinite(audio).all():
        raise ValueError("expected finite audio, found NaN or infinity")
    tags = tags or Tags()
    file = io.BytesIO()
    with soundfile.SoundFile(
        file, "w", samplerate=sample_rate, channels=audio.shape[1], **_ENCODINGS[audio_format]
    ) as out:
        _write_comments(out, audio_format, tags)
        out.write(audio)
    # libsndfile writes UTF-8 into MP3 frames that say Latin-1, so the MP3 is written untagged and gets its own header.
    return _id3(tags) + file.getvalue() if audio_format == "mp3" else file.getvalue()


def peaks(audio: Audio, bins: int = 400) -> list[float]:
    """Return the largest absolute value, 0 to 1, of each of `bins` equal parts of the audio, over all channels."""
    loudest = np.abs(audio).max(axis=1)
    starts = np.arange(bins) * len(loudest) // bins
    highest = np.maximum.reduceat(loudest, starts).clip(max=1.0)
    return [round(float(value), 3) for value in highest]


def loudness_lufs(audio: Audio, sample_rate: int) -> float | None:
    """Return the integrated loudness (ITU-R BS.1770-4), or None for silence and for less than 0.4 s."""
    # Imported here because it loads scipy, for a second, which the web process never needs.
    import pyloudnorm

    if len(audio) < MIN_LOUDNESS_S * sample_rate:
        return None
    loudness = float(pyloudnorm.Meter(sample_rate).integrated_loudness(audio))
    return round(loudness, 2) if math.isfinite(loudness) else None


def _write_comments(out: soundfile.SoundFile, audio_format: AudioFormat, tags: Tags) -> None:
    if audio_format == "mp3":
        return
    max_bytes = MAX_WAV_COMMENT_BYTES if audio_format == "wav" else MAX_COMMENT_BYTES
    for name, value in {"title": tags.title[:MAX_TITLE], "comment": tags.comment(max_bytes)}.items():
        if value:
            setattr(out, name, _utf8(value).decode())


def _id3(tags: Tags) -> bytes:
    """Return an ID3v2.4 header, https://id3.org/id3v2.4.0-structure."""
    described = {"prompt": tags.prompt, "seed": tags.seed, "latent_id": tags.latent_id}
    frames = [
        _id3_frame("TIT2", tags.title[:MAX_TITLE]),
        _id3_frame("TBPM", tags.bpm),
        _id3_frame("TKEY", _id3_key(tags.keyscale)),
        _id3_frame("COMM", tags.comment(MAX_COMMENT_BYTES), prefix=b"eng\0"),
        _id3_frame("USLT", tags.lyrics, prefix=b"eng\0"),
        *(_id3_frame("TXXX", value, prefix=name.encode() + b"\0") for name, value in described.items()),
    ]
    body = b"".join(frames)
    return b"ID3\x04\0\0" + _synchsafe(len(body)) + body


def _id3_frame(name: str, value: str | int | None, *, prefix: bytes = b"") -> bytes:
    if value in (None, ""):
        return b""
    utf8 = b"\x03"
    content = utf8 + prefix + _utf8(str(value))
    no_flags = b"\0\0"
    return name.encode() + _synchsafe(len(content)) + no_flags + content


def _id3_key(keyscale: str) -> str:
    """Write "F# minor" as ID3 does: F#m."""
    match = re.fullmatch(r"([A-G][b#]?) *(major|minor)?", keyscale, re.IGNORECASE)
    if not match:
        return keyscale
    return match[1].capitalize() + ("m" if (match[2] or "").lower() == "minor" else "")


def _synchsafe(number: int) -> bytes:
    """Return four bytes of seven bits each, so that no byte looks like the start of an MP3 frame."""
    return bytes(number >> shift & 0x7F for shift in (21, 14, 7, 0))


def _utf8(text: str) -> bytes:
    """Return UTF-8 without what ends a tag early (NUL) or has no encoding (lone surrogates)."""
    return text.replace("\0", "").encode(errors="replace")
