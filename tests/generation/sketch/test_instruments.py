import numpy as np
import pytest

from generation.sketch import instruments
from generation.sketch.instruments import Instrument, ring, sound
from generation.sketch.synth import ENSEMBLES, SAMPLE_RATE

INSTRUMENTS = {
    channel.instrument.__name__: channel.instrument
    for ensemble in ENSEMBLES.values()
    for channel in (ensemble.keys, ensemble.bass, ensemble.melody)
}


@pytest.mark.parametrize("name", sorted(INSTRUMENTS))
def test_a_high_note_has_no_aliases(name: str) -> None:
    instrument: Instrument = INSTRUMENTS[name]
    tone = instrument(2093.0, 1.0)
    steady = instruments.Tone(tone.hz, tone.levels, tone.decays * 0)  # lines, so that all else shows

    wave = sound(steady, SAMPLE_RATE, SAMPLE_RATE)[4000:].astype(np.float64)

    spectrum = np.abs(np.fft.rfft(wave * np.blackman(len(wave)))) ** 2
    hz = np.fft.rfftfreq(len(wave), 1 / SAMPLE_RATE)
    near = np.min(np.abs(hz[:, None] - tone.hz[None]), axis=1) < 12
    assert 10 * np.log10(spectrum[~near].sum() / spectrum.sum()) < -60


def test_the_matrix_product_equals_a_sine_per_partial() -> None:
    hz, levels, decays = np.array([110.0, 333.3, 5_000.0]), np.array([1.0, 0.5, 0.2]), np.array([0.5, 3.0, 20.0])
    time_s = np.arange(30_001) / SAMPLE_RATE
    phases = 2 * np.pi * np.modf(np.array([1, 2, 3]) * 0.618034)[0]

    expected = sum(
        level * np.exp(-decay * time_s) * np.cos(2 * np.pi * frequency * time_s + phase)
        for frequency, level, decay, phase in zip(hz, levels, decays, phases, strict=True)
    )

    assert np.abs(ring(hz, levels, decays, len(time_s), SAMPLE_RATE) - expected).max() < 1e-4


def test_partials_that_nobody_hears_are_left_out() -> None:
    assert not ring(np.array([15_000.0]), np.ones(1), np.ones(1), 1_000, SAMPLE_RATE).any()
