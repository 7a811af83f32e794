"""Requests for tiny takes, as the form would hand them out."""

from typing import Any

from generation.takes import TakeRequest
from latents.models import LatentRecord


def take_request(parent: LatentRecord | None = None, **changes: Any) -> TakeRequest:
    """Ask for one unguided second of the tiny model in four steps; any parameter may be changed."""
    params: dict[str, Any] = {
        "caption": "warm lofi piano",
        "lyrics": "",
        "instrumental": True,
        "vocal_language": "en",
        "bpm": None,
        "keyscale": "",
        "timesignature": "",
        "duration": 1.0,
        "batch_size": 1,
        "seed": 7,
        "inference_steps": 4,
        "shift": 1.0,
        "guidance_scale": 1.0,
        "cfg_interval_start": 0.0,
        "cfg_interval_end": 1.0,
        "audio_format": "flac",
        "model_variant": "tiny",
        "latent_ttl": "",
        "init_latent_id": str(parent.pk) if parent else "",
        "resume_sample_index": 0 if parent else None,
        "t_start": 0.5 if parent else 1.0,
        "checkpoint_step": None,
    }
    return TakeRequest.from_params(params | changes, parent)
