"""The synthesiser: plays a performance on the instruments of its genre, and mixes them.

Every distinct note is sounded once and added wherever it occurs. Nothing is random, and between calls only drums and
rooms are kept, so the same performance always gives the same bits.
"""

from dataclasses import dataclass

import numpy as np

from generation.sketch import instruments as voices
from generation.sketch.drum_kits import PANS, VARIATIONS, stroke
from generation.sketch.instruments import Instrument, Sound, sound
from generation.sketch.performance import Hit, Note, Performance
from generation.sketch.room import band, chorus, convolve, echo, impulse_response, master, overdrive, pump, tremolo

SAMPLE_RATE = 48_000
VELOCITY_LAYERS = 5  # timbres of one pitch, from soft to hard
LONGEST_NOTE_S = 16.0
CLOSING_FADE_S = 0.5
AUDIBLE_HZ = (25.0, 19_000.0)
CABINET_HZ = (75.0, 4_800.0)  # what a guitar's loudspeaker lets through


@dataclass(frozen=True)
class Channel:
    """One part's strip on the mixing desk."""

    instrument: Instrument
    gain_db: float
    room: float = 0.15  # share sent into the room
    spread: float = 0.0  # how far low notes stand left and high notes right
    strum_s: float = 0.0  # between one string of a chord and the next
    chorus: float = 0.0
    tremolo: float = 0.0
    echo: float = 0.0
    drive: float = 0.0


@dataclass(frozen=True)
class Ensemble:
    """Who plays a genre, and where."""

    keys: Channel
    bass: Channel
    melody: Channel
    drums_db: float
    drums_room: float
    room_decay_s: float
    room_brightness_hz: float
    pump: float = 0.0  # how far the kick pushes bass and keys down


ENSEMBLES = {
    "lofi": Ensemble(
        keys=Channel(voices.electric_piano, -5.5, room=0.2, spread=0.3, chorus=0.3, tremolo=0.18),
        bass=Channel(voices.finger_bass, 0.5, room=0.03),
        melody=Channel(voices.mellow_lead, -0.7, room=0.3, echo=0.25),
        drums_db=-2.5, drums_room=0.12, room_decay_s=0.9, room_brightness_hz=3000,
    ),
    "house": Ensemble(
        keys=Channel(voices.organ_stab, 7.5, room=0.22, spread=0.4, chorus=0.5),
        bass=Channel(voices.synth_bass, 0, room=0.02),
        melody=Channel(voices.synth_pluck, 0, room=0.25, echo=0.35),
        drums_db=-3, drums_room=0.08, room_decay_s=0.9, room_brightness_hz=6000, pump=0.6,
    ),
    "ambient": Ensemble(
        keys=Channel(voices.warm_pad, -7.5, room=0.55, spread=0.5, chorus=0.7),
        bass=Channel(voices.sub_bass, -0.5, room=0.05),
        melody=Channel(voices.glass_bells, 3, room=0.7, echo=0.4),
        drums_db=-3, drums_room=0.4, room_decay_s=3.4, room_brightness_hz=5000,
    ),
    "rock": Ensemble(
        keys=Channel(voices.electric_guitar, -6, room=0.12, spread=0.3, strum_s=0.004, chorus=0.5, drive=3.0),
        bass=Channel(voices.finger_bass, -2, room=0.03),
        melody=Channel(voices.lead_guitar, -3, room=0.25, echo=0.2, drive=2.0),
        drums_db=-5.5, drums_room=0.16, room_decay_s=0.8, room_brightness_hz=7000,
    ),
    "jazz": Ensemble(
        keys=Channel(voices.piano, -7, room=0.2, spread=0.5),
        bass=Channel(voices.upright_bass, 1.5, room=0.08),
        melody=Channel(voices.vibraphone, 0.5, room=0.3, tremolo=0.2),
        drums_db=3, drums_room=0.2, room_decay_s=1.1, room_brightness_hz=5000,
    ),
    "funk": Ensemble(
        keys=Channel(voices.clavinet, -3, room=0.1, spread=0.3, chorus=0.4),
        bass=Channel(voices.slap_bass, 0.5, room=0.02),
        melody=Channel(voices.brass, -2, room=0.18),
        drums_db=-0.5, drums_room=0.1, room_decay_s=0.6, room_brightness_hz=7000,
    ),
    "synthwave": Ensemble(
        keys=Channel(voices.analog_synth, -5.5, room=0.28, spread=0.4, chorus=0.7),
        bass=Channel(voices.synth_bass, 0, room=0.03),
        melody=Channel(voices.saw_lead, -5, room=0.35, echo=0.4),
        drums_db=-3.5, drums_room=0.22, room_decay_s=1.6, room_brightness_hz=6500, pump=0.25,
    ),
    "folk": Ensemble(
        keys=Channel(voices.acoustic_guitar, -5.5, room=0.15, spread=0.2, strum_s=0.009, chorus=0.15),
        bass=Channel(voices.upright_bass, 1, room=0.08),
        melody=Channel(voices.flute, -2, room=0.3),
        drums_db=-5.5, drums_room=0.15, room_decay_s=1.0, room_brightness_hz=5500,
    ),
}  # fmt: skip


