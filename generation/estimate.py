"""How long a run will take, judged by the last ones of the same model."""

from __future__ import annotations

from statistics import median

from generation.models import GenerationJob

_RUNS = 5


def estimate_seconds(model_variant: str, *, model_calls: int, frames: int, batch_size: int = 1) -> float | None:
    """Return the seconds from claim to sound, or None while nothing is known.

    Each phase but loading grows with the amount of music, and denoising with the model calls too.
    """
    recent = GenerationJob.objects.filter(
        model_variant=model_variant, status=GenerationJob.Status.SUCCEEDED, model_calls__gt=0, latent__isnull=False
    ).order_by("-finished_at")
    runs = [
        (timing["denoise"] / (calls * amount), (timing.get("store", 0.0) + timing["decode"]) / amount)
        for timing, calls, run_frames, run_batch in recent.values_list(
            "timing", "model_calls", "latent__frames", "latent__batch_size"
        )[:_RUNS]
        if (amount := run_frames * run_batch) and {"denoise", "decode"} <= timing.keys()
    ]
    if not runs:
        return None
    per_call, afterwards = (median(values) for values in zip(*runs, strict=True))
    seconds: float = frames * batch_size * (per_call * model_calls + afterwards)
    return seconds
