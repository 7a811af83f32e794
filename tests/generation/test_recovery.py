"""What is put right by itself."""

import os
import time
from collections.abc import Callable
from datetime import timedelta
from uuid import uuid4

import pytest
from django.contrib.auth.models import User
from django.core.files.base import ContentFile
from django.core.files.storage import storages
from django.db.models.functions import Now
from django.utils import timezone
from pytest_django import Settings

from generation import recovery
from generation.downloads import audio_name
from generation.models import GenerationJob, Sample, Worker
from latents.models import LatentRecord
from tests.generation.take_requests import take_request

Status = GenerationJob.Status

pytestmark = pytest.mark.usefixtures("tiny_models")


@pytest.fixture
def submit(alice: User) -> Callable[..., GenerationJob]:
    def submit(**params: object) -> GenerationJob:
        request_id = str(GenerationJob.objects.count())
        return GenerationJob.objects.submit(take_request(**params), owner=alice, request_id=request_id)  # type: ignore[arg-type]

    return submit


@pytest.fixture
def sample(submit: Callable[..., GenerationJob]) -> Sample:
    """A finished job's sample, with its file and one made of it."""
    submit()
    job = GenerationJob.objects.claim("", None)
    assert job
    sample = Sample(job=job, index=0, seed=7, size_bytes=4, sample_rate=48000, duration_s=1.0)
    sample.audio_file = storages["audio"].save(audio_name(sample, "flac"), ContentFile(b"fLaC"))
    storages["audio"].save(audio_name(sample, "mp3"), ContentFile(b"mp3"))
    job.finish([sample], {})
    return sample


def has_sound(sample: Sample) -> bool:
    return any(storages["audio"].exists(audio_name(sample, ending)) for ending in ("flac", "mp3"))


def test_expired_leases_are_reaped_and_others_woken(
    submit: Callable[..., GenerationJob], monkeypatch: pytest.MonkeyPatch
) -> None:
    woken: list[str] = []
    monkeypatch.setattr(recovery, "wake", woken.append)
    dead, alive, waiting = submit(), submit(), submit()
    for _ in range(2):
        GenerationJob.objects.claim("", None)
    GenerationJob.objects.filter(pk=dead.pk).update(lease_until=Now() - timedelta(seconds=1))
    assert recovery.reap() == 1
    assert recovery.reap() == 0
    statuses = [GenerationJob.objects.get(pk=job.pk).status for job in (dead, alive, waiting)]
    assert (statuses, woken) == ([Status.QUEUED, Status.RUNNING, Status.QUEUED], ["tiny"])


def test_a_dead_process_gives_up_its_claims_at_once(submit: Callable[..., GenerationJob]) -> None:
    mine, other = Worker.objects.create(host="here", pid=1), Worker.objects.create(host="here", pid=2)
    submit(), submit()
    first, _ = GenerationJob.objects.claim("", mine), GenerationJob.objects.claim("", other)
    mine.give_up_claims()
    assert GenerationJob.objects.expired().get() == first


def test_work_waits_for_workers_that_may_take_it(submit: Callable[..., GenerationJob]) -> None:
    assert not recovery.is_work_waiting("")
    submit()
    assert recovery.is_work_waiting("")
    assert recovery.is_work_waiting("tiny")
    assert not recovery.is_work_waiting("tiny-turbo")


def test_the_sound_of_a_deleted_sample_goes_when_undo_has_ended(sample: Sample) -> None:
    sample.delete_softly()
    assert recovery.purge_sounds() == 0
    assert has_sound(sample)
    Sample.objects.update(deleted_at=Now() - timedelta(minutes=11))
    assert recovery.purge_sounds() == 1
    assert recovery.purge_sounds() == 0
    assert not has_sound(sample)


def test_the_sound_of_a_deleted_job_goes_too(sample: Sample) -> None:
    sample.job.refresh_from_db()
    sample.job.delete_softly()
    GenerationJob.objects.update(deleted_at=Now() - timedelta(minutes=11))
    assert recovery.purge_sounds() == 1
    assert not has_sound(sample)


