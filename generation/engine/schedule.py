"""Which noise levels a run visits: the whole theory of resuming, in plain Python.

Noise is measured by the timestep t: 1 is pure noise, 0 is clean music. A run of N steps calls the model at N falling
levels, its schedule; the last call lands on 0. Resuming at a level enters the schedule part way: stored music is mixed
with noise up to that level, and only the rest of the schedule is run. One function, plan(), decides all of it, so that
the form shows, the worker runs and the record keeps the same numbers.

    >>> plan(steps=4, shift=1.0, t_start=0.6).timesteps               # enters at exactly 0.6
    (0.6, 0.5, 0.25)
    >>> plan(steps=4, shift=1.0, t_start=0.6, snap=True).timesteps    # moves to the nearest level of the schedule
    (0.5, 0.25)
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

# Levels this near to 0 or 1, and ties this near between two levels, are equal: a slider's 0.95 is not 0.9500000001.
LEVEL_TOLERANCE = 1e-6
# A schedule value this close below the entry level is skipped: that step would cost a model call and change nothing.
SMALLEST_FIRST_STEP = 1e-4
# Levels travel through JSON and URLs with three decimals; a checkpoint's own level is recognised at that precision.
CHECKPOINT_LEVEL_TOLERANCE = 1e-3


class PlanError(ValueError):
    """No run fits the request; the message is meant for the person who asked."""


@dataclass(frozen=True)
class Plan:
    """What will run: the model is called once at each of `timesteps`, and the last call lands on 0.

    `requested` is the level that was asked for, `effective` the one the run starts from (0 where nothing runs).
    """

    requested: float
    effective: float
    timesteps: tuple[float, ...]
    steps: int
    shift: float
    snap: bool

    @property
    def model_calls(self) -> int:
        return len(self.timesteps)

    @property
    def is_full(self) -> bool:
        """The run starts from pure noise and needs no latents."""
        return self.effective == 1.0

    @property
    def is_copy(self) -> bool:
        """Nothing runs: the result is the parent, bit for bit."""
        return not self.timesteps

    def rest_from(self, checkpoint_step: int) -> tuple[float, ...]:
        """Return the levels that remain when a run stops before model call `checkpoint_step` (0 < step < calls)."""
        if self.model_calls < 2:
            raise PlanError(f"A checkpoint needs at least 2 model calls, this run makes {self.model_calls}")
        if not 0 < checkpoint_step < self.model_calls:
            raise PlanError(f"Checkpoint step must be 1 to {self.model_calls - 1} here, not {checkpoint_step}")
        return self.timesteps[checkpoint_step:]


def schedule(steps: int, shift: float) -> tuple[float, ...]:
    """Return the falling levels of a whole run: `steps` values from 1, without the final 0.

    Evenly spaced, then moved towards noise by t -> s * t / (1 + (s - 1) * t). Source: Esser et al. 2024, eq. 23.
    """
    if steps < 1:
        raise PlanError(f"Steps must be at least 1, not {steps}")
    if not (math.isfinite(shift) and shift > 0):
        raise PlanError(f"Shift must be a positive number, not {shift}")
    even = ((steps - i) / steps for i in range(steps))
    # The denominator is 1 + (s - 1) * t, written so that t = 1 stays exactly 1 for every shift.
    return tuple(shift * t / (shift * t + (1 - t)) for t in even)


def plan(steps: int, shift: float, t_start: float = 1.0, snap: bool = False) -> Plan:
    """Plan a run that starts at noise level `t_start` (0 to 1).

    `snap` is for models distilled at the levels of their schedule (turbo): the start moves to the nearest of them.
    Others start at exactly `t_start`. At 1 any stored latents are ignored, at 0 they are returned as they are.
    """
    levels = schedule(steps, shift)
    if not 0 <= t_start <= 1:
        raise PlanError(f"Denoise must be between 0 and 1, not {t_start}")
    if t_start >= 1 - LEVEL_TOLERANCE:
        return Plan(t_start, 1.0, levels, steps, shift, snap)
    if t_start <= LEVEL_TOLERANCE:
        return Plan(t_start, 0.0, (), steps, shift, snap)
    timesteps = _tail_snapped(levels, t_start) if snap else _tail_exact(levels, t_start)
    return Plan(t_start, timesteps[0], timesteps, steps, shift, snap)


def checkpoint_plan(
    steps: int, shift: float, t_start: float | None, *, rest: Sequence[float], ran_steps: int, ran_shift: float
) -> Plan:
    """Plan the continuation of a checkpoint, whose run of `ran_steps` at `ran_shift` had the levels `rest` left.

    A checkpoint already carries its noise, so it can only start at its own level, `rest[0]`: `t_start` is None, that
    level, or 1 to ignore the checkpoint. The same steps and shift run the very levels that were left; others run the
    new schedule from that level down.
    """
    level = rest[0]
    if t_start is not None and t_start >= 1 - LEVEL_TOLERANCE:
        return plan(steps, shift, t_start)
    if t_start is not None and not abs(t_start - level) <= CHECKPOINT_LEVEL_TOLERANCE:
        raise PlanError(f"Denoise cannot be {t_start:.3f} here: a checkpoint starts at {level:.3f}")
    requested = level if t_start is None else t_start
    same_schedule = steps == ran_steps and shift == ran_shift
    timesteps = tuple(rest) if same_schedule else plan(steps, shift, level).timesteps
    return Plan(requested, level, timesteps, steps, shift, snap=False)


def _tail_exact(levels: tuple[float, ...], t_start: float) -> tuple[float, ...]:
    return (t_start, *(t for t in levels if t < t_start - SMALLEST_FIRST_STEP))


def _tail_snapped(levels: tuple[float, ...], t_start: float) -> tuple[float, ...]:
    below_one = levels[1:]
    if not below_one:
        raise PlanError("Resuming with this model needs at least 2 steps")
    distance = min(abs(t - t_start) for t in below_one)
    t0 = min(t for t in below_one if abs(t - t_start) <= distance + LEVEL_TOLERANCE)
    return levels[levels.index(t0) :]
