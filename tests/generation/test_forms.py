"""What may be asked for, and every sentence with which the rest is refused."""

import json
import math
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.contrib.auth.models import User
from django.core.files.storage import storages
from django.http import QueryDict
from django.utils import timezone
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pytest_django import Settings

from generation.fields import BodyError, read_json
from generation.forms import NEEDS_A_LATENT, GenerationForm, PlanForm
from generation.models import Worker
from generation.takes import TakeRequest
from latents.models import LatentRecord

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("tiny_models")]

HYPOTHESIS = hypothesis_settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
UNKNOWN = "00000000-0000-4000-8000-000000000000"


def ask(user: User, **fields: Any) -> GenerationForm:
    return GenerationForm.from_json({"caption": "warm lofi", **fields}, user=user)


def accepted(form: GenerationForm) -> TakeRequest:
    assert form.is_valid(), form.sentences
    assert form.take_request is not None
    return form.take_request


def refused(form: PlanForm, field: str, sentence: str, status: int = 422) -> None:
    assert not form.is_valid()
    assert form.status == status
    assert sentence in form.errors.get(field, []), form.errors


# Defaults


def test_a_caption_is_enough(alice: User) -> None:
    request = accepted(ask(alice))
    params = request.to_params()
    assert isinstance(params.pop("seed"), int)
    assert params == {
        "caption": "warm lofi",
        "lyrics": "",
        "instrumental": False,
        "vocal_language": "en",
        "bpm": None,
        "keyscale": "",
        "timesignature": "",
        "duration": 30.0,
        "batch_size": 1,
        "inference_steps": 4,
        "shift": 1.0,
        "guidance_scale": 7.0,
        "cfg_interval_start": 0.0,
        "cfg_interval_end": 1.0,
        "audio_format": "flac",
        "model_variant": "tiny",
        "latent_ttl": "",
        "init_latent_id": "",
        "resume_sample_index": None,
        "t_start": 1.0,
        "checkpoint_step": None,
    }
    assert request.plan.is_full


def test_blanks_of_a_form_post_mean_the_defaults(alice: User) -> None:
    blanks = QueryDict(mutable=True)
    blanks.update(dict.fromkeys(GenerationForm.base_fields, ""))
    blanks["caption"], blanks["seed"] = "warm lofi", "5"
    assert accepted(GenerationForm(blanks, user=alice)).to_params() == accepted(ask(alice, seed=5)).to_params()


def test_a_form_post_and_json_with_the_same_values_are_the_same_request(alice: User) -> None:
    fields = {"caption": "a\nb", "bpm": 90, "duration": 12.5, "instrumental": True, "seed": 3, "shift": 2}
    post = QueryDict(mutable=True)
    post.update({name: "on" if value is True else str(value) for name, value in fields.items()})
    post["caption"] = "a\r\nb"
    from_post = accepted(GenerationForm(post, user=alice))
    assert from_post.to_params() == accepted(GenerationForm.from_json(fields, user=alice)).to_params()


def test_null_in_json_means_left_out(alice: User) -> None:
    request = accepted(ask(alice, bpm=None, lyrics=None, instrumental=None, t_start=None, seed=1))
    assert request.to_params() == accepted(ask(alice, seed=1)).to_params()


def test_a_random_seed_is_drawn_once_and_is_another_next_time(alice: User) -> None:
    form = ask(alice)
    assert accepted(form).seed == accepted(form).seed == form.cleaned_data["seed"]
    assert accepted(form).seed != accepted(ask(alice)).seed


def test_turbo_ignores_guidance_and_says_so_in_what_is_kept(alice: User) -> None:
    assert accepted(ask(alice, model_variant="tiny-turbo", guidance_scale=7)).guidance_scale == 1.0


@pytest.mark.parametrize(
    ("typed", "kept"),
    [("a minor", "A minor"), ("F# Major", "F# major"), ("Bb minor", "Bb minor"), ("C♯ minor", "C♯ minor"), ("", "")],
)
def test_keys_are_spelled_as_the_models_know_them(alice: User, typed: str, kept: str) -> None:
    assert accepted(ask(alice, keyscale=typed)).keyscale == kept


