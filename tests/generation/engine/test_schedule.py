"""Every rule of plan(): the full table of slider positions, and hypothesis for everything between them."""

from itertools import pairwise, product

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from generation.engine.schedule import Plan, PlanError, checkpoint_plan, plan, schedule

SLIDER = [round(0.05 * i, 2) for i in range(21)]
TABLE = list(product((1, 4, 8, 20, 50), (1.0, 2.0, 3.0), (False, True)))

steps = st.integers(1, 200)
shifts = st.floats(0.1, 10)
levels = st.floats(0, 1)


def can_resume(plan_steps: int, snap: bool) -> bool:
    return plan_steps > 1 or not snap


def check_rules(result: Plan) -> None:
    """Assert what holds for every plan, whatever was asked for."""
    if result.is_copy:
        assert result.effective == 0
        assert result.requested <= 1e-6
        return
    assert result.timesteps[0] == result.effective
    assert all(earlier > later for earlier, later in pairwise((*result.timesteps, 0.0)))
    assert result.model_calls <= result.steps
    whole = schedule(result.steps, result.shift)
    if result.is_full:
        assert result.timesteps == whole
        assert result.requested >= 1 - 1e-6
    else:
        assert result.timesteps[1:] == whole[len(whole) - len(result.timesteps) + 1 :]
        assert result.effective in whole[1:] if result.snap else result.effective == result.requested


def test_turbo_schedule_is_the_published_one() -> None:
    assert schedule(8, 3.0) == pytest.approx((1, 0.9545, 0.9, 0.8333, 0.75, 0.6429, 0.5, 0.3), abs=5e-5)


@pytest.mark.parametrize(("shift", "count"), list(product((0.1, 0.5, 1.0, 2.0, 3.0, 10.0), (1, 4, 8, 20, 50, 200))))
def test_schedule_agrees_with_the_float32_one_of_diffusers(shift: float, count: int) -> None:
    # Written out here rather than called: AceStepPipeline._get_timestep_schedule needs a whole pipeline.
    t = torch.linspace(1.0, 0.0, count + 1, dtype=torch.float32)
    expected = (shift * t / (1 + (shift - 1) * t))[:-1]
    assert schedule(count, shift) == pytest.approx(expected.tolist(), abs=1e-6)


@given(steps, shifts)
def test_schedule_starts_at_exactly_one_and_falls(count: int, shift: float) -> None:
    values = schedule(count, shift)
    assert len(values) == count
    assert values[0] == 1.0
    assert all(earlier > later for earlier, later in pairwise((*values, 0.0)))


@pytest.mark.parametrize(("count", "shift", "snap"), TABLE)
def test_every_slider_position_keeps_the_rules(count: int, shift: float, snap: bool) -> None:
    calls = []
    for t_start in SLIDER:
        if 0 < t_start < 1 and not can_resume(count, snap):
            with pytest.raises(PlanError, match="needs at least 2 steps"):
                plan(count, shift, t_start, snap)
            continue
        result = plan(count, shift, t_start, snap)
        check_rules(result)
        calls.append(result.model_calls)
    assert calls == sorted(calls)
    assert calls[0] == 0
    assert calls[-1] == count


@given(steps, shifts, levels, st.booleans())
def test_every_level_keeps_the_rules(count: int, shift: float, t_start: float, snap: bool) -> None:
    if 1e-6 < t_start < 1 - 1e-6 and not can_resume(count, snap):
        with pytest.raises(PlanError):
            plan(count, shift, t_start, snap)
    else:
        check_rules(plan(count, shift, t_start, snap))


@given(st.integers(2, 200), shifts, levels, levels, st.booleans())
def test_a_higher_level_never_runs_fewer_calls(count: int, shift: float, one: float, other: float, snap: bool) -> None:
    low, high = sorted((one, other))
    assert plan(count, shift, low, snap).model_calls <= plan(count, shift, high, snap).model_calls


@given(st.integers(2, 200), shifts, levels)
def test_snapping_finds_the_nearest_level(count: int, shift: float, t_start: float) -> None:
    result = plan(count, shift, t_start, snap=True)
    if not (result.is_copy or result.is_full):
        nearest = min(abs(t - t_start) for t in schedule(count, shift)[1:])
        assert abs(result.effective - t_start) <= nearest + 1e-6


