"""What the engine costs over the bare pipeline, and whether a resume costs its share of a whole run."""

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from generation.engine.music_model import MusicModel, Parent, Prompt
from generation.engine.sampling import starting_noise
from generation.engine.schedule import Plan, plan
from generation.variants import BUNDLED_FOLDER
from tests.benchmarks.ratios import median_ratio, report
from tests.tiny_pipelines import save_tiny_pipeline

# Long enough for the tiny models' transformer to outweigh their conditioning, as it does by far in real ones.
DURATION_S = 60.0
PROMPT = Prompt("warm lofi, piano and drums", "[Instrumental]", "en", 96, "C major", "4", DURATION_S)
WHOLE = plan(20, 1.0)
SEED = 7
GUIDANCE = 2.0
ENGINE_LIMIT = 1.03
SHARE_MARGIN = 0.05


def models() -> Iterator[tuple[str, MusicModel]]:
    with tempfile.TemporaryDirectory() as folder:
        for kind in ("base", "turbo"):
            yield f"tiny {kind}", MusicModel.load(save_tiny_pipeline(kind, Path(folder) / kind), device="cpu")
    if BUNDLED_FOLDER.is_dir():
        yield "sketch", MusicModel.load(BUNDLED_FOLDER, device="cpu")


def engine_over_pipeline(model: MusicModel) -> float:
    frames = round(DURATION_S * model.frame_rate)
    model.pipeline.set_progress_bar_config(disable=True)

    def pipeline() -> None:
        model.pipeline(
            PROMPT.caption,
            PROMPT.lyrics,
            audio_duration=DURATION_S,
            bpm=PROMPT.bpm,
            keyscale=PROMPT.keyscale,
            timesignature=PROMPT.timesignature,
            guidance_scale=1.0 if model.is_turbo else GUIDANCE,
            latents=starting_noise(SEED, frames, model.channels).unsqueeze(0),
            timesteps=WHOLE.timesteps,
            output_type="latent",
        )

    return median_ratio(lambda: denoise(model, WHOLE), pipeline)


def denoise(model: MusicModel, planned: Plan) -> None:
    frames = round(DURATION_S * model.frame_rate)
    parent = Parent(starting_noise(SEED, frames, model.channels), "digest")
    model.denoise(
        PROMPT,
        planned,
        frames=frames,
        seed=SEED,
        guidance_scale=GUIDANCE,
        parent=parent,
        on_step=lambda step, calls: None,
    )


def main() -> bool:
    kept = []
    for name, model in models():
        kept.append(report(f"{name}: engine over the bare pipeline call", engine_over_pipeline(model), ENGINE_LIMIT))
        for t_start in (0.25, 0.5, 0.75):
            resumed = plan(WHOLE.steps, WHOLE.shift, t_start)
            ratio = median_ratio(lambda: denoise(model, resumed), lambda: denoise(model, WHOLE))  # noqa: B023
            share = resumed.model_calls / WHOLE.model_calls
            kept.append(report(f"{name}: resume at {t_start} over a whole run", ratio, share + SHARE_MARGIN))
    return all(kept)


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
