"""The GPU benchmark works wherever a checkout and the model libraries are; its figures need a GPU."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from generation.engine.music_model import MusicModel
from tests.benchmarks import gpu
from tests.benchmarks.acestep_shapes import SHAPES, build
from tests.benchmarks.floors import Rates, _pairs, count_work

CHECKOUT = Path(__file__).parents[3]
# What the web application needs and a bare GPU machine lacks.
MISSING = ["django", "django_q", "dj_database_url", "soundfile", "pyloudnorm", "whitenoise", "pytest"]


def test_runs_at_toy_size_with_nothing_but_the_model_libraries() -> None:
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({MISSING}))\n"
        "from tests.benchmarks import gpu; sys.exit(gpu.command(['--toy', '--device', 'cpu']))"
    )
    bench = subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT, capture_output=True, text=True)
    assert bench.returncode == 0, bench.stderr
    lines = bench.stdout.splitlines()
    summary = json.loads(lines[-1])
    assert len(summary["rows"]) == 2
    assert all(summary["identities"].values())
    assert summary["left_out"] == summary["missed"] == []
    assert lines[-2].count("|") == len(gpu.HEADINGS) + 1


def test_full_size_is_refused_without_cuda(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refusal:
        gpu.command(["--device", "cpu"])
    assert refusal.value.code == 2
    assert "needs a CUDA device" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("shape", "parameters"),
    [("turbo", 1.57e9), ("xl", 4.17e9)],
    ids=["turbo: 2B with its encoders", "xl: published as 4B"],
)
def test_shapes_are_as_large_as_the_real_models(shape: str, parameters: float) -> None:
    pipeline = build(SHAPES[shape], torch.device("meta"), torch.bfloat16)
    assert sum(p.numel() for p in pipeline.transformer.parameters()) == pytest.approx(parameters, rel=0.01)
    assert pipeline.latents_per_second == 25
    assert {p.dtype for p in pipeline.transformer.parameters()} == {torch.bfloat16}


def test_counted_work_is_what_torch_counts() -> None:
    model = MusicModel(build(SHAPES["toy"], torch.device("cpu"), torch.float32))
    bench = gpu.Bench(model, Rates(1, 1), deadline_s=0)
    inputs = bench._call_inputs(gpu.Case(2, 2))
    # 50 frames are 25 positions: none lies outside of the window, so that all implementations compute the same pairs.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        bench.model.pipeline.transformer(**inputs)
    assert count_work(bench.model.pipeline.transformer, inputs).flops == counter.get_total_flops()


@pytest.mark.parametrize("window", [0, 1, 3, 9, 10, 50, None])
def test_pairs_within_a_window_are_counted(window: int | None) -> None:
    reach = 10 if window is None else window
    assert _pairs(10, window) == sum(abs(i - j) <= reach for i in range(10) for j in range(10))
