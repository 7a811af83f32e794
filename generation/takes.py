"""Make one take: load what it starts from, denoise, store the latents, then make sound of them.

The worker and the generate command both come through here; neither queues nor job rows are known. The order is the
promise: latents are safe before they are decoded, so that whatever goes wrong with the sound costs no second denoising.

torch is imported inside the functions that need it: forms and views, which read requests, stay light.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Self, get_type_hints

from django.conf import settings
from django.contrib.auth.models import User
from django.core.files.base import ContentFile
from django.core.files.storage import storages
from django.db import Error, transaction

from generation import audio
from generation.downloads import audio_name, remove_audio, tags_for
from generation.engine.schedule import LEVEL_TOLERANCE, Plan, PlanError, checkpoint_plan, plan
from generation.models import Sample
from generation.variants import Variant, get_variant
from latents import store
from latents.errors import LatentNotFound
from latents.lifetimes import parse_ttl
from latents.models import LatentRecord
from latents.store import Parentage, Provenance

if TYPE_CHECKING:
    from torch import Tensor

    from generation.engine.music_model import Denoised, MusicModel, Parent, Prompt

INSTRUMENTAL = "[Instrumental]"


class InvalidParams(ValueError):
    """Stored parameters that do not describe a take."""


class WeightsMissing(Exception):
    """The model's weights are not on this machine."""

    def __init__(self, name: str) -> None:
        super().__init__(f"The weights of '{name}' are not here. Fetch them with: manage.py fetch_model {name}")


class NotEnoughMemory(Exception):
    """The run did not fit; nothing has been stored."""

    def __init__(self, request: TakeRequest) -> None:
        takes = "a take" if request.batch_size == 1 else f"{request.batch_size} takes"
        super().__init__(f"Not enough memory for {takes} of {request.duration:g} s. Ask for fewer or shorter ones.")


@dataclass(frozen=True, kw_only=True)
class TakeRequest:
    """One generation exactly as it will run, nothing left to a default or to chance.

    Its parameters have the names and the values of the form, and can be sent to it again. `parent` is what the run
    starts from, and None where it starts from noise, even if a latent was named.
    """

    caption: str
    lyrics: str
    instrumental: bool
    vocal_language: str
    bpm: int | None
    keyscale: str
    timesignature: str
    duration: float
    batch_size: int
    seed: int
    inference_steps: int
    shift: float
    guidance_scale: float
    cfg_interval_start: float
    cfg_interval_end: float
    audio_format: str
    model_variant: str
    latent_ttl: str
    init_latent_id: str
    resume_sample_index: int | None
    t_start: float
    checkpoint_step: int | None

    plan: Plan
    parent: LatentRecord | None = None

    @property
    def variant(self) -> Variant:
        return get_variant(self.model_variant)

    @property
    def seeds(self) -> list[int]:
        """The seed of each item of the batch."""
        return [self.seed + index for index in range(self.batch_size)]

    @property
    def frames(self) -> int:
        """The length; a parent's own is never computed again from seconds."""
        return self.parent.frames if self.parent else self.variant.frames_for(self.duration)

    @property
    def continues_checkpoint(self) -> bool:
        return self.parent is not None and self.parent.kind == LatentRecord.Kind.CHECKPOINT

    @property
    def prompt(self) -> Prompt:
        from generation.engine.music_model import Prompt

        return Prompt(
            caption=self.caption,
            lyrics=INSTRUMENTAL if self.instrumental else self.lyrics,
            vocal_language=self.vocal_language,
            bpm=self.bpm,
            keyscale=self.keyscale,
            timesignature=self.timesignature,
            duration_s=self.duration,
        )

    def to_params(self) -> dict[str, Any]:
        """Return the parameters as JSON values, for the job's row and the latents' provenance."""
        return {name: getattr(self, name) for name in param_types()}

    @classmethod
    def from_params(cls, params: Mapping[str, Any], parent: LatentRecord | None) -> Self:
        """Read a job's row back; `parent` is the record it holds.

        Raises InvalidParams, UnknownVariant, PlanError, and LatentNotFound where the parent is not what was named.
        """
        if set(params) != set(param_types()):
            raise InvalidParams("The job's parameters are not those of this version")
        for name, expected in param_types().items():
            if not isinstance(params[name], expected):
                raise InvalidParams(f"The job's '{name}' cannot be {params[name]!r}")
        planned = plan_take(
            get_variant(params["model_variant"]),
            steps=params["inference_steps"],
            shift=params["shift"],
            t_start=params["t_start"],
            source=parent,
        )
        if planned.is_full:
            return cls(**params, plan=planned)
        if parent is None or str(parent.pk) != params["init_latent_id"]:
            raise LatentNotFound(params["init_latent_id"])
        return cls(**params, plan=planned, parent=parent)


