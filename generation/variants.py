"""What the web process needs to know of each model: read from its configuration files, without torch.

`settings.REPRISE_MODELS` maps a name to a source: `bundled`, a folder, or a hub id that `fetch_model` has downloaded.
A source may override its kind's defaults: `ACE-Step/acestep-v15-sft-diffusers?steps=32&guidance=5`.
"""

import json
import math
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qsl

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

Kind = Literal["sketch", "turbo", "base"]

BUNDLED_FOLDER = Path(__file__).parent / "sketch" / "weights"
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
WEIGHTED_COMPONENTS = ("transformer", "condition_encoder", "text_encoder", "vae")


@dataclass(frozen=True)
class Defaults:
    steps: int
    shift: float
    guidance: float
    max_duration_s: float


# Steps: ACE-Step 1.5, docs/en/INFERENCE.md ("Turbo model: recommended 8. Base model: recommended 32-64").
# Shift and guidance: diffusers, docs/source/en/api/pipelines/ace_step.md, table of variants. Turbo has its guidance
# distilled into the weights and is never guided. 600 s: docs/en/INFERENCE.md, `duration`.
# Sketch: chosen on the held-out prompts of tests/benchmarks; pieces of up to 120 s were part of its training.
DEFAULTS: dict[Kind, Defaults] = {
    "sketch": Defaults(steps=20, shift=1.0, guidance=3.0, max_duration_s=120.0),
    "turbo": Defaults(steps=8, shift=3.0, guidance=1.0, max_duration_s=600.0),
    "base": Defaults(steps=50, shift=3.0, guidance=7.0, max_duration_s=600.0),
}


class UnknownVariant(LookupError):
    """No model of this name is configured."""


@dataclass(frozen=True)
class Variant:
    """One configured model. `source` is what `MusicModel.load` opens; `is_available` says that its weights are here."""

    name: str
    source: str
    kind: Kind
    frame_rate: float
    channels: int
    sample_rate: int
    default_steps: int
    default_shift: float
    default_guidance: float
    max_duration_s: float
    is_available: bool

    @property
    def is_turbo(self) -> bool:
        return self.kind == "turbo"

    @property
    def snap(self) -> bool:
        """A distilled model only knows the levels of its schedule; others start anywhere."""
        return self.is_turbo

    def frames_for(self, duration_s: float) -> int:
        """Return how many frames a new piece of `duration_s` has: the only place where seconds become frames.

        Never call it with the length of stored latents; their own frame count is the truth.
        """
        return math.ceil(duration_s * self.frame_rate)


@dataclass(frozen=True)
class _Shape:
    """What a model's files say about it; the values are ACE-Step 1.5's own, for a model that is not downloaded."""

    kind: Kind
    frame_rate: float = 25.0
    channels: int = 64
    sample_rate: int = 48000


def get_variant(name: str) -> Variant:
    """Return the model configured under `name`, or raise UnknownVariant."""
    if name not in settings.REPRISE_MODELS:
        raise UnknownVariant(f"Unknown model '{name}': choose one of {', '.join(settings.REPRISE_MODELS)}")
    return _read_variant(name, settings.REPRISE_MODELS[name])


def all_variants() -> list[Variant]:
    return [_read_variant(name, source) for name, source in settings.REPRISE_MODELS.items()]


def default_variant() -> Variant:
    return get_variant(next(iter(settings.REPRISE_MODELS)))


def _read_variant(name: str, configured: str) -> Variant:
    source, _, overrides = configured.partition("?")
    source = str(BUNDLED_FOLDER) if source == "bundled" else source
    folder = _find_folder(source)
    shape = _read_shape(folder) if folder else _guess_shape(source)
    defaults = _override(DEFAULTS[shape.kind], overrides, name)
    return Variant(
        name=name,
        source=source,
        kind=shape.kind,
        frame_rate=shape.frame_rate,
        channels=shape.channels,
        sample_rate=shape.sample_rate,
        default_steps=defaults.steps,
        default_shift=defaults.shift,
        default_guidance=defaults.guidance,
        max_duration_s=defaults.max_duration_s,
        is_available=folder is not None,
    )


def _find_folder(source: str) -> Path | None:
    """Return the local folder that holds the complete model `source` names, or None; never asks the network."""
    folder = Path(source)
    if not folder.is_dir() and HUB_ID.fullmatch(source):
        # Slow to import (0.6 s) and only needed for models from the hub.
        from huggingface_hub import try_to_load_from_cache

        index = try_to_load_from_cache(source, "model_index.json")
        if not isinstance(index, str):
            return None
        folder = Path(index).parent
    return folder if _is_complete(folder) else None


def _is_complete(folder: Path) -> bool:
    return (folder / "model_index.json").is_file() and all(
        _has_weights(folder / component) for component in WEIGHTED_COMPONENTS
    )


def _has_weights(component: Path) -> bool:
    """Return whether every weight file is there: an interrupted download leaves an index that names missing shards."""
    if not (component / "config.json").is_file() or not any(component.glob("*.safetensors")):
        return False
    shards = {
        shard
        for index in component.glob("*.safetensors.index.json")
        for shard in _read_json(index)["weight_map"].values()
    }
    return all((component / shard).is_file() for shard in shards)


def _read_shape(folder: Path) -> _Shape:
    index = _read_json(folder / "model_index.json")
    transformer = _read_json(folder / "transformer" / "config.json")
    vae = _read_json(folder / "vae" / "config.json")
    is_turbo = transformer.get("is_turbo") or transformer.get("model_version") == "turbo"
    is_sketch = index["vae"][1] == "SketchCodec"
    sample_rate = int(vae["sampling_rate"])
    return _Shape(
        kind="sketch" if is_sketch else "turbo" if is_turbo else "base",
        frame_rate=sample_rate / math.prod(vae["downsampling_ratios"]),
        channels=int(transformer["audio_acoustic_hidden_dim"]),
        sample_rate=sample_rate,
    )


def _guess_shape(source: str) -> _Shape:
    if source == str(BUNDLED_FOLDER):
        return _Shape("sketch")
    return _Shape("turbo" if "turbo" in source.lower() else "base")


def _override(defaults: Defaults, overrides: str, name: str) -> Defaults:
    """Apply `steps=32&shift=2&guidance=5&max_duration_s=240`, any of them."""
    try:
        values = {key: (int if key == "steps" else float)(value) for key, value in parse_qsl(overrides)}
        return replace(defaults, **values)  # type: ignore[arg-type]
    except (ValueError, TypeError) as error:
        raise ImproperlyConfigured(
            f"REPRISE_MODELS: '{name}' may set steps, shift, guidance and max_duration_s, not '{overrides}'"
        ) from error


def _read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
