"""What ACE-Step 1.5 costs on this GPU, at full size with random weights: `python -m tests.benchmarks.gpu`.

It needs torch, diffusers, transformers, safetensors, numpy and a checkout: no Django, no download, no network. With
`--toy` it runs the same code on tiny shapes, also on a CPU, where its figures mean nothing but that it works.
"""

import argparse
import json
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any, TypeVar

import diffusers
import torch
from torch import Tensor

from generation.engine.memory import is_out_of_memory, release_memory
from generation.engine.music_model import MusicModel, Parent, Prompt
from generation.engine.sampling import starting_noise
from generation.engine.schedule import Plan, plan
from tests.benchmarks.acestep_shapes import SHAPES, build
from tests.benchmarks.floors import Rates, count_work, measure_rates, median_seconds, seconds
from tests.benchmarks.sketch_identities import SketchIdentities

T = TypeVar("T")

WHOLE = plan(8, 3.0)
RESUMED = plan(8, 3.0, 0.5, snap=True)
SEED = 7
# As many words as a song has: each is a token that the model attends to.
LYRICS = "\n\n".join(
    f"[Verse {verse}]\n" + "we take it up again where the music left us\n" * 8 for verse in range(1, 5)
)
ROUNDS = 7
ENOUGH_ROUNDS = 3
MODEL_CALLS = 10
ENGINE_LIMIT = 1.01
SHARE_MARGIN = 0.02


class OutOfTime(Exception):
    """The budget is used up before a figure could be trusted."""


@dataclass(frozen=True)
class Case:
    duration_s: int
    batch: int
    mode: str = "eager"

    def __str__(self) -> str:
        return f"{self.duration_s} s x {self.batch}, {self.mode}"


@dataclass(frozen=True)
class Row:
    """The figures of one case; memory is None where the device does not count it."""

    case: Case
    call_s: float
    bandwidth_share: float
    matrix_share: float
    denoise_s: float
    decode_s: float
    denoise_peak_bytes: int | None
    decode_peak_bytes: int | None
    engine_ratio: float
    resume_ratio: float
    resume_share: float

    @property
    def overhead_s(self) -> float:
        """What a whole run costs beside its model calls: the prompt's encoding, the noise, the copy to the host."""
        return self.denoise_s - WHOLE.model_calls * self.call_s

    def missed(self) -> Iterator[str]:
        if self.engine_ratio > ENGINE_LIMIT:
            yield f"{self.case}: engine over bare call {self.engine_ratio:.3f}, at most {ENGINE_LIMIT}"
        if self.resume_ratio > self.resume_share + SHARE_MARGIN:
            yield f"{self.case}: resume costs {self.resume_ratio:.3f}, its calls are {self.resume_share:.3f}"

    def cells(self) -> list[str]:
        music_s = self.case.duration_s * self.case.batch
        return [
            f"{self.case.duration_s} s",
            str(self.case.batch),
            self.case.mode,
            f"{self.call_s * 1000:.2f}",
            f"{self.bandwidth_share:.0%}",
            f"{self.matrix_share:.0%}",
            f"{self.denoise_s / music_s * 1000:.3f}",
            f"{self.overhead_s * 1000:.1f}",
            # One item was decoded: items are decoded one by one.
            f"{self.decode_s / self.case.duration_s * 1000:.3f}",
            _gigabytes(self.denoise_peak_bytes),
            _gigabytes(self.decode_peak_bytes),
            f"{self.engine_ratio:.3f}",
            f"{self.resume_ratio:.3f}",
            f"{self.resume_share:.3f}",
        ]


HEADINGS = [
    "music",
    "batch",
    "mode",
    "ms per call",
    "of bandwidth",
    "of matrix rate",
    "denoise, ms per s of music",
    "beside calls, ms",
    "decode, ms per s of music",
    "denoise peak GB",
    "decode peak GB",
    "engine / bare",
    "resume / whole",
    "its calls",
]


