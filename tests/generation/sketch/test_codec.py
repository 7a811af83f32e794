"""The codec stands where ACE-Step's VAE stands, and a folder with it opens as any pipeline does."""

import numpy as np
import pytest
import torch

from generation.sketch.codec import SAMPLE_RATE, SketchCodec
from generation.sketch.composer import compose, draw_brief
from generation.sketch.streams import FRAME_RATE, encode_piece


@pytest.fixture(scope="module")
def latents():
    rng = np.random.default_rng(0)
    return torch.from_numpy(encode_piece(compose(rng, draw_brief(rng), 5.0), 5 * FRAME_RATE))


def test_sound_is_as_long_as_its_frames(latents):
    sound = SketchCodec().decode(latents.T[None]).sample
    assert sound.shape == (1, 2, len(latents) * SAMPLE_RATE // FRAME_RATE)
    assert sound.dtype == torch.float32


def test_ratios_multiply_to_the_samples_of_a_frame():
    assert np.prod(SketchCodec().config.downsampling_ratios) == SAMPLE_RATE // FRAME_RATE


def test_decoding_twice_gives_the_same_bits(latents):
    codec = SketchCodec()
    assert torch.equal(codec.decode(latents.T[None]).sample, codec.decode(latents.T[None]).sample)


def test_half_precision_latents_play_the_same_piece(latents):
    codec = SketchCodec()
    assert torch.equal(codec.decode(latents.T[None]).sample, codec.decode(latents.T[None].half()).sample)


def test_each_item_of_a_batch_plays_as_it_does_alone(latents):
    codec = SketchCodec()
    other = torch.randn(latents.shape, generator=torch.Generator().manual_seed(1))
    together = codec.decode(torch.stack([latents.T, other.T])).sample
    assert torch.equal(together[1:], codec.decode(other.T[None]).sample)
