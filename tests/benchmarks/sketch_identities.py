"""The engine's promises of equal bits, checked on the bundled model on any device; the tests check them on the CPU."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import generation.sketch
from generation.engine.music_model import Denoised, MusicModel, Parent, Prompt
from generation.engine.sampling import renoise, resume_seed, starting_noise
from generation.engine.schedule import Plan, checkpoint_plan, plan

# generation.variants knows this folder too, but needs Django.
WEIGHTS = Path(generation.sketch.__file__).parent / "weights"
WHOLE = plan(8, 1.0)
SEED = 7


class SketchIdentities:
    def __init__(self, device: torch.device, *, duration_s: float) -> None:
        self.prompt = Prompt("warm lofi, piano and drums", "[Instrumental]", "en", 96, "C major", "4", duration_s)
        self.model = MusicModel.load(WEIGHTS, device=str(device))
        self.model.pipeline.set_progress_bar_config(disable=True)
        self.frames = round(duration_s * self.model.frame_rate)

    def check(self) -> Iterator[tuple[str, bool]]:
        """Yield each promise and whether it is kept."""
        for guidance in (1.0, 4.0):
            name = "guided" if guidance > 1 else "unguided"
            whole = self._run(WHOLE, guidance, checkpoint_step=5)
            noise = starting_noise(SEED, self.frames, self.model.channels)
            yield f"{name}: same bits as AceStepPipeline.__call__", self._is_pipelines(whole, noise, WHOLE, guidance)
            yield f"{name}: resume has the pipeline's bits too", self._resume_is_pipelines(whole, guidance)
            yield f"{name}: checkpoint and continue is the whole run", self._continues(whole, guidance)
            parent = Parent(whole.latents[0], "digest")
            at_one = self._run(plan(WHOLE.steps, WHOLE.shift, 1.0), guidance, parent=parent)
            yield f"{name}: resume at 1.0 is a plain run", torch.equal(at_one.latents, whole.latents)
            at_zero = self._run(plan(WHOLE.steps, WHOLE.shift, 0.0), guidance, parent=parent)
            yield f"{name}: resume at 0.0 is the parent", torch.equal(at_zero.latents, whole.latents)

    def _run(self, planned: Plan, guidance: float, **options: Any) -> Denoised:
        return self.model.denoise(
            self.prompt,
            planned,
            frames=self.frames,
            seed=SEED,
            guidance_scale=guidance,
            on_step=lambda *_: None,
            **options,
        )

    def _is_pipelines(self, result: Denoised, x: Tensor, planned: Plan, guidance: float) -> bool:
        expected = self.model.pipeline(
            self.prompt.caption,
            self.prompt.lyrics,
            audio_duration=self.prompt.duration_s,
            vocal_language=self.prompt.vocal_language,
            bpm=self.prompt.bpm,
            keyscale=self.prompt.keyscale,
            timesignature=self.prompt.timesignature,
            guidance_scale=guidance,
            latents=x.unsqueeze(0),
            timesteps=planned.timesteps,
            output_type="latent",
            return_dict=False,
        )[0]
        return torch.equal(result.latents, expected.float().cpu())

    def _resume_is_pipelines(self, whole: Denoised, guidance: float) -> bool:
        planned = plan(WHOLE.steps, WHOLE.shift, 0.6)
        parent = Parent(whole.latents[0], "digest")
        noise = starting_noise(resume_seed(SEED, parent.digest), self.frames, self.model.channels)
        x = renoise(parent.latents, planned.effective, noise=noise)
        return self._is_pipelines(self._run(planned, guidance, parent=parent), x, planned, guidance)

    def _continues(self, whole: Denoised, guidance: float) -> bool:
        kept = whole.checkpoint
        assert kept is not None
        momentum = None if kept.momentum is None else kept.momentum[0]
        parent = Parent(kept.latents[0], "digest", momentum, is_checkpoint=True)
        planned = checkpoint_plan(
            WHOLE.steps, WHOLE.shift, None, rest=kept.timesteps, ran_steps=WHOLE.steps, ran_shift=WHOLE.shift
        )
        return torch.equal(self._run(planned, guidance, parent=parent).latents, whole.latents)