class Bench:
    """One model on one device, and the time that is left to measure it."""

    def __init__(self, model: MusicModel, rates: Rates, *, deadline_s: float, rounds: int = ROUNDS) -> None:
        self.model = model
        self.rates = rates
        self.deadline_s = deadline_s
        self.rounds = rounds
        model.pipeline.set_progress_bar_config(disable=True)

    def measure(self, case: Case) -> Row:
        """Measure one case; raises OutOfTime, and whatever the device raises when its memory is full."""
        inputs = self._call_inputs(case)
        with torch.compiler.set_stance("force_eager"):
            work = count_work(self.model.pipeline.transformer, inputs)
        with torch.no_grad():
            call_s = median_seconds(
                lambda: self.model.pipeline.transformer(**inputs), self.model.device, times=MODEL_CALLS
            )
        denoise_s, engine_ratio, resume_ratio = self._rounds(case)
        latents, denoise_peak_bytes = self._peak_bytes(lambda: self.denoise(case, WHOLE))
        first = latents[:1]
        self.model.decode(first)
        decode_s, decode_peak_bytes = self._peak_bytes(
            lambda: seconds(lambda: self.model.decode(first), self.model.device)
        )
        return Row(
            case,
            call_s,
            work.bytes / self.rates.bytes_per_s / call_s,
            work.flops / self.rates.flops_per_s / call_s,
            denoise_s,
            decode_s,
            denoise_peak_bytes,
            decode_peak_bytes,
            engine_ratio,
            resume_ratio,
            RESUMED.model_calls / WHOLE.model_calls,
        )

    def denoise(self, case: Case, planned: Plan, on_step: Callable[[int, int], None] = lambda *_: None) -> Tensor:
        frames = round(case.duration_s * self.model.frame_rate)
        parent = Parent(starting_noise(SEED, frames, self.model.channels), "digest")
        return self.model.denoise(
            _prompt(case),
            planned,
            frames=frames,
            seed=SEED,
            batch_size=case.batch,
            guidance_scale=1.0,
            parent=parent,
            on_step=on_step,
        ).latents

    def _bare_call(self, case: Case) -> None:
        """Do the same through AceStepPipeline.__call__, noise and all."""
        prompt, frames = _prompt(case), round(case.duration_s * self.model.frame_rate)
        noises = [starting_noise(SEED + i, frames, self.model.channels) for i in range(case.batch)]
        self.model.pipeline(
            [prompt.caption] * case.batch,
            [prompt.lyrics] * case.batch,
            audio_duration=prompt.duration_s,
            vocal_language=prompt.vocal_language,
            bpm=prompt.bpm,
            keyscale=prompt.keyscale,
            timesignature=prompt.timesignature,
            guidance_scale=1.0,
            latents=torch.stack(noises),
            timesteps=WHOLE.timesteps,
            output_type="latent",
        )

    def _rounds(self, case: Case) -> tuple[float, float, float]:
        """Return the seconds of a whole run, and two ratios: over the bare call, and of a resume over a whole run."""
        works = {
            "bare": lambda: self._bare_call(case),
            "whole": lambda: self.denoise(case, WHOLE),
            "resumed": lambda: self.denoise(case, RESUMED),
        }
        for work in works.values():
            work()
        rounds: list[dict[str, float]] = []
        for turn in range(self.rounds):
            if time.monotonic() > self.deadline_s:
                break
            # Interleaved, and each first in turn, so that a drifting clock rate is nobody's advantage.
            names = sorted(works, key=lambda name: (list(works).index(name) + turn) % len(works))
            rounds.append({name: seconds(works[name], self.model.device) for name in names})
        if len(rounds) < ENOUGH_ROUNDS:
            raise OutOfTime
        return (
            median(spent["whole"] for spent in rounds),
            median(spent["whole"] / spent["bare"] for spent in rounds),
            median(spent["resumed"] / spent["whole"] for spent in rounds),
        )

    def _call_inputs(self, case: Case) -> dict[str, Any]:
        """Return what the engine calls the transformer with."""
        seen: list[dict[str, Any]] = []
        transformer = self.model.pipeline.transformer
        hook = transformer.register_forward_pre_hook(lambda _, args, inputs: seen.append(inputs), with_kwargs=True)
        try:
            with torch.compiler.set_stance("force_eager"):
                self.denoise(case, plan(1, 1.0))
        finally:
            hook.remove()
        return seen[0]

    def _peak_bytes(self, work: Callable[[], T]) -> tuple[T, int | None]:
        if self.model.device.type != "cuda":
            return work(), None
        torch.cuda.reset_peak_memory_stats()
        result = work()
        return result, torch.cuda.max_memory_allocated()

    def hidden_waits(self, case: Case) -> int | None:
        """Count how often the loop made the host wait for the device without asking to; None off CUDA."""
        if self.model.device.type != "cuda":
            return None

        def watch(step: int, calls: int) -> None:
            # Before the first call, and when the last one is known to have ended.
            if step in (0, calls):
                torch.cuda.set_sync_debug_mode("warn" if step == 0 else "default")

        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            self.denoise(case, WHOLE, watch)
        return sum("synchronizing CUDA operation" in str(warning.message) for warning in caught)


def _prompt(case: Case) -> Prompt:
    return Prompt("warm lofi, piano and drums", LYRICS, "en", 96, "C major", "4", float(case.duration_s))


def _gigabytes(size_bytes: int | None) -> str:
    return "–" if size_bytes is None else f"{size_bytes / 1e9:.1f}"


