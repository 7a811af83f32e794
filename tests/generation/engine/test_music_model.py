"""What resuming promises, on every kind of model: equal bits where they are promised, and real changes elsewhere."""

import random
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from generation.engine import music_model
from generation.engine.music_model import Cancelled, Checkpoint, Denoised, MusicModel, Parent, loaded_model
from generation.engine.sampling import renoise, resume_seed, starting_noise
from generation.engine.schedule import Plan, PlanError, checkpoint_plan, plan
from tests.generation.engine.conftest import GUIDED, PROMPT, SKETCH, LoadedModel, random_latents

WHOLE = plan(8, 3.0)
SEED = 7


def run(model: LoadedModel, planned: Plan = WHOLE, **options: Any) -> Denoised:
    settings = {"prompt": PROMPT, "frames": model.frames, "seed": SEED, "guidance_scale": 4.0} | options
    return model.music.denoise(plan=planned, **settings)


def parent_of(result: Tensor | Denoised, index: int = 0) -> Parent:
    latents = result.latents if isinstance(result, Denoised) else result
    return Parent(latents[index], digest=f"digest {index}")


def checkpoint_of(result: Denoised, index: int = 0) -> Parent:
    assert result.checkpoint
    momentum = result.checkpoint.momentum
    return Parent(
        result.checkpoint.latents[index],
        digest="unused",
        momentum=None if momentum is None else momentum[index],
        is_checkpoint=True,
    )


def continued(checkpoint: Checkpoint, ran: Plan, steps: int = 8, shift: float = 3.0) -> Plan:
    return checkpoint_plan(steps, shift, None, rest=checkpoint.timesteps, ran_steps=ran.steps, ran_shift=ran.shift)


def distance(one: Tensor, other: Tensor) -> float:
    return float((one - other).pow(2).mean().sqrt())


class TestSameAsDiffusers:
    @pytest.mark.parametrize("guidance_scale", [1.0, 4.0])
    def test_whole_run_has_the_pipelines_bits(self, model: LoadedModel, guidance_scale: float) -> None:
        noise = starting_noise(SEED, model.frames, model.music.channels).unsqueeze(0)
        expected = model.pipeline_latents(noise, WHOLE.timesteps, guidance_scale=guidance_scale)
        assert torch.equal(run(model, guidance_scale=guidance_scale).latents, expected)

    @pytest.mark.parametrize("guidance_scale", [1.0, 4.0])
    def test_resume_has_the_pipelines_bits(self, model: LoadedModel, guidance_scale: float) -> None:
        parent = Parent(random_latents(model.frames, model.music.channels), "digest")
        planned = plan(8, 3.0, 0.6, snap=model.music.is_turbo)
        noise = starting_noise(resume_seed(SEED, parent.digest), model.frames, model.music.channels)
        x = renoise(parent.latents, planned.effective, noise=noise).unsqueeze(0)
        expected = model.pipeline_latents(x, planned.timesteps, guidance_scale=guidance_scale)
        assert torch.equal(run(model, planned, guidance_scale=guidance_scale, parent=parent).latents, expected)

    def test_pipelines_own_schedule_gives_the_same_music(self, model: LoadedModel) -> None:
        noise = starting_noise(SEED, model.frames, model.music.channels).unsqueeze(0)
        pipelines_own = model.pipeline_latents(noise, None, num_inference_steps=8, shift=3.0, guidance_scale=4.0)
        torch.testing.assert_close(run(model).latents, pipelines_own, atol=1e-4, rtol=1e-4)

    @pytest.mark.parametrize("model", GUIDED, indirect=True)
    @pytest.mark.parametrize("interval", [(0.0, 0.3), (0.2, 0.6), (0.5, 1.0)])
    def test_guidance_interval_has_the_pipelines_bits(self, model: LoadedModel, interval: tuple[float, float]) -> None:
        noise = starting_noise(SEED, model.frames, model.music.channels).unsqueeze(0)
        start, end = interval
        expected = model.pipeline_latents(
            noise, WHOLE.timesteps, guidance_scale=4.0, cfg_interval_start=start, cfg_interval_end=end
        )
        assert torch.equal(run(model, cfg_interval=interval).latents, expected)

    def test_batch_agrees_with_the_pipelines(self, model: LoadedModel) -> None:
        noise = torch.stack([starting_noise(SEED + i, model.frames, model.music.channels) for i in range(3)])
        expected = model.pipeline_latents(noise, WHOLE.timesteps, guidance_scale=4.0)
        torch.testing.assert_close(run(model, batch_size=3).latents, expected, atol=1e-4, rtol=0)


