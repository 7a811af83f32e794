"""What is known of a model before it is loaded, from its files or from its name."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured
from pytest_django import Settings

from generation import variants
from generation.variants import UnknownVariant, all_variants, default_variant, get_variant

TinyModel = Callable[[str], Path]


def copy_of(model: Path, folder: Path) -> Path:
    return Path(shutil.copytree(model, folder))


@pytest.mark.parametrize("kind", ["base", "turbo", "xl"])
def test_shape_is_read_from_the_models_files(kind: str, tiny_model: TinyModel, settings: Settings) -> None:
    settings.REPRISE_MODELS = {"tiny": str(tiny_model(kind))}
    variant = get_variant("tiny")
    assert (variant.frame_rate, variant.channels, variant.sample_rate) == (25.0, 8, 48000)
    assert variant.is_available
    assert variant.snap == variant.is_turbo == (kind == "turbo")


def test_what_is_read_is_what_the_loaded_model_says(tiny_model: TinyModel, settings: Settings) -> None:
    from generation.engine.music_model import MusicModel

    settings.REPRISE_MODELS = {"tiny": str(tiny_model("turbo"))}
    variant, model = get_variant("tiny"), MusicModel.load(tiny_model("turbo"), device="cpu")
    assert (variant.frame_rate, variant.channels, variant.sample_rate, variant.is_turbo) == (
        model.frame_rate,
        model.channels,
        model.sample_rate,
        model.is_turbo,
    )


def test_codec_of_sketch_makes_it_sketch(tiny_model: TinyModel, settings: Settings, tmp_path: Path) -> None:
    folder = copy_of(tiny_model("base"), tmp_path / "sketch")
    index = json.loads((folder / "model_index.json").read_text())
    index["vae"] = ["generation.sketch.codec", "SketchCodec"]
    (folder / "model_index.json").write_text(json.dumps(index))
    settings.REPRISE_MODELS = {"mine": str(folder)}
    assert get_variant("mine").kind == "sketch"


@pytest.mark.parametrize(
    ("source", "kind", "steps"),
    [("reprise-tests/some-turbo-diffusers", "turbo", 8), ("reprise-tests/some-sft-diffusers", "base", 50)],
)
def test_model_that_is_not_downloaded_is_known_by_its_name(
    source: str, kind: str, steps: int, settings: Settings
) -> None:
    settings.REPRISE_MODELS = {"far": source}
    variant = get_variant("far")
    assert not variant.is_available
    assert (variant.source, variant.kind, variant.default_steps) == (source, kind, steps)


def test_downloaded_model_is_found_in_the_cache(
    tiny_model: TinyModel, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = tmp_path / "models--reprise-tests--tiny"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("0123abc")
    copy_of(tiny_model("turbo"), repository / "snapshots" / "0123abc")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    settings.REPRISE_MODELS = {"tiny": "reprise-tests/tiny"}
    variant = get_variant("tiny")
    assert variant.is_available
    assert variant.is_turbo
    assert variant.source == "reprise-tests/tiny"


@pytest.mark.parametrize(
    "missing",
    ["model_index.json", "transformer/config.json", "transformer/diffusion_pytorch_model.safetensors", "text_encoder"],
)
def test_half_a_download_is_not_available(
    missing: str, tiny_model: TinyModel, settings: Settings, tmp_path: Path
) -> None:
    folder = copy_of(tiny_model("base"), tmp_path / "half")
    if (folder / missing).is_dir():
        shutil.rmtree(folder / missing)
    else:
        (folder / missing).unlink()
    settings.REPRISE_MODELS = {"half": str(folder)}
    assert not get_variant("half").is_available


def test_missing_shard_is_not_available(tiny_model: TinyModel, settings: Settings, tmp_path: Path) -> None:
    folder = copy_of(tiny_model("base"), tmp_path / "half")
    shards = {"weight_map": {"a": "diffusion_pytorch_model.safetensors", "b": "model-2.safetensors"}}
    index = folder / "transformer" / "diffusion_pytorch_model.safetensors.index.json"
    index.write_text(json.dumps(shards))
    settings.REPRISE_MODELS = {"half": str(folder)}
    assert not get_variant("half").is_available
    (folder / "transformer" / "model-2.safetensors").touch()
    assert get_variant("half").is_available


def test_first_model_is_the_default(settings: Settings) -> None:
    settings.REPRISE_MODELS = {"one": "reprise-tests/one", "two": "reprise-tests/two"}
    assert default_variant().name == "one"
    assert [variant.name for variant in all_variants()] == ["one", "two"]


def test_unknown_name_is_refused_with_the_known_ones(settings: Settings) -> None:
    settings.REPRISE_MODELS = {"one": "reprise-tests/one", "two": "reprise-tests/two"}
    with pytest.raises(UnknownVariant, match="Unknown model 'three': choose one of one, two"):
        get_variant("three")


def test_defaults_can_be_set_per_model(settings: Settings) -> None:
    settings.REPRISE_MODELS = {"sft": "reprise-tests/sft?steps=32&guidance=5&max_duration_s=240"}
    variant = get_variant("sft")
    assert variant.source == "reprise-tests/sft"
    assert (variant.default_steps, variant.default_shift, variant.default_guidance) == (32, 3.0, 5.0)
    assert variant.max_duration_s == 240


@pytest.mark.parametrize("overrides", ["steps=many", "steps=1.5", "speed=2"])
def test_defaults_that_make_no_sense_are_refused(overrides: str, settings: Settings) -> None:
    settings.REPRISE_MODELS = {"sft": f"reprise-tests/sft?{overrides}"}
    with pytest.raises(ImproperlyConfigured, match="'sft' may set steps, shift, guidance and max_duration_s"):
        get_variant("sft")


def test_bundled_is_sketch(settings: Settings) -> None:
    settings.REPRISE_MODELS = {"sketch": "bundled"}
    variant = get_variant("sketch")
    assert variant.kind == "sketch"
    assert variant.source == str(variants.BUNDLED_FOLDER)
    assert variant.is_available == (variants.BUNDLED_FOLDER / "model_index.json").is_file()


@pytest.mark.parametrize(("duration_s", "frames"), [(20.0, 500), (20.01, 501), (19.96, 499), (1.0, 25), (600.0, 15000)])
def test_seconds_become_frames_as_in_the_pipeline(duration_s: float, frames: int, settings: Settings) -> None:
    settings.REPRISE_MODELS = {"base": "reprise-tests/base"}
    variant = replace(get_variant("base"), frame_rate=25.0)
    assert variant.frames_for(duration_s) == frames
