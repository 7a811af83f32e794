"""Made-up records: varied enough to try a studio with, and never taken for real ones."""

from __future__ import annotations

from io import StringIO
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.utils import timezone
from pytest_django import Settings

from latents import store
from latents.audit import audit
from latents.demo import LONGEST_LINE
from latents.errors import StorageFailed
from latents.lineage import ancestors, descendants
from latents.models import LatentRecord
from resumeapp.accounts import local_user

pytestmark = pytest.mark.django_db


def run(*arguments: str) -> str:
    out = StringIO()
    call_command("seed_demo", *arguments, stdout=out)
    return out.getvalue()


def test_records_have_files_that_are_as_they_were_stored() -> None:
    assert run("--latents", "12", "--users", "2") == "Made 12 records with files of 2 users\n"
    assert LatentRecord.objects.count() == 12
    for record in LatentRecord.objects.all():
        store.verify(record)
    assert audit(timezone.now(), verify=True).is_clean


def test_rows_alone_say_that_they_are() -> None:
    assert run("--latents", "300", "--rows-only") == "Made 300 records without files of 1 user\n"
    there = LatentRecord.objects.stored()
    assert 0 < there.count() < 300
    assert all(record.file.startswith("rows-only/") for record in there)
    assert {record.runtime["device"] for record in there} == {"nothing: a row of seed_demo --rows-only"}
    assert {record.sha256 for record in there} == {"0" * 64}


@pytest.mark.parametrize("how", [[], ["--rows-only"]], ids=["with files", "rows only"])
def test_parents_are_older_records_of_the_same_owner(how: list[str]) -> None:
    run("--latents", "60", "--users", "3", *how)
    records = {record.pk: record for record in LatentRecord.objects.all()}
    children = [record for record in records.values() if record.parent_id]
    assert children
    for child in children:
        parent = records[child.parent_id]
        assert (parent.owner, parent.model_variant) == (child.owner, child.model_variant)
        assert parent.created_at < child.created_at
        assert child.parent_level


def test_million_rows_in_small_vary_in_all_that_lists_show() -> None:
    run("--latents", "3000", "--users", "10", "--rows-only")
    records, now = LatentRecord.objects.all(), timezone.now()
    assert records.values("owner").distinct().count() == 10
    assert records.values("model_variant").distinct().count() == 3
    for state in (records.live(now), records.expired(now), records.deleted(), records.prunable(now)):
        assert state.exists()
    assert records.live(now).filter(pinned=True).exists()
    assert records.live(now).filter(checkpoint_step__isnull=False).exists()
    assert records.search("piano").exists()
    first = records.filter(owner=local_user()).earliest("created_at")
    assert len(descendants(first)) == LONGEST_LINE
    assert not ancestors(first)


def test_first_owner_is_the_local_user_where_there_is_one(settings: Settings) -> None:
    run("--latents", "1", "--rows-only")
    settings.REPRISE_MODE = "server"
    run("--latents", "1", "--rows-only")
    assert set(LatentRecord.objects.values_list("owner__username", flat=True)) == {"demo-1", "local"}
    assert not User.objects.get(username="demo-1").has_usable_password()


def test_seeding_twice_adds() -> None:
    run("--latents", "5", "--rows-only")
    run("--latents", "5", "--rows-only")
    assert LatentRecord.objects.count() == 10


@pytest.mark.parametrize("number", ["0", "-1", "1.5", "many", "١٢", "99999999999"])
def test_what_is_no_number_is_refused(number: str) -> None:
    with pytest.raises(CommandError, match="expected a number from 1"):
        run("--latents", number)


def test_full_disk_ends_it_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise StorageFailed(OSError(28, "No space left on device"))

    monkeypatch.setattr(store, "save_raw", fail)
    with pytest.raises(CommandError, match="Stopped after 0 records: The disk is full"):
        run("--latents", "1")
