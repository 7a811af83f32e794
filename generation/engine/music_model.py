"""A loaded ACE-Step pipeline that makes latents from a prompt, or from a parent's latents, and sound from latents.

Conditioning, transformer, guidance and codec are diffusers' own and are called, not copied. The denoising loop is ours
(sampling.py), because AceStepPipeline's hides the state that resuming needs and computes lengths from seconds.
"""

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import diffusers
import numpy as np
import numpy.typing as npt
import torch
import transformers
from diffusers import AceStepPipeline
from diffusers.utils import is_accelerate_available
from torch import Tensor

# diffusers makes a component of the bundled model's own class only where that is imported already.
import generation.sketch.codec  # noqa: F401
from generation.engine.decoding import OnTile, decode
from generation.engine.memory import release_memory
from generation.engine.sampling import GuidedVelocity, Velocity, denoise, renoise, resume_seed, starting_noise
from generation.engine.schedule import Plan

# It also warns that this class is not AutoencoderOobleck, which is meant.
logging.getLogger("diffusers.pipelines.pipeline_utils").addFilter(
    lambda record: "SketchCodec" not in record.getMessage()
)

TASK = "text2music"
# Limits of the text encoder's input: AceStepPipeline.__call__'s own defaults.
MAX_TEXT_TOKENS = 256
MAX_LYRIC_TOKENS = 2048
# The learned silence that stands in for a reference recording has this length in AceStepPipeline.__call__.
REFERENCE_S = 30

OnStep = Callable[[int, int], None]


class Cancelled(Exception):
    """Raised by a caller's `on_step` or `on_tile` to stop the run."""


@dataclass(frozen=True)
class Prompt:
    """What the music should be. `duration_s` is what was asked for: the model reads whole seconds from it."""

    caption: str
    lyrics: str
    vocal_language: str
    bpm: int | None
    keyscale: str
    timesignature: str
    duration_s: float


@dataclass(frozen=True)
class Parent:
    """One stored item to start from: clean latents [T, C], or a checkpoint's noisy ones with its momentum [T, C]."""

    latents: Tensor
    digest: str
    momentum: Tensor | None = None
    is_checkpoint: bool = False


@dataclass(frozen=True)
class Checkpoint:
    """A run's state before model call `step`: latents and guidance momentum [B, T, C], and the levels that remain."""

    latents: Tensor
    step: int
    level: float
    timesteps: tuple[float, ...]
    momentum: Tensor | None


@dataclass(frozen=True)
class Denoised:
    """Clean latents [B, T, C], float32 on the CPU."""

    latents: Tensor
    checkpoint: Checkpoint | None


@dataclass(frozen=True)
class _Conditions:
    """What the transformer is told of one batch: the prompt [B, L, D], no prompt [B, L, D], and context [B, T, 2C]."""

    prompt: Tensor
    nothing: Tensor
    context: Tensor