def render(performance: Performance, duration_s: float, sample_rate: int = SAMPLE_RATE) -> Sound:
    """Return stereo sound, float32 [2, round(duration_s * sample_rate)], peaks below -1 dBFS."""
    samples = round(duration_s * sample_rate)
    ensemble = ENSEMBLES[performance.genre]
    kicks_s = [hit.start_s for hit in performance.hits if hit.drum == "kick"]
    mix = _play_drums(performance, samples, sample_rate)
    mix *= _gain(ensemble.drums_db)
    wet = mix * np.float32(ensemble.drums_room)
    for part in ("bass", "keys", "melody"):
        channel: Channel = getattr(ensemble, part)
        notes = [note for note in performance.notes if note.part == part]
        if notes:
            signal = _play_channel(channel, notes, performance, samples, sample_rate)
            if ensemble.pump and part != "melody":
                signal *= pump(kicks_s, samples, ensemble.pump, sample_rate)
            mix += signal
            signal *= np.float32(channel.room)
            wet += signal
    room = impulse_response(ensemble.room_decay_s, ensemble.room_brightness_hz, sample_rate)
    mix = convolve((mix, band(*AUDIBLE_HZ, sample_rate)), (wet, room))
    master(mix, sample_rate)
    _close(mix, sample_rate)
    return mix


def _gain(decibels: float) -> np.float32:
    return np.float32(10 ** (decibels / 20))


def _play_drums(performance: Performance, samples: int, sample_rate: int) -> Sound:
    signal = np.zeros((2, samples), dtype=np.float32)
    for number, hit in enumerate(performance.hits):
        wave = _struck(performance.genre, hit, number % VARIATIONS, sample_rate)
        _add(signal, wave, round(hit.start_s * sample_rate), PANS[hit.drum])
    return signal


def _struck(genre: str, hit: Hit, variation: int, sample_rate: int) -> Sound:
    wave = stroke(genre, hit.drum, variation, sample_rate)
    return _ended(wave, round(hit.duration_s * sample_rate), round(0.03 * sample_rate)) * np.float32(hit.velocity**1.5)


def _play_channel(
    channel: Channel, notes: list[Note], performance: Performance, samples: int, sample_rate: int
) -> Sound:
    signal = _play_notes(channel, notes, samples, sample_rate)
    if channel.drive:
        overdrive(signal, channel.drive)
        signal = convolve((signal, band(*CABINET_HZ, sample_rate)))
    if channel.chorus:
        chorus(signal, channel.chorus, sample_rate)
    if channel.tremolo:
        tremolo(signal, channel.tremolo, 5.1, sample_rate)
    if channel.echo:
        echo(signal, 0.75 * 60 / performance.beats_per_minute, channel.echo, sample_rate)
    signal *= _gain(channel.gain_db)
    return signal


def _play_notes(channel: Channel, notes: list[Note], samples: int, sample_rate: int) -> Sound:
    signal = np.zeros((2, samples), dtype=np.float32)
    played: dict[tuple[int, int, int], tuple[Sound, int]] = {}
    string, last_start_s = 0, -1.0
    for note in notes:
        string = string + 1 if note.start_s == last_start_s else 0
        last_start_s = note.start_s
        held = round(min(note.duration_s, LONGEST_NOTE_S) * sample_rate)
        layer = round(note.velocity * (VELOCITY_LAYERS - 1))
        key = (note.pitch, layer, _length_class(held, sample_rate))
        if key not in played:
            tone = channel.instrument(440 * 2 ** ((note.pitch - 69) / 12), layer / (VELOCITY_LAYERS - 1))
            release = round(tone.release_s * sample_rate)
            played[key] = sound(tone, key[2] + release, sample_rate), release
        wave, release = played[key]
        start = round((note.start_s + string * channel.strum_s) * sample_rate)
        pan = channel.spread * float(np.clip((note.pitch - 60) / 12, -1, 1))
        _add(signal, _ended(wave, held, release) * np.float32(0.3 * note.velocity**1.3), start, pan)
    return signal


def _length_class(samples: int, sample_rate: int) -> int:
    """Round a length up to a quarter of a second times a power of the root of two, so that few lengths occur."""
    shortest = sample_rate / 4
    return int(np.ceil(shortest * 2 ** (np.ceil(2 * np.log2(max(samples / shortest, 1.0))) / 2)))


def _ended(wave: Sound, held: int, release: int) -> Sound:
    """Let go of a sound after `held` samples: it falls to nothing within `release` more."""
    if held >= len(wave):
        return wave
    ended = wave[: held + release].copy()
    tail = len(ended) - held
    ended[held:] *= (1 - np.arange(1, tail + 1, dtype=np.float32) / tail) ** 2
    return ended


def _add(signal: Sound, wave: Sound, start: int, pan: float) -> None:
    """Add a sound at a sample, from -1 (left) to 1 (right) at equal power; what is past the end is lost."""
    span = signal[:, start : start + len(wave)]
    angle = (pan + 1) * np.pi / 4
    for channel, gain in enumerate((np.cos(angle), np.sin(angle))):
        span[channel] += wave[: span.shape[1]] * np.float32(gain * np.sqrt(2))


def _close(mix: Sound, sample_rate: int) -> None:
    """Fade the end, whatever still sounds."""
    fade = min(round(CLOSING_FADE_S * sample_rate), mix.shape[1])
    mix[:, mix.shape[1] - fade :] *= np.cos(np.linspace(0, np.pi / 2, fade, dtype=np.float32)) ** 2