class TestResume:
    def test_at_one_has_the_bits_of_a_run_without_parent(self, model: LoadedModel) -> None:
        parent = Parent(random_latents(model.frames, model.music.channels), "digest", torch.ones(1), True)
        assert torch.equal(run(model, plan(8, 3.0, 1.0), parent=parent).latents, run(model).latents)

    def test_at_zero_has_the_bits_of_the_parent_and_calls_no_model(self, model: LoadedModel) -> None:
        parent = Parent(random_latents(model.frames, model.music.channels), "digest")
        steps: list[int] = []
        result = run(model, plan(8, 3.0, 0.0), parent=parent, on_step=lambda step, calls: steps.append(step))
        assert torch.equal(result.latents, parent.latents.unsqueeze(0))
        assert steps == []

    def test_is_reproducible(self, model: LoadedModel) -> None:
        parent = parent_of(run(model))
        planned = plan(8, 3.0, 0.5, snap=model.music.is_turbo)
        assert torch.equal(run(model, planned, parent=parent).latents, run(model, planned, parent=parent).latents)

    def test_each_copy_gets_its_own_noise(self, model: LoadedModel) -> None:
        result = run(model, plan(8, 3.0, 0.5), parent=parent_of(run(model)), batch_size=3).latents
        assert min(distance(result[0], result[1]), distance(result[1], result[2])) > 0.01

    @pytest.mark.parametrize("model", SKETCH, indirect=True)
    def test_with_the_parents_own_seed_is_a_real_variation(self, model: LoadedModel) -> None:
        takes = run(model, plan(12, 1.0), batch_size=3, guidance_scale=2.0).latents
        between_takes = np.mean([distance(takes[i], takes[j]) for i, j in combinations(range(3), 2)])

        def share_moved(t_start: float) -> float:
            """Return how far takes move from themselves, as a share of the distance between two takes."""
            moved = []
            for index, take in enumerate(takes):
                resumed = run(
                    model, plan(12, 1.0, t_start), parent=parent_of(takes, index), seed=SEED + index, guidance_scale=2.0
                )
                moved.append(distance(resumed.latents[0], take))
            return float(np.mean(moved) / between_takes)

        shares = [share_moved(t_start) for t_start in (0.2, 0.5, 0.8)]
        assert shares == sorted(shares)
        assert 0.2 <= shares[1] <= 0.7

    def test_needs_a_parent(self, load: Callable[[str], LoadedModel]) -> None:
        with pytest.raises(ValueError, match="needs a parent"):
            run(load("base"), plan(8, 3.0, 0.5))

    def test_refuses_latents_of_another_shape(self, load: Callable[[str], LoadedModel]) -> None:
        with pytest.raises(ValueError, match="Expected latents of 75 x 8, found"):
            run(load("base"), plan(8, 3.0, 0.5), parent=Parent(random_latents(75, 7), "digest"))

    def test_refuses_copies_that_would_be_the_same(self, load: Callable[[str], LoadedModel]) -> None:
        parent = Parent(random_latents(75, 8), "digest")
        with pytest.raises(ValueError, match="every copy would be the same"):
            run(load("base"), plan(8, 3.0, 0.0), parent=parent, batch_size=2)
        with pytest.raises(ValueError, match="every copy would be the same"):
            run(load("base"), plan(8, 3.0, 0.5), parent=replace(parent, is_checkpoint=True), batch_size=2)