def _measure_all(bench: Bench, cases: list[Case]) -> tuple[list[Row], list[str]]:
    """Return the rows, and what could not be measured; smaller pieces first."""
    rows: list[Row] = []
    left_out: list[str] = []
    for case in sorted(cases, key=lambda case: case.duration_s * case.batch):
        try:
            rows.append(bench.measure(case))
            print("  " + " | ".join(rows[-1].cells()), flush=True)
        except OutOfTime:
            left_out.append(f"{case}: no time left")
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            left_out.append(f"{case}: out of memory")
        release_memory()
    return rows, left_out


def run(device: torch.device, *, shape: str, minutes: float, is_compiled_too: bool) -> bool:
    """Measure, print, and return whether everything promised was kept; times are promised on CUDA only."""
    deadline_s = time.monotonic() + minutes * 60
    is_cuda, is_toy = device.type == "cuda", shape == "toy"
    dtype = torch.bfloat16 if is_cuda else torch.float32
    name = torch.cuda.get_device_name(device) if is_cuda else "CPU"
    print(f"{shape} on {name}, {dtype}, torch {torch.__version__}, diffusers {diffusers.__version__}", flush=True)

    identities = dict(SketchIdentities(device, duration_s=2 if is_toy else 60).check())
    missed = [name for name, is_kept in identities.items() if not is_kept]
    rates = measure_rates(device, dtype, is_toy=is_toy)
    model = MusicModel(build(SHAPES[shape], device, dtype))
    bench = Bench(model, rates, deadline_s=deadline_s, rounds=ENOUGH_ROUNDS if is_toy else ROUNDS)
    durations, batches = ((2,), (1, 2)) if is_toy else ((30, 60, 240), (1, 2, 4, 8))
    cases = [Case(duration_s, batch) for duration_s in durations for batch in batches]
    rows, left_out = _measure_all(bench, cases)
    hidden_waits = bench.hidden_waits(cases[0])
    if hidden_waits:
        missed.append(f"the loop waits for the device {hidden_waits} times unasked")
    if is_compiled_too:
        bench.model.pipeline.transformer.compile()
        compiled = _measure_all(bench, [Case(case.duration_s, case.batch, "compiled") for case in cases])
        rows, left_out = rows + compiled[0], left_out + compiled[1]
    if is_cuda and not is_toy:
        missed += [what for row in rows for what in row.missed()]

    parameters = sum(p.numel() for p in bench.model.pipeline.transformer.parameters())
    _print_report(rows, rates, identities, hidden_waits, left_out + [f"MISSED {what}" for what in missed])
    summary = {
        "shape": shape,
        "parameters": parameters,
        "device": name,
        "dtype": str(dtype),
        "torch": str(torch.__version__),
        "diffusers": diffusers.__version__,
        "rates": asdict(rates),
        "identities": identities,
        "hidden_waits": hidden_waits,
        "rows": [asdict(row) for row in rows],
        "left_out": left_out,
        "missed": missed,
    }
    print(json.dumps(summary), flush=True)
    return not missed


def _print_report(
    rows: list[Row], rates: Rates, identities: dict[str, bool], hidden_waits: int | None, notes: list[str]
) -> None:
    print(f"\nFloors: {rates.bytes_per_s / 1e12:.3f} TB/s copied, {rates.flops_per_s / 1e12:.1f} TFLOP/s multiplied.")
    print(f"Sketch: {sum(identities.values())} of {len(identities)} identities hold.")
    print(f"Waits of the loop that nobody asked for: {'not counted here' if hidden_waits is None else hidden_waits}.")
    for note in notes:
        print(note)
    print()
    for cells in (HEADINGS, ["---"] * len(HEADINGS), *(row.cells() for row in rows)):
        print(f"| {' | '.join(cells)} |")


def main() -> bool:
    """Run as one of all benchmarks: only where there is a GPU."""
    if not torch.cuda.is_available():
        print("  left out, for there is no CUDA device; `python -m tests.benchmarks.gpu --toy` shows that it works")
        return True
    return run(torch.device("cuda"), shape="turbo", minutes=10, is_compiled_too=False)


def command(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    sizes = parser.add_mutually_exclusive_group()
    sizes.add_argument("--xl", action="store_true", help="the XL shape, instead of the 2B one")
    sizes.add_argument("--toy", action="store_true", help="tiny shapes, to see that it works")
    parser.add_argument("--compile", action="store_true", help="measure everything with torch.compile as well")
    parser.add_argument("--minutes", type=float, default=10, help="begin no new case after this long (default 10)")
    options = parser.parse_args(arguments)
    device = torch.device(options.device)
    if device.type != "cuda" and not options.toy:
        parser.error("the full size needs a CUDA device; --toy shows on any machine that the benchmark works")
    shape = "toy" if options.toy else "xl" if options.xl else "turbo"
    return 0 if run(device, shape=shape, minutes=options.minutes, is_compiled_too=options.compile) else 1


if __name__ == "__main__":
    sys.exit(command(sys.argv[1:]))
