"""Submit, prune and delete at the same moment: a latent that a job was promised is never taken."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.core.files.storage import storages
from django.db import connections, transaction
from django.utils import timezone

from latents.errors import LatentHeld, LatentNotFound
from latents.models import LatentHold, LatentRecord
from latents.retention import prune

pytestmark = pytest.mark.django_db(transaction=True)

ROUNDS = 8
MakeRecord = Callable[..., LatentRecord]


def race(*actions: Callable[[], object]) -> list[object]:
    """Run the actions at once, each in a thread with its own connection; return what each returned or raised."""
    start = threading.Barrier(len(actions))
    results: list[object] = [None] * len(actions)

    def run(place: int, action: Callable[[], object]) -> None:
        start.wait()
        try:
            results[place] = action()
        except (LatentHeld, LatentNotFound) as error:
            results[place] = error
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run, args=item) for item in enumerate(actions)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return results


def submit(record: LatentRecord) -> Callable[[], object]:
    """Do what accepting a job does: find, then hold in the transaction that inserts the job."""

    def act() -> LatentHold:
        found = LatentRecord.objects.get(pk=record.pk)
        with transaction.atomic():
            return found.hold(uuid.uuid4(), timezone.now() - timedelta(minutes=2))  # a clock that is late

    return act


def is_whole(record: LatentRecord) -> bool:
    record.refresh_from_db()
    return record.state() != "deleted" and record.purged_at is None and storages["latents"].exists(record.file)


def test_either_the_job_or_the_deletion_wins(make_record: MakeRecord) -> None:
    for _ in range(ROUNDS):
        record = make_record()
        held, deleted = race(submit(record), LatentRecord.objects.get(pk=record.pk).delete_softly)
        if isinstance(held, LatentHold):
            assert isinstance(deleted, LatentHeld)
            assert is_whole(record)
        else:
            assert isinstance(held, LatentNotFound)
            assert deleted is None


def test_either_the_job_or_the_prune_wins(make_record: MakeRecord) -> None:
    for _ in range(ROUNDS):
        record = make_record(expires_at=timezone.now() - timedelta(minutes=1))
        held, pruned = race(submit(record), lambda: prune(timezone.now()).records)
        assert isinstance(held, LatentHold) == is_whole(record)
        assert pruned == (0 if isinstance(held, LatentHold) else 1)
        LatentHold.objects.all().delete()
        prune(timezone.now())


def test_two_prunes_share_the_work(make_record: MakeRecord) -> None:
    records = [make_record(expires_at=timezone.now()) for _ in range(20)]
    pruned = race(*[lambda: prune(timezone.now()).records] * 2)
    assert sum(count for count in pruned if isinstance(count, int)) == len(records)
    assert not any(is_whole(record) for record in records)


def test_prune_waits_for_a_job_that_is_being_accepted(make_record: MakeRecord) -> None:
    record = make_record(expires_at=timezone.now() - timedelta(minutes=1))
    has_hold, may_commit = threading.Event(), threading.Event()

    def accept() -> None:
        with transaction.atomic():
            record.hold(uuid.uuid4(), timezone.now() - timedelta(minutes=2))
            has_hold.set()
            may_commit.wait(30)

    def prune_meanwhile() -> int:
        has_hold.wait(30)
        threading.Timer(0.2, may_commit.set).start()
        return prune(timezone.now()).records

    assert race(accept, prune_meanwhile) == [None, 0]
    assert is_whole(record)


def test_many_jobs_may_hold_at_once(make_record: MakeRecord, alice: User) -> None:
    record = make_record()
    holds = race(*[submit(record)] * 8)
    assert all(isinstance(hold, LatentHold) for hold in holds)
    assert record.holds.count() == 8


def test_hold_that_is_rolled_back_was_never_there(make_record: MakeRecord) -> None:
    record = make_record()
    with transaction.atomic():
        record.hold(uuid.uuid4())
        transaction.set_rollback(True)
    record.delete_softly()
    assert record.state() == "deleted"