class TestCheckpoint:
    @pytest.mark.parametrize("guidance_scale", [1.0, 4.0])
    @pytest.mark.parametrize("step", [1, 4, 7])
    def test_continued_has_the_bits_of_the_uninterrupted_run(
        self, model: LoadedModel, step: int, guidance_scale: float
    ) -> None:
        whole = run(model, checkpoint_step=step, guidance_scale=guidance_scale)
        assert whole.checkpoint
        assert (whole.checkpoint.step, whole.checkpoint.level) == (step, WHOLE.timesteps[step])
        planned = continued(whole.checkpoint, WHOLE)
        result = run(model, planned, parent=checkpoint_of(whole), guidance_scale=guidance_scale)
        assert torch.equal(result.latents, whole.latents)

    def test_taking_one_changes_nothing(self, model: LoadedModel) -> None:
        assert torch.equal(run(model, checkpoint_step=4).latents, run(model).latents)

    def test_of_a_resumed_run_continues_too(self, model: LoadedModel) -> None:
        planned = plan(8, 3.0, 0.8, snap=model.music.is_turbo)
        resumed = run(model, planned, parent=parent_of(run(model)), checkpoint_step=2)
        assert resumed.checkpoint
        result = run(model, continued(resumed.checkpoint, planned), parent=checkpoint_of(resumed))
        assert torch.equal(result.latents, resumed.latents)

    def test_before_guidance_sets_in_continues_too(self, load: Callable[[str], LoadedModel]) -> None:
        model = load("base")
        late = run(model, checkpoint_step=2, cfg_interval=(0.5, 1.0))
        assert late.checkpoint
        assert late.checkpoint.momentum is None
        planned = continued(late.checkpoint, WHOLE)
        result = run(model, planned, parent=checkpoint_of(late), cfg_interval=(0.5, 1.0))
        assert torch.equal(result.latents, late.latents)

    def test_item_of_a_larger_batch_continues_alone(self, model: LoadedModel) -> None:
        whole = run(model, batch_size=3, checkpoint_step=4)
        assert whole.checkpoint
        result = run(model, continued(whole.checkpoint, WHOLE), parent=checkpoint_of(whole, 2))
        torch.testing.assert_close(result.latents[0], whole.latents[2], atol=1e-4, rtol=0)

    def test_may_be_followed_by_another(self, model: LoadedModel) -> None:
        first = run(model, checkpoint_step=2)
        assert first.checkpoint
        planned = continued(first.checkpoint, WHOLE)
        second = run(model, planned, parent=checkpoint_of(first), checkpoint_step=3)
        assert second.checkpoint
        assert second.checkpoint.level == WHOLE.timesteps[5]
        result = run(model, continued(second.checkpoint, WHOLE), parent=checkpoint_of(second))
        assert torch.equal(result.latents, first.latents)

    @pytest.mark.parametrize("model", GUIDED, indirect=True)
    @pytest.mark.parametrize(
        "change", [{"prompt": replace(PROMPT, caption="calm techno")}, {"guidance_scale": 2.0}, {"guidance_scale": 1.0}]
    )
    def test_changed_prompt_or_guidance_branches(self, model: LoadedModel, change: dict[str, Any]) -> None:
        whole = run(model, checkpoint_step=4)
        assert whole.checkpoint
        result = run(model, continued(whole.checkpoint, WHOLE), parent=checkpoint_of(whole), **change)
        assert not torch.equal(result.latents, whole.latents)

    def test_changed_steps_run_the_new_schedule_from_its_level(self, model: LoadedModel) -> None:
        whole = run(model, checkpoint_step=4)
        assert whole.checkpoint
        planned = continued(whole.checkpoint, WHOLE, steps=20)
        assert planned.timesteps == plan(20, 3.0, whole.checkpoint.level).timesteps
        steps: list[tuple[int, int]] = []
        run(model, planned, parent=checkpoint_of(whole), on_step=lambda step, calls: steps.append((step, calls)))
        assert steps[-1] == (planned.model_calls, planned.model_calls)

    @pytest.mark.parametrize("step", [0, 8])
    def test_outside_the_run_is_refused_before_anything_runs(self, model: LoadedModel, step: int) -> None:
        steps: list[int] = []
        with pytest.raises(PlanError, match="1 to 7"):
            run(model, checkpoint_step=step, on_step=lambda step, calls: steps.append(step))
        assert steps == []


class TestBatch:
    def test_of_four_is_four_of_one(self, model: LoadedModel) -> None:
        batch = run(model, batch_size=4).latents
        for index, item in enumerate(batch):
            torch.testing.assert_close(item, run(model, seed=SEED + index).latents[0], atol=1e-4, rtol=0)

    def test_resume_of_four_is_four_of_one(self, model: LoadedModel) -> None:
        parent = parent_of(run(model))
        planned = plan(8, 3.0, 0.5, snap=model.music.is_turbo)
        batch = run(model, planned, parent=parent, batch_size=4).latents
        for index, item in enumerate(batch):
            alone = run(model, planned, parent=parent, seed=SEED + index).latents[0]
            torch.testing.assert_close(item, alone, atol=1e-4, rtol=0)


