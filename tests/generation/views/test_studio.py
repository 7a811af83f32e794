"""The studio's page and the way into the queue, as pages, fragments and JSON."""

import json
import re
from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.contrib.auth.models import User
from django.test import Client
from pytest_django import Settings
from pytest_django.fixtures import DjangoAssertNumQueries

from generation.models import GenerationJob, Preset, Sample
from latents.models import LatentRecord
from tests.generation.views.conftest import HTMX, JSON, text

GENERATE = "/generation/generate"


def field(page: str, name: str) -> str:
    """Return the value of a form field on a page."""
    tag = re.search(rf'<(input|textarea)[^>]* name="{name}"[^>]*>([^<]*)', page)
    assert tag, f"no field {name}"
    value = re.search(r'value="([^"]*)"', tag[0])
    return tag[2].strip() if tag[1] == "textarea" else value[1] if value else ""


def generate_json(client: Client, **body: Any) -> Any:
    return client.post(GENERATE, json.dumps(body), content_type="application/json")


# The page


def test_page_needs_few_queries_however_many_jobs_it_shows(
    client: Client, finish: Callable[..., GenerationJob], django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    for _ in range(3):
        finish(batch_size=2)
    with django_assert_max_num_queries(7):  # session, user, presets, jobs, samples, worker, and none per job
        client.get("/")


def test_page_shows_a_job_with_its_samples(client: Client, finished: GenerationJob) -> None:
    page = text(client.get("/"))
    assert "warm lofi piano" in page
    for sample in finished.samples.all():
        assert f"/generation/samples/{sample.pk}/audio" in page
        assert f"/?restore={sample.pk}" in page
    assert page.count("<audio controls") == 2


def test_page_keeps_what_stands_in_its_url(client: Client, take: LatentRecord) -> None:
    page = text(client.get("/", {"caption": "calm", "bpm": "82", "init_latent_id": str(take.pk), "t_start": "0.45"}))
    assert (field(page, "caption"), field(page, "bpm"), field(page, "t_start")) == ("calm", "82", "0.45")
    assert field(page, "init_latent_id") == str(take.pk)


def test_page_never_takes_a_request_id_from_its_url(client: Client) -> None:
    """Whoever opens a shared address would otherwise ask for the very same job."""
    request_id = str(uuid4())
    assert request_id not in text(client.get("/", {"caption": "calm", "request_id": request_id}))


def test_unfinished_cards_poll_and_finished_ones_do_not(
    client: Client, queued: GenerationJob, finished: GenerationJob
) -> None:
    page = text(client.get("/"))
    assert f'hx-get="/generation/jobs/{queued.pk}/?rev=' in page
    assert f'hx-get="/generation/jobs/{finished.pk}/?rev=' not in page


def test_older_jobs_are_on_the_next_page(client: Client, finish: Callable[..., GenerationJob]) -> None:
    jobs = [finish() for _ in range(9)]
    page = text(client.get("/"))
    assert f'id="job-{jobs[0].pk}"' not in page
    older = re.search(r'href="(\?before=[^"]+)"', page)
    assert older
    assert f'id="job-{jobs[0].pk}"' in text(client.get(f"/{older[1]}"))
    fragment = text(client.get(f"/{older[1]}", headers=HTMX))
    assert "<html" not in fragment
    assert f'id="job-{jobs[0].pk}"' in fragment


# Restore, reuse, clear


def test_restore_brings_back_every_parameter_and_the_latent(
    client: Client, finish: Callable[..., GenerationJob]
) -> None:
    job = finish(batch_size=2, bpm=82, keyscale="A minor", shift=2.0, seed=40)
    sample = job.samples.get(index=1)
    page = text(client.get("/", {"restore": sample.pk}))
    values = {
        "caption": "warm lofi piano",
        "bpm": "82",
        "keyscale": "A minor",
        "shift": "2",
        "batch_size": "2",
        "seed": "41",  # the sample's own, not the job's
        "init_latent_id": str(sample.latent_id),
        "resume_sample_index": "1",
        "t_start": "1",
    }
    assert {name: field(page, name) for name in values} == values
    assert "Params restored from Sample 2 (with latent)" in page
    assert "At 1.0, generation starts from noise. Lower the slider to resume from the stored latent." in page
    assert "(denoise:" not in page


def test_restore_without_a_live_latent_brings_back_the_parameters_only(client: Client, sample: Sample) -> None:
    assert sample.latent
    sample.latent.delete_softly()
    page = text(client.get("/", {"restore": sample.pk}))
    assert "Params restored from Sample 2</p>" in page
    assert 'id="resume"' not in page


def test_restore_of_a_sample_without_parameters_says_so(client: Client, sample: Sample) -> None:
    GenerationJob.objects.update(params={})
    assert "No params to restore" in text(client.get("/", {"restore": sample.pk}))


def test_restore_through_htmx_answers_the_form_and_a_toast(client: Client, sample: Sample) -> None:
    response = client.get("/", {"restore": sample.pk}, headers=HTMX)
    fragment = text(response)
    assert fragment.strip().startswith('<form id="console"')
    assert 'hx-swap-oob="beforeend:#toasts"' in fragment
    assert "Params restored from Sample 2 (with latent)" in fragment
    assert {"Accept", "HX-Request"} <= {name.strip() for name in response["Vary"].split(",")}


def test_reuse_brings_back_the_parameters_and_clears_the_resume(
    client: Client, finish: Callable[..., GenerationJob], take: LatentRecord
) -> None:
    resumed = finish(parent=take, caption="calm")
    page = text(client.get("/", {"reuse": resumed.pk}))
    assert field(page, "caption") == "calm"
    assert 'id="resume"' not in page


def test_clear_keeps_what_was_typed_and_drops_the_resume(client: Client, take: LatentRecord) -> None:
    typed = {
        "caption": "calm & slow",
        "bpm": "82",
        "init_latent_id": str(take.pk),
        "t_start": "0.45",
        "resume_sample_index": "1",
        "checkpoint_step": "2",
        "clear": "1",
        "request_id": str(uuid4()),
    }
    response = client.post("/", typed)
    assert (response.status_code, response["Location"]) == (303, "/?caption=calm+%26+slow&bpm=82")
    response = client.post("/", typed, headers=HTMX)
    assert response["HX-Replace-Url"] == "/?caption=calm+%26+slow&bpm=82"
    assert 'id="resume"' not in text(response)


def test_pasted_id_opens_the_panel(client: Client, take: LatentRecord) -> None:
    fragment = text(client.post("/", {"init_latent_id": str(take.pk)}, headers=HTMX))
    assert 'id="resume"' in fragment
    assert "warm lofi" in fragment


def test_id_that_leads_nowhere_says_so(client: Client) -> None:
    unknown = uuid4()
    page = text(client.get("/", {"init_latent_id": unknown}))
    assert f"Latent &#x27;{unknown}&#x27; not found or expired" in page


def test_panel_is_worded(client: Client, take: LatentRecord) -> None:
    page = text(client.get("/", {"init_latent_id": str(take.pk)}))
    panel = page[page.index('<fieldset class="resume"') : page.index("</fieldset>")]
    for words in (
        "Resuming from latent",
        f"<code>{take.pk}</code>",
        ">Clear</button>",
        'Denoise: <output id="denoise" for="id_t_start">1.00</output>',
        'min="0" max="1" step="0.05"',
        "How much of the schedule to run. 1.0 = full denoise (ignores latent). "
        "Lower values preserve more of the original.",
        "At 1.0, generation starts from noise. Lower the slider to resume from the stored latent.",
    ):
        assert words in panel
    below = text(client.get("/", {"init_latent_id": str(take.pk), "t_start": "0.45"}))
    assert below.count(">Clear</button>") == 2  # in the panel and in the indicator
    without = text(client.get("/"))
    assert "Clear</button>" not in without
    assert "<summary>Resume from a latent</summary>" in without


def test_studio_as_json_is_the_form_and_the_newest_jobs(client: Client, sample: Sample) -> None:
    answer = client.get("/", {"restore": sample.pk}, headers=JSON).json()
    assert answer["fields"]["init_latent_id"] == str(sample.latent_id)
    assert (answer["fields"]["seed"], answer["fields"]["t_start"]) == ("8", "1.0")
    assert [job["id"] for job in answer["jobs"]] == [str(sample.job_id)]
    assert answer["has_more"] is False
    older = client.get("/", {"before": sample.job_id}, headers=JSON).json()
    assert (older["jobs"], older["fields"]) == ([], {})


# The plan


def test_indicator_and_lock_show_only_below_one(client: Client, take: LatentRecord) -> None:
    below = text(client.get("/", {"init_latent_id": str(take.pk), "t_start": "0.45"}))
    assert f"Resuming from latent <code>{str(take.pk)[:8]}…</code> (denoise: 0.45)" in below
    assert "starts at 0.45, 2 of 4 steps" in below
    assert re.search(r'<input[^>]*name="duration"[^>]*readonly', below)
    at_one = text(client.get("/", {"init_latent_id": str(take.pk), "t_start": "1"}))
    assert "Resuming from latent <code>" not in at_one
    assert not re.search(r'<input[^>]*name="duration"[^>]*readonly', at_one)


def test_plan_is_given_as_json(client: Client, take: LatentRecord) -> None:
    query = {"model_variant": "tiny", "inference_steps": "4", "init_latent_id": str(take.pk), "t_start": "0.6"}
    response = client.get("/generation/plan", query, headers=JSON)
    assert response.json() == {
        "t_start_requested": 0.6,
        "t_start_effective": 0.6,
        "model_calls": 3,
        "timesteps": [0.6, 0.5, 0.25],
        "steps": 4,
        "shift": 1.0,
        "mode": "resume",
        "seconds": None,
    }


PLANS = [
    # (level, mode, words)
    ("1", "full", "At 1.0, generation starts from noise."),
    ("0", "copy", "runs no step: the latent as it is"),
    ("0.5", "resume", "starts at 0.50, 2 of 4 steps"),
]


@pytest.mark.parametrize(("level", "mode", "words"), PLANS)
def test_panel_says_what_will_run(client: Client, take: LatentRecord, level: str, mode: str, words: str) -> None:
    query = {"init_latent_id": str(take.pk), "t_start": level}
    assert client.get("/generation/plan", query, headers=JSON).json()["mode"] == mode
    assert words in text(client.get("/generation/plan", query, headers=HTMX))


def test_panel_says_where_a_turbo_model_really_starts(client: Client, store_take: Callable[..., LatentRecord]) -> None:
    take = store_take(model_variant="tiny-turbo")
    query = {"model_variant": "tiny-turbo", "init_latent_id": str(take.pk), "t_start": "0.05"}
    assert "starts at 0.30, 1 of 8 steps" in text(client.get("/generation/plan", query, headers=HTMX))


def test_checkpoint_is_continued_without_a_slider(client: Client, checkpoint: LatentRecord) -> None:
    page = text(client.get("/", {"init_latent_id": str(checkpoint.pk)}))
    assert "continues from step 2 of 4" in page
    assert 'class="fader"' not in page


def test_plan_says_how_long_it_takes_once_that_is_known(client: Client, finished: GenerationJob) -> None:
    query = {"init_latent_id": str(finished.latent_id), "t_start": "0.5"}
    assert "starts at 0.50, 2 of 4 steps, under 1 s" in text(client.get("/generation/plan", query, headers=HTMX))


@pytest.mark.parametrize(
    ("duration", "seconds"), [("1", 2.5), ("2", 5.0), ("", 75.0), ("nonsense", 75.0), ("nan", 75.0), ("1e9", 75.0)]
)
def test_whole_run_is_estimated_for_the_duration_that_was_asked(
    client: Client, finished: GenerationJob, duration: str, seconds: float
) -> None:
    plan = client.get("/generation/plan", {"duration": duration}, headers=JSON).json()
    assert plan["seconds"] == pytest.approx(seconds / 2)  # two samples took that long


@pytest.mark.parametrize(("takes", "factor"), [("4", 4), ("", 1), ("17", 1), ("some", 1)])
def test_run_is_estimated_for_as_many_takes_as_were_asked(
    client: Client, finished: GenerationJob, takes: str, factor: int
) -> None:
    query = {"init_latent_id": str(finished.latent_id), "t_start": "0.5"}
    one = client.get("/generation/plan", query, headers=JSON).json()["seconds"]
    many = client.get("/generation/plan", query | {"batch_size": takes}, headers=JSON).json()["seconds"]
    assert many == pytest.approx(factor * one)


@pytest.mark.parametrize(("query", "status"), [({"init_latent_id": str(UUID(int=4))}, 404), ({"t_start": "0.5"}, 422)])
def test_impossible_plan_is_refused(client: Client, query: dict[str, str], status: int) -> None:
    response = client.get("/generation/plan", query, headers=JSON)
    assert response.status_code == status
    assert response.json()["error"]
    assert client.get("/generation/plan", query, headers=HTMX).status_code == status


# Generate


def test_request_becomes_a_job_in_every_form_of_answer(client: Client) -> None:
    page = client.post(GENERATE, {"caption": "warm lofi"})
    fragment = client.post(GENERATE, {"caption": "warm lofi"}, headers=HTMX)
    program = generate_json(client, caption="warm lofi")
    newest, second, first = GenerationJob.objects.all()
    assert (page.status_code, page["Location"]) == (303, f"/generation/jobs/{first.pk}/")
    assert fragment.status_code == 200
    assert f'id="job-{second.pk}"' in text(fragment)
    assert program.json() == {"job_id": str(newest.pk), "url": f"/generation/jobs/{newest.pk}/"}


def test_double_click_is_one_job(client: Client) -> None:
    sent = {"caption": "warm lofi", "request_id": str(uuid4())}
    urls = {client.post(GENERATE, sent)["Location"] for _ in range(2)}
    assert len(urls) == GenerationJob.objects.count() == 1


def test_accepted_request_gives_the_form_another_request_id(client: Client) -> None:
    request_id = str(uuid4())
    fragment = text(client.post(GENERATE, {"caption": "warm lofi", "request_id": request_id}, headers=HTMX))
    assert 'id="request-id" hidden hx-swap-oob="true"' in fragment
    assert request_id not in fragment


def test_resume_stores_what_was_asked_and_what_runs(client: Client, take: LatentRecord) -> None:
    body = {"caption": "calm", "init_latent_id": str(take.pk), "t_start": 0.6, "resume_sample_index": 1}
    job = GenerationJob.objects.get(pk=generate_json(client, **body).json()["job_id"])
    assert (job.source_record, job.resume_sample_index, job.model_calls) == (take, 1, 3)
    assert (job.t_start_requested, job.t_start_effective) == (0.6, 0.6)


REFUSALS = [
    # (body, status, what is said)
    ({}, 422, "Describe the music: Say in a few words what to make."),
    ({"caption": "x", "init_latent_id": "nobody"}, 404, "Latent 'nobody' not found or expired"),
    ({"caption": "x", "t_start": 0.5}, 422, "Denoise below 1.0 needs a latent to resume from"),
    ({"caption": "x", "resume_sample_index": 0}, 422, "Denoise below 1.0 needs a latent to resume from"),
    ({"caption": "x", "bpm": 1000}, 422, "Tempo: Must be between 30 and 300."),
    ({"caption": "x", "tempo": 90}, 422, "Unknown field 'tempo'"),
    ({"caption": "x", "init_latent_id": "TAKE", "resume_sample_index": 3}, 422,
     "Sample index 3 out of range (latent has 2 items)"),
    ({"caption": "x", "init_latent_id": "TAKE", "model_variant": "tiny-turbo"}, 422,
     "Latent model mismatch: generated with 'tiny', current model is 'tiny-turbo'"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "status", "said"), REFUSALS)
def test_refusal_is_worded(client: Client, take: LatentRecord, body: dict[str, Any], status: int, said: str) -> None:
    body = {name: str(take.pk) if value == "TAKE" else value for name, value in body.items()}
    response = generate_json(client, **body)
    assert (response.status_code, response.json()["error"]) == (status, said)
    assert response.json()["errors"]
    assert not GenerationJob.objects.exists()


def test_refused_form_comes_back_with_what_was_typed(client: Client) -> None:
    typed = {"caption": "warm & slow", "bpm": "1000", "lyrics": "la"}
    for headers in ({}, HTMX):
        response = client.post(GENERATE, typed, headers=headers)
        page = text(response)
        assert response.status_code == 422
        assert (field(page, "caption"), field(page, "bpm")) == ("warm &amp; slow", "1000")
        assert "Must be between 30 and 300." in page
        assert 'aria-invalid="true"' in page
    assert response["HX-Retarget"] == "#console"


def test_missing_latent_is_404_in_the_form_too(client: Client) -> None:
    unknown = uuid4()
    response = client.post(GENERATE, {"caption": "x", "init_latent_id": unknown}, headers=HTMX)
    assert response.status_code == 404
    assert f"Latent &#x27;{unknown}&#x27; not found or expired" in text(response)


def test_full_queue_is_said(client: Client, settings: Settings, queued: GenerationJob) -> None:
    settings.REPRISE_MAX_QUEUED_JOBS = 1
    response = generate_json(client, caption="x")
    assert response.status_code == 429
    assert response.json()["error"].startswith("You already have 1 job")
    fragment = client.post(GENERATE, {"caption": "x"}, headers=HTMX)
    assert (fragment.status_code, fragment["HX-Reswap"]) == (429, "none")
    assert 'class="toast error"' in text(fragment)
    assert "You already have 1 job" in text(client.post(GENERATE, {"caption": "x"}))


BODIES = [
    # (content type, body, status)
    ("text/plain", "caption=x", 415),
    ("application/xml", "<caption/>", 415),
    ("application/json", "{", 422),
    ("application/json", "[]", 422),
    ("application/json", '{"caption": "x", "caption": "y"}', 422),
    ("application/json", '{"caption": "x", "seed": NaN}', 422),
]


@pytest.mark.parametrize(("content_type", "body", "status"), BODIES)
def test_unreadable_body_is_refused(client: Client, content_type: str, body: str, status: int) -> None:
    response = client.post(GENERATE, body, content_type=content_type, headers=JSON)
    assert response.status_code == status
    assert response.json()["error"]


# Presets


def test_preset_keeps_parameters_and_never_what_to_resume(client: Client, alice: User, take: LatentRecord) -> None:
    typed = {"preset_name": "Late", "caption": "calm", "bpm": "82", "init_latent_id": str(take.pk), "t_start": "0.4"}
    response = client.post("/presets/save", typed)
    assert response.status_code == 303
    preset = Preset.objects.get(owner=alice)
    assert preset.params == {"caption": "calm", "bpm": "82"}
    page = text(client.get("/", {"preset": preset.pk}))
    assert (field(page, "caption"), field(page, "bpm")) == ("calm", "82")
    assert "Preset “Late” loaded" in page


@pytest.mark.parametrize("preset", ["x", "²", "9" * 30, "9" * 5000])
def test_preset_that_cannot_be_is_not_found(client: Client, preset: str) -> None:
    assert client.get("/", {"preset": preset}).status_code == 404


def test_saved_preset_is_seen_in_the_open_list(client: Client) -> None:
    saved = text(client.post("/presets/save", {"preset_name": "Slow", "bpm": "60"}, headers=HTMX))
    assert '<details class="more" id="presets" open>' in saved
    assert '<details class="more" id="presets">' in text(client.get("/"))


def test_preset_may_lack_a_caption_but_nothing_in_it_may_be_wrong(client: Client) -> None:
    assert client.post("/presets/save", {"preset_name": "Slow", "bpm": "60"}, headers=HTMX).status_code == 200
    odd = client.post("/presets/save", {"preset_name": "Odd", "bpm": "6"}, headers=JSON)
    assert (odd.status_code, odd.json()["error"]) == (422, "Tempo: Must be between 30 and 300.")
    nameless = client.post("/presets/save", {"preset_name": "", "bpm": "60"}, headers=HTMX)
    assert nameless.status_code == 422
    assert "Give the preset a name." in text(nameless)
    assert [preset.name for preset in Preset.objects.all()] == ["Slow"]


def test_preset_of_the_same_name_is_replaced_and_can_be_deleted(client: Client) -> None:
    for bpm in ("60", "90"):
        client.post("/presets/save", {"preset_name": "Slow", "bpm": bpm})
    preset = Preset.objects.get()
    assert preset.params == {"bpm": "90"}
    assert client.get("/presets/", headers=JSON).json()["presets"][0]["name"] == "Slow"
    response = client.post(f"/presets/{preset.pk}/delete", {"caption": "kept"})
    assert (response.status_code, response["Location"]) == (303, "/?caption=kept")
    assert not Preset.objects.exists()


def test_preset_by_json_refuses_unknown_fields(client: Client) -> None:
    body = json.dumps({"preset_name": "Slow", "tempo": 60})
    response = client.post("/presets/save", body, content_type="application/json")
    assert (response.status_code, response.json()["error"]) == (422, "Unknown field 'tempo'")
