"""What may be asked for: ranges and every rule of resuming, for form posts, JSON bodies and commands alike.

A form reads rows and files to decide, but writes nothing and queues nothing: it hands out a TakeRequest.
"""

import re
import secrets
from collections.abc import Iterator, Mapping
from typing import Any, Self
from uuid import uuid4

from django import forms
from django.conf import settings
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.core.validators import RegexValidator
from django.db.models import Sum

from generation.audio import MEDIA_TYPES
from generation.engine.schedule import LEVEL_TOLERANCE, Plan, PlanError
from generation.fields import Choice, Lifetime, MusicalKey, Number, RequestId, Text, TimeSignature, WholeNumber, YesNo
from generation.models import Sample, Worker
from generation.takes import TakeRequest, WeightsMissing, param_types, plan_take, requested_duration_s
from generation.variants import Variant, all_variants
from latents import store
from latents.errors import LatentDamaged, LatentFileMissing, LatentNotFound, SampleIndexOutOfRange
from latents.models import LatentRecord

NEEDS_A_LATENT = "Denoise below 1.0 needs a latent to resume from"

MAX_STEPS = 200
MAX_BATCH = 16
MAX_SEED = 2**63 - 1
# Where the latent or the plan sets the real limit, and says so better.
MAX_INDEX = 2**31 - 1
DEFAULT_DURATION_S = 30.0
# Random seeds are short enough to be read out, typed, and kept exactly by JavaScript.
RANDOM_SEEDS = 2**32
# A duration that went through a page or a URL may have lost its last digits.
DURATION_TOLERANCE_S = 0.005

_LANGUAGE = re.compile(r"\A(unknown|[a-z]{2,3}(-[a-z0-9]{2,8})*)\Z", re.ASCII | re.IGNORECASE)
# Refusals with these codes name what they are about; others only make sense beside their field.
_STANDS_ALONE = {"not_found", "latent", "plan", "unknown", "weights"}


