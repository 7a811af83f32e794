"""Tiny random ACE-Step pipelines of each kind, built offline from the real classes and saved like real models.

Tests take the fixture `tiny_model` and call it with a kind: it returns a folder that `AceStepPipeline.from_pretrained`
opens. They run in milliseconds and sound like nothing, but have every part and every rule of the large ones: 25 frames
per second, 48 kHz stereo.
"""

from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AceStepPipeline,
    AceStepTransformer1DModel,
    AutoencoderOobleck,
    FlowMatchEulerDiscreteScheduler,
)
from diffusers.pipelines.ace_step.modeling_ace_step import AceStepConditionEncoder
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3Model

KINDS = ("base", "turbo", "xl")
CHANNELS = 8
WIDTH = 32
WORDS = [
    "warm",
    "lofi",
    "piano",
    "drums",
    "techno",
    "calm",
    "bpm",
    "major",
    "seconds",
    "Instrumental",
    "4",
    "20",
    "120",
]


def build_tiny_pipeline(kind: str, *, seed: int = 0) -> AceStepPipeline:
    """Build a pipeline of one of KINDS; "xl" is a base model whose transformer is wider than its condition encoder."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return AceStepPipeline(
            vae=_codec(),
            text_encoder=_text_encoder(),
            tokenizer=word_tokenizer(),
            transformer=_transformer(kind),
            condition_encoder=_condition_encoder(),
            scheduler=FlowMatchEulerDiscreteScheduler(num_train_timesteps=1, shift=1.0),
        )


def save_tiny_pipeline(kind: str, folder: Path, *, seed: int = 0) -> Path:
    build_tiny_pipeline(kind, seed=seed).save_pretrained(folder)
    return folder


def _transformer(kind: str) -> AceStepTransformer1DModel:
    return AceStepTransformer1DModel(
        hidden_size=48 if kind == "xl" else WIDTH,
        encoder_hidden_size=WIDTH,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        in_channels=3 * CHANNELS,
        audio_acoustic_hidden_dim=CHANNELS,
        patch_size=2,
        sliding_window=16,
        is_turbo=kind == "turbo",
        model_version=kind,
    ).eval()


def _condition_encoder() -> AceStepConditionEncoder:
    encoder = AceStepConditionEncoder(
        hidden_size=WIDTH,
        intermediate_size=64,
        text_hidden_dim=WIDTH,
        timbre_hidden_dim=CHANNELS,
        num_lyric_encoder_hidden_layers=1,
        num_timbre_encoder_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        sliding_window=16,
    ).eval()
    # Zeros would hide a mistake in the source latents.
    torch.nn.init.normal_(encoder.silence_latent)
    return encoder


def _text_encoder() -> Qwen3Model:
    config: Any = Qwen3Config(
        vocab_size=len(WORDS) + 2,
        hidden_size=WIDTH,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
    )
    return Qwen3Model(config).eval()


def word_tokenizer() -> PreTrainedTokenizerFast:
    vocabulary = {word: index for index, word in enumerate(["[PAD]", "[UNK]", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]")


def _codec() -> AutoencoderOobleck:
    return AutoencoderOobleck(
        encoder_hidden_size=4,
        decoder_channels=4,
        downsampling_ratios=[2, 4, 4, 6, 10],
        channel_multiples=[1, 1, 1, 1, 1],
        decoder_input_channels=CHANNELS,
        sampling_rate=48000,
    ).eval()