class MusicModel:
    """A model in memory. Keep one per process: see loaded_model()."""

    def __init__(self, pipeline: AceStepPipeline, *, is_compiled: bool = False) -> None:
        self.pipeline = pipeline
        self.is_compiled = is_compiled
        self.device: torch.device = pipeline.device
        self.dtype: torch.dtype = pipeline.transformer.dtype
        self.frame_rate: float = pipeline.latents_per_second
        self.channels: int = pipeline.transformer.config.audio_acoustic_hidden_dim
        self.sample_rate: int = pipeline.sample_rate
        self.is_turbo: bool = pipeline.is_turbo

    @classmethod
    def load(cls, source: str | Path, *, device: str = "auto", compile: bool = False) -> Self:  # noqa: A002
        """Open a pipeline folder, or a downloaded hub id: nothing is ever fetched here."""
        diffusers.utils.logging.disable_progress_bar()
        transformers.utils.logging.disable_progress_bar()
        device = best_device() if device == "auto" else device
        # Parts are made with random weights before theirs are read, which is nobody else's business.
        with torch.random.fork_rng(devices=[]):
            pipeline = AceStepPipeline.from_pretrained(
                str(source),
                dtype=torch.bfloat16 if device.startswith("cuda") else torch.float32,
                local_files_only=True,
                low_cpu_mem_usage=is_accelerate_available(),
            ).to(device)
        if compile:
            pipeline.transformer.compile()
        return cls(pipeline, is_compiled=compile)

    @property
    def runtime(self) -> dict[str, str | int | bool]:
        """What the bits of a result depend on besides the request; kept with every record."""
        return {
            "device": torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else self.device.type,
            "dtype": str(self.dtype).removeprefix("torch."),
            "threads": torch.get_num_threads(),
            "compile": self.is_compiled,
            "torch": str(torch.__version__),
            "diffusers": diffusers.__version__,
        }

    @torch.no_grad()
    def denoise(
        self,
        prompt: Prompt,
        plan: Plan,
        *,
        frames: int,
        seed: int,
        batch_size: int = 1,
        guidance_scale: float,
        cfg_interval: tuple[float, float] = (0.0, 1.0),
        parent: Parent | None = None,
        checkpoint_step: int | None = None,
        on_step: OnStep | None = None,
    ) -> Denoised:
        """Run a plan: from noise, from a parent's latents, or on from a checkpoint.

        `frames` is the length, a parent's own where there is one. `on_step(done, calls)` is called before the first
        model call with 0 and after each; on CUDA it runs one step behind, so that the device never waits for the host.
        """
        if checkpoint_step is not None:
            plan.rest_from(checkpoint_step)  # raises where the run has no such step
        x = self._starting_point(plan, parent, frames=frames, seed=seed, batch_size=batch_size)
        if plan.is_copy:
            return Denoised(x, None)
        conditions = self._conditions(prompt, frames=frames, batch_size=batch_size)
        velocity = self._velocity(conditions, guidance_scale, cfg_interval, None if plan.is_full else parent)
        capture = _Capture(checkpoint_step, velocity)
        progress = _Progress(on_step, plan.model_calls, self.device)

        def watch(step: int, x: Tensor) -> None:
            capture.watch(step, x)
            progress.watch(step)

        x = denoise(velocity, x.to(self.device, self.dtype), plan.timesteps, on_step=watch)
        progress.finish()
        return Denoised(_to_keep(x), capture.checkpoint(plan))

    def decode(
        self, latents: Tensor, *, tile_s: float | None = None, on_tile: OnTile | None = None
    ) -> npt.NDArray[np.float32]:
        """Turn latents [B, T, C] into stereo sound [B, samples, 2] with peaks at -1 dBFS: see decoding.decode()."""
        return decode(self.pipeline.vae, latents, tile_s=tile_s, on_tile=on_tile)

    def _starting_point(self, plan: Plan, parent: Parent | None, *, frames: int, seed: int, batch_size: int) -> Tensor:
        """Return x [B, T, C] at the plan's level; for a copy, the parent's latents with their bits untouched."""
        seeds = range(seed, seed + batch_size)
        if plan.is_full:
            return torch.stack([starting_noise(s, frames, self.channels) for s in seeds])
        if parent is None:
            raise ValueError(f"A run from level {plan.effective} needs a parent to start from")
        if parent.latents.shape != (frames, self.channels):
            raise ValueError(f"Expected latents of {frames} x {self.channels}, found {tuple(parent.latents.shape)}")
        if plan.is_copy or parent.is_checkpoint:
            if batch_size != 1:
                raise ValueError("No noise is drawn here, so every copy would be the same: batch_size must be 1")
            return parent.latents.unsqueeze(0)
        noises = (starting_noise(resume_seed(s, parent.digest), frames, self.channels) for s in seeds)
        return torch.stack([renoise(parent.latents.float(), plan.effective, noise=noise) for noise in noises])

    def _conditions(self, prompt: Prompt, *, frames: int, batch_size: int) -> _Conditions:
        """Encode the prompt as AceStepPipeline.__call__ does, once, and repeat it for the batch."""
        pipeline, device, dtype = self.pipeline, self.device, self.dtype
        text, text_mask, lyrics, lyrics_mask = pipeline.encode_prompt(
            prompt=prompt.caption,
            lyrics=prompt.lyrics,
            device=device,
            vocal_language=prompt.vocal_language,
            audio_duration=prompt.duration_s,
            instruction=pipeline._get_task_instruction(TASK),
            bpm=prompt.bpm,
            keyscale=prompt.keyscale,
            timesignature=prompt.timesignature,
            max_text_length=MAX_TEXT_TOKENS,
            max_lyric_length=MAX_LYRIC_TOKENS,
        )
        encoder = pipeline.condition_encoder
        encoded, _ = encoder(
            text_hidden_states=text,
            text_attention_mask=text_mask,
            lyric_hidden_states=lyrics,
            lyric_attention_mask=lyrics_mask,
            refer_audio_acoustic_hidden_states_packed=encoder.silence_latent[
                :, : math.ceil(REFERENCE_S * self.frame_rate)
            ].to(device=device, dtype=dtype),
            refer_audio_order_mask=torch.zeros(1, device=device, dtype=torch.long),
        )
        source, _ = pipeline.prepare_src_latents(device=device, dtype=dtype, batch_size=1, latent_length=frames)
        mask = pipeline._build_chunk_mask(
            task_type=TASK, latent_length=frames, batch_size=1, device=device, dtype=dtype, acoustic_dim=self.channels
        )
        nothing = encoder.null_condition_emb.to(device=device, dtype=encoded.dtype).expand_as(encoded)
        repeated = (part.expand(batch_size, -1, -1) for part in (encoded, nothing, torch.cat([source, mask], dim=-1)))
        return _Conditions(*repeated)

    def _velocity(
        self, conditions: _Conditions, scale: float, interval: tuple[float, float], parent: Parent | None
    ) -> Velocity:
        def plain(x: Tensor, t: float) -> Tensor:
            return self._predict(x, t, conditions.prompt, conditions.context)

        # A distilled model has its guidance in its weights; guiding it again overdoes it.
        if self.is_turbo or scale <= 1:
            return plain

        both = torch.cat([conditions.prompt, conditions.nothing])
        context = torch.cat([conditions.context, conditions.context])

        def pair(x: Tensor, t: float) -> tuple[Tensor, Tensor]:
            with_prompt, without_prompt = self._predict(torch.cat([x, x]), t, both, context).chunk(2)
            return with_prompt, without_prompt

        momentum = parent.momentum if parent else None
        if momentum is not None:
            momentum = momentum.unsqueeze(0).to(self.device, self.dtype)
        return GuidedVelocity(plain, pair, scale=scale, interval=interval, momentum=momentum)

    def _predict(self, x: Tensor, t: float, encoded: Tensor, context: Tensor) -> Tensor:
        level = t * torch.ones(len(x), device=self.device, dtype=self.dtype)
        velocity: Tensor = self.pipeline.transformer(
            hidden_states=x,
            timestep=level,
            timestep_r=level,
            encoder_hidden_states=encoded,
            context_latents=context,
            return_dict=False,
        )[0]
        return velocity