class TestRun:
    def test_result_is_finite_and_float32(self, model: LoadedModel) -> None:
        latents = run(model, batch_size=2).latents
        assert latents.shape == (2, model.frames, model.music.channels)
        assert latents.dtype == torch.float32
        assert latents.isfinite().all()

    @pytest.mark.parametrize("model", ["turbo"], indirect=True)
    def test_turbo_is_never_guided(self, model: LoadedModel) -> None:
        assert torch.equal(run(model, guidance_scale=7.0).latents, run(model, guidance_scale=1.0).latents)

    def test_prompt_is_heard(self, model: LoadedModel) -> None:
        other = run(model, prompt=replace(PROMPT, caption="calm techno"))
        assert distance(other.latents, run(model).latents) > 1e-3

    def test_every_step_is_reported(self, model: LoadedModel) -> None:
        steps: list[tuple[int, int]] = []
        run(model, on_step=lambda step, calls: steps.append((step, calls)))
        assert steps == [(step, 8) for step in range(9)]

    def test_cancel_stops_before_the_next_model_call(self, load: Callable[[str], LoadedModel]) -> None:
        model = load("base")
        calls: list[int] = []
        handle = model.music.pipeline.transformer.register_forward_hook(lambda *_: calls.append(1))

        def cancel(step: int, _: int) -> None:
            if step == 3:
                raise Cancelled

        with pytest.raises(Cancelled):
            run(model, on_step=cancel)
        handle.remove()
        assert len(calls) == 3

    def test_no_global_random_state_is_touched(
        self, load: Callable[[str], LoadedModel], tiny_model: Callable[[str], Path]
    ) -> None:
        before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()  # type: ignore[union-attr]
        model = LoadedModel(MusicModel.load(tiny_model("base"), device="cpu"))
        first = run(model, batch_size=2)
        model.music.decode(run(model, plan(8, 3.0, 0.5), parent=parent_of(first)).latents)
        assert torch.equal(torch.get_rng_state(), before[0])
        assert random.getstate() == before[1]
        assert np.array_equal(np.random.get_state()[1], before[2])  # type: ignore[arg-type]


class TestProgressOnCuda:
    """The order of host and device, with events that only write down what is asked of them."""

    def test_host_waits_one_step_behind(self, monkeypatch: pytest.MonkeyPatch) -> None:
        log: list[str] = []

        class Event:
            def __init__(self, blocking: bool) -> None:
                self.number = sum(entry.startswith("queued") for entry in log) + 1

            def record(self) -> None:
                log.append(f"queued {self.number}")

            def synchronize(self) -> None:
                log.append(f"waited {self.number}")

        monkeypatch.setattr(torch.cuda, "Event", Event)
        progress = music_model._Progress(lambda step, _: log.append(f"report {step}"), 3, torch.device("cuda"))
        for step in range(4):
            progress.watch(step)
        progress.finish()
        assert log == [
            "report 0",
            "queued 1",
            *("queued 2", "waited 1", "report 1"),
            *("queued 3", "waited 2", "report 2"),
            *("waited 3", "report 3"),
        ]

    @pytest.mark.parametrize("guidance_scale", [1.0, 4.0])
    def test_loop_asks_the_device_for_nothing(self, model: LoadedModel, guidance_scale: float) -> None:
        """Operations that read a value back, or bring one over, would make the host wait for the device."""
        asked: list[str] = []

        class Watch(TorchDispatchMode):
            def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
                name = operation.overloadpacket.__name__
                if name in ("_local_scalar_dense", "equal", "index", "nonzero", "masked_select", "lift_fresh"):
                    asked.append(name)
                return operation(*args, **(kwargs or {}))

        watch = Watch()

        def on_step(step: int, calls: int) -> None:
            if step == 0:
                watch.__enter__()
            elif step == calls:
                watch.__exit__(None, None, None)

        run(model, guidance_scale=guidance_scale, on_step=on_step, checkpoint_step=4)
        assert asked == []


class TestLoading:
    def test_knows_its_shape(self, model: LoadedModel) -> None:
        music = model.music
        assert music.channels == music.pipeline.transformer.config.audio_acoustic_hidden_dim
        assert music.sample_rate == 48000
        assert music.frame_rate in (20, 25)

    def test_says_what_its_bits_depend_on(self, model: LoadedModel) -> None:
        assert model.music.runtime == {
            "device": "cpu",
            "dtype": "float32",
            "threads": torch.get_num_threads(),
            "compile": False,
            "torch": torch.__version__,
            "diffusers": music_model.diffusers.__version__,
        }

    def test_process_keeps_one_model(self, tiny_model: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(music_model, "_loaded", None)
        base = loaded_model(tiny_model("base"), device="cpu")
        assert loaded_model(str(tiny_model("base")), device="cpu") is base
        turbo = loaded_model(tiny_model("turbo"), device="cpu")
        assert turbo.is_turbo
        assert loaded_model(tiny_model("base"), device="cpu") is not base

    def test_transformer_is_compiled_when_asked(
        self, tiny_model: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        compiled: list[str] = []
        monkeypatch.setattr(torch.nn.Module, "compile", lambda module: compiled.append(type(module).__name__))
        model = MusicModel.load(tiny_model("base"), device="cpu", compile=True)
        assert compiled == ["AceStepTransformer1DModel"]
        assert model.runtime["compile"] is True

    def test_missing_weights_are_never_fetched(self) -> None:
        with pytest.raises(OSError, match="cache"):
            MusicModel.load("reprise-tests/no-such-model", device="cpu")