@pytest.mark.parametrize("typed", ["4", "4/4"])
def test_both_ways_to_write_a_time_signature_are_taken(alice: User, typed: str) -> None:
    assert accepted(ask(alice, timesignature=typed)).timesignature == "4"


def test_instrumental_leaves_the_lyrics_aside_and_keeps_them(alice: User) -> None:
    request = accepted(ask(alice, instrumental=True, lyrics="la la"))
    assert (request.prompt.lyrics, request.lyrics) == ("[Instrumental]", "la la")


# Values


@pytest.mark.parametrize(
    ("fields", "field", "sentence"),
    [
        ({"caption": ""}, "caption", "Say in a few words what to make."),
        ({"caption": " \n "}, "caption", "Say in a few words what to make."),
        ({"caption": "x" * 2001}, "caption", "Must have at most 2000 characters, not 2001."),
        ({"lyrics": "x" * 10_001}, "lyrics", "Must have at most 10000 characters, not 10001."),
        ({"caption": "a\0b"}, "caption", "Remove the control characters."),
        ({"caption": "a\x1b[31mb"}, "caption", "Remove the control characters."),
        ({"lyrics": "half a pair \ud800"}, "lyrics", "Remove the control characters."),
        ({"keyscale": "H major"}, "keyscale", "Must be a key such as A minor or F# major."),
        ({"keyscale": "C"}, "keyscale", "Must be a key such as A minor or F# major."),
        ({"timesignature": "5/4"}, "timesignature", "Must be 2/4, 3/4, 4/4 or 6/8."),
        ({"vocal_language": "english please"}, "vocal_language", "Must be a language code such as en or pt-br."),
        ({"vocal_language": "en\n"}, "vocal_language", None),  # trimmed
        ({"bpm": 29}, "bpm", "Must be between 30 and 300."),
        ({"bpm": 301}, "bpm", "Must be between 30 and 300."),
        ({"bpm": 90.5}, "bpm", "Enter a whole number."),
        ({"bpm": 90.0}, "bpm", None),
        ({"bpm": "90"}, "bpm", None),
        ({"bpm": True}, "bpm", "Enter a whole number."),
        ({"bpm": [90]}, "bpm", "Enter a whole number."),
        ({"bpm": []}, "bpm", "Enter a whole number."),
        ({"bpm": {}}, "bpm", "Enter a whole number."),
        ({"bpm": 10**4000}, "bpm", "Must be between 30 and 300."),
        ({"bpm": "9" * 5000}, "bpm", "Enter a whole number."),
        ({"duration": 0.9}, "duration", "Must be between 1 and 60."),
        ({"duration": 60.1}, "duration", "Must be between 1 and 60."),  # the model's own maximum
        ({"duration": True}, "duration", "Enter a number."),
        ({"duration": "nan"}, "duration", "Enter a number."),
        ({"duration": math.nan}, "duration", "Enter a number."),
        ({"duration": math.inf}, "duration", "Enter a number."),
        ({"duration": "1e999"}, "duration", "Enter a number."),
        ({"duration": 10**400}, "duration", "Must be between 1 and 60."),
        ({"duration": [20]}, "duration", "Enter a number."),
        ({"inference_steps": 0}, "inference_steps", "Must be between 1 and 200."),
        ({"inference_steps": 201}, "inference_steps", "Must be between 1 and 200."),
        ({"shift": 0}, "shift", "Must be between 0.1 and 10."),
        ({"shift": 10.1}, "shift", "Must be between 0.1 and 10."),
        ({"guidance_scale": -1}, "guidance_scale", "Must be between 0 and 30."),
        ({"guidance_scale": 30.5}, "guidance_scale", "Must be between 0 and 30."),
        ({"batch_size": 0}, "batch_size", "Must be between 1 and 16."),
        ({"batch_size": 17}, "batch_size", "Must be between 1 and 16."),
        ({"seed": -1}, "seed", "Must be between 0 and 9223372036854775807."),
        ({"seed": 2**63}, "seed", "Must be between 0 and 9223372036854775807."),
        ({"seed": 2**63 - 1}, "seed", None),
        ({"seed": 2**63 - 1, "batch_size": 2}, "seed", "Must be at most 9223372036854775806 for 2 takes."),
        (
            {"cfg_interval_start": 0.6, "cfg_interval_end": 0.5},
            "cfg_interval_end",
            "Must not be less than where guidance starts.",
        ),
        ({"cfg_interval_end": 1.01}, "cfg_interval_end", "Must be between 0 and 1."),
        ({"t_start": 1.01}, "t_start", "Must be between 0 and 1."),
        ({"t_start": -0.01}, "t_start", "Must be between 0 and 1."),
        ({"instrumental": "perhaps"}, "instrumental", "Must be true or false."),
        ({"instrumental": 1}, "instrumental", "Must be true or false."),
        ({"audio_format": "aiff"}, "audio_format", "Must be one of flac, wav, mp3, opus."),
        ({"audio_format": ["flac"]}, "audio_format", "Enter text."),
        ({"caption": 5}, "caption", "Enter text."),
        ({"lyrics": ["la"]}, "lyrics", "Enter text."),
        ({"model_variant": "nobody"}, "model_variant", "Must be one of tiny, tiny-turbo, absent."),
        ({"model_variant": ["tiny"]}, "model_variant", "Enter text."),
        ({"latent_ttl": "soon"}, "latent_ttl", "Must be a time such as 12h or 30d."),
        ({"latent_ttl": "0h"}, "latent_ttl", "Must be a time such as 12h or 30d."),
        ({"latent_ttl": "999999w"}, "latent_ttl", "Must be a time such as 12h or 30d."),
        ({"latent_ttl": "12h"}, "latent_ttl", None),
        ({"request_id": "7"}, "request_id", "Must be a UUID."),
        ({"request_id": 7}, "request_id", "Must be a UUID."),
        ({"checkpoint_step": 0}, "checkpoint_step", "Must be between 1 and 2147483647."),
        ({"checkpoint_step": 4}, "checkpoint_step", "Checkpoint step must be 1 to 3 here, not 4"),
        (
            {"checkpoint_step": 1, "inference_steps": 1},
            "checkpoint_step",
            "A checkpoint needs at least 2 model calls, this run makes 1",
        ),
        ({"checkpoint_step": 3}, "checkpoint_step", None),
    ],
)
def test_each_value_is_taken_or_refused_next_to_its_field(
    alice: User, fields: dict[str, Any], field: str, sentence: str | None
) -> None:
    form = ask(alice, **fields)
    if sentence is None:
        assert form.is_valid(), form.errors
    else:
        refused(form, field, sentence)


