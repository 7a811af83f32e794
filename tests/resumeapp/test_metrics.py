"""What Prometheus reads."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone
from prometheus_client.parser import text_string_to_metric_families

from generation.models import GenerationJob, Sample, Worker
from latents.models import LatentRecord
from resumeapp.metrics import _quantile

pytestmark = pytest.mark.django_db
Status = GenerationJob.Status


def scrape(client: Client) -> dict[tuple[str, ...], float]:
    """Return each value by its name and its labels, in the order of their names."""
    response = client.get("/metrics")
    assert response.status_code == 200
    assert response["Content-Type"].startswith("text/plain; version=")
    families = text_string_to_metric_families(response.content.decode())
    return {
        (sample.name.removeprefix("reprise_"), *(sample.labels[name] for name in sorted(sample.labels))): sample.value
        for family in families
        for sample in family.samples
    }


@pytest.fixture
def alice() -> User:
    return User.objects.create_user("alice")


def make_job(owner: User, **fields: object) -> GenerationJob:
    job = GenerationJob(
        owner=owner, request_id=str(GenerationJob.objects.count()), params={}, model_variant="sketch", queue="sketch"
    )
    job.steps = job.model_calls = 8
    for name, value in fields.items():
        setattr(job, name, value)
    job.save()
    return job


def test_queue_is_shown_with_its_length_and_its_age(client: Client, alice: User) -> None:
    now = timezone.now()
    make_job(alice, created_at=now - timedelta(seconds=90))
    make_job(alice, created_at=now - timedelta(seconds=10))
    make_job(alice, status=Status.RUNNING, model_variant="xl")
    found = scrape(client)
    assert found["jobs_queued", "sketch"] == 2
    assert 90 <= found["queue_age_seconds", "sketch"] < 100
    assert found["jobs_running", "xl"] == 1


def test_finished_jobs_are_counted_for_an_hour(client: Client, alice: User) -> None:
    now = timezone.now()
    for seconds in (2, 4, 30):
        make_job(
            alice, status=Status.SUCCEEDED, started_at=now - timedelta(seconds=seconds), finished_at=now, attempts=1
        )
    make_job(alice, status=Status.FAILED, started_at=now, finished_at=now, attempts=3)
    make_job(alice, status=Status.CANCELLED, finished_at=now)
    make_job(alice, status=Status.SUCCEEDED, started_at=now, finished_at=now - timedelta(hours=2), attempts=1)
    found = scrape(client)
    by_status = {status: found["jobs_finished_last_hour", status, "sketch"] for status in ("succeeded", "failed")}
    assert by_status == {"succeeded": 3, "failed": 1}
    assert found["job_seconds_last_hour", "0.5", "sketch"] == 4
    assert found["job_seconds_last_hour", "0.99", "sketch"] == 30
    assert found["model_calls_last_hour", "sketch"] == 24


def test_attempts_that_died_with_their_worker_are_counted(client: Client, alice: User) -> None:
    now = timezone.now()
    make_job(alice, attempts=2)  # put back twice
    make_job(alice, status=Status.RUNNING, attempts=2)  # once, and running again
    make_job(alice, status=Status.FAILED, attempts=3, finished_at=now)
    make_job(alice, status=Status.FAILED, attempts=1, finished_at=now)
    make_job(alice, status=Status.FAILED, attempts=3, finished_at=now - timedelta(hours=2))
    make_job(alice, status=Status.CANCELLED, attempts=0, finished_at=now)  # before anybody took it
    assert scrape(client)["lease_expiries_last_hour", "sketch"] == 5


def test_workers_are_counted_while_they_live(client: Client) -> None:
    Worker.objects.create(host="east", pid=1, variant="xl", state=Worker.State.BUSY)
    Worker.objects.create(host="west", pid=2, variant="xl", state=Worker.State.STOPPED)
    found = scrape(client)
    assert {labels[1:]: value for labels, value in found.items() if labels[0] == "workers"} == {("busy", "xl"): 1}


def test_store_is_shown_with_its_bytes_and_what_was_pruned(client: Client, alice: User) -> None:
    about = {"owner": alice, "model_variant": "sketch", "batch_size": 1, "frames": 1, "channels": 1, "frame_rate": 20}
    for size_bytes in (100, 200):
        LatentRecord.objects.create(**about, file=f"{size_bytes}", size_bytes=size_bytes)
    LatentRecord.objects.create(**about, size_bytes=50, purged_at=timezone.now())
    found = scrape(client)
    assert found["latents_bytes", "sketch"] == 300
    assert found["latents", "sketch"] == 2
    assert found[("latents_pruned_last_hour",)] == 1
    assert found[("latents_pruned_bytes_last_hour",)] == 50


def test_sound_is_shown_with_its_bytes_and_what_was_removed(client: Client, alice: User) -> None:
    sound = {"job": make_job(alice), "seed": 1, "sample_rate": 48000, "duration_s": 1.0}
    Sample.objects.create(**sound, index=0, size_bytes=100)
    Sample.objects.create(**sound, index=1, size_bytes=200)
    Sample.objects.create(**sound, index=2, size_bytes=50, purged_at=timezone.now())
    found = scrape(client)
    assert found[("sound_bytes",)] == 300
    assert found[("samples",)] == 2
    assert found[("samples_pruned_last_hour",)] == 1


def test_every_metric_is_in_the_documentation(client: Client) -> None:
    client.get("/guessed/path")
    families = text_string_to_metric_families(client.get("/metrics").content.decode())
    names = {family.name for family in families} - {"reprise_refusals_created"}
    words = (Path(__file__).parents[2] / "docs/operating.md").read_text()
    assert not {name for name in names if name not in words}


def test_refusals_are_counted_by_status_and_view(client: Client, alice: User) -> None:
    def refusals(*labels: str) -> float:
        return scrape(client).get(("refusals_total", *labels), 0)

    before = refusals("404", "generation:audio"), refusals("404", "")
    client.get("/generation/samples/00000000-0000-0000-0000-000000000000/audio")
    client.get("/guessed/path")
    assert (refusals("404", "generation:audio"), refusals("404", "")) == (before[0] + 1, before[1] + 1)


def test_staff_only_may_see_them(client: Client, server_mode: None, alice: User) -> None:
    assert client.get("/metrics", secure=True).status_code == 302
    client.force_login(alice)
    assert client.get("/metrics", secure=True).status_code == 403
    alice.is_staff = True
    alice.save()
    assert client.get("/metrics", secure=True).status_code == 200


@pytest.mark.parametrize(("quantile", "value"), [(0.5, 50), (0.95, 95), (0.99, 99)])
def test_quantiles_are_values_that_were_measured(quantile: float, value: int) -> None:
    assert _quantile(range(1, 101), quantile) == value
