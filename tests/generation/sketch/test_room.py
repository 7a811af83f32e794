import numpy as np
import pytest

from generation.sketch.room import (
    CEILING,
    SPAN,
    band,
    chorus,
    convolve,
    echo,
    impulse_response,
    master,
    overdrive,
    pump,
)
from generation.sketch.synth import SAMPLE_RATE


def test_overdrive_stays_below_half_the_sample_rate() -> None:
    time_s = np.arange(SAMPLE_RATE) / SAMPLE_RATE
    wave = np.sin(2 * np.pi * 3600 * time_s)[None].astype(np.float32)

    overdrive(wave, 3.0)

    spectrum = np.abs(np.fft.rfft(wave[0])) ** 2  # one second: bins are hertz

    assert spectrum[[3600, 10_800, 18_000]].sum() / spectrum.sum() > 1 - 1e-7


def test_convolution_over_many_blocks_equals_the_direct_sum() -> None:
    rng = np.random.default_rng(0)
    signal = rng.standard_normal((2, 300_000)).astype(np.float32)
    response = np.zeros((2, 5_000), dtype=np.float32)
    response[:, (0, 4_999)] = 1.0, 0.5

    expected = signal.copy()
    expected[:, 4_999:] += 0.5 * signal[:, :-4_999]
    assert np.abs(convolve((signal, response)) - expected).max() < 1e-4


def test_the_master_keeps_peaks_below_the_ceiling_without_clipping() -> None:
    rng = np.random.default_rng(0)
    mix = 0.05 * rng.standard_normal((2, SAMPLE_RATE)).astype(np.float32)
    mix[:, 20_000] = 3.0

    mastered = mix.copy()
    master(mastered, SAMPLE_RATE)

    assert np.abs(mastered).max() <= CEILING + 1e-6
    gain = mastered[0] / mix[0]
    assert np.abs(np.diff(gain)).max() < 0.02  # turned down, not cut off


def test_the_master_leaves_silence_alone() -> None:
    mix = np.zeros((2, 1_000), dtype=np.float32)

    master(mix, SAMPLE_RATE)

    assert not mix.any()


def test_a_band_lets_no_direct_current_through() -> None:
    assert abs(float(band(25.0, 19_000.0, SAMPLE_RATE).sum())) < 1e-5


@pytest.mark.parametrize("decay_s", [0.6, 3.4])
def test_a_room_rings_as_long_as_it_says(decay_s: float) -> None:
    response = impulse_response(decay_s, 5_000.0, SAMPLE_RATE)

    energy = np.cumsum(response[0][::-1] ** 2)[::-1]
    half_time = int(np.argmax(energy < energy[0] * 1e-3)) / SAMPLE_RATE  # 30 dB down
    assert 0.25 * decay_s < half_time < 0.75 * decay_s
    assert abs(np.corrcoef(response)[0, 1]) < 0.1  # left and right differ: that is what makes it wide


def test_the_pump_ducks_at_a_kick_and_comes_back() -> None:
    gain = pump([0.5], SAMPLE_RATE, 0.6, SAMPLE_RATE)

    assert gain[: SAMPLE_RATE // 2].min() == 1.0
    assert gain.min() < 0.45
    assert gain[int(0.8 * SAMPLE_RATE) :].min() == 1.0


def test_an_echo_comes_back_softer_on_alternating_sides() -> None:
    signal = np.zeros((2, 1_000), dtype=np.float32)
    signal[:, 0] = 1.0

    echo(signal, 200 / SAMPLE_RATE, 0.5, SAMPLE_RATE)

    assert np.allclose(signal[1, [200, 600]], (0.5, 0.125))
    assert np.allclose(signal[0, [400]], 0.25)


def test_a_chorus_makes_one_signal_two_sided_and_has_no_seams() -> None:
    samples = SPAN + 20_000
    signal = np.sin(2 * np.pi * 440 * np.arange(samples) / SAMPLE_RATE).astype(np.float32)[None].repeat(2, axis=0)

    chorus(signal, 0.5, SAMPLE_RATE)

    assert np.abs(signal[0] - signal[1]).max() > 0.1
    assert np.abs(signal).max() < 1.3
    bend = np.abs(np.diff(signal, n=2))
    assert bend[:, SPAN - 10 : SPAN + 10].max() < 1.1 * bend[:, 10_000:20_000].max()