def test_unknown_fields_of_json_are_refused_by_name(alice: User) -> None:
    form = ask(alice, colour="blue", init_latent="x")
    assert not form.is_valid()
    assert form.sentences == ["Unknown field 'colour'", "Unknown field 'init_latent'"]


def test_unknown_fields_of_a_form_post_are_ignored(alice: User) -> None:
    assert GenerationForm(QueryDict("caption=lofi&csrfmiddlewaretoken=x"), user=alice).is_valid()


def test_a_lifetime_longer_than_the_studio_s_is_refused(alice: User, settings: Settings) -> None:
    settings.REPRISE_LATENT_TTL = timedelta(days=30)
    assert accepted(ask(alice, latent_ttl="30d")).latent_ttl == "30d"
    refused(ask(alice, latent_ttl="31d"), "latent_ttl", "Must not be longer than latents are kept here.")
    refused(ask(alice, latent_ttl="never"), "latent_ttl", "Must not be longer than latents are kept here.")


def test_a_request_id_is_kept_and_otherwise_drawn(alice: User) -> None:
    given_id = uuid4()
    form = ask(alice, request_id=str(given_id))
    assert form.is_valid()
    assert form.cleaned_data["request_id"] == given_id
    form = ask(alice)
    assert form.is_valid()
    assert isinstance(form.cleaned_data["request_id"], UUID)


def test_a_model_that_is_not_here_is_refused_unless_another_machine_serves_it(alice: User) -> None:
    sentence = "The weights of 'absent' are not here. Fetch them with: manage.py fetch_model absent"
    refused(ask(alice, model_variant="absent"), "model_variant", sentence)
    Worker.objects.create(host="gpu", pid=1, variant="absent")
    assert accepted(ask(alice, model_variant="absent")).model_variant == "absent"


