"""Train Sketch from nothing: `python -m generation.sketch.train --minutes 60 --out DIR`.

Everything is made on the fly from seeds: prompts, pieces, vocabulary. The run saves its state every few minutes into
DIR/state.pt and goes on from there when called again; DIR itself is a pipeline folder at all times, with the best
weights so far. Runs on CPU or GPU (bfloat16 where the processor has it).
"""

import argparse
import math
import time
from collections import defaultdict
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, fields
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AceStepPipeline, AceStepTransformer1DModel, FlowMatchEulerDiscreteScheduler
from diffusers.models.embeddings import apply_rotary_emb
from diffusers.models.transformers.ace_step_transformer import AceStepAttention, AceStepAttnProcessor2_0
from diffusers.pipelines.ace_step.modeling_ace_step import AceStepConditionEncoder
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3Model

from generation.sketch.composer import Brief, Prompt, compose, draw_brief, write_prompt
from generation.sketch.score import FASTEST_BPM, MODES, PARTS, SLOWEST_BPM, nearest_tempo
from generation.sketch.streams import CHANNELS, FRAME_RATE, GENRE, KEY, PATCH, TEMPO, clock, decode_piece, encode_piece

END_OF_TEXT, UNKNOWN = "<|endoftext|>", "[UNK]"
# A key is one word ("c# minor"); so is a number: neither has to be put together from pieces.
WORDS = r"[a-g](?:#|b)? (?:major|minor)\b|\d+|[^\W\d_]+|[^\w\s]"

FLATS = {"d": "c", "e": "d", "g": "f", "a": "g", "b": "a"}  # Db minor is C# minor

FRAMES_PER_BATCH = 24 * 256  # 24 pieces of 12.8 s
SHORTEST, USUAL, LONG, LONGEST = 100, 400, 900, 2400  # frames
WARM_UP_STEPS = 150
EMA_DECAY = 0.998
# What holds for the whole piece is most of what a prompt asks for, yet a hundredth of the squared error.
CONSTANTS_WEIGHT = 10.0
FIRST_STEPS, FIRST_STEPS_SHARE = 0.1, 0.2  # noise levels above 0.9, the first two of 20 model calls
UNCONDITIONAL = 0.1  # share of examples that learn the null condition, for guidance
MUON_LR, ADAM_LR = 0.02, 2e-3
HELD_OUT_SEED = 1_000_000  # training draws from seeds below, judging from here on
GUIDANCE, STEPS = 3.0, 20

LEARNED = ("transformer", "condition_encoder", "text_encoder")
UNSAID = -100  # what cross entropy leaves out
HINT_CLASSES = (GENRE.count, KEY.count, TEMPO.count, *(2 for _ in PARTS))
HINT_WEIGHT = 0.05


# ---- the parts of the pipeline


@cache
def build_tokenizer() -> PreTrainedTokenizerFast:
    """Make a word-level tokenizer over everything the composer may write, numbers to 600, and what is unknown."""
    splitter = pre_tokenizers.Split(Regex(WORDS), behavior="removed", invert=True)
    lower = normalizers.Lowercase()
    rng = np.random.default_rng(0)
    words: set[str] = {str(number) for number in range(601)}
    template = AceStepPipeline._format_prompt
    for _ in range(20_000):
        text, lyrics = template(
            AceStepPipeline, **_prompt_fields(write_prompt(rng, draw_brief(rng)), "[Instrumental]", 20)
        )
        for part in (text, lyrics):
            words.update(
                word for word, _ in splitter.pre_tokenize_str(lower.normalize_str(part.replace(END_OF_TEXT, "")))
            )
    words.update(f"{tonic}{sign} {mode}" for tonic in "abcdefg" for sign in ("", "#", "b") for mode in MODES)
    vocabulary = {word: i for i, word in enumerate([END_OF_TEXT, UNKNOWN, *sorted(words)])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.Sequence(
        [lower, *(normalizers.Replace(f"{flat}b m", f"{sharp}# m") for flat, sharp in FLATS.items())]
    )
    tokenizer.pre_tokenizer = splitter
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token=UNKNOWN, pad_token=END_OF_TEXT, additional_special_tokens=[END_OF_TEXT]
    )