class _Capture:
    """Keeps the state of a run as the loop passes the checkpoint's step."""

    def __init__(self, step: int | None, velocity: Velocity) -> None:
        self._step = step
        self._velocity = velocity
        self._latents: Tensor | None = None
        self._momentum: Tensor | None = None

    def watch(self, step: int, x: Tensor) -> None:
        # Both stay on the device: copying them now would make it wait.
        if step == self._step:
            self._latents = x
            self._momentum = self._velocity.momentum if isinstance(self._velocity, GuidedVelocity) else None

    def checkpoint(self, plan: Plan) -> Checkpoint | None:
        if self._step is None or self._latents is None:
            return None
        rest = plan.rest_from(self._step)
        momentum = None if self._momentum is None else _to_keep(self._momentum)
        return Checkpoint(_to_keep(self._latents), self._step, rest[0], rest, momentum)


class _Progress:
    """Reports steps that the device has finished.

    On CUDA the host runs ahead of the device. Waiting for each step would leave the device idle while the next one is
    prepared; so the host waits for the step before, at most once per step, with the current one already queued.
    """

    def __init__(self, on_step: OnStep | None, calls: int, device: torch.device) -> None:
        self._on_step = on_step
        self._calls = calls
        self._is_cuda = device.type == "cuda"
        self._running: tuple[int, torch.cuda.Event] | None = None

    def watch(self, step: int) -> None:
        """Hear that all work up to `step` has been given to the device."""
        if not self._on_step:
            return
        if not self._is_cuda or step == 0:
            self._on_step(step, self._calls)
            return
        done = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
        done.record()
        self.finish()
        self._running = (step, done)

    def finish(self) -> None:
        """Wait for the step that is still running, and report it."""
        if self._on_step and self._running:
            step, done = self._running
            self._running = None
            done.synchronize()
            self._on_step(step, self._calls)


_loaded: tuple[tuple[str, str, bool], MusicModel] | None = None


def loaded_model(source: str | Path, *, device: str = "auto", compile: bool = False) -> MusicModel:  # noqa: A002
    """Return the process's one model; asking for another lets go of the previous one first, as both might not fit."""
    global _loaded
    wanted = (str(source), device, compile)
    if _loaded is None or _loaded[0] != wanted:
        _loaded = None
        release_memory()
        _loaded = (wanted, MusicModel.load(source, device=device, compile=compile))
    return _loaded[1]


def best_device() -> str:
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _to_keep(x: Tensor) -> Tensor:
    """Bring a result to the CPU in float32, which holds every bfloat16 exactly."""
    return x.float().cpu()