def plan_take(
    variant: Variant, *, steps: int, shift: float, t_start: float | None, source: LatentRecord | None
) -> Plan:
    """Return what will run; `t_start` is None where it was left out. Raises PlanError."""
    if source is not None and source.kind == LatentRecord.Kind.CHECKPOINT:
        rest, ran = source.remaining_timesteps, source.schedule
        # An imported file may say anything.
        if not all(higher - lower > LEVEL_TOLERANCE for higher, lower in pairwise([1.0, *rest, 0.0])):
            raise PlanError(f"Latent '{source.pk}' is damaged: its schedule does not fall from 1 to 0")
        return checkpoint_plan(steps, shift, t_start, rest=rest, ran_steps=ran["steps"], ran_shift=ran["shift"])
    return plan(steps, shift, 1.0 if t_start is None else t_start, variant.snap)


def requested_duration_s(record: LatentRecord) -> float:
    """Return the seconds that the music was asked for, or its length where the record does not say."""
    asked = record.params.get("duration")
    fits = isinstance(asked, int | float) and abs(asked * record.frame_rate - record.frames) <= 1
    return float(asked) if fits else record.duration_s


@cache
def param_types() -> dict[str, Any]:
    """Return the name and type of each parameter that JSON carries: every field but what is derived from them."""
    derived = ("plan", "parent")
    return {name: hint for name, hint in get_type_hints(TakeRequest).items() if name not in derived}


@dataclass(frozen=True)
class Take:
    """What came of a request. The samples' files are durable, their rows are not saved and have no job yet."""

    record: LatentRecord
    checkpoint: LatentRecord | None
    samples: list[Sample]
    timing: dict[str, float]
    """Seconds by phase."""


def _ignore(*_: object) -> None:
    pass


def _once(write: Callable[[], None]) -> None:
    write()


def make_take(
    request: TakeRequest,
    *,
    owner: User,
    on_phase: Callable[[str], None] = _ignore,
    on_step: Callable[[int, int], None] = _ignore,
    on_stored: Callable[[LatentRecord, LatentRecord | None], None] = _ignore,
    on_tile: Callable[[int, int], None] = _ignore,
    insist: Callable[[Callable[[], None]], None] = _once,
) -> Take:
    """Make what was asked for; any of the callbacks may stop it by raising.

    `on_phase` hears "load", "denoise", "store" and "decode" as they begin, `on_step` the model calls done and their
    number, `on_stored` the take's record and its checkpoint's in the transaction that inserts them, `on_tile` the
    pieces of sound done. `insist` does that transaction, and may try it again.
    Raises WeightsMissing, NotEnoughMemory, a LatentError about the parent or the result, and DecodeOutOfMemory.
    """
    watch = _Stopwatch(on_phase)
    with watch.phase("load"):
        model = _load_model(request.variant)
        parent = _load_parent(request)
    with watch.phase("denoise"), _memory_for(request):
        denoised = model.denoise(
            request.prompt,
            request.plan,
            frames=request.frames,
            seed=request.seed,
            batch_size=request.batch_size,
            guidance_scale=request.guidance_scale,
            cfg_interval=(request.cfg_interval_start, request.cfg_interval_end),
            parent=parent,
            checkpoint_step=request.checkpoint_step,
            on_step=on_step,
        )
    with watch.phase("store"):
        provenance = _provenance(request, model, parent)
        record, checkpoint = _store_latents(request, denoised, provenance, owner, on_stored, insist)
    with watch.phase("decode"):
        samples = _make_samples(request, record, denoised.latents, model, on_tile)
    return Take(record, checkpoint, samples, watch.seconds)


def decode_take(
    request: TakeRequest,
    record: LatentRecord,
    *,
    checkpoint: LatentRecord | None = None,
    on_phase: Callable[[str], None] = _ignore,
    on_tile: Callable[[int, int], None] = _ignore,
) -> Take:
    """Finish a take whose latents are stored already: only make sound of them. Raises what make_take raises."""
    watch = _Stopwatch(on_phase)
    with watch.phase("load"):
        model = _load_model(request.variant)
        latents = store.load(record)
    with watch.phase("decode"):
        samples = _make_samples(request, record, latents, model, on_tile)
    return Take(record, checkpoint, samples, watch.seconds)


class _Stopwatch:
    """Announce each phase and measure it."""

    def __init__(self, on_phase: Callable[[str], None]) -> None:
        self.on_phase = on_phase
        self.seconds: dict[str, float] = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        self.on_phase(name)
        start = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - start, 3)