def build_pipeline(codec: nn.Module | None = None) -> AceStepPipeline:
    """Make the untrained pipeline of ACE-Step's own classes; the codec has nothing to learn and may come later."""
    tokenizer = build_tokenizer()
    text_encoder = Qwen3Model(
        Qwen3Config(
            vocab_size=len(tokenizer), hidden_size=128, intermediate_size=256, num_hidden_layers=2,
            num_attention_heads=4, num_key_value_heads=4, head_dim=32, max_position_embeddings=4096,
            tie_word_embeddings=True, use_cache=False,
        )
    )  # fmt: skip
    condition_encoder = AceStepConditionEncoder(
        hidden_size=128, intermediate_size=256, text_hidden_dim=128, timbre_hidden_dim=CHANNELS,
        num_lyric_encoder_hidden_layers=1, num_timbre_encoder_hidden_layers=1, num_attention_heads=4,
        num_key_value_heads=4, head_dim=32, rope_theta=1e4,
    )  # fmt: skip
    buffer = condition_encoder.silence_latent
    buffer.copy_(torch.from_numpy(clock(buffer.shape[1]))[None])
    transformer = AceStepTransformer1DModel(
        hidden_size=192, intermediate_size=512, num_hidden_layers=6, num_attention_heads=6, num_key_value_heads=6,
        head_dim=32, in_channels=3 * CHANNELS, audio_acoustic_hidden_dim=CHANNELS, patch_size=PATCH, rope_theta=1e4,
        sliding_window=32, encoder_hidden_size=128,
    )  # fmt: skip
    return AceStepPipeline(
        vae=codec,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        transformer=transformer,
        condition_encoder=condition_encoder,
        scheduler=FlowMatchEulerDiscreteScheduler(num_train_timesteps=1, shift=1.0),
    )


def _prompt_fields(prompt: Prompt, lyrics: str, duration_s: float) -> dict[str, Any]:
    return {
        "prompt": prompt.caption,
        "lyrics": lyrics,
        "audio_duration": duration_s,
        "bpm": prompt.bpm,
        "keyscale": prompt.keyscale,
        "timesignature": prompt.timesignature,
    }


# ---- the examples


@dataclass(frozen=True)
class Batch:
    """`hints` are what each prompt asks for: genre, key, tempo and four parts, [B, 7], UNSAID where it does not.

    All prompts of a batch have the same number of tokens, because the transformer sees no padding mask.
    """

    latents: Tensor  # [B, T, C]
    text_ids: Tensor  # [B, L]
    lyric_ids: Tensor  # [B, M]
    hints: Tensor


def hints_of(brief: Brief) -> list[int]:
    """Return the classes that a brief asks for, as training's side task wants them."""
    key = UNSAID if brief.tonic is None or brief.mode is None else brief.tonic * len(MODES) + brief.mode
    tempo = UNSAID if brief.bpm is None else nearest_tempo(brief.bpm)
    asked = dict(brief.parts)
    return [brief.genre, key, tempo, *(int(asked[part]) if part in asked else UNSAID for part in PARTS)]


