"""Sound from latents: the pipeline's own, tile for tile, and what happens when memory runs out."""

from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderOobleck
from torch import Tensor

from generation.engine.decoding import MARGIN_FRAMES, DecodeOutOfMemory, decode
from generation.engine.music_model import Cancelled
from generation.engine.schedule import plan
from tests.generation.engine.conftest import PROMPT, LoadedModel, random_latents

FRAME_RATE = 25
CHANNELS = 8


class CrampedCodec(AutoencoderOobleck):
    """A real codec on a device that holds only so many frames at once."""

    room_frames: int | None = None
    error: type[Exception] = torch.OutOfMemoryError

    def decode(self, z: Tensor, *args: Any, **options: Any) -> Any:
        if self.room_frames is not None and z.shape[-1] > self.room_frames:
            raise self.error("[enforce fail at alloc_cpu.cpp] can't allocate memory")
        return super().decode(z, *args, **options)


@pytest.fixture(scope="module")
def whole_codec() -> CrampedCodec:
    """25 frames per second like ACE-Step's, at a very low fidelity."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        codec = CrampedCodec(
            encoder_hidden_size=4,
            decoder_channels=4,
            downsampling_ratios=[2, 4, 4],
            channel_multiples=[1, 1, 1],
            decoder_input_channels=CHANNELS,
            sampling_rate=FRAME_RATE * 32,
        )
    return codec.eval()


@pytest.fixture
def codec(whole_codec: CrampedCodec, monkeypatch: pytest.MonkeyPatch) -> CrampedCodec:
    for name in ("room_frames", "error"):
        monkeypatch.setattr(CrampedCodec, name, getattr(CrampedCodec, name))  # restored after each test
    return whole_codec


def piece(seconds: float, items: int = 1) -> Tensor:
    return torch.stack([random_latents(round(seconds * FRAME_RATE), CHANNELS, seed=i) for i in range(items)])


def count_tiles(codec: Any, latents: Tensor, **options: Any) -> int:
    heard: list[tuple[int, int]] = []
    decode(codec, latents, on_tile=lambda done, tiles: heard.append((done, tiles)), **options)
    assert [done for done, _ in heard] == list(range(len(heard)))
    assert all(tiles == len(heard) for _, tiles in heard)
    return len(heard)


def test_sound_has_the_bits_of_the_pipeline(model: LoadedModel) -> None:
    latents = model.music.denoise(PROMPT, plan(4, 3.0), frames=model.frames, seed=7, guidance_scale=4.0).latents
    expected = model.music.pipeline(
        PROMPT.caption,
        PROMPT.lyrics,
        audio_duration=PROMPT.duration_s,
        latents=latents,
        timesteps=[1e-30],  # one call that changes nothing: the pipeline cannot only decode
        output_type="np",
    ).audios
    assert np.array_equal(model.music.decode(latents), expected.transpose(0, 2, 1))


def test_each_item_peaks_at_minus_1_dbfs(codec: CrampedCodec) -> None:
    audio = decode(codec, piece(4, items=3) * torch.tensor([0.1, 1.0, 30.0]).view(3, 1, 1))
    assert audio.dtype == np.float32
    assert audio.shape == (3, 4 * FRAME_RATE * 32, 2)
    assert np.abs(audio).max(axis=(1, 2)) == pytest.approx([10 ** (-1 / 20)] * 3)


def test_silence_stays_silent(codec: CrampedCodec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec.decoder, "forward", lambda z: torch.zeros(1, 2, z.shape[-1] * 32))
    assert not decode(codec, piece(4)).any()


def test_item_sounds_the_same_in_any_batch(codec: CrampedCodec) -> None:
    latents = piece(4, items=3)
    audio = decode(codec, latents)
    for index in range(3):
        assert np.array_equal(decode(codec, latents[index : index + 1])[0], audio[index])


@pytest.mark.parametrize("seconds", [12.0, 11.96])  # the last tile is whole, or not
@pytest.mark.parametrize("tile_s", [0.2, 1.0, 5.0, 100.0])
def test_tiles_leave_no_seam(codec: CrampedCodec, tile_s: float, seconds: float) -> None:
    latents = piece(seconds)
    np.testing.assert_allclose(decode(codec, latents, tile_s=tile_s), decode(codec, latents), atol=1e-6)


def test_margin_is_wider_than_the_reach_of_the_real_codec() -> None:
    codec = AutoencoderOobleck(
        encoder_hidden_size=2,
        decoder_channels=2,
        downsampling_ratios=[2, 4, 4, 6, 10],  # ACE-Step 1.5's own
        channel_multiples=[1, 1, 1, 1, 1],
        decoder_input_channels=CHANNELS,
        sampling_rate=48000,
    ).eval()
    latents = random_latents(2 * MARGIN_FRAMES + 1, CHANNELS).T.unsqueeze(0).requires_grad_()
    codec.decode(latents).sample[0, :, MARGIN_FRAMES * 1920].sum().backward()
    assert latents.grad is not None
    reached = latents.grad.abs().sum(dim=(0, 1)).nonzero().squeeze() - MARGIN_FRAMES
    assert reached.abs().max() < MARGIN_FRAMES / 2


def test_short_piece_is_decoded_whole(codec: CrampedCodec) -> None:
    assert count_tiles(codec, piece(60)) == 1


def test_long_piece_is_decoded_in_tiles(codec: CrampedCodec) -> None:
    assert count_tiles(codec, piece(61, items=2)) == 8


def test_codec_that_reads_a_piece_as_a_whole_is_never_tiled(codec: CrampedCodec) -> None:
    codec.register_to_config(tileable=False)
    try:
        assert count_tiles(codec, piece(61)) == 1
        assert count_tiles(codec, piece(4), tile_s=1.0) == 1
        CrampedCodec.room_frames = 0
        with pytest.raises(DecodeOutOfMemory):
            decode(codec, piece(4))
    finally:
        codec.register_to_config(tileable=True)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, RuntimeError, MemoryError])
def test_piece_that_does_not_fit_is_decoded_in_small_tiles(codec: CrampedCodec, error: type[Exception]) -> None:
    latents = piece(30)
    expected = decode(codec, latents)
    CrampedCodec.error = error
    CrampedCodec.room_frames = 5 * FRAME_RATE + 2 * MARGIN_FRAMES
    np.testing.assert_allclose(decode(codec, latents), expected, atol=1e-6)


def test_running_out_of_memory_in_small_tiles_is_said(codec: CrampedCodec) -> None:
    CrampedCodec.room_frames = 10
    with pytest.raises(DecodeOutOfMemory, match="latents are kept"):
        decode(codec, piece(30))


def test_other_errors_pass_through(codec: CrampedCodec) -> None:
    with pytest.raises(RuntimeError, match="channels"):
        decode(codec, piece(4)[..., :3])


def test_cancel_is_heard_between_tiles(codec: CrampedCodec) -> None:
    heard: list[int] = []

    def cancel(done: int, _: int) -> None:
        heard.append(done)
        if done == 2:
            raise Cancelled

    with pytest.raises(Cancelled):
        decode(codec, piece(10), tile_s=1.0, on_tile=cancel)
    assert heard == [0, 1, 2]
