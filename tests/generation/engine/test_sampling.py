"""The loop on velocities that are known: what it must find, and the bits of diffusers' own scheduler."""

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers.guiders.adaptive_projected_guidance import MomentumBuffer, normalized_guidance
from torch import Tensor

from generation.engine.sampling import GuidedVelocity, denoise, renoise, resume_seed, starting_noise
from generation.engine.schedule import plan
from tests.generation.engine.conftest import random_latents

X0 = random_latents(50, 8, seed=0).unsqueeze(0)
NOISE = random_latents(50, 8, seed=1).unsqueeze(0)


def towards_x0(x: Tensor, t: float) -> Tensor:
    """The velocity of a model that knows what is under the noise."""
    return (x - X0) / t


def swirl(x: Tensor, t: float) -> Tensor:
    """A velocity without meaning that depends on everything."""
    return torch.sin(3 * x + t) + x.roll(1, dims=1)


@pytest.mark.parametrize("snap", [False, True])
@pytest.mark.parametrize("t_start", [round(0.05 * i, 2) for i in range(21)])
def test_velocity_that_knows_x0_is_denoised_to_x0_from_every_level(t_start: float, snap: bool) -> None:
    planned = plan(8, 3.0, t_start, snap)
    result = denoise(towards_x0, renoise(X0, planned.effective, noise=NOISE), planned.timesteps)
    torch.testing.assert_close(result, X0, atol=1e-5, rtol=0)


def test_no_levels_change_nothing() -> None:
    assert denoise(swirl, NOISE, ()) is NOISE


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("t_start", [1.0, 0.6])
def test_loop_has_the_bits_of_diffusers_scheduler(dtype: torch.dtype, t_start: float) -> None:
    timesteps = plan(20, 3.0, t_start).timesteps
    scheduler = FlowMatchEulerDiscreteScheduler(num_train_timesteps=1, shift=1.0)
    scheduler.set_timesteps(sigmas=list(timesteps))
    x = NOISE.to(dtype)
    for t in scheduler.timesteps:
        x = scheduler.step(swirl(x, float(t)), t, x, return_dict=False)[0]
    result = denoise(swirl, NOISE.to(dtype), timesteps)
    assert result.dtype == dtype
    assert torch.equal(result, x)


def test_on_step_sees_the_state_before_each_call_and_the_result() -> None:
    seen: list[tuple[int, Tensor]] = []
    timesteps = plan(4, 1.0).timesteps
    result = denoise(swirl, NOISE, timesteps, on_step=lambda step, x: seen.append((step, x)))
    assert [step for step, _ in seen] == [0, 1, 2, 3, 4]
    assert seen[0][1] is NOISE
    assert seen[-1][1] is result
    for step, x in seen:
        assert torch.equal(denoise(swirl, x, timesteps[step:]), result)


def test_renoise_is_the_straight_line_between_music_and_noise() -> None:
    assert torch.equal(renoise(X0, 0.0, noise=NOISE), X0)
    assert torch.equal(renoise(X0, 1.0, noise=NOISE), NOISE)
    torch.testing.assert_close(renoise(X0, 0.25, noise=NOISE), 0.75 * X0 + 0.25 * NOISE)


def test_noise_belongs_to_its_seed() -> None:
    assert torch.equal(starting_noise(7, 50, 8), starting_noise(7, 50, 8))
    assert not torch.equal(starting_noise(7, 50, 8), starting_noise(8, 50, 8))
    assert starting_noise(2**63 + 14, 50, 8).shape == (
        50,
        8,
    )  # the largest seed there is, last item of the largest batch


def test_noise_leaves_the_global_random_state_alone() -> None:
    before = torch.get_rng_state()
    starting_noise(7, 50, 8)
    assert torch.equal(torch.get_rng_state(), before)


def test_resume_seed_never_changes() -> None:
    # Stored takes are reproduced from it: another value here is a broken promise.
    assert resume_seed(7, "ab" * 32) == 95089269135600683
    assert 0 <= resume_seed(7, "ab" * 32) < 2**63


def test_resume_seed_depends_on_seed_and_parent() -> None:
    assert len({resume_seed(7, "a"), resume_seed(8, "a"), resume_seed(7, "b"), 7, 8}) == 5


class TestGuidedVelocity:
    timesteps = plan(8, 1.0).timesteps

    def pair(self, x: Tensor, t: float) -> tuple[Tensor, Tensor]:
        return swirl(x, t), torch.cos(x)

    def guided(self, momentum: Tensor | None = None, interval: tuple[float, float] = (0.0, 1.0)) -> GuidedVelocity:
        return GuidedVelocity(swirl, self.pair, scale=4.0, interval=interval, momentum=momentum)

    def test_is_ace_steps_adaptive_projected_guidance(self) -> None:
        buffer = MomentumBuffer(-0.75)
        guided = self.guided()
        for t in self.timesteps:
            expected = normalized_guidance(
                *self.pair(NOISE, t), 3.0, buffer, 0.0, 2.5, use_original_formulation=True, norm_dim=(1,)
            )
            assert torch.equal(guided(NOISE, t), expected)

    def test_momentum_carries_a_run_over_an_interruption(self) -> None:
        whole = denoise(self.guided(), NOISE, self.timesteps)
        first = self.guided()
        states: list[tuple[Tensor, Tensor | None]] = []
        denoise(first, NOISE, self.timesteps, on_step=lambda step, x: states.append((x, first.momentum)))
        for step, (x, momentum) in enumerate(states):
            assert torch.equal(denoise(self.guided(momentum), x, self.timesteps[step:]), whole)

    def test_forgetting_the_momentum_would_show(self) -> None:
        first = self.guided()
        states: list[Tensor] = []
        whole = denoise(first, NOISE, self.timesteps, on_step=lambda step, x: states.append(x))
        assert not torch.allclose(denoise(self.guided(), states[4], self.timesteps[4:]), whole, atol=1e-3)

    def test_no_momentum_before_the_first_guided_step(self) -> None:
        guided = self.guided(interval=(0.5, 1.0))
        assert torch.equal(guided(NOISE, 0.75), swirl(NOISE, 0.75))
        assert guided.momentum is None
        guided(NOISE, 0.5)
        assert guided.momentum is not None

    def test_momentum_rests_outside_the_interval(self) -> None:
        guided = self.guided(interval=(0.0, 0.5))
        guided(NOISE, 0.75)
        before = guided.momentum
        guided(NOISE, 0.25)
        assert guided.momentum is before