EDGES = [-1, 0, 1, 16, 17, 30, 60, 200, 201, 300, 301, 2**63 - 1, 2**63]
RANGES: dict[str, tuple[st.SearchStrategy[Any], Callable[[Any], bool]]] = {
    "bpm": (st.integers(), lambda value: 30 <= value <= 300),
    "batch_size": (st.integers(), lambda value: 1 <= value <= 16),
    "inference_steps": (st.integers(), lambda value: 1 <= value <= 200),
    "seed": (st.integers(-(2**64), 2**64), lambda value: 0 <= value <= 2**63 - 1),
    "duration": (st.floats(), lambda value: 1 <= value <= 60),
    "shift": (st.floats(), lambda value: 0.1 <= value <= 10),
    "guidance_scale": (st.floats(), lambda value: 0 <= value <= 30),
    "t_start": (st.floats(), lambda value: 1 - 1e-6 <= value <= 1),  # without a latent
}


@pytest.mark.parametrize("field", RANGES)
@given(data=st.data())
@HYPOTHESIS
def test_a_number_is_taken_if_and_only_if_it_is_in_its_range(alice: User, field: str, data: st.DataObject) -> None:
    numbers, is_in_range = RANGES[field]
    value = data.draw(numbers | st.sampled_from(EDGES))
    form = ask(alice, **{field: value})
    assert form.is_valid() == is_in_range(value), (value, form.errors)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=4,
)


@given(body=st.dictionaries(st.sampled_from([*GenerationForm.base_fields, "other"]), JSON))
@HYPOTHESIS
def test_whatever_json_holds_is_answered_without_an_exception(alice: User, body: dict[str, Any]) -> None:
    form = GenerationForm.from_json(body, user=alice)
    assert form.is_valid() == (form.status == 200)
    assert form.is_valid() == (form.take_request is not None)
    assert bool(form.sentences) != form.is_valid()
    str(form)


# Bodies


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"", "The body is not JSON that can be read"),
        (b"caption=lofi", "The body is not JSON that can be read"),
        (b'{"caption": "\xff"}', "The body is not JSON that can be read"),
        (b"[" * 100_000, "The body is not JSON that can be read"),
        (b'{"seed": ' + b"9" * 10_000 + b"}", "The body is not JSON that can be read"),
        (b"[1]", "The body must be a JSON object"),
        (b"null", "The body must be a JSON object"),
        (b'{"seed": NaN}', "NaN is not a number in JSON"),
        (b'{"seed": -Infinity}', "-Infinity is not a number in JSON"),
        (b'{"seed": 1, "seed": 2}', "The body names a field twice"),
    ],
)
def test_a_body_that_is_not_one_json_object_is_refused(body: bytes, sentence: str) -> None:
    with pytest.raises(BodyError) as refusal:
        read_json(body)
    assert str(refusal.value) == sentence


def test_a_json_object_is_read() -> None:
    assert read_json('{"caption": "Stück", "seed": 7}'.encode()) == {"caption": "Stück", "seed": 7}


# Resuming


def test_a_resume_runs_the_tail_of_the_schedule_at_the_length_of_its_parent(alice: User, take: LatentRecord) -> None:
    request = accepted(ask(alice, init_latent_id=str(take.pk), t_start=0.6, batch_size=3, resume_sample_index=1))
    assert request.plan.timesteps == (0.6, 0.5, 0.25)
    assert request.parent == take
    assert (request.frames, request.duration, request.resume_sample_index) == (50, 2.0, 1)


def test_turbo_starts_at_a_level_of_its_schedule(alice: User, store_take: Callable[..., LatentRecord]) -> None:
    record = store_take(model_variant="tiny-turbo")
    request = accepted(ask(alice, model_variant="tiny-turbo", init_latent_id=str(record.pk), t_start=0.45))
    assert (request.plan.requested, request.plan.effective) == (0.45, 0.5)
    assert request.t_start == 0.45


