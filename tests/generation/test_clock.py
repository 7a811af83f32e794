"""Leases go by the database's clock: that of one of several machines may be wrong."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from django.contrib.auth.models import User
from django.db.models import F
from django.db.models.functions import Now
from django.utils import timezone

from generation.models import LEASE, GenerationJob, Worker


@pytest.mark.django_db
@pytest.mark.parametrize("error", [timedelta(hours=-1), timedelta(hours=1)])
def test_worker_with_a_wrong_clock_neither_loses_jobs_nor_takes_those_of_others(
    error: timedelta, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice = User.objects.create_user("alice")
    for number in range(2):
        GenerationJob.objects.create(
            owner=alice,
            request_id=str(number),
            params={},
            model_variant="sketch",
            queue="sketch",
            steps=8,
            model_calls=8,
        )
    worker = Worker.objects.create(host="east", pid=1)
    others = GenerationJob.objects.all().claim("sketch", None)
    right_now = timezone.now

    def wrong_now() -> datetime:
        return right_now() + error

    monkeypatch.setattr(timezone, "now", wrong_now)
    own = GenerationJob.objects.all().claim("sketch", worker)
    assert own
    assert others
    own.renew_lease()
    worker.beat()
    left = GenerationJob.objects.running().annotate(left=F("lease_until") - Now()).values_list("left", flat=True)
    assert all(LEASE - timedelta(seconds=10) < lease <= LEASE for lease in left)
    assert not GenerationJob.objects.all().expired()
    assert list(Worker.objects.all().live()) == [worker]