@pytest.mark.parametrize(
    ("t_start", "timesteps"),
    [
        (0.95, (0.95, 0.9, 0.8333, 0.75, 0.6429, 0.5, 0.3)),  # between two levels: enters at the slider's own value
        (0.50, (0.5, 0.3)),  # on a level: that level once, not twice
        (0.50005, (0.50005, 0.3)),  # a hair above one: the hair is not worth a model call
        (0.5002, (0.5002, 0.5, 0.3)),  # more than a hair
        (0.10, (0.1,)),  # below the lowest: one call, never the whole schedule
    ],
)
def test_exact_models_enter_at_the_requested_level(t_start: float, timesteps: tuple[float, ...]) -> None:
    assert plan(8, 3.0, t_start).timesteps == pytest.approx(timesteps, abs=5e-5)


@pytest.mark.parametrize(
    ("t_start", "effective", "calls"),
    [
        (0.97, 0.9545, 7),  # 1 is no level to resume from, however near
        (0.95, 0.9545, 7),  # nearest may lie above
        (0.45, 0.5, 2),
        (0.40, 0.3, 1),  # a tie goes to the lower, which keeps more of the music
        (0.4000004, 0.3, 1),  # a tie but for rounding
        (0.05, 0.3, 1),  # below the lowest: that one
    ],
)
def test_turbo_snaps_to_a_level_it_was_distilled_at(t_start: float, effective: float, calls: int) -> None:
    result = plan(8, 3.0, t_start, snap=True)
    assert result.effective == pytest.approx(effective, abs=5e-5)
    assert result.model_calls == calls
    assert result.requested == t_start


@pytest.mark.parametrize("t_start", [float("nan"), float("inf"), -0.01, 1.01])
def test_a_level_outside_zero_to_one_is_refused(t_start: float) -> None:
    with pytest.raises(PlanError, match="between 0 and 1"):
        plan(8, 3.0, t_start)


@pytest.mark.parametrize(("count", "shift"), [(0, 1.0), (8, 0.0), (8, float("nan")), (8, float("inf"))])
def test_a_schedule_that_makes_no_sense_is_refused(count: int, shift: float) -> None:
    with pytest.raises(PlanError):
        schedule(count, shift)


def test_rest_of_a_run_begins_at_the_checkpoint() -> None:
    assert plan(4, 1.0).rest_from(1) == (0.75, 0.5, 0.25)


@pytest.mark.parametrize("checkpoint_step", [-1, 0, 4, 5])
def test_checkpoint_outside_the_run_is_refused(checkpoint_step: int) -> None:
    with pytest.raises(PlanError, match="1 to 3"):
        plan(4, 1.0).rest_from(checkpoint_step)


def test_a_run_of_one_call_has_no_checkpoint() -> None:
    with pytest.raises(PlanError, match="at least 2 model calls"):
        plan(4, 1.0, 0.2).rest_from(1)


class TestCheckpointPlan:
    rest = plan(8, 3.0).rest_from(5)

    def continued(self, count: int = 8, shift: float = 3.0, t_start: float | None = None) -> Plan:
        return checkpoint_plan(count, shift, t_start, rest=self.rest, ran_steps=8, ran_shift=3.0)

    def test_unchanged_run_continues_on_the_stored_levels(self) -> None:
        result = self.continued()
        assert result.timesteps == self.rest
        assert result.requested == result.effective == self.rest[0]

    def test_its_own_level_may_be_named(self) -> None:
        result = self.continued(t_start=0.643)
        assert result.timesteps == self.rest
        assert result.requested == 0.643

    @pytest.mark.parametrize("t_start", [0.0, 0.5, 0.65, float("nan")])
    def test_another_level_is_refused_with_the_right_one(self, t_start: float) -> None:
        with pytest.raises(PlanError, match=r"a checkpoint starts at 0\.643"):
            self.continued(t_start=t_start)

    def test_an_explicit_one_ignores_the_checkpoint(self) -> None:
        assert self.continued(t_start=1.0) == plan(8, 3.0)

    def test_changed_steps_run_the_new_schedule_from_its_level(self) -> None:
        result = self.continued(count=20, shift=1.0)
        assert result.timesteps == plan(20, 1.0, self.rest[0]).timesteps
        assert result.effective == self.rest[0]

    def test_a_resumed_run_continues_too(self) -> None:
        rest = plan(8, 3.0, t_start=0.8).rest_from(2)
        assert checkpoint_plan(8, 3.0, None, rest=rest, ran_steps=8, ran_shift=3.0).timesteps == rest
