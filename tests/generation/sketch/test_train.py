"""Training makes a folder that opens, goes on where it stopped, and repeats itself from a seed."""

import numpy as np
import pytest
import torch
from diffusers import AceStepPipeline

from generation.sketch import train
from generation.sketch.composer import Prompt


@pytest.fixture(scope="module")
def pipeline():
    torch.manual_seed(0)
    return train.build_pipeline()


def small_trainer(folder, seed=0):
    return train.Trainer(folder, minutes=1, seed=seed, device="cpu")


@pytest.fixture
def short_batches(monkeypatch):
    monkeypatch.setattr(train, "FRAMES_PER_BATCH", 240)
    monkeypatch.setattr(train, "judge", lambda pipeline: train.Score(0.1, 0.1, 0.1, 0.1))


def test_a_key_and_a_number_are_one_word_each(pipeline):
    words = pipeline.tokenizer.tokenize("lofi at 92 bpm in C# minor")
    assert words == ["lofi", "at", "92", "bpm", "in", "c# minor"]


def test_a_flat_key_is_read_as_its_sharp(pipeline):
    assert pipeline.tokenizer.tokenize("in Bb minor") == ["in", "a# minor"]


@pytest.mark.parametrize("caption", ["søvnig fløjte 🎷", "zzzz", "音楽", "!?", "a" * 500])
def test_unknown_words_become_the_unknown_token(pipeline, caption):
    ids = pipeline.tokenizer(caption).input_ids
    assert ids
    assert max(ids) < len(pipeline.tokenizer)


def test_all_prompts_of_a_batch_have_the_same_number_of_tokens(pipeline):
    batch = next(iter(train.Examples(pipeline, seed=0)))
    assert batch.text_ids.ndim == 2
    assert len(batch.text_ids) == len(batch.latents)


def test_the_same_seed_draws_the_same_examples(pipeline):
    first, second = (next(iter(train.Examples(pipeline, seed=4))) for _ in range(2))
    assert torch.equal(first.latents, second.latents)
    assert torch.equal(first.text_ids, second.text_ids)


def test_a_share_of_noise_levels_lies_where_a_run_begins():
    torch.manual_seed(0)
    levels = train.draw_timesteps(10_000, torch.device("cpu"))
    assert levels.min() > 0
    assert levels.max() <= 1
    assert (levels > 1 - train.FIRST_STEPS).float().mean() > train.FIRST_STEPS_SHARE


def test_training_conditions_as_the_pipeline_does(tmp_path):
    """What the transformer sees in training is what `__call__` will show it."""
    trainer = small_trainer(tmp_path)
    pipeline = trainer.pipeline
    fields = train._prompt_fields(Prompt("calm lofi with piano", 80, "C major", "4"), "", 12.0)
    text, lyrics = pipeline._format_prompt(**fields)
    batch = train.Batch(
        torch.zeros(1, 240, train.CHANNELS),
        torch.tensor(pipeline.tokenizer([text]).input_ids),
        torch.tensor(pipeline.tokenizer([lyrics]).input_ids),
        torch.zeros(1, 7, dtype=torch.long),
    )
    with torch.no_grad():
        trained, _ = trainer.condition(batch)
        hidden = pipeline.encode_prompt(device=torch.device("cpu"), **fields)
        silence = pipeline.condition_encoder.silence_latent[:, : 30 * train.FRAME_RATE]
        served, _ = pipeline.condition_encoder(*hidden, silence, torch.zeros(1, dtype=torch.long))
    is_null = torch.allclose(trained, pipeline.condition_encoder.null_condition_emb.expand_as(trained))
    assert is_null or torch.allclose(trained, served, atol=1e-5)


def test_a_saved_run_opens_as_a_pipeline_and_goes_on(tmp_path, short_batches):
    trainer = small_trainer(tmp_path)
    trainer.train_step(next(iter(train.Examples(trainer.pipeline, 0))))
    trainer.save()
    opened = AceStepPipeline.from_pretrained(tmp_path)
    assert opened.latents_per_second == train.FRAME_RATE
    again = small_trainer(tmp_path, seed=9)
    again.load()
    assert again.step == 1
    for name, parameter in trainer.modules.named_parameters():
        assert torch.equal(parameter, again.modules.get_parameter(name)), name


def test_two_runs_from_one_seed_are_the_same_run(tmp_path, short_batches):
    losses = []
    for _ in range(2):
        trainer = small_trainer(tmp_path)
        examples = iter(train.Examples(trainer.pipeline, 0))
        losses.append([trainer.train_step(next(examples)) for _ in range(2)])
    assert losses[0] == losses[1]


def test_plain_attention_computes_what_the_fused_one_does(tmp_path):
    transformer = small_trainer(tmp_path).pipeline.transformer
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((1, 200, train.CHANNELS)).astype(np.float32))
    inputs = {
        "hidden_states": x,
        "timestep": torch.tensor([0.5]),
        "timestep_r": torch.tensor([0.5]),
        "encoder_hidden_states": torch.ones(1, 7, 128),
        "context_latents": torch.cat([x, x], dim=-1),
        "return_dict": False,
    }
    with torch.no_grad():
        plain = transformer(**inputs)[0]
        transformer.set_attn_processor(train.AceStepAttnProcessor2_0())
        fused = transformer(**inputs)[0]
    assert torch.allclose(plain, fused, atol=1e-5)
