"""The audit: every disagreement between rows and files is found, and only what is safe is repaired."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from datetime import timedelta
from io import StringIO
from pathlib import Path

import pytest
from django.core.files.storage import storages
from django.core.management import CommandError, call_command
from django.utils import timezone

from latents.audit import FixRefused, audit, fix
from latents.models import LatentRecord

MakeRecord = Callable[..., LatentRecord]


def path_of(record: LatentRecord) -> Path:
    return Path(storages["latents"].path(record.file))


def put_orphan(name: str = "ab/orphan.safetensors", age: timedelta = timedelta(days=2)) -> Path:
    path = Path(storages["latents"].path(name))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"left behind")
    time = (timezone.now() - age).timestamp()
    os.utime(path, (time, time))
    return path


@pytest.mark.django_db
def test_empty_studio_is_clean() -> None:
    assert audit(timezone.now(), verify=True).is_clean


def test_healthy_store_is_clean(make_record: MakeRecord) -> None:
    for _ in range(3):
        make_record()
    found = audit(timezone.now(), verify=True)
    assert found.is_clean
    assert (found.files, found.records) == (3, 3)


def test_pruned_records_need_no_file(make_record: MakeRecord) -> None:
    record = make_record()
    path_of(record).unlink()
    LatentRecord.objects.update(purged_at=timezone.now(), file="")
    assert audit(timezone.now()).is_clean


def test_orphans_are_found_wherever_they_are(record: LatentRecord) -> None:
    names = ["orphan.bin", "ab/.draft-123", "ab/cd/deep.safetensors"]
    for name in names:
        put_orphan(name)
    assert sorted(audit(timezone.now()).orphans) == sorted(names)


def test_young_files_are_left_to_their_writers(record: LatentRecord) -> None:
    path = put_orphan(age=timedelta(hours=23))
    found = audit(timezone.now())
    assert found.is_clean
    assert found.young == 1
    fix(found, timezone.now())
    assert path.exists()


def test_orphans_are_removed(make_record: MakeRecord) -> None:
    records = [make_record(), make_record()]
    path = put_orphan()
    fix(audit(timezone.now()), timezone.now())
    assert not path.exists()
    assert all(path_of(record).exists() for record in records)


def test_file_that_got_its_row_after_the_audit_is_kept(make_record: MakeRecord) -> None:
    make_record(), make_record()
    path = put_orphan()
    found = audit(timezone.now())
    LatentRecord.objects.filter(pk=make_record().pk).update(file="ab/orphan.safetensors")
    fix(found, timezone.now())
    assert path.exists()


def test_fix_refuses_when_there_are_no_records(db: None) -> None:
    path = put_orphan()
    with pytest.raises(FixRefused, match="no records, but there are files"):
        fix(audit(timezone.now()), timezone.now())
    assert path.exists()


@pytest.mark.parametrize(
    ("orphans", "records", "is_refused"), [(1, 1, False), (2, 1, True), (10, 15, False), (11, 15, True)]
)
def test_fix_refuses_when_most_or_many_files_would_go(
    make_record: MakeRecord, orphans: int, records: int, is_refused: bool
) -> None:
    for _ in range(records):
        make_record()
    paths = [put_orphan(f"ab/{number}") for number in range(orphans)]
    found = audit(timezone.now())
    if is_refused:
        with pytest.raises(FixRefused, match=f"{orphans} of {orphans + records} files would go"):
            fix(found, timezone.now())
    else:
        fix(found, timezone.now())
    assert all(path.exists() == is_refused for path in paths)


def test_records_that_lost_their_file_are_marked_as_deleted(make_record: MakeRecord) -> None:
    kept, lost = make_record(), make_record()
    path_of(lost).unlink()
    found = audit(timezone.now())
    assert found.missing == [lost]
    fix(found, timezone.now())
    lost.refresh_from_db()
    assert lost.state() == "deleted"
    assert audit(timezone.now()).is_clean
    assert path_of(kept).exists()


def test_record_without_file_that_a_job_holds_is_left_to_the_job(make_record: MakeRecord) -> None:
    _, lost = make_record(), make_record()
    path_of(lost).unlink()
    lost.hold(uuid.uuid4())
    fix(audit(timezone.now()), timezone.now())
    lost.refresh_from_db()
    assert lost.state() == "live"


def test_fix_refuses_when_the_folder_is_the_wrong_one(make_record: MakeRecord) -> None:
    records = [make_record(), make_record()]
    for record in records:
        path_of(record).unlink()
    with pytest.raises(FixRefused, match="2 of 2 records would go"):
        fix(audit(timezone.now()), timezone.now())
    assert LatentRecord.objects.live(timezone.now()).count() == 2


def test_checksums_are_compared_only_when_asked(record: LatentRecord) -> None:
    content = bytearray(path_of(record).read_bytes())
    content[-1] ^= 1
    path_of(record).write_bytes(content)
    assert audit(timezone.now()).is_clean
    assert audit(timezone.now(), verify=True).damaged == [(record, "its checksum differs")]


def test_truncated_file_is_seen_without_reading_it(record: LatentRecord) -> None:
    with path_of(record).open("r+b") as file:
        file.truncate(100)
    ((damaged, damage),) = audit(timezone.now()).damaged
    assert damaged == record
    assert damage.startswith("it has 100 bytes, expected")


def test_fix_refuses_with_the_database_of_another_studio(make_record: MakeRecord) -> None:
    """As many records as files, and none of them belongs to any."""
    files = [put_orphan(f"ab/{number}") for number in range(3)]
    for record in [make_record() for _ in range(3)]:
        path_of(record).unlink()
    found = audit(timezone.now())
    assert (len(found.orphans), len(found.missing)) == (3, 3)
    with pytest.raises(FixRefused, match="3 of 3 files would go"):
        fix(found, timezone.now())
    assert all(path.exists() for path in files)
    assert LatentRecord.objects.live(timezone.now()).count() == 3


def run(*arguments: str) -> tuple[str, str]:
    """Run the command; return its output and what it complained about."""
    out = StringIO()
    try:
        call_command("audit_latents", *arguments, stdout=out)
    except CommandError as error:
        return out.getvalue(), str(error)
    return out.getvalue(), ""


def test_command_is_content_with_a_healthy_store(record: LatentRecord) -> None:
    line = "1 record, 1 file: 0 without file, 0 files without record (0 more are younger than a day), 0 damaged\n"
    assert run("--verify") == (line, "")


def test_command_fails_until_the_orphans_are_gone(record: LatentRecord) -> None:
    put_orphan()
    out, complaint = run()
    assert "1 file without record" in out
    assert complaint == "Rows and files disagree"
    out, complaint = run("--fix")
    assert out.splitlines()[1] == "Removed 1 file, marked 0 records without file as deleted"
    assert not complaint
    assert run()[1] == ""


def test_command_lists_what_is_wrong_when_asked(make_record: MakeRecord) -> None:
    lost, damaged = make_record(), make_record()
    path_of(lost).unlink()
    path_of(damaged).write_bytes(b"")
    put_orphan()
    out, complaint = run("-v", "2")
    assert f"Without file: {lost.pk}" in out
    assert "Without record: ab/orphan.safetensors" in out
    assert f"Damaged: {damaged.pk}: it has 0 bytes" in out
    assert complaint


def test_command_still_fails_when_damage_remains(make_record: MakeRecord) -> None:
    damaged = make_record()
    path_of(damaged).write_bytes(b"")
    assert run("--fix")[1] == "Some files are damaged"


def test_command_says_when_it_refuses(record: LatentRecord) -> None:
    LatentRecord.objects.all().delete()
    path = path_of(record)
    os.utime(path, (0, 0))
    assert run("--fix")[1].startswith("Nothing was fixed: the database has no records")
    assert path.exists()