@contextmanager
def _memory_for(request: TakeRequest) -> Iterator[None]:
    """Say what to change where torch only says how many bytes it could not have."""
    from generation.engine.memory import is_out_of_memory

    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if is_out_of_memory(error):
            raise NotEnoughMemory(request) from error
        raise


def _load_model(variant: Variant) -> MusicModel:
    from generation.engine.music_model import loaded_model

    if not variant.is_available:
        raise WeightsMissing(variant.name)
    return loaded_model(variant.source, device=settings.REPRISE_DEVICE, compile=settings.REPRISE_COMPILE)


def _load_parent(request: TakeRequest) -> Parent | None:
    """Read and verify the one item that is resumed."""
    from generation.engine.music_model import Parent

    if request.parent is None:
        return None
    item = store.load_item(request.parent, request.resume_sample_index or 0)
    return Parent(item.latents, item.digest, item.momentum, is_checkpoint=request.continues_checkpoint)


def _provenance(request: TakeRequest, model: MusicModel, parent: Parent | None) -> Provenance:
    planned = request.plan
    return Provenance(
        model_variant=request.model_variant,
        frame_rate=model.frame_rate,
        caption=request.caption,
        seeds=request.seeds,
        params=request.to_params(),
        schedule={
            "steps": planned.steps,
            "shift": planned.shift,
            "timesteps": list(planned.timesteps),
            "requested": planned.requested,
            "effective": planned.effective,
        },
        runtime=model.runtime,
        parent=_parentage(request, parent),
    )


def _parentage(request: TakeRequest, parent: Parent | None) -> Parentage | None:
    if parent is None or request.parent is None:
        return None
    return Parentage(
        id=request.parent.pk,
        sample_index=request.resume_sample_index or 0,
        level=request.plan.effective,
        digest=parent.digest,
    )


def _store_latents(
    request: TakeRequest,
    denoised: Denoised,
    provenance: Provenance,
    owner: User,
    on_stored: Callable[[LatentRecord, LatentRecord | None], None],
    insist: Callable[[Callable[[], None]], None],
) -> tuple[LatentRecord, LatentRecord | None]:
    """Write the files, then all rows and what `on_stored` makes of them in one transaction: all or nothing."""
    ttl = parse_ttl(request.latent_ttl) if request.latent_ttl else None
    drafts: list[store.Draft] = []

    def insert() -> None:
        with transaction.atomic():
            for draft in drafts:
                draft.insert()
            on_stored(record, checkpoint)

    try:
        drafts.append(store.write(denoised.latents, provenance, owner=owner, ttl=ttl))
        record, checkpoint = drafts[0].record, None
        if kept := denoised.checkpoint:
            at_step = replace(provenance, checkpoint_step=kept.step)
            drafts.append(store.write(kept.latents, at_step, owner=owner, momentum=kept.momentum, ttl=ttl))
            checkpoint = drafts[1].record
        insist(insert)
    except Error:
        raise  # the rows may be there all the same, if only the answer was lost
    except BaseException:
        for draft in drafts:
            draft.discard()
        raise
    return record, checkpoint


def _make_samples(
    request: TakeRequest,
    record: LatentRecord,
    latents: Tensor,
    model: MusicModel,
    on_tile: Callable[[int, int], None],
) -> list[Sample]:
    """Decode and store one item after the other, so that only one item's sound is in memory; all or none stay."""
    samples: list[Sample] = []
    try:
        for index in range(len(latents)):
            sound = model.decode(latents[index : index + 1], on_tile=on_tile)[0]
            samples.append(_store_sample(request, record, index, sound, model.sample_rate))
    except BaseException:
        for sample in samples:
            remove_audio(sample)
        raise
    return samples


def _store_sample(
    request: TakeRequest, record: LatentRecord, index: int, sound: audio.Audio, sample_rate: int
) -> Sample:
    content = audio.encode(sound, sample_rate, "flac", tags_for(request.to_params(), request.seeds[index], record.pk))
    sample = Sample(
        index=index,
        seed=request.seeds[index],
        latent=record,
        latent_index=index,
        sha256=hashlib.sha256(content).hexdigest(),
        size_bytes=len(content),
        sample_rate=sample_rate,
        duration_s=len(sound) / sample_rate,
        loudness_lufs=audio.loudness_lufs(sound, sample_rate),
        peaks=audio.peaks(sound),
    )
    sample.audio_file = storages["audio"].save(audio_name(sample, "flac"), ContentFile(content))
    return sample