def test_the_seconds_that_were_asked_for_stay(alice: User, store_take: Callable[..., LatentRecord]) -> None:
    record = store_take(params={"duration": 1.99})
    assert accepted(ask(alice, init_latent_id=str(record.pk), t_start=0.5)).duration == 1.99
    record = store_take(params={"duration": 300.0}, frames=30)
    assert accepted(ask(alice, init_latent_id=str(record.pk), t_start=0.5)).duration == 1.2


def test_at_1_a_latent_is_ignored_and_the_duration_is_free(alice: User, take: LatentRecord) -> None:
    request = accepted(ask(alice, init_latent_id=str(take.pk), duration=12, t_start=1))
    assert (request.parent, request.duration, request.frames) == (None, 12.0, 300)
    assert request.init_latent_id == str(take.pk)


def test_a_slider_that_is_left_alone_means_1(alice: User, take: LatentRecord) -> None:
    assert accepted(ask(alice, init_latent_id=str(take.pk))).plan.is_full


def test_at_0_nothing_runs(alice: User, take: LatentRecord) -> None:
    request = accepted(ask(alice, init_latent_id=str(take.pk), t_start=0))
    assert request.plan.is_copy
    assert request.parent == take


def test_a_checkpoint_continues_at_its_own_level(alice: User, checkpoint: LatentRecord) -> None:
    for t_start in (None, 0.5, 0.5009):
        request = accepted(ask(alice, init_latent_id=str(checkpoint.pk), t_start=t_start))
        assert request.plan.timesteps == (0.5, 0.25)
        assert request.continues_checkpoint


def test_other_steps_continue_a_checkpoint_on_their_own_schedule(alice: User, checkpoint: LatentRecord) -> None:
    request = accepted(ask(alice, init_latent_id=str(checkpoint.pk), inference_steps=8))
    assert request.plan.timesteps == (0.5, 0.375, 0.25, 0.125)


def test_an_explicit_1_ignores_a_checkpoint(alice: User, checkpoint: LatentRecord) -> None:
    request = accepted(ask(alice, init_latent_id=str(checkpoint.pk), t_start=1, batch_size=2))
    assert request.plan.is_full
    assert request.parent is None


def test_a_latent_of_an_unknown_model_may_be_resumed_if_its_shape_fits(
    alice: User, store_take: Callable[..., LatentRecord]
) -> None:
    fits, other = store_take(model_variant="unknown"), store_take(model_variant="unknown", frame_rate=20.0)
    assert accepted(ask(alice, init_latent_id=str(fits.pk), t_start=0.5)).parent == fits
    sentence = "Latent model mismatch: generated with 'unknown', current model is 'tiny'"
    refused(ask(alice, init_latent_id=str(other.pk), t_start=0.5), "init_latent_id", sentence)


@pytest.mark.parametrize("t_start", [0.5, 1.0])
def test_a_latent_that_only_claims_to_be_of_this_model_is_refused(
    alice: User, store_take: Callable[..., LatentRecord], t_start: float
) -> None:
    """Imported files say what they like, and a name may stand for another model than it did."""
    for shape, found in [({"frame_rate": 20.0}, "8 channels at 20"), ({"channels": 7}, "7 channels at 25")]:
        record = store_take(**shape)
        form = ask(alice, init_latent_id=str(record.pk), t_start=t_start)
        sentence = f"Latent '{record.pk}' does not fit 'tiny': it has {found} frames/s, the model 8 at 25"
        refused(form, "init_latent_id", sentence)


@pytest.mark.parametrize("latent_id", [UNKNOWN, "nonsense", "../../etc/passwd", "１２"])
@pytest.mark.parametrize("t_start", [None, 0.5, 1.0])
def test_an_unknown_latent_is_not_found_at_any_level(alice: User, latent_id: str, t_start: float | None) -> None:
    form = ask(alice, init_latent_id=latent_id, t_start=t_start)
    refused(form, "init_latent_id", f"Latent '{latent_id}' not found or expired", 404)
    assert form.sentences == [f"Latent '{latent_id}' not found or expired"]