class PlanForm(forms.Form):
    """The fields that decide which part of the schedule runs.

    Once it is valid, `plan` is what will run and `source` the latent that was named, which level 1.0 ignores.
    """

    model_variant = Choice(label="Model", required=False)
    inference_steps = WholeNumber(
        label="Steps", low=1, high=MAX_STEPS, help_text="More steps take longer and come out cleaner."
    )
    shift = Number(
        label="Shift", low=0.1, high=10, step=0.1, help_text="Above 1, more of the steps go into the overall shape."
    )
    init_latent_id = Text(
        label="Latent to resume from", required=False, max_length=100, help_text="The id of a stored latent."
    )
    t_start = Number(
        label="Denoise",
        low=0,
        high=1,
        step=0.05,
        slider=True,
        help_text="How much of the schedule to run. 1.0 = full denoise (ignores latent). "
        "Lower values preserve more of the original.",
    )
    resume_sample_index = WholeNumber(
        label="Sample index", low=0, high=MAX_INDEX, help_text="Which item of the latent to resume, from 0."
    )
    checkpoint_step = WholeNumber(
        label="Checkpoint step",
        low=1,
        high=MAX_INDEX,
        help_text="Also keep the unfinished music before this model call, to continue from there later.",
    )

    def __init__(self, *args: Any, user: User, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.user = user
        self.source: LatentRecord | None = None
        self.plan: Plan | None = None
        self.unknown_fields: list[str] = []
        self.variants = {variant.name: variant for variant in all_variants()}
        field = self.fields["model_variant"]
        assert isinstance(field, forms.ChoiceField)
        field.choices = [(variant.name, _variant_label(variant)) for variant in self.variants.values()]

    @classmethod
    def from_json(cls, body: Mapping[str, Any], *, user: User) -> Self:
        """Bind a JSON object; unlike a form post it may name nothing that the form does not know."""
        form = cls(body, user=user)
        form.unknown_fields = sorted(body.keys() - form.fields.keys())
        return form

    @property
    def status(self) -> int:
        """The HTTP status of the outcome: 200, 404 for a latent that is not there, or 422."""
        codes = {error.code for errors in self.errors.as_data().values() for error in errors}
        return 404 if "not_found" in codes else 422 if codes else 200

    def refusals(self) -> Iterator[tuple[str, str]]:
        """Return each refusal as the field that it must be read beside, empty where it stands alone, and its words."""
        for name, errors in self.errors.as_data().items():
            for error in errors:
                beside = name if name in self.fields and error.code not in _STANDS_ALONE else ""
                yield from ((beside, message) for message in error.messages)

    @property
    def sentences(self) -> list[str]:
        """Each refusal in words that stand alone, away from its field."""
        return [f"{self[name].label}: {message}" if name else message for name, message in self.refusals()]

    @property
    def variant(self) -> Variant:
        """The model that was asked for, or the default while none is known."""
        asked = (self.data if self.is_bound else self.initial).get("model_variant")
        default = next(iter(self.variants.values()))
        return self.variants.get(asked, default) if isinstance(asked, str) else default

    def clean(self) -> dict[str, Any]:
        for name in self.unknown_fields:
            self.add_error(None, ValidationError(f"Unknown field {name[:100]!r}", code="unknown"))
        data = self.cleaned_data
        if "model_variant" in self.errors:
            return data
        variant = self.variant
        data["model_variant"] = variant.name
        data["inference_steps"] = _or_default(data.get("inference_steps"), variant.default_steps)
        data["shift"] = _or_default(data.get("shift"), variant.default_shift)
        if data.get("init_latent_id"):
            self.source = self._find_source(variant)
        else:
            self._refuse_resume_without_latent()
        if not self.errors:
            self._plan(variant)
        return data

    def _find_source(self, variant: Variant) -> LatentRecord | None:
        """Return the latent that was named if this variant can take it up, else say why not."""
        latent_id = self.cleaned_data["init_latent_id"]
        index = self.cleaned_data.get("resume_sample_index") or 0
        try:
            record = LatentRecord.objects.find(latent_id, self.user)
            self._refuse_mismatch(record, variant)
            if index >= record.batch_size:
                error = SampleIndexOutOfRange(index, record.batch_size)
                self.add_error("resume_sample_index", ValidationError(str(error), code="latent"))
            store.check(record)
        except (LatentNotFound, LatentFileMissing) as error:
            self.add_error("init_latent_id", ValidationError(str(error), code="not_found"))
        except LatentDamaged as error:
            self.add_error("init_latent_id", ValidationError(str(error), code="latent"))
        else:
            self.cleaned_data["init_latent_id"] = str(record.pk)  # it may have been typed in capitals
            return record
        return None

    def _refuse_mismatch(self, record: LatentRecord, variant: Variant) -> None:
        if mismatch := _mismatch(record, variant):
            self.add_error("init_latent_id", ValidationError(mismatch, code="latent"))

    def _refuse_resume_without_latent(self) -> None:
        t_start = self.cleaned_data.get("t_start")
        if t_start is not None and t_start < 1 - LEVEL_TOLERANCE:
            self.add_error("t_start", ValidationError(NEEDS_A_LATENT, code="latent"))
        if self.cleaned_data.get("resume_sample_index") is not None:
            self.add_error("resume_sample_index", ValidationError(NEEDS_A_LATENT, code="latent"))

    def _plan(self, variant: Variant) -> None:
        data = self.cleaned_data
        is_checkpoint = self.source is not None and self.source.kind == LatentRecord.Kind.CHECKPOINT
        try:
            self.plan = plan_take(
                variant,
                steps=data["inference_steps"],
                shift=data["shift"],
                t_start=data["t_start"],
                source=self.source,
            )
        except PlanError as error:
            self.add_error("t_start" if is_checkpoint else "inference_steps", ValidationError(str(error), code="plan"))
            return
        data["t_start"] = self.plan.requested
        if data["checkpoint_step"] is not None:
            try:
                self.plan.rest_from(data["checkpoint_step"])
            except PlanError as error:
                self.add_error("checkpoint_step", ValidationError(str(error), code="plan"))


class GenerationForm(PlanForm):
    """Everything that a person may ask of one generation; once it is valid, `take_request` says what will run.

    Only the caption must be there: what is left out is the model's default, and a seed is drawn here, once.
    """

    caption = Text(
        label="Describe the music",
        max_length=2000,
        widget=forms.Textarea(attrs={"rows": 3}),
        help_text="Genre, mood, instruments: warm lofi, piano and drums",
        error_messages={"required": "Say in a few words what to make."},
    )
    lyrics = Text(label="Lyrics", required=False, max_length=10_000, widget=forms.Textarea(attrs={"rows": 4}))
    instrumental = YesNo(label="Instrumental", required=False, help_text="No voice; the lyrics are left aside.")
    vocal_language = Text(
        label="Language of the lyrics",
        required=False,
        max_length=20,
        validators=[RegexValidator(_LANGUAGE, "Must be a language code such as en or pt-br.", code="language")],
        help_text="A code such as en, de or ja.",
    )
    bpm = WholeNumber(label="Tempo", low=30, high=300, help_text="Beats per minute; empty lets the model choose.")
    keyscale = MusicalKey(label="Key", required=False, max_length=20, help_text="A minor, F# major, …")
    timesignature = TimeSignature(label="Time signature")
    duration = Number(label="Duration in seconds", low=1, high=600, step=1)  # __init__ sets the model's own maximum
    batch_size = WholeNumber(label="Takes", low=1, high=MAX_BATCH, help_text="How many to make at once.")
    seed = WholeNumber(
        label="Seed", low=0, high=MAX_SEED, help_text="The same seed gives the same music; empty draws a new one."
    )
    guidance_scale = Number(
        label="Guidance", low=0, high=30, step=0.5, help_text="How closely to follow the description."
    )
    cfg_interval_start = Number(label="Guidance from", low=0, high=1, step=0.05, help_text="Share of the run.")
    cfg_interval_end = Number(label="Guidance until", low=0, high=1, step=0.05, help_text="Share of the run.")
    audio_format = Choice(label="Format", required=False, choices=[(name, name.upper()) for name in MEDIA_TYPES])
    latent_ttl = Lifetime(
        label="Keep the latents for", required=False, max_length=20, help_text="Such as 12h or 30d; empty: as usual."
    )
    request_id = RequestId(required=False, max_length=40, widget=forms.HiddenInput())

    def __init__(self, *args: Any, user: User, **kwargs: Any) -> None:
        super().__init__(*args, user=user, **kwargs)
        self.take_request: TakeRequest | None = None
        self.fields["duration"] = Number(
            label=self.fields["duration"].label, low=1, high=self.variant.max_duration_s, step=1
        )
        self._show_defaults()
        if not self.is_bound:
            self.initial.setdefault("request_id", str(uuid4()))
            self._lock_duration_of_initial()

    def clean(self) -> dict[str, Any]:
        data = super().clean()
        if self.plan is None or self.errors:
            return data
        if self.resumes:
            self._apply_resume(data)
        self._fill_in(data)
        self._refuse_what_does_not_fit(data)
        self._refuse_missing_weights()
        self._refuse_full_storage()
        if not self.errors:
            params = {name: data[name] for name in param_types()}
            self.take_request = TakeRequest(**params, plan=self.plan, parent=self.source if self.resumes else None)
        return data

    @property
    def resumes(self) -> bool:
        """Whether the run needs the latent that was named."""
        return self.source is not None and self.plan is not None and not self.plan.is_full

    def _apply_resume(self, data: dict[str, Any]) -> None:
        """Keep the length of what is resumed, and refuse copies that would all be the same."""
        assert self.source is not None
        assert self.plan is not None
        self._lock_duration()
        locked = requested_duration_s(self.source)
        asked = _or_default(data["duration"], locked)
        if abs(asked - locked) > DURATION_TOLERANCE_S:
            self.add_error(
                "duration", f"Must be {locked:g}, the length of what is resumed, while Denoise is below 1.0."
            )
        data["duration"] = locked
        draws_noise = not (self.plan.is_copy or self.source.kind == LatentRecord.Kind.CHECKPOINT)
        if not draws_noise and _or_default(data["batch_size"], 1) > 1:
            self.add_error("batch_size", "Must be 1 here: every copy would be the same.")

    def _fill_in(self, data: dict[str, Any]) -> None:
        """Put the model's defaults where nothing was said, and draw the seed."""
        defaults = self._defaults() | {
            "seed": secrets.randbelow(RANDOM_SEEDS),
            "audio_format": "flac",
            "request_id": uuid4(),
        }
        data |= {name: value for name, value in defaults.items() if data.get(name) in (None, "")}
        if self.variant.is_turbo:
            # Its guidance is in its weights, whatever the field says; what is kept is what ran.
            data["guidance_scale"] = self.variant.default_guidance
        if data["init_latent_id"]:
            data["resume_sample_index"] = data["resume_sample_index"] or 0

    def _defaults(self) -> dict[str, Any]:
        return {
            "vocal_language": "en",
            "duration": min(DEFAULT_DURATION_S, self.variant.max_duration_s),
            "batch_size": 1,
            "inference_steps": self.variant.default_steps,
            "shift": self.variant.default_shift,
            "guidance_scale": self.variant.default_guidance,
            "cfg_interval_start": 0.0,
            "cfg_interval_end": 1.0,
        }

    def _refuse_what_does_not_fit(self, data: dict[str, Any]) -> None:
        if data["cfg_interval_start"] > data["cfg_interval_end"]:
            self.add_error("cfg_interval_end", "Must not be less than where guidance starts.")
        highest_seed = MAX_SEED - data["batch_size"] + 1  # the batch counts on from the seed
        if data["seed"] > highest_seed:
            self.add_error("seed", f"Must be at most {highest_seed} for {data['batch_size']} takes.")

    def _refuse_missing_weights(self) -> None:
        """Accept a model that is not on this machine only where another one serves it."""
        name = self.variant.name
        if not self.variant.is_available and not Worker.objects.live().filter(variant=name).exists():
            self.add_error("model_variant", ValidationError(str(WeightsMissing(name)), code="weights"))

    def _refuse_full_storage(self) -> None:
        limit = settings.REPRISE_MAX_STORED_BYTES
        if limit is not None and self._stored_bytes() >= limit:
            message = f"You have stored all of the {limit / 1e9:g} GB that you may: delete what you no longer need"
            self.add_error(None, ValidationError(message, code="storage"))

    def _stored_bytes(self) -> int:
        """Return what the user's latents and sound take, without what is encoded on demand."""
        sound = Sample.objects.filter(job__owner=self.user, purged_at=None).aggregate(total=Sum("size_bytes"))
        return LatentRecord.objects.visible_to(self.user).stored_bytes() + (sound["total"] or 0)

    def _show_defaults(self) -> None:
        """Let an empty field show what empty means for the model at hand."""
        placeholders = self._defaults() | {"bpm": "any", "keyscale": "any", "seed": "random"}
        for name, value in placeholders.items():
            self.fields[name].widget.attrs["placeholder"] = f"{value:g}" if isinstance(value, float) else str(value)

    def _lock_duration(self) -> None:
        self.fields["duration"].widget.attrs["readonly"] = True
        self.fields["duration"].help_text = "The length of what is resumed, while Denoise is below 1.0."

    def _lock_duration_of_initial(self) -> None:
        """Do the same for a form that a page opens with resume state in it."""
        try:
            level = self.fields["t_start"].clean(self.initial.get("t_start"))
            record = LatentRecord.objects.find(self.initial.get("init_latent_id") or "", self.user)
        except (ValidationError, LatentNotFound):
            return  # the form says so once it is sent
        if level is None:
            level = 1.0 if record.kind == LatentRecord.Kind.TAKE else record.checkpoint_level
        if level < 1 - LEVEL_TOLERANCE:
            self.initial["duration"] = requested_duration_s(record)
            self._lock_duration()


def _mismatch(record: LatentRecord, variant: Variant) -> str:
    """Return why this variant cannot take up a latent, or nothing if it can."""
    shape, wanted = (record.channels, record.frame_rate), (variant.channels, variant.frame_rate)
    is_unknown_but_fits = record.model_variant == "unknown" and shape == wanted
    if record.model_variant != variant.name and not is_unknown_but_fits:
        return f"Latent model mismatch: generated with '{record.model_variant}', current model is '{variant.name}'"
    if shape != wanted:  # an imported file says what it likes, and the name may have stood for another model
        return (
            f"Latent '{record.pk}' does not fit '{variant.name}': it has {shape[0]} channels at {shape[1]:g} frames/s, "
            f"the model {wanted[0]} at {wanted[1]:g}"
        )
    if record.frames > variant.frames_for(variant.max_duration_s):
        return f"Latent '{record.pk}' is longer than the {variant.max_duration_s:g} s that '{variant.name}' makes"
    return ""


def _or_default(value: Any, default: Any) -> Any:
    return default if value is None else value


def _variant_label(variant: Variant) -> str:
    return variant.name if variant.is_available else f"{variant.name} (not downloaded)"