class Examples:
    """An endless stream of batches, each composed when it is asked for; the same seed gives the same stream."""

    def __init__(self, pipeline: AceStepPipeline, seed: int) -> None:
        self.pipeline = pipeline
        self.rng = np.random.default_rng(seed)
        self.waiting: dict[int, list[tuple[Brief, Prompt]]] = defaultdict(list)

    def __iter__(self) -> Iterator[Batch]:
        while True:
            frames = self._draw_frames()
            yield self._batch(frames, max(2, FRAMES_PER_BATCH // frames))

    def _draw_frames(self) -> int:
        low, high = ((SHORTEST, USUAL), (USUAL, LONG), (LONG, LONGEST))[int(self.rng.choice(3, p=(0.75, 0.15, 0.1)))]
        return int(self.rng.integers(low, high + 1))

    def _batch(self, frames: int, size: int) -> Batch:
        group = self._same_length(size)
        duration_s = frames / FRAME_RATE
        pieces = [encode_piece(compose(self.rng, brief, duration_s), frames) for brief, _ in group]
        lyrics = self._lyrics()
        texts = [self.pipeline._format_prompt(**_prompt_fields(prompt, lyrics, duration_s)) for _, prompt in group]
        return Batch(
            latents=torch.from_numpy(np.stack(pieces)),
            text_ids=self._tokens([text for text, _ in texts]),
            lyric_ids=self._tokens([lyric for _, lyric in texts]),
            hints=torch.tensor([hints_of(brief) for brief, _ in group]),
        )

    def _same_length(self, size: int) -> list[tuple[Brief, Prompt]]:
        while True:
            for group in self.waiting.values():
                if len(group) >= size:
                    taken, group[:] = group[:size], group[size:]
                    return taken
            drawn = [draw_brief(self.rng) for _ in range(256)]
            prompts = [self._with_unknown_words(write_prompt(self.rng, brief)) for brief in drawn]
            texts = [self.pipeline._format_prompt(**_prompt_fields(prompt, "", 20))[0] for prompt in prompts]
            for brief, prompt, ids in zip(drawn, prompts, self.pipeline.tokenizer(texts).input_ids, strict=True):
                self.waiting[len(ids)].append((brief, prompt))

    def _with_unknown_words(self, prompt: Prompt) -> Prompt:
        """Strew words nobody taught it into some captions, so that free prompts do no harm."""
        if self.rng.random() < 0.7:
            return prompt
        words = prompt.caption.split(" ")
        for _ in range(int(self.rng.integers(1, 6))):
            words.insert(int(self.rng.integers(len(words) + 1)), "qwxz")
        return Prompt(" ".join(words), prompt.bpm, prompt.keyscale, prompt.timesignature)

    def _lyrics(self) -> str:
        draw = self.rng.random()
        if draw < 0.5:
            return "[Instrumental]" if draw < 0.3 else ""
        return "[verse] " + " ".join(["qwxz"] * int(self.rng.integers(1, 80)))

    def _tokens(self, texts: list[str]) -> Tensor:
        return torch.tensor(self.pipeline.tokenizer(texts).input_ids)


# ---- the training


class PlainAttention(AceStepAttnProcessor2_0):  # type: ignore[misc]
    """The transformer's attention as two matrix products: four times faster to train than the fused one on a CPU."""

    def __call__(
        self,
        attn: AceStepAttention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        image_rotary_emb: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        source = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        query = attn.norm_q(attn.to_q(hidden_states).unflatten(-1, (attn.heads, -1)))
        key = attn.norm_k(attn.to_k(source).unflatten(-1, (attn.kv_heads, -1)))
        value = attn.to_v(source).unflatten(-1, (attn.kv_heads, -1))
        if image_rotary_emb is not None:
            rotate = partial(apply_rotary_emb, freqs_cis=image_rotary_emb, use_real_unbind_dim=-2, sequence_dim=1)
            query, key = rotate(query), rotate(key)
        query, key, value = (heads.transpose(1, 2) for heads in (query, key.to(value.dtype), value))
        weights = query.to(value.dtype) @ key.transpose(-1, -2) * attn.scaling
        if attention_mask is not None:
            weights = weights + attention_mask
        mixed = torch.softmax(weights.float(), dim=-1).to(value.dtype) @ value
        projected: Tensor = attn.to_out[0](mixed.transpose(1, 2).flatten(2))
        return projected


def hint_loss(hinted: Tensor, hints: Tensor) -> Tensor:
    """Sum the cross entropies of all that the prompts say."""
    logits = torch.split(hinted, list(HINT_CLASSES), dim=-1)
    losses = [
        nn.functional.cross_entropy(each, wanted, ignore_index=UNSAID)
        for each, wanted in zip(logits, hints.T, strict=True)
        if (wanted != UNSAID).any()
    ]
    return torch.stack(losses).sum()


def draw_timesteps(size: int, device: torch.device) -> Tensor:
    """Draw noise levels [B]: mostly in the middle, and a share near 1, where a run decides what the prompt asks for."""
    usual = torch.sigmoid(torch.randn(size, device=device) + 0.6)
    first = 1 - FIRST_STEPS * torch.rand(size, device=device)
    return torch.where(torch.rand(size, device=device) < FIRST_STEPS_SHARE, first, usual)


class Trainer:
    """One run: model, optimisers, moving average and clock, all of which state.pt keeps."""

    def __init__(self, out: Path, *, minutes: float, seed: int, device: str) -> None:
        torch.manual_seed(seed)
        self.out, self.minutes, self.seed, self.device = out, minutes, seed, torch.device(device)
        self.pipeline = build_pipeline()
        self.pipeline.to(self.device)
        self.modules = nn.ModuleDict({name: getattr(self.pipeline, name) for name in LEARNED})
        self.pipeline.condition_encoder.timbre_encoder.requires_grad_(False)  # it only ever hears the clock
        self.pipeline.condition_encoder.lyric_encoder.requires_grad_(False)  # there is no voice to sing
        self.modules["hint_head"] = nn.Linear(self.pipeline.text_encoder.config.hidden_size, sum(HINT_CLASSES))
        self.modules.to(self.device)
        self.average = deepcopy(self.modules).requires_grad_(False)
        self.pipeline.transformer.set_attn_processor(PlainAttention())
        self.optimisers = self._optimisers()
        self.step, self.elapsed_s, self.best = 0, 0.0, -1.0
        self.timbre = self._timbre()

    def _optimisers(self) -> list[torch.optim.Optimizer]:
        matrices: list[nn.Parameter] = []
        others: list[nn.Parameter] = []
        for name, parameter in self.modules.named_parameters():
            if parameter.requires_grad:
                inner = parameter.ndim == 2 and ".layers." in name and name.startswith("transformer")
                (matrices if inner else others).append(parameter)
        return [
            torch.optim.Muon(matrices, lr=MUON_LR, momentum=0.95, weight_decay=0.01),
            torch.optim.AdamW(others, lr=ADAM_LR, betas=(0.9, 0.98), weight_decay=0.01),
        ]

    @torch.no_grad()
    def _timbre(self) -> Tensor:
        encoder = self.pipeline.condition_encoder
        frames = math.ceil(30 * FRAME_RATE)
        embedding: Tensor
        embedding, _ = encoder.timbre_encoder(encoder.silence_latent[:, :frames], torch.zeros(1, dtype=torch.long))
        return embedding

    def condition(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Encode prompts as the pipeline does, without its padding: lyrics, timbre, text, [B, L, D].

        Returns with it what the last token of the text tells of the prompt, [B, classes]: a side task that teaches the
        text encoder to read within minutes, where the noise of diffusion alone took it hours.
        """
        encoder = self.pipeline.condition_encoder
        size = len(batch.text_ids)
        words = self.pipeline.text_encoder(input_ids=batch.text_ids).last_hidden_state
        text = encoder.text_projector(words)
        with torch.no_grad():
            lyric_words = self.pipeline.text_encoder.get_input_embeddings()(batch.lyric_ids[:1])
            lyric = encoder.lyric_encoder(lyric_words, torch.ones_like(batch.lyric_ids[:1]))
        hidden = torch.cat([lyric.expand(size, -1, -1), self.timbre.expand(size, -1, -1), text], dim=1)
        null = torch.rand(size, 1, 1, device=hidden.device) < UNCONDITIONAL
        hinted: Tensor = self.modules["hint_head"](words[:, -1])
        return torch.where(null, encoder.null_condition_emb.to(hidden.dtype), hidden), hinted

    def losses(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Flow matching (Lipman et al. 2022): the velocity at x_t = (1 - t) x0 + t noise is noise - x0."""
        x0 = batch.latents
        size, frames, _ = x0.shape
        t = draw_timesteps(size, x0.device)
        noise = torch.randn_like(x0)
        x_t = (1 - t[:, None, None]) * x0 + t[:, None, None] * noise
        silence = self.pipeline.condition_encoder.silence_latent[:, :frames].expand(size, -1, -1)
        with torch.autocast(self.device.type, dtype=torch.bfloat16):
            condition, hinted = self.condition(batch)
            velocity = self.pipeline.transformer(
                hidden_states=x_t,
                timestep=t,
                timestep_r=t,
                encoder_hidden_states=condition,
                context_latents=torch.cat([silence, torch.ones_like(x0)], dim=-1),
                return_dict=False,
            )[0]
        error = (velocity.float() - (noise - x0)) ** 2
        weight = torch.ones(CHANNELS, device=x0.device)
        weight[GENRE.channels] = CONSTANTS_WEIGHT
        velocity_loss = (error * weight).mean() / weight.mean()
        return velocity_loss, hint_loss(hinted.float(), batch.hints)

    def train_step(self, batch: Batch) -> tuple[float, float]:
        batch = Batch(*(getattr(batch, field.name).to(self.device) for field in fields(batch)))
        share = min(self.elapsed_s / (60 * self.minutes), 1.0)
        rate = min(1.0, (self.step + 1) / WARM_UP_STEPS) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * share)))
        for optimiser, peak in zip(self.optimisers, (MUON_LR, ADAM_LR), strict=True):
            for group in optimiser.param_groups:
                group["lr"] = peak * rate
        loss, side_loss = self.losses(batch)
        (loss + HINT_WEIGHT * side_loss).backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.modules.parameters(), 1.0)
        for optimiser in self.optimisers:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        decay = min(EMA_DECAY, (1 + self.step) / (10 + self.step))
        for averaged, current in zip(self.average.parameters(), self.modules.parameters(), strict=True):
            averaged.lerp_(current.detach(), 1 - decay)
        self.step += 1
        return float(loss.detach()), float(side_loss.detach())

    def run(self, save_every_s: float = 300) -> None:
        examples = iter(Examples(self.pipeline, self.seed + self.step))
        started, base = time.monotonic(), self.elapsed_s
        losses: list[tuple[float, float]] = []
        saved_s = base
        while self.elapsed_s < 60 * self.minutes:
            losses.append(self.train_step(next(examples)))
            self.elapsed_s = base + time.monotonic() - started
            if self.step % 25 == 0:
                loss, side_loss = np.mean(losses[-100:], axis=0)
                print(
                    f"step {self.step}  {self.elapsed_s / 60:.1f} of {self.minutes:g} min  "
                    f"loss {loss:.4f} hints {side_loss:.3f}  {len(losses) / (self.elapsed_s - base):.2f} steps/s",
                    flush=True,
                )
            if self.elapsed_s - saved_s > save_every_s:
                self.save()
                saved_s = self.elapsed_s
        self.save()

    def save(self) -> None:
        """Write state.pt, judge the averaged weights, and write them as a pipeline if they are the best so far."""
        self.out.mkdir(parents=True, exist_ok=True)
        pipeline = self.averaged_pipeline()
        score = judge(pipeline)
        print(f"step {self.step}  held-out {score}", flush=True)
        state = {
            "model": self.modules.state_dict(),
            "average": self.average.state_dict(),
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
            "counters": (self.step, self.elapsed_s, max(self.best, score.mean)),
            "torch_rng": torch.get_rng_state(),
        }
        torch.save(state, self.out / "state.pt.new")
        (self.out / "state.pt.new").replace(self.out / "state.pt")
        if score.mean >= self.best:
            self.best = score.mean
            export(pipeline, self.out)

    def averaged_pipeline(self) -> AceStepPipeline:
        parts = {name: deepcopy(self.average[name]).eval() for name in LEARNED}
        return AceStepPipeline(vae=None, tokenizer=self.pipeline.tokenizer, scheduler=self.pipeline.scheduler, **parts)

    def load(self) -> None:
        state = torch.load(self.out / "state.pt", map_location=self.device, weights_only=True)
        self.modules.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
        self.step, self.elapsed_s, self.best = state["counters"]
        torch.set_rng_state(state["torch_rng"].cpu())
        self.timbre = self._timbre()


