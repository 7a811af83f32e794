"""The models that the engine's identities are tested on: each kind at tiny size, and the bundled one."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor

from generation.engine.music_model import MusicModel, Prompt
from generation.variants import BUNDLED_FOLDER

TINY = ["base", "turbo", "xl"]
SKETCH = ["sketch"] if (BUNDLED_FOLDER / "model_index.json").is_file() else []
GUIDED = ["base", "xl", *SKETCH]

PROMPT = Prompt(
    caption="warm lofi, piano and drums",
    lyrics="[Instrumental]",
    vocal_language="en",
    bpm=96,
    keyscale="C major",
    timesignature="4",
    duration_s=3.0,  # 75 frames at 25 per second: the last patch is not full
)


@dataclass(frozen=True)
class LoadedModel:
    """A model, and calls of it with everything filled in that a test does not care about."""

    music: MusicModel

    @property
    def frames(self) -> int:
        return math.ceil(PROMPT.duration_s * self.music.frame_rate)

    def pipeline_latents(self, noise: Tensor, timesteps: tuple[float, ...] | None, **options: object) -> Tensor:
        """Return what AceStepPipeline.__call__ makes of noise [B, T, C]; its own schedule is used if none is given."""
        latents: Tensor = self.music.pipeline(
            prompt=[PROMPT.caption] * len(noise),
            lyrics=[PROMPT.lyrics] * len(noise),
            vocal_language=[PROMPT.vocal_language] * len(noise),
            bpm=PROMPT.bpm,
            keyscale=PROMPT.keyscale,
            timesignature=PROMPT.timesignature,
            audio_duration=PROMPT.duration_s,
            latents=noise,
            timesteps=timesteps,
            output_type="latent",
            return_dict=False,
            **options,
        )[0]
        return latents


@pytest.fixture(scope="session")
def load(tiny_model: Callable[[str], Path]) -> Callable[[str], LoadedModel]:
    loaded: dict[str, LoadedModel] = {}

    def load(kind: str) -> LoadedModel:
        if kind not in loaded:
            music = MusicModel.load(BUNDLED_FOLDER if kind == "sketch" else tiny_model(kind), device="cpu")
            music.pipeline.set_progress_bar_config(disable=True)
            loaded[kind] = LoadedModel(music)
        return loaded[kind]

    return load


@pytest.fixture(params=[*TINY, *SKETCH])
def model(request: pytest.FixtureRequest, load: Callable[[str], LoadedModel]) -> LoadedModel:
    """One model of each kind in turn; tests that need some of them parametrise `model` indirectly."""
    return load(request.param)


def random_latents(frames: int, channels: int, *, seed: int = 1) -> Tensor:
    return torch.randn(frames, channels, generator=torch.Generator().manual_seed(seed))
