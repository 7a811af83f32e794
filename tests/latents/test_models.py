"""The rules about records: who sees them, how long they live, what is still possible."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.db import IntegrityError, transaction
from django.db.models import ProtectedError

from latents.errors import LatentHeld, LatentNotFound
from latents.models import UNDO_WINDOW, UNPIN_GRACE, HeatMap, LatentHold, LatentRecord

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
MakeRecord = Callable[..., LatentRecord]

EXPIRED: dict[str, Any] = {"expires_at": NOW}
DELETED: dict[str, Any] = {"deleted_at": NOW}
PURGED: dict[str, Any] = {"purged_at": NOW, "file": ""}


def test_own_live_record_is_found(record: LatentRecord, alice: User) -> None:
    assert LatentRecord.objects.find(str(record.pk), alice) == record


@pytest.mark.parametrize("fields", [EXPIRED, DELETED, PURGED])
def test_expired_and_deleted_records_are_not_found(
    make_record: MakeRecord, alice: User, fields: dict[str, Any]
) -> None:
    record = make_record(**fields)
    with pytest.raises(LatentNotFound, match=rf"^Latent '{record.pk}' not found or expired$"):
        LatentRecord.objects.find(record.pk, alice, NOW)


@pytest.mark.parametrize("latent_id", ["", "nonsense", "' OR 1=1", "1a2b3c4d", "6b1f2c1e-5f0e-4a8e-9d7c-3c1b5a2f4e6d"])
def test_unknown_ids_are_not_found(alice: User, latent_id: str) -> None:
    with pytest.raises(LatentNotFound, match=f"^Latent '{latent_id}' not found or expired$"):
        LatentRecord.objects.find(latent_id, alice)


def test_records_of_others_are_not_found(record: LatentRecord, bob: User) -> None:
    for user in (bob, AnonymousUser()):
        with pytest.raises(LatentNotFound):
            LatentRecord.objects.find(record.pk, user)


STATES = [
    ({}, "live"),
    ({"expires_at": NOW + HOUR}, "live"),
    ({"expires_at": NOW}, "expired"),
    ({"expires_at": NOW - HOUR, "pinned": True}, "live"),
    (DELETED, "deleted"),
    (DELETED | {"pinned": True}, "deleted"),
    (DELETED | EXPIRED | PURGED, "deleted"),
    (PURGED | {"pinned": True}, "expired"),
    ({"damage": "its checksum differs"}, "damaged"),
    (EXPIRED | {"damage": "its checksum differs"}, "expired"),
]


@pytest.mark.parametrize(("fields", "state"), STATES)
def test_row_and_query_agree_on_the_state(make_record: MakeRecord, fields: dict[str, Any], state: str) -> None:
    record = make_record(**fields)
    assert record.state(NOW) == state
    objects = LatentRecord.objects
    assert objects.live(NOW).exists() == (state in ("live", "damaged"))
    assert objects.expired(NOW).exists() == (state == "expired")
    assert objects.deleted().exists() == (state == "deleted")


def test_pinned_record_survives_its_expiry(make_record: MakeRecord, alice: User) -> None:
    record = make_record(expires_at=NOW + HOUR)
    record.pin(NOW)
    later = NOW + timedelta(days=365)
    assert LatentRecord.objects.find(record.pk, alice, later) == record
    assert not LatentRecord.objects.prunable(later).exists()


def test_unpinned_record_has_at_least_a_day_left(make_record: MakeRecord) -> None:
    record = make_record(expires_at=NOW, pinned=True)
    record.unpin(NOW + HOUR)
    assert record.expires_at == NOW + HOUR + UNPIN_GRACE
    record.refresh_from_db()
    assert not record.pinned


def test_unpinned_record_keeps_a_later_expiry_or_none(make_record: MakeRecord) -> None:
    for expires_at in (NOW + timedelta(days=9), None):
        record = make_record(expires_at=expires_at, pinned=True)
        record.unpin(NOW)
        assert record.expires_at == expires_at


def test_extending_moves_the_expiry(make_record: MakeRecord) -> None:
    record = make_record(expires_at=NOW + HOUR)
    record.extend(2 * HOUR, NOW)
    record.refresh_from_db()
    assert record.expires_at == NOW + 3 * HOUR


def test_what_never_expires_is_not_given_an_end_by_extending(record: LatentRecord) -> None:
    record.extend(HOUR, NOW)
    assert record.expires_at is None


def test_expiry_cannot_be_extended_beyond_the_calendar(make_record: MakeRecord) -> None:
    record = make_record(expires_at=NOW + HOUR)
    for _ in range(10):
        record.extend(timedelta(days=36_500), NOW)
    assert record.expires_at is not None
    assert record.expires_at.year < 2200


@pytest.mark.parametrize("change", ["pin", "unpin", "hold"])
@pytest.mark.parametrize("fields", [EXPIRED, DELETED, PURGED])
def test_what_has_gone_cannot_be_changed(make_record: MakeRecord, change: str, fields: dict[str, Any]) -> None:
    record = make_record(**fields)
    with pytest.raises(LatentNotFound):
        record.hold(uuid.uuid4(), NOW) if change == "hold" else getattr(record, change)(NOW)


def test_stale_copy_of_a_row_does_not_bring_back_old_values(record: LatentRecord) -> None:
    stale = LatentRecord.objects.get(pk=record.pk)
    record.pin(NOW)
    stale.extend(HOUR, NOW)
    record.refresh_from_db()
    assert record.pinned


def test_delete_can_be_undone_for_ten_minutes(record: LatentRecord, alice: User) -> None:
    record.delete_softly(NOW)
    with pytest.raises(LatentNotFound):
        LatentRecord.objects.find(record.pk, alice, NOW)
    assert record.can_undelete(NOW + UNDO_WINDOW - timedelta(seconds=1))
    record.undelete(NOW + UNDO_WINDOW - timedelta(seconds=1))
    assert LatentRecord.objects.find(record.pk, alice, NOW) == record


def test_delete_cannot_be_undone_later(record: LatentRecord) -> None:
    record.delete_softly(NOW)
    assert not record.can_undelete(NOW + UNDO_WINDOW)
    with pytest.raises(LatentNotFound):
        record.undelete(NOW + UNDO_WINDOW)


def test_deleting_twice_does_not_start_the_undo_window_again(record: LatentRecord) -> None:
    record.delete_softly(NOW)
    record.delete_softly(NOW + HOUR)
    assert record.deleted_at == NOW


def test_undoing_nothing_changes_nothing(record: LatentRecord) -> None:
    record.undelete(NOW)
    assert record.state(NOW) == "live"


def test_held_record_cannot_be_deleted_until_the_job_ends(record: LatentRecord) -> None:
    job_id = uuid.uuid4()
    record.hold(job_id, NOW)
    with pytest.raises(LatentHeld, match="needed by a job"):
        record.delete_softly(NOW)
    assert record.state(NOW) == "live"
    LatentHold.objects.release(job_id)
    record.delete_softly(NOW)
    assert record.state(NOW) == "deleted"


def test_each_job_holds_for_itself(record: LatentRecord) -> None:
    first, second = uuid.uuid4(), uuid.uuid4()
    record.hold(first, NOW)
    record.hold(first, NOW)
    record.hold(second, NOW)
    LatentHold.objects.release(first)
    with pytest.raises(LatentHeld):
        record.delete_softly(NOW)


def test_row_of_a_held_record_cannot_go_even_with_its_owner(record: LatentRecord, alice: User) -> None:
    record.hold(uuid.uuid4(), NOW)
    with pytest.raises(ProtectedError):
        alice.delete()


def test_children_know_their_parent_when_its_row_is_gone(make_record: MakeRecord) -> None:
    parent = make_record()
    child = make_record(parent_id=parent.pk, parent_sample_index=1, parent_level=0.5)
    parent_id = parent.pk
    parent.delete()
    child.refresh_from_db()
    assert child.parent_id == parent_id
    assert not HeatMap.objects.filter(record=parent_id).exists()


def test_pages_go_on_after_a_record_even_among_equal_times(make_record: MakeRecord) -> None:
    records = [make_record(created_at=NOW) for _ in range(3)] + [make_record(created_at=NOW - HOUR)]
    pages, last = [], None
    while True:
        rest = LatentRecord.objects.newest_first()
        page = list((rest.older_than(last) if last else rest)[:2])
        if not page:
            break
        pages += page
        last = page[-1]
    assert pages == sorted(records, key=lambda record: (record.created_at, record.pk), reverse=True)


def test_totals_count_what_is_stored(make_record: MakeRecord, alice: User) -> None:
    first, second = make_record(), make_record(model_variant="acestep-v15-turbo")
    make_record(**PURGED)
    totals = {total.model_variant: (total.records, total.bytes) for total in LatentRecord.objects.totals_by_variant()}
    assert totals == {"sketch": (1, first.size_bytes), "acestep-v15-turbo": (1, second.size_bytes)}
    assert LatentRecord.objects.visible_to(alice).stored_bytes() == first.size_bytes + second.size_bytes


def test_nothing_stored_is_no_bytes(alice: User) -> None:
    assert LatentRecord.objects.visible_to(alice).stored_bytes() == 0


BROKEN = [
    {"file": ""},
    {"kind": "checkpoint"},
    {"checkpoint_step": 1},
]


@pytest.mark.parametrize("fields", BROKEN, ids=["stored without a file", "checkpoint without step", "take with a step"])
def test_database_refuses_rows_that_cannot_be(record: LatentRecord, fields: dict[str, Any]) -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        LatentRecord.objects.filter(pk=record.pk).update(**fields)