def export(pipeline: AceStepPipeline, folder: Path) -> None:
    """Write the pipeline in half precision, with its codec, as `AceStepPipeline.from_pretrained(folder)` opens it."""
    from generation.sketch.codec import SketchCodec  # plays through the synthesiser, which training does not need

    whole = AceStepPipeline(**{**pipeline.components, "vae": SketchCodec()})
    whole.to(torch.float16)
    whole.text_encoder.float()  # transformers opens weights as they were saved, diffusers as float32: they must agree
    whole.save_pretrained(folder)


# ---- the judging


@dataclass(frozen=True)
class Score:
    """Shares of what the briefs asked for and the decoded symbols have."""

    genre: float
    key: float
    tempo: float
    parts: float

    @property
    def mean(self) -> float:
        return (self.genre + self.key + self.tempo + self.parts) / 4

    def __str__(self) -> str:
        return f"genre {self.genre:.2f}  key {self.key:.2f}  tempo {self.tempo:.2f}  parts {self.parts:.2f}"


def judge(pipeline: AceStepPipeline, prompts: int = 24, seconds: float = 20.0) -> Score:
    """Generate for held-out prompts at fixed seeds and read the symbols, without sound."""
    pipeline.set_progress_bar_config(disable=True)
    hits: dict[str, list[float]] = defaultdict(list)
    for i in range(prompts):
        rng = np.random.default_rng(HELD_OUT_SEED + i)
        brief = draw_brief(rng)
        prompt = write_prompt(rng, brief)
        latents = pipeline(
            **_prompt_fields(prompt, "", seconds),
            num_inference_steps=STEPS,
            guidance_scale=GUIDANCE,
            shift=1.0,
            generator=torch.Generator().manual_seed(i),
            output_type="latent",
        ).audios[0]
        piece = decode_piece(latents.float().cpu().numpy())
        hits["genre"].append(piece.genre == brief.genre)
        if brief.tonic is not None:
            hits["key"].append((piece.tonic, piece.mode) == (brief.tonic, brief.mode))
        if brief.bpm is not None and SLOWEST_BPM <= brief.bpm <= FASTEST_BPM:
            hits["tempo"].append(piece.tempo == nearest_tempo(brief.bpm))
        hits["parts"] += [piece.parts[PARTS.index(part)] == wanted for part, wanted in brief.parts]
    return Score(**{name: float(np.mean(values)) for name, values in hits.items()})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, required=True, help="training time in all, earlier calls counted in")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    trainer = Trainer(options.out, minutes=options.minutes, seed=options.seed, device=options.device)
    if (options.out / "state.pt").exists():
        trainer.load()
        print(f"going on from step {trainer.step}")
    trainer.run()


if __name__ == "__main__":
    main()
