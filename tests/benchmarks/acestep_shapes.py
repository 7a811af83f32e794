"""ACE-Step 1.5 in its real sizes with random weights, made directly on a device: as large and as slow as the real one.

It needs no download, not even a tokenizer: words that the tiny one does not know count as one token each.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import (
    AceStepPipeline,
    AceStepTransformer1DModel,
    AutoencoderOobleck,
    FlowMatchEulerDiscreteScheduler,
)
from diffusers.pipelines.ace_step.modeling_ace_step import AceStepConditionEncoder
from transformers import Qwen3Config, Qwen3Model

from tests.tiny_pipelines import word_tokenizer


@dataclass(frozen=True)
class Shape:
    """The configurations of one model's parts; what is left out is diffusers' default, which is the 2B model's."""

    transformer: dict[str, Any]
    condition_encoder: dict[str, Any]
    text_encoder: dict[str, Any]
    codec: dict[str, Any]


# The text encoder is Qwen3-Embedding-0.6B; the codec makes 25 frames per second of 48 kHz.
_TEXT_ENCODER = {
    "vocab_size": 151_669,
    "hidden_size": 1024,
    "intermediate_size": 3072,
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 128,
}
_CODEC = {"downsampling_ratios": [2, 4, 4, 6, 10], "channel_multiples": [1, 2, 4, 8, 16], "decoder_input_channels": 64}
_TOY = {"intermediate_size": 64, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16}

SHAPES = {
    "turbo": Shape({}, {}, _TEXT_ENCODER, _CODEC),
    "xl": Shape(
        {
            "hidden_size": 2560,
            "encoder_hidden_size": 2048,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            # Qwen3-4B's, whose width and heads it has; with it the parts add up to the published "4B" and "9 GB".
            "intermediate_size": 9728,
        },
        {},
        _TEXT_ENCODER,
        _CODEC,
    ),
    "toy": Shape(
        {**_TOY, "hidden_size": 32, "num_hidden_layers": 2, "in_channels": 24, "audio_acoustic_hidden_dim": 8},
        {
            **_TOY,
            "hidden_size": 32,
            "text_hidden_dim": 32,
            "timbre_hidden_dim": 8,
            "num_lyric_encoder_hidden_layers": 1,
            "num_timbre_encoder_hidden_layers": 1,
        },
        {**_TOY, "vocab_size": 32, "hidden_size": 32, "num_hidden_layers": 1},
        {
            "downsampling_ratios": [2, 4, 4, 6, 10],
            "channel_multiples": [1, 1, 1, 1, 1],
            "decoder_input_channels": 8,
            "encoder_hidden_size": 4,
            "decoder_channels": 4,
        },
    ),
}


def build(shape: Shape, device: torch.device, dtype: torch.dtype) -> AceStepPipeline:
    """Build a turbo pipeline on the device; its weights are drawn there, so that nothing travels."""
    text_config: Any = Qwen3Config(**shape.text_encoder)
    with torch.random.fork_rng(devices=[]), device, _default_dtype(dtype):
        torch.manual_seed(0)
        transformer = AceStepTransformer1DModel(**shape.transformer, is_turbo=True, model_version="turbo")
        condition_encoder = AceStepConditionEncoder(**shape.condition_encoder)
        torch.nn.init.normal_(condition_encoder.silence_latent)
        text_encoder = Qwen3Model(text_config)
        codec = AutoencoderOobleck(**shape.codec, sampling_rate=48_000)
    return AceStepPipeline(
        vae=codec.eval(),
        text_encoder=text_encoder.eval(),
        tokenizer=word_tokenizer(),
        transformer=transformer.eval(),
        condition_encoder=condition_encoder.eval(),
        scheduler=FlowMatchEulerDiscreteScheduler(num_train_timesteps=1, shift=1.0),
    )


@contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
