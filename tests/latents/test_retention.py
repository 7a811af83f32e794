"""Lifetimes and pruning: what has had its time goes, and nothing else."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.files.storage import storages
from django.core.management import CommandError, call_command
from django.utils import timezone
from pytest_django import Settings

from latents import retention
from latents.models import HeatMap, LatentRecord
from latents.retention import ROW_LIFETIME, default_expiry, prune

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
MakeRecord = Callable[..., LatentRecord]


def has_file(record: LatentRecord) -> bool:
    return storages["latents"].exists(record.file)


@pytest.mark.parametrize(
    ("studio", "asked", "expiry"),
    [
        (None, None, None),
        (None, HOUR, NOW + HOUR),
        (DAY, None, NOW + DAY),
        (DAY, HOUR, NOW + HOUR),
        (DAY, 2 * DAY, NOW + DAY),
    ],
)
def test_shorter_lifetime_counts(
    settings: Settings, studio: timedelta | None, asked: timedelta | None, expiry: datetime | None
) -> None:
    settings.REPRISE_LATENT_TTL = studio
    assert default_expiry(NOW, asked) == expiry


FATES: list[tuple[dict[str, Any], bool]] = [
    ({}, False),
    ({"expires_at": NOW + MINUTE}, False),
    ({"expires_at": NOW}, True),
    ({"expires_at": NOW, "pinned": True}, False),
    ({"deleted_at": NOW - 9 * MINUTE}, False),
    ({"deleted_at": NOW - 10 * MINUTE}, True),
    ({"deleted_at": NOW - 10 * MINUTE, "pinned": True}, True),
    ({"deleted_at": NOW - 9 * MINUTE, "expires_at": NOW - DAY}, False),
]


@pytest.mark.parametrize(("fields", "goes"), FATES)
def test_only_what_has_had_its_time_goes(make_record: MakeRecord, fields: dict[str, Any], goes: bool) -> None:
    record = make_record(**fields)
    pruned = prune(NOW)
    assert pruned.records == goes
    assert has_file(record) != goes
    assert pruned.bytes == (record.size_bytes if goes else 0)


def test_pruned_record_keeps_its_row_and_picture(make_record: MakeRecord) -> None:
    record = make_record(expires_at=NOW)
    prune(NOW)
    record.refresh_from_db()
    assert record.state(NOW) == "expired"
    assert (record.purged_at, record.file) == (NOW, "")
    assert HeatMap.objects.filter(record=record).exists()


def test_held_record_outlives_its_expiry(make_record: MakeRecord) -> None:
    record = make_record(expires_at=NOW)
    record.hold(uuid.uuid4(), NOW - MINUTE)
    assert prune(NOW + DAY).records == 0
    assert has_file(record)
    record.holds.all().delete()
    assert prune(NOW + DAY).records == 1


def test_dry_run_says_the_same_and_changes_nothing(make_record: MakeRecord) -> None:
    record = make_record(expires_at=NOW)
    make_record(purged_at=NOW - ROW_LIFETIME, file="")
    seen: list[LatentRecord] = []
    planned = prune(NOW, dry_run=True, on_record=seen.append)
    assert seen == [record]
    assert has_file(record)
    assert prune(NOW) == planned


def test_older_than_waits_after_the_expiry(make_record: MakeRecord) -> None:
    old, recent = make_record(expires_at=NOW - 13 * HOUR), make_record(expires_at=NOW - HOUR)
    assert prune(NOW, age=12 * HOUR).records == 1
    assert (has_file(old), has_file(recent)) == (False, True)


def test_older_than_waits_after_a_deletion(make_record: MakeRecord) -> None:
    record = make_record(deleted_at=NOW - HOUR)
    assert prune(NOW, age=12 * HOUR).records == 0
    assert has_file(record)


def test_variant_limits_what_goes(make_record: MakeRecord) -> None:
    sketch, other = make_record(expires_at=NOW), make_record(expires_at=NOW, model_variant="acestep-v15-turbo")
    prune(NOW, variant="acestep-v15-turbo")
    assert (has_file(sketch), has_file(other)) == (True, False)


def test_rows_go_after_ninety_days(make_record: MakeRecord) -> None:
    old = make_record(purged_at=NOW - ROW_LIFETIME, file="")
    recent = make_record(purged_at=NOW - ROW_LIFETIME + MINUTE, file="")
    child = make_record(parent_id=old.pk, parent_level=0.5)
    assert prune(NOW).rows == 1
    assert set(LatentRecord.objects.all()) == {recent, child}
    child.refresh_from_db()
    assert child.parent_id == old.pk


def test_interrupted_prune_is_taken_up_again(make_record: MakeRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    records = [make_record(expires_at=NOW) for _ in range(3)]

    def die(batch: list[LatentRecord]) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(retention, "_remove_files", die)
        with pytest.raises(KeyboardInterrupt):
            prune(NOW)
    assert all(has_file(record) for record in records)
    assert not LatentRecord.objects.live(NOW).exists()
    prune(NOW)
    assert not any(has_file(record) for record in records)
    assert not LatentRecord.objects.half_removed().exists()


def test_many_records_go_in_small_batches(make_record: MakeRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "BATCH_SIZE", 2)
    records = [make_record(expires_at=NOW) for _ in range(5)]
    assert prune(NOW).records == 5
    assert not any(has_file(record) for record in records)


def run(*arguments: str) -> str:
    out = StringIO()
    call_command("prune_latents", *arguments, stdout=out)
    return out.getvalue()


def test_command_says_in_one_line_what_it_did(make_record: MakeRecord) -> None:
    record = make_record(expires_at=timezone.now() - HOUR)
    assert run("--dry-run").startswith("Would prune 1 latent (")
    assert has_file(record)
    assert run("--older-than", "12h") == "Pruned 0 latents (0\xa0bytes) and 0 rows of older ones\n"
    assert len(run().splitlines()) == 1
    assert not has_file(record)


def test_command_lists_each_record_when_asked(make_record: MakeRecord) -> None:
    record = make_record(expires_at=timezone.now())
    lines = run("-v", "2").splitlines()
    assert str(record.pk) in lines[0]
    assert len(lines) == 2


@pytest.mark.django_db
@pytest.mark.parametrize("older_than", ["12", "never", "soon"])
def test_command_refuses_what_is_no_age(older_than: str) -> None:
    with pytest.raises(CommandError, match="must be a time such as 12h"):
        run("--older-than", older_than)


def test_folders_of_the_store_stay(make_record: MakeRecord) -> None:
    record = make_record(expires_at=NOW)
    folder = Path(storages["latents"].path(record.file)).parent
    prune(NOW)
    assert folder.is_dir()