def test_sound_goes_after_its_time_and_the_sample_stays(sample: Sample, settings: Settings) -> None:
    settings.REPRISE_AUDIO_TTL = timedelta(days=1)
    assert recovery.purge_sounds() == 0
    Sample.objects.update(created_at=timezone.now() - timedelta(days=2))
    assert recovery.purge_sounds() == 1
    assert Sample.objects.get().purged_at
    assert not has_sound(sample)


def test_sound_stays_for_ever_by_default(sample: Sample) -> None:
    Sample.objects.update(created_at=timezone.now() - timedelta(days=5000))
    assert recovery.purge_sounds() == 0


def age(name: str) -> None:
    """Make a sound file two days old."""
    two_days_ago = time.time() - 2 * 86400
    os.utime(storages["audio"].path(name), (two_days_ago, two_days_ago))


def keep_sounds(count: int) -> None:
    """Keep more samples with sound, so that one stray file is not most of them."""
    job = GenerationJob.objects.get()
    for index in range(1, count + 1):
        sample = Sample(job=job, index=index, seed=7, size_bytes=4, sample_rate=48000, duration_s=1.0)
        sample.audio_file = storages["audio"].save(audio_name(sample, "flac"), ContentFile(b"fLaC"))
        sample.save()
        age(sample.audio_file)


def test_stray_sounds_go_when_they_are_a_day_old(sample: Sample) -> None:
    keep_sounds(3)
    stray, young = (storages["audio"].save(f"00/{uuid4()}.flac", ContentFile(b"fLaC")) for _ in range(2))
    draft = storages["audio"].save("00/.draft-1234", ContentFile(b"half"))
    age(stray), age(draft), age(audio_name(sample, "mp3"))
    assert recovery.remove_stray_sounds(timezone.now()) == 2
    assert not storages["audio"].exists(stray)
    assert storages["audio"].exists(young)
    assert has_sound(sample)
    assert recovery.purge_sounds() == 0


def test_stray_sounds_stay_where_most_files_would_go(sample: Sample, caplog: pytest.LogCaptureFixture) -> None:
    """The database is a new one, or the folder another studio's."""
    keep_sounds(5)
    Sample.objects.all().delete()
    assert recovery.remove_stray_sounds(timezone.now()) == 0
    assert "none is removed" in caplog.text


def test_rows_of_what_was_deleted_long_ago_are_forgotten_after_their_sound(sample: Sample) -> None:
    GenerationJob.objects.update(deleted_at=Now() - timedelta(days=91))
    recovery.forget_rows()
    assert GenerationJob.objects.exists(), "its sound is still there"
    recovery.purge_sounds()
    recovery.forget_rows()
    assert not GenerationJob.objects.exists()


def test_workers_that_stopped_long_ago_are_forgotten(submit: Callable[..., GenerationJob]) -> None:
    worker = Worker.objects.create(host="here", pid=1)
    submit()
    job = GenerationJob.objects.claim("", worker)
    Worker.objects.update(beat_at=Now() - timedelta(days=2))
    recovery.forget_rows()
    assert not Worker.objects.exists()
    assert GenerationJob.objects.get() == job


def test_pruning_takes_expired_latents_but_nothing_that_a_job_needs(
    alice: User, store_take: Callable[..., LatentRecord]
) -> None:
    needed, other = store_take(), store_take()
    request = take_request(needed, duration=2.0)
    GenerationJob.objects.submit(request, owner=alice, request_id="one")
    LatentRecord.objects.update(expires_at=timezone.now() - timedelta(days=1))
    recovery.prune()
    needed.refresh_from_db(), other.refresh_from_db()
    assert (needed.purged_at, other.purged_at is None) == (None, False)


def test_pruning_is_one_workers_turn_once_an_hour(db: None) -> None:
    assert [recovery.is_turn_to_prune() for _ in range(3)] == [True, False, False]
