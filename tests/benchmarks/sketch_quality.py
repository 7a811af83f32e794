"""Does Sketch play what it is asked for? 200 held-out prompts at fixed seeds, heard by `detector`.

`python -m tests.benchmarks.sketch_quality [--prompts N] [--weights FOLDER]`. Every score stands beside that of the
composer's own pieces for the same prompts under the same detector: model / composer is what the targets are about. The
column "symbols" is what the model's latents say before they are played, without a detector's mistakes.
"""

import argparse
import multiprocessing
import os
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from generation import variants
from generation.sketch.composer import Brief, Prompt, compose, draw_brief, write_prompt
from generation.sketch.drum_kits import stroke
from generation.sketch.performance import perform
from generation.sketch.room import impulse_response
from generation.sketch.score import GENRES, MODES, PARTS, Piece, folded_bpm
from generation.sketch.streams import FRAME_RATE, decode_piece, encode_piece
from generation.sketch.synth import SAMPLE_RATE, render
from tests.benchmarks.detector import Detector, Heard, Truth, grid_share, is_tempo, listen

WEIGHTS = Path("generation/sketch/weights")
DEFAULTS = variants.DEFAULTS["sketch"]
HELD_OUT_SEED = 3_000_000  # training draws below 1,000,000 and chooses its best weights on 1,000,000 to 1,000,100
EXAMPLES_SEED = 4_000_000
EXAMPLES = 300  # pieces that the detector learns from
USUAL_S, LENGTHS_S = 20.0, (5.0, 120.0)
PROCESSES = 2

# Least score of the model over that of the composer.
TARGETS = {"key": 0.95, "tempo": 0.85, "grid": 0.95, "parts asked for": 0.95, "parts excluded": 0.95, "genre": 0.95}
LEAST_DIVERSITY = 0.5
LARGEST_LENGTH_LOSS = 0.10
LEAST_SPEED = 20.0


@dataclass(frozen=True)
class Case:
    """One held-out prompt: what it says, and what it asks for."""

    number: int
    brief: Brief
    prompt: Prompt


@dataclass(frozen=True)
class Take:
    """One piece, as symbols and as heard."""

    piece: Piece
    heard: Heard


@dataclass(frozen=True)
class Answer:
    """What a piece turned out to be, read from its sound or from its symbols."""

    key: int
    genre: int
    parts: tuple[bool, ...]
    has_tempo: Callable[[float], bool]
    grid: Callable[[float], float]