@pytest.mark.parametrize("t_start", [0.5, 1.0])
def test_expired_deleted_and_foreign_latents_are_not_found(
    alice: User, bob: User, t_start: float, store_take: Callable[..., LatentRecord]
) -> None:
    expired, deleted, foreign = store_take(), store_take(), store_take(owner=bob)
    LatentRecord.objects.filter(pk=expired.pk).update(expires_at=timezone.now())
    deleted.delete_softly()
    for record in (expired, deleted, foreign):
        form = ask(alice, init_latent_id=str(record.pk), t_start=t_start)
        refused(form, "init_latent_id", f"Latent '{record.pk}' not found or expired", 404)


@pytest.mark.parametrize("t_start", [0.5, 1.0])
def test_a_missing_file_is_said(alice: User, take: LatentRecord, t_start: float) -> None:
    storages["latents"].delete(take.file)
    form = ask(alice, init_latent_id=str(take.pk), t_start=t_start)
    refused(form, "init_latent_id", f"Failed to load latent tensor '{take.pk}'", 404)


@pytest.mark.parametrize("t_start", [0.5, 1.0])
def test_a_truncated_file_is_said(alice: User, take: LatentRecord, t_start: float) -> None:
    path = Path(storages["latents"].path(take.file))
    path.write_bytes(path.read_bytes()[:-1])
    form = ask(alice, init_latent_id=str(take.pk), t_start=t_start)
    assert not form.is_valid()
    assert form.status == 422
    assert form.sentences[0].startswith(f"Latent '{take.pk}' is damaged: ")


def test_each_resume_rule_has_its_sentence(
    alice: User, take: LatentRecord, checkpoint: LatentRecord, store_take: Callable[..., LatentRecord]
) -> None:
    turbo, long = store_take(model_variant="tiny-turbo"), store_take(frames=1501)
    table: list[tuple[dict[str, Any], str, str]] = [
        # another variant than the one asked for, also where it is the default
        (
            {"init_latent_id": turbo, "t_start": 0.5},
            "init_latent_id",
            "Latent model mismatch: generated with 'tiny-turbo', current model is 'tiny'",
        ),
        (
            {"init_latent_id": take, "model_variant": "tiny-turbo"},
            "init_latent_id",
            "Latent model mismatch: generated with 'tiny', current model is 'tiny-turbo'",
        ),
        # the index counts at level 1.0 too
        (
            {"init_latent_id": take, "t_start": 0.5, "resume_sample_index": 3},
            "resume_sample_index",
            "Sample index 3 out of range (latent has 2 items)",
        ),
        (
            {"init_latent_id": take, "t_start": 1, "resume_sample_index": 2},
            "resume_sample_index",
            "Sample index 2 out of range (latent has 2 items)",
        ),
        # without a latent
        ({"t_start": 0.95}, "t_start", NEEDS_A_LATENT),
        ({"t_start": 0}, "t_start", NEEDS_A_LATENT),
        ({"resume_sample_index": 0}, "resume_sample_index", NEEDS_A_LATENT),
        # the length is the parent's
        (
            {"init_latent_id": take, "t_start": 0.5, "duration": 3},
            "duration",
            "Must be 2, the length of what is resumed, while Denoise is below 1.0.",
        ),
        (
            {"init_latent_id": long, "t_start": 0.5},
            "init_latent_id",
            f"Latent '{long.pk}' is longer than the 60 s that 'tiny' makes",
        ),
        # checkpoints
        (
            {"init_latent_id": checkpoint, "t_start": 0.7},
            "t_start",
            "Denoise cannot be 0.700 here: a checkpoint starts at 0.500",
        ),
        (
            {"init_latent_id": checkpoint, "batch_size": 2},
            "batch_size",
            "Must be 1 here: every copy would be the same.",
        ),
        (
            {"init_latent_id": checkpoint, "checkpoint_step": 2},
            "checkpoint_step",
            "Checkpoint step must be 1 to 1 here, not 2",
        ),
        # a copy draws no noise and makes no step
        (
            {"init_latent_id": take, "t_start": 0, "batch_size": 2},
            "batch_size",
            "Must be 1 here: every copy would be the same.",
        ),
        (
            {"init_latent_id": take, "t_start": 0, "checkpoint_step": 1},
            "checkpoint_step",
            "A checkpoint needs at least 2 model calls, this run makes 0",
        ),
        # a distilled model has no level to enter its only step at
        (
            {"init_latent_id": turbo, "model_variant": "tiny-turbo", "t_start": 0.5, "inference_steps": 1},
            "inference_steps",
            "Resuming with this model needs at least 2 steps",
        ),
    ]
    for fields, field, sentence in table:
        body = {name: str(value.pk) if isinstance(value, LatentRecord) else value for name, value in fields.items()}
        refused(ask(alice, **body), field, sentence)


