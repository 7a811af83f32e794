"""Noise, the denoising loop, and guidance: functions on tensors that know nothing of any particular model.

A velocity is any callable v(x, t) that returns dx/dt at noise level t, for x of shape [B, T, C].
"""

import hashlib
from collections.abc import Callable, Sequence

import torch
from diffusers.guiders.adaptive_projected_guidance import MomentumBuffer, normalized_guidance
from torch import Tensor

Velocity = Callable[[Tensor, float], Tensor]
VelocityPair = Callable[[Tensor, float], tuple[Tensor, Tensor]]


def starting_noise(seed: int, frames: int, channels: int) -> Tensor:
    """Draw noise [T, C], float32 on the CPU, so that a seed means the same on every device."""
    rng = torch.Generator("cpu").manual_seed(seed)
    return torch.randn(frames, channels, generator=rng)


def resume_seed(seed: int, parent_digest: str) -> int:
    """Derive the seed (63 bits) of a resume's noise from the take's seed and its parent.

    A take is usually resumed with its own seed, and clean latents mixed with the very noise they were made from flow
    straight back to themselves: the noise of a resume must be another one, and yet be reproducible.
    """
    digest = hashlib.sha256(f"resume {seed} {parent_digest}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def renoise(latents: Tensor, t: float, *, noise: Tensor) -> Tensor:
    """Mix noise into clean latents [..., T, C]: (1 - t) * x0 + t * noise, 0 <= t <= 1.

    Only for clean latents: a checkpoint already carries its noise. Source: Lipman et al. 2022, eq. 22.
    """
    return (1 - t) * latents + t * noise


def denoise(
    velocity: Velocity, x: Tensor, timesteps: Sequence[float], *, on_step: Callable[[int, Tensor], None] | None = None
) -> Tensor:
    """Follow the flow from noise level timesteps[0] down to 0 by Euler steps, one call of `velocity` each.

    `on_step(i, x)` sees x before call i, and at last with i = len(timesteps) the result. It stops the run by raising.
    Same bits as diffusers' FlowMatchEulerDiscreteScheduler: float32 levels, and sums in float32.
    """
    levels = torch.tensor([*timesteps, 0.0], dtype=torch.float32)
    steps = (levels[1:] - levels[:-1]).to(x.device)
    for i, t in enumerate(levels[:-1].tolist()):
        if on_step:
            on_step(i, x)
        v = velocity(x, t)
        x = (x.float() + steps[i] * v).to(v.dtype)
    if on_step:
        on_step(len(timesteps), x)
    return x


class GuidedVelocity:
    """A velocity pushed away from what the model would do without the prompt: adaptive projected guidance.

    `pair` returns the velocities with and without the prompt. Guidance acts while 1 - t lies within `interval`; outside
    of it `plain` is called. `momentum` [B, T, C] is the running average of the difference between the two, which a
    checkpoint must keep: None before the first guided step.
    Source: Sadat et al. 2024, with the constants of ACE-Step 1.5 as diffusers' AceStepPipeline has them.
    """

    def __init__(
        self,
        plain: Velocity,
        pair: VelocityPair,
        *,
        scale: float,
        interval: tuple[float, float] = (0.0, 1.0),
        momentum: Tensor | None = None,
    ) -> None:
        self.plain = plain
        self.pair = pair
        self.scale = scale
        self.interval = interval
        self._buffer = MomentumBuffer(momentum=-0.75)
        if momentum is not None:
            self._buffer.running_average = momentum

    def __call__(self, x: Tensor, t: float) -> Tensor:
        start, end = self.interval
        if not start <= 1 - t <= end:
            return self.plain(x, t)
        with_prompt, without_prompt = self.pair(x, t)
        guided: Tensor = normalized_guidance(
            with_prompt,
            without_prompt,
            guidance_scale=self.scale - 1,
            momentum_buffer=self._buffer,
            eta=0.0,
            norm_threshold=2.5,
            use_original_formulation=True,
            norm_dim=(1,),
        )
        return guided

    @property
    def momentum(self) -> Tensor | None:
        average = self._buffer.running_average
        return average if isinstance(average, Tensor) else None