def main(prompts: int = 200, weights: Path = WEIGHTS) -> bool:
    start = time.monotonic()
    cases = [draw_case(HELD_OUT_SEED + number) for number in range(prompts)]
    exact = [case for case in cases if case.brief.tonic is not None and case.brief.bpm is not None][: prompts // 8]
    with _processes() as pool:
        detector = Detector(*zip(*list(pool.map(hear_example, range(EXAMPLES), chunksize=8)), strict=True))
        composed = list(pool.map(take_of_composer, cases, chunksize=4))
        dreamt = list(pool.map(take_of_model, *_orders(cases, weights), chunksize=4))
        is_kept = _print_scores(cases, detector, composed, dreamt)
        is_kept &= _print_lengths(pool, exact, detector, weights)
        is_kept &= _print_diversity(pool, cases[: prompts // 4], composed, dreamt, weights)
        is_kept &= _print_speed(pool)
    print(f"  {prompts} prompts, {time.monotonic() - start:.0f} s")
    return is_kept


def draw_case(seed: int) -> Case:
    rng = np.random.default_rng(seed)
    brief = draw_brief(rng)
    return Case(seed, brief, write_prompt(rng, brief))


# ---- in the processes


@contextmanager
def _processes() -> Iterator[ProcessPoolExecutor]:
    """Start processes of one thread each: together they use the cores better than one with several threads."""
    threads = {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    os.environ.update(dict.fromkeys(threads, "1"))
    with ProcessPoolExecutor(PROCESSES, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield pool
    for name, value in threads.items():
        os.environ.pop(name) if value is None else os.environ.update({name: value})


def hear_example(number: int) -> tuple[Heard, Truth]:
    """Compose, play and hear one piece whose truth the detector may know."""
    case = draw_case(EXAMPLES_SEED + number)
    piece = compose(np.random.default_rng(EXAMPLES_SEED + number), case.brief, USUAL_S)
    truth = Truth(piece.tonic * len(MODES) + piece.mode, piece.genre, piece.parts)
    return _play(piece, USUAL_S).heard, truth


def take_of_composer(case: Case, duration_s: float = USUAL_S, seed: int = 0) -> Take:
    return _play(compose(np.random.default_rng((case.number, seed)), case.brief, duration_s), duration_s)


def take_of_model(case: Case, weights: Path, duration_s: float = USUAL_S, seed: int = 0) -> Take:
    return _play(decode_piece(dream(case, weights, duration_s, seed)), duration_s)


def symbols_of_model(case: Case, weights: Path, seed: int) -> NDArray[np.float32]:
    return _snapped(decode_piece(dream(case, weights, USUAL_S, seed)))


def dream(case: Case, weights: Path, duration_s: float, seed: int) -> NDArray[np.float32]:
    """Generate latents [T, C] as the pipeline does by itself."""
    import torch  # not needed by the process that only counts

    latents = _pipeline(weights)(
        prompt=case.prompt.caption,
        lyrics="[Instrumental]",
        audio_duration=duration_s,
        bpm=case.prompt.bpm,
        keyscale=case.prompt.keyscale,
        timesignature=case.prompt.timesignature,
        num_inference_steps=DEFAULTS.steps,
        guidance_scale=DEFAULTS.guidance,
        shift=DEFAULTS.shift,
        generator=torch.Generator().manual_seed(case.number + 7919 * seed),
        output_type="latent",
    ).audios[0]
    result: NDArray[np.float32] = latents.float().numpy()
    return result


@cache
def _pipeline(weights: Path) -> Any:
    import torch

    from generation.engine.music_model import MusicModel

    torch.set_num_threads(1)
    pipeline = MusicModel.load(weights, device="cpu").pipeline
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _play(piece: Piece, duration_s: float) -> Take:
    """Play a piece as the codec does, and listen."""
    return Take(piece, listen(render(perform(piece, duration_s), duration_s), SAMPLE_RATE))


def _snapped(piece: Piece) -> NDArray[np.float32]:
    """Return a piece as latents without a model's noise, so that pieces can be compared by distance."""
    return encode_piece(piece, int(USUAL_S * FRAME_RATE))


def speed(duration_s: float) -> float:
    """Return seconds of sound per second of work on one core, over all genres, drums and rooms made anew."""
    pieces = [compose(np.random.default_rng(genre), Brief(genre), duration_s) for genre in range(len(GENRES))]
    stroke.cache_clear()
    impulse_response.cache_clear()
    start = time.process_time()
    for piece in pieces:
        render(perform(piece, duration_s), duration_s)
    return len(pieces) * duration_s / (time.process_time() - start)


# ---- judging


def _heard_answer(detector: Detector, take: Take) -> Answer:
    heard = take.heard
    return Answer(
        key=detector.key(heard),
        genre=detector.genre(heard),
        parts=detector.parts(heard),
        has_tempo=lambda asked: is_tempo(heard.bpm, asked),
        grid=lambda asked: grid_share(heard, asked),
    )


def _written_answer(take: Take) -> Answer:
    """Read the symbols: onsets need no measuring, the codec puts them on the grid."""
    piece = take.piece
    return Answer(
        key=piece.tonic * len(MODES) + piece.mode,
        genre=piece.genre,
        parts=piece.parts,
        has_tempo=lambda asked: is_tempo(piece.beats_per_minute, asked),
        grid=lambda _: 1.0,
    )


def scores(cases: Iterable[Case], answers: Iterable[Answer]) -> dict[str, float]:
    """Return the share of right answers among those asked for."""
    right: dict[str, list[float]] = {name: [] for name in TARGETS}
    for case, answer in zip(cases, answers, strict=True):
        brief = case.brief
        right["genre"].append(answer.genre == brief.genre)
        if brief.tonic is not None and brief.mode is not None:
            right["key"].append(answer.key == brief.tonic * len(MODES) + brief.mode)
        if brief.bpm is not None:
            right["tempo"].append(answer.has_tempo(folded_bpm(brief.bpm)))
            right["grid"].append(answer.grid(folded_bpm(brief.bpm)))
        for part, is_wanted in brief.parts:
            is_right = answer.parts[PARTS.index(part)] == is_wanted
            right["parts asked for" if is_wanted else "parts excluded"].append(is_right)
    return {name: float(np.mean(values)) if values else float("nan") for name, values in right.items()}


def _print_scores(cases: list[Case], detector: Detector, composed: list[Take], dreamt: list[Take]) -> bool:
    ours = scores(cases, [_heard_answer(detector, take) for take in dreamt])
    theirs = scores(cases, [_heard_answer(detector, take) for take in composed])
    written = scores(cases, [_written_answer(take) for take in dreamt])
    print(f"  {'20 s':<24} {'model':>8} {'composer':>8} {'ratio':>8} {'target':>8} {'symbols':>8}")
    is_kept = True
    for name, target in TARGETS.items():
        ratio = ours[name] / theirs[name]
        figures = f"{ours[name]:8.3f} {theirs[name]:8.3f} {ratio:8.3f} {target:8.2f} {written[name]:8.3f}"
        is_kept &= _report(f"{name:<24} {figures}", ratio >= target)
    return is_kept


def _print_lengths(pool: ProcessPoolExecutor, cases: list[Case], detector: Detector, weights: Path) -> bool:
    """Compare short and long pieces with 20 s, on prompts that ask for both key and tempo."""

    def at(duration_s: float) -> tuple[dict[str, float], dict[str, float]]:
        durations = [duration_s] * len(cases)
        dreamt = list(pool.map(take_of_model, *_orders(cases, weights), durations))
        composed = list(pool.map(take_of_composer, cases, durations))
        ours = scores(cases, [_heard_answer(detector, take) for take in dreamt])
        theirs = scores(cases, [_heard_answer(detector, take) for take in composed])
        written = scores(cases, [_written_answer(take) for take in dreamt])
        return {name: ours[name] / theirs[name] for name in TARGETS}, written

    usual, _ = at(USUAL_S)
    is_kept = True
    for duration_s in LENGTHS_S:
        ratios, written = at(duration_s)
        for name in ("key", "tempo"):
            is_enough = ratios[name] >= usual[name] - LARGEST_LENGTH_LOSS
            is_kept &= is_enough
            figures = f"{ratios[name]:8.3f}, at 20 s {usual[name]:.3f}, symbols {written[name]:.3f}"
            print(
                f"  {f'{name} at {duration_s:g} s, ratio':<42} {figures}{'' if is_enough else '  MISSED'}", flush=True
            )
    return is_kept


def _print_diversity(
    pool: ProcessPoolExecutor, cases: list[Case], composed: list[Take], dreamt: list[Take], weights: Path
) -> bool:
    """Compare how far two seeds of a prompt lie apart with two of the composer's pieces for it."""
    again = list(pool.map(symbols_of_model, *_orders(cases, weights), [1] * len(cases)))
    ours = [_distance(_snapped(take.piece), other) for take, other in zip(dreamt, again, strict=False)]
    theirs = [
        _distance(_snapped(take.piece), _snapped(compose(np.random.default_rng((case.number, 1)), case.brief, USUAL_S)))
        for case, take in zip(cases, composed, strict=False)
    ]
    ratio = float(np.mean(ours) / np.mean(theirs))
    figures = f"{ratio:8.3f} (at least {LEAST_DIVERSITY})"
    return _report(f"{'distance between seeds, ratio':<42} {figures}", ratio >= LEAST_DIVERSITY)


def _print_speed(pool: ProcessPoolExecutor) -> bool:
    is_kept = True
    for duration_s in (USUAL_S, LENGTHS_S[-1]):
        times = pool.submit(speed, duration_s).result()
        what = f"synthesiser, {duration_s:g} s on one core"
        figures = f"{times:8.1f} times real time (at least {LEAST_SPEED:g})"
        is_kept &= _report(f"{what:<42} {figures}", times >= LEAST_SPEED)
    return is_kept


def _report(line: str, is_kept: bool) -> bool:
    print(f"  {line}{'' if is_kept else '  MISSED'}", flush=True)
    return is_kept


def _distance(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    return float(np.sqrt(((one - other) ** 2).mean()))


def _orders(cases: list[Case], weights: Path) -> tuple[list[Case], list[Path]]:
    return cases, [weights] * len(cases)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=200)
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    options = parser.parse_args()
    raise SystemExit(0 if main(options.prompts, options.weights) else 1)