def test_an_id_may_be_typed_in_capitals(alice: User, take: LatentRecord) -> None:
    request = accepted(ask(alice, init_latent_id=str(take.pk).upper(), t_start=0.5))
    assert TakeRequest.from_params(request.to_params(), request.parent) == request


def test_who_has_stored_all_that_they_may_is_told_so(
    alice: User, bob: User, take: LatentRecord, settings: Settings
) -> None:
    settings.REPRISE_MAX_STORED_BYTES = take.size_bytes
    form = ask(alice)
    assert not form.is_valid()
    assert form.status == 422
    assert form.sentences[0].startswith("You have stored all of the ")
    assert ask(bob).is_valid()
    settings.REPRISE_MAX_STORED_BYTES += 1
    assert ask(alice).is_valid()


def test_a_form_writes_nothing(alice: User, take: LatentRecord, django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(1) as queries:
        accepted(ask(alice, init_latent_id=str(take.pk), t_start=0.5))
    assert queries.captured_queries[0]["sql"].startswith("SELECT")


# The round trip through the job's row


@pytest.mark.parametrize("fields", [{}, {"t_start": 0.5}, {"t_start": 0.0}, {"t_start": 1.0}])
def test_a_request_comes_back_from_its_parameters(alice: User, take: LatentRecord, fields: dict[str, Any]) -> None:
    request = accepted(ask(alice, init_latent_id=str(take.pk), seed=7, **fields))
    params = json.loads(json.dumps(request.to_params()))
    assert TakeRequest.from_params(params, request.parent) == request


def test_the_parameters_of_a_request_can_be_asked_for_again(alice: User, checkpoint: LatentRecord) -> None:
    request = accepted(ask(alice, init_latent_id=str(checkpoint.pk), keyscale="a minor", timesignature="4/4"))
    again = GenerationForm.from_json(request.to_params(), user=alice)
    assert accepted(again) == request


# The page


def test_the_plan_needs_only_its_own_fields(alice: User, take: LatentRecord) -> None:
    form = PlanForm(QueryDict(f"init_latent_id={take.pk}&t_start=0.45&caption="), user=alice)
    assert form.is_valid()
    assert form.plan is not None
    assert (form.plan.effective, form.plan.model_calls) == (0.45, 2)
    assert form.source == take


def test_fields_carry_their_limits_and_show_what_empty_means(alice: User) -> None:
    form = GenerationForm(user=alice, initial={"model_variant": "tiny-turbo"})
    assert 'maxlength="2000"' in str(form["caption"])
    duration = str(form["duration"])
    assert 'min="1"' in duration
    assert 'max="600' in duration
    assert 'inputmode="decimal"' in duration
    assert 'placeholder="8"' in str(form["inference_steps"])
    assert 'type="range"' in str(form["t_start"])
    assert "absent (not downloaded)" in str(form["model_variant"])


@pytest.mark.parametrize(("t_start", "is_locked"), [("1.0", False), ("0.45", True), ("", False), ("nonsense", False)])
def test_the_duration_is_locked_below_1(alice: User, take: LatentRecord, t_start: str, is_locked: bool) -> None:
    form = GenerationForm(user=alice, initial={"init_latent_id": str(take.pk), "t_start": t_start, "duration": 12})
    assert ("readonly" in str(form["duration"])) == is_locked
    assert form["duration"].value() == (2.0 if is_locked else 12)


def test_a_refused_form_keeps_the_duration_locked(alice: User, take: LatentRecord) -> None:
    form = ask(alice, init_latent_id=str(take.pk), t_start=0.5, duration=3)
    assert not form.is_valid()
    assert "readonly" in str(form["duration"])
    assert form["duration"].value() == 3
