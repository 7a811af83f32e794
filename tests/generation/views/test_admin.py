"""The admin of jobs, samples and workers, and the sound beside the latents."""

from collections.abc import Callable

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from pytest_django.fixtures import DjangoAssertNumQueries

from generation.models import GenerationJob, Preset, Sample, Worker
from latents.models import LatentRecord
from tests.generation.views.conftest import text


@pytest.fixture
def admin(bob: User) -> Client:
    """Bob is superuser; everything here is alice's."""
    bob.is_staff = bob.is_superuser = True
    bob.save()
    client = Client()
    client.force_login(bob)
    return client


def test_index_leads_to_what_the_studio_keeps_and_not_to_the_queue(admin: Client) -> None:
    index = text(admin.get("/admin/"))
    for path in ("latents/latentrecord/", "generation/generationjob/", "generation/sample/", "generation/worker/"):
        assert f"/admin/{path}" in index
    assert "django_q" not in index
    assert admin.get("/admin/django_q/schedule/add/").status_code == 404


@pytest.mark.parametrize("model", ["generationjob", "sample", "worker", "preset"])
def test_lists_and_pages_open(admin: Client, alice: User, sample: Sample, model: str) -> None:
    Worker.objects.create(host="studio-a", pid=1)
    Preset.keep(alice, "Late", {})
    assert "<table" in text(admin.get(f"/admin/generation/{model}/"))
    assert admin.get(f"/admin/generation/{model}/", {"q": "lofi"}).status_code == 200
    rows: dict[str, type[GenerationJob | Sample | Worker | Preset]] = {
        "generationjob": GenerationJob,
        "sample": Sample,
        "worker": Worker,
        "preset": Preset,
    }
    row = rows[model].objects.first()
    assert row
    assert admin.get(f"/admin/generation/{model}/{row.pk}/change/").status_code == 200


@pytest.mark.parametrize("model", ["generationjob", "sample", "worker"])
def test_what_the_studio_writes_nobody_edits(admin: Client, model: str) -> None:
    assert admin.get(f"/admin/generation/{model}/add/").status_code == 403


def test_list_of_jobs_needs_no_query_per_job(
    admin: Client,
    finish: Callable[..., GenerationJob],
    django_assert_max_num_queries: DjangoAssertNumQueries,
) -> None:
    for _ in range(4):
        finish()
    with django_assert_max_num_queries(10):
        admin.get("/admin/generation/generationjob/")


def act(client: Client, action: str, *jobs: GenerationJob) -> str:
    chosen = {"action": action, "_selected_action": [job.pk for job in jobs]}
    return text(client.post("/admin/generation/generationjob/", chosen, follow=True))


def test_actions_do_what_the_pages_do_and_say_what_they_could_not(
    admin: Client, queued: GenerationJob, finished: GenerationJob
) -> None:
    page = act(admin, "cancel", queued, finished)
    assert "1 cancelled" in page
    assert "This job has already succeeded." in page
    queued.refresh_from_db()
    assert queued.status == "cancelled"


def test_actions_need_more_than_the_right_to_look(stranger: Client, bob: User, queued: GenerationJob) -> None:
    bob.is_staff = True
    bob.save()
    bob.user_permissions.add(Permission.objects.get(codename="view_generationjob"))
    act(stranger, "cancel", queued)
    queued.refresh_from_db()
    assert queued.status == "queued"


def test_staff_hear_samples_there_and_only_there(admin: Client, sample: Sample) -> None:
    assert admin.get(f"/generation/samples/{sample.pk}/audio").status_code == 404
    part = admin.get(f"/admin/generation/sample/{sample.pk}/sound/", headers={"range": "bytes=0-9"})
    assert (part.status_code, len(part.getvalue())) == (206, 10)


def test_staff_without_the_right_to_samples_hear_nothing(stranger: Client, bob: User, sample: Sample) -> None:
    bob.is_staff = True
    bob.save()
    assert stranger.get(f"/admin/generation/sample/{sample.pk}/sound/").status_code == 403


def test_record_has_its_sound_and_its_lineage(
    admin: Client, finished: GenerationJob, store_take: Callable[..., LatentRecord]
) -> None:
    page = text(admin.get(f"/admin/latents/latentrecord/{finished.latent_id}/change/"))
    assert page.count("<audio controls") == 2
    assert f"{str(finished.latent_id)[:8]}</a> from noise" in page


@pytest.mark.parametrize("model", ["latents/latentrecord", "generation/generationjob", "auth/user"])
def test_search_for_more_than_a_database_takes_is_refused_in_words(admin: Client, model: str) -> None:
    for words in ("a" * 100_000, "a " * 2000):
        page = admin.get(f"/admin/{model}/", {"q": words})
        assert page.status_code == 200
        assert "Ensure this value has at most 200 characters" in text(page)
