"""Submit, delete, prune, audit, read and write at the same time: nothing needed goes, and nobody reads rubbish."""

from __future__ import annotations

import random
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from django.contrib.auth.models import User
from django.core.files.storage import storages
from django.db import connections
from django.utils import timezone
from pytest_django import Settings

from generation.downloads import remove_audio
from generation.models import CancelRequested, Conflict, GenerationJob, Sample
from latents import retention, store
from latents.audit import audit, fix
from latents.errors import LatentFileMissing, LatentHeld, LatentNotFound
from latents.models import UNDO_WINDOW, LatentHold, LatentRecord
from latents.store import Provenance
from latents.tensorfile import RawTensor
from tests.generation.take_requests import take_request

Submit = Callable[..., GenerationJob]

RECORDS = 6
PROVENANCE: dict[str, Any] = {
    "model_variant": "tiny",
    "frame_rate": 25.0,
    "caption": "warm lofi piano",
    "seeds": [7],
    "params": {"caption": "warm lofi piano", "duration": 1.0},
    "schedule": {"steps": 4, "shift": 1.0, "timesteps": [1.0, 0.75, 0.5, 0.25], "requested": 1.0, "effective": 1.0},
}


def store_one(owner: User, fill: float = 1.0) -> LatentRecord:
    """Store latents that have the same number everywhere."""
    data = memoryview(np.full((1, 25, 8), fill, dtype=np.float32).tobytes())
    return store.save_raw({"latents": RawTensor("float32", (1, 25, 8), data)}, Provenance(**PROVENANCE), owner=owner)


def at_once(*actors: Callable[[], None], until: Callable[[], bool]) -> None:
    """Let every actor act again and again, each in a thread with a connection of its own, and raise what went wrong."""
    errors: list[BaseException] = []

    def act(actor: Callable[[], None]) -> None:
        try:
            while not until() and not errors:
                actor()
        except BaseException as error:
            errors.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=act, args=[actor]) for actor in actors]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for error in errors:
        raise error


class Race:
    """People who submit, delete and undelete, workers who need the latents, and prunes all the while."""

    def __init__(self, owner: User, submissions: int) -> None:
        self.owner = owner
        self.submissions = submissions
        self.luck = random.Random(1)
        self.accepted = self.refused = self.pruned = 0
        self.ids = [store_one(owner).pk for _ in range(RECORDS)]

    def is_over(self) -> bool:
        """Go on until the others had their share as well: a busy machine may let the submitters run alone for long."""
        enough = self.accepted >= self.submissions and min(self.refused, self.pruned) > self.submissions / 50
        return enough or self.accepted >= 50 * self.submissions

    def _any_record(self) -> LatentRecord:
        return LatentRecord.objects.get(pk=self.luck.choice(self.ids))

    def submit(self) -> None:
        try:
            request = take_request(self._any_record(), t_start=0.5)
            GenerationJob.objects.submit(request, owner=self.owner, request_id=str(uuid.uuid4()))
            self.accepted += 1
        except LatentNotFound:
            self.refused += 1

    def delete(self) -> None:
        record = self._any_record()
        with suppress(LatentHeld):
            record.delete_softly()
        if self.luck.random() < 0.3:
            with suppress(LatentNotFound):
                record.undelete()
        time.sleep(0.01)

    def expire(self) -> None:
        LatentRecord.objects.filter(pk=self.luck.choice(self.ids)).update(expires_at=timezone.now())
        time.sleep(0.02)

    def prune(self) -> None:
        """Prune as if it were later, when no delete can be undone; then put new latents in the place of old ones."""
        self.pruned += retention.prune(timezone.now() + UNDO_WINDOW).records
        gone = LatentRecord.objects.filter(pk__in=self.ids, purged_at__isnull=False)
        for pk in gone.values_list("pk", flat=True):
            self.ids[self.ids.index(pk)] = store_one(self.owner).pk

    def work(self) -> None:
        """Do what a job does with the latent that it was promised, and end."""
        job = GenerationJob.objects.all().claim("tiny", None)
        if job is None:
            return
        assert job.source_record
        record = LatentRecord.objects.get(pk=job.source_record.pk)
        assert (record.deleted_at, record.purged_at) == (None, None)
        store.load_item(record, 0)
        try:
            self.luck.choice([job.end_cancelled, lambda: job.fail("for the test"), lambda: job.finish([], {})])()
        except CancelRequested:
            job.end_cancelled()

    def cancel(self) -> None:
        for job in GenerationJob.objects.queued()[:1]:
            with suppress(Conflict):
                job.request_cancel()
        time.sleep(0.02)


@pytest.mark.parametrize("submissions", [60, pytest.param(2000, marks=pytest.mark.long)])
def test_a_latent_that_an_accepted_job_needs_is_never_lost(
    submit: Submit, settings: Settings, submissions: int
) -> None:
    settings.REPRISE_MAX_QUEUED_JOBS = None
    race = Race(User.objects.get(), submissions)
    at_once(race.submit, race.submit, race.delete, race.expire, race.prune, race.work, race.cancel, until=race.is_over)
    while GenerationJob.objects.queued().exists():
        race.work()
    assert race.accepted == GenerationJob.objects.finished().count()
    assert not LatentHold.objects.exists()
    assert race.refused > submissions / 50
    assert race.pruned > submissions / 50
    assert audit(timezone.now(), verify=True).is_clean


def test_the_audit_blames_nobody_who_writes_reads_or_prunes_meanwhile(transactional_db: None) -> None:
    owner = User.objects.create_user("alice")
    luck = random.Random(1)
    audits = reads = 0

    def write() -> None:
        store_one(owner, luck.choice([1.0, 2.0]))

    def prune() -> None:
        keys = list(LatentRecord.objects.stored().values_list("pk", flat=True))
        if len(keys) > RECORDS:
            LatentRecord.objects.filter(pk=luck.choice(keys)).update(expires_at=timezone.now())
        retention.prune(timezone.now())

    def read() -> None:
        nonlocal reads
        record = LatentRecord.objects.stored().order_by("?").first()
        if record:
            with suppress(LatentFileMissing):  # pruned since it was found
                item = store.load_item(record, 0).latents
                assert float(item.min()) == float(item.max()) in (1.0, 2.0)
                reads += 1

    def look() -> None:
        nonlocal audits
        found = audit(timezone.now(), verify=True)
        assert found.is_clean
        fix(found, timezone.now())
        audits += 1

    at_once(write, prune, read, look, until=lambda: audits >= 50 and reads >= 50)
    assert audit(timezone.now(), verify=True).is_clean


def test_who_reads_a_sound_that_is_removed_hears_it_to_the_end(submit: Submit, drain: Callable[[], None]) -> None:
    submit(duration=10.0)
    drain()
    sample = Sample.objects.get()
    with sample.open_audio() as sound:
        beginning = sound.read(100)
        remove_audio(sample)
        assert not storages["audio"].exists(sample.audio_file)
        assert len(beginning + sound.read()) == sample.size_bytes
