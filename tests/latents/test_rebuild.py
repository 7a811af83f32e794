"""Rows made again from files: a lost database loses no latents."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch
from django.contrib.auth.models import User
from django.core.files.storage import storages
from django.core.management import CommandError, call_command
from django.utils import timezone
from pytest_django import Settings

from latents import rebuild as rebuild_module
from latents import store
from latents.audit import audit
from latents.lineage import ancestors
from latents.models import HeatMap, LatentRecord
from latents.rebuild import rebuild
from latents.store import Parentage
from tests.latents.conftest import make_provenance, random_latents

MakeRecord = Callable[..., LatentRecord]


def path_of(record: LatentRecord) -> Path:
    return Path(storages["latents"].path(record.file))


def lose_the_database() -> dict[Any, dict[str, Any]]:
    """Delete every row; return what they said."""
    rows = {row["id"]: row for row in LatentRecord.objects.values()}
    LatentRecord.objects.all().delete()
    return rows


@pytest.fixture
def family(alice: User) -> tuple[LatentRecord, LatentRecord, LatentRecord]:
    """A take, what was resumed from its second item, and a guided checkpoint."""
    first = store.save(random_latents(), make_provenance(), owner=alice)
    parent = Parentage(id=first.pk, sample_index=1, level=0.75, digest=first.item_digests[1])
    second = store.save(random_latents(1), make_provenance(seeds=[9], parent=parent), owner=alice)
    checkpoint = store.save(
        random_latents(1), make_provenance(seeds=[9], checkpoint_step=1), owner=alice, momentum=random_latents(1)
    )
    return first, second, checkpoint


@pytest.mark.usefixtures("family")
def test_rows_are_as_they_were(alice: User) -> None:
    lost = lose_the_database()
    assert rebuild(alice, timezone.now()).records == 3
    assert {row["id"]: row for row in LatentRecord.objects.values()} == lost


def test_rebuilt_records_can_be_used(family: tuple[LatentRecord, ...], alice: User) -> None:
    lose_the_database()
    rebuild(alice, timezone.now())
    for record in LatentRecord.objects.all():
        store.verify(record)
        assert store.load_item(record, 0).latents.shape[1] == record.channels
    assert audit(timezone.now(), verify=True).is_clean
    assert LatentRecord.objects.search("lofi").count() == 3


def test_pictures_are_drawn_again(family: tuple[LatentRecord, ...], alice: User) -> None:
    drawn = {picture.pk: (bytes(picture.thumbnail), bytes(picture.picture)) for picture in HeatMap.objects.all()}
    lose_the_database()
    rebuild(alice, timezone.now())
    assert {
        picture.pk: (bytes(picture.thumbnail), bytes(picture.picture)) for picture in HeatMap.objects.all()
    } == drawn


def test_children_find_their_parents(family: tuple[LatentRecord, ...], alice: User) -> None:
    first, second, _ = family
    lose_the_database()
    rebuild(alice, timezone.now())
    assert [relative.record for relative in ancestors(LatentRecord.objects.get(pk=second.pk))] == [first]


def test_everything_belongs_to_whoever_was_named_and_lives_as_from_now(
    make_record: MakeRecord, bob: User, settings: Settings
) -> None:
    settings.REPRISE_LATENT_TTL = timedelta(days=30)
    now = timezone.now()
    make_record(pinned=True), make_record(expires_at=now - timedelta(days=1)), make_record(deleted_at=now)
    lose_the_database()
    rebuild(bob, now)
    records = LatentRecord.objects.visible_to(bob).live(now)
    assert records.count() == 3
    assert set(records.values_list("pinned", "expires_at")) == {(False, now + timedelta(days=30))}


def test_search_shows_the_latest_first_as_before(alice: User) -> None:
    now = timezone.now()
    stored = [
        store.save(random_latents(), make_provenance(), owner=alice, now=now - timedelta(days=days))
        for days in (90, 1, 60, 30)
    ]
    lose_the_database()
    rebuild(alice, now)
    found = list(LatentRecord.objects.search("lofi").newest_first())
    assert found == sorted(stored, key=lambda record: record.created_at, reverse=True)


def test_rows_that_are_there_stay_as_they_are(make_record: MakeRecord, bob: User) -> None:
    kept, lost = make_record(pinned=True), make_record()
    LatentRecord.objects.filter(pk=lost.pk).delete()
    rebuilt = rebuild(bob, timezone.now())
    assert (rebuilt.records, rebuilt.known, rebuilt.refused) == (1, 1, [])
    kept.refresh_from_db()
    assert (kept.owner.username, kept.pinned) == ("alice", True)


def test_interrupted_rebuild_is_taken_up_again(
    make_record: MakeRecord, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(5):
        make_record()
    lose_the_database()
    monkeypatch.setattr(rebuild_module, "BATCH_SIZE", 2)
    seen: list[LatentRecord] = []

    def stop(record: LatentRecord) -> None:
        seen.append(record)
        if len(seen) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rebuild(alice, timezone.now(), on_record=stop)
    rebuilt = rebuild(alice, timezone.now())
    assert (rebuilt.records, rebuilt.known) == (1, 4)


def spoil_text(path: Path) -> None:
    path.write_text("not latents")


def spoil_end(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def spoil_header(path: Path) -> None:
    path.write_bytes(
        path.read_bytes().replace(b'"version": 1', b'"version": 9').replace(b'\\"version\\": 1', b'\\"version\\": 9')
    )


def spoil_values(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-4:] = torch.tensor([float("nan")]).numpy().tobytes()
    path.write_bytes(content)


def be_foreign(path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"latents": random_latents()}, path)


def be_a_copy(path: Path) -> None:
    others = [other for other in path.parent.iterdir() if other != path]
    shutil.copyfile(others[0], path)


SPOILED = [
    (spoil_text, "it is not a safetensors file"),
    (spoil_end, "bytes, its header says"),
    (spoil_header, "'version' must be 1"),
    (spoil_values, "contains NaN"),
    (be_foreign, "it was not written by Reprise"),
    (be_a_copy, "another file is record"),
]


@pytest.mark.parametrize(("spoil", "reason"), SPOILED, ids=[spoil.__name__ for spoil, _ in SPOILED])
def test_files_that_cannot_be_right_are_reported_and_left(
    make_record: MakeRecord, alice: User, spoil: Callable[[Path], None], reason: str
) -> None:
    make_record()
    path = path_of(make_record())
    spoil(path)
    lose_the_database()
    rebuilt = rebuild(alice, timezone.now())
    assert rebuilt.records == 1
    ((name, why),) = rebuilt.refused
    assert reason in why
    assert Path(storages["latents"].path(name)).exists()


def run(*arguments: str) -> tuple[str, str, str]:
    """Run the command; return its output, its errors and its complaint."""
    out, errors, complaint = StringIO(), StringIO(), ""
    try:
        call_command("rebuild_records", *arguments, stdout=out, stderr=errors)
    except CommandError as error:
        complaint = str(error)
    return out.getvalue(), errors.getvalue(), complaint


def test_command_says_what_became_of_the_files(make_record: MakeRecord) -> None:
    record = make_record()
    make_record()
    draft = path_of(record).with_name(".draft-1234")
    draft.write_bytes(path_of(record).read_bytes())
    LatentRecord.objects.filter(pk=record.pk).delete()
    out, errors, complaint = run("-v", "2")
    assert out.splitlines() == [f"Rebuilt {record.pk} from {record.file}", "Rebuilt 1 record; 1 had a row already"]
    assert errors.strip().endswith(".draft-1234: it was never finished")
    assert complaint == "1 file could not be given a row"
    assert LatentRecord.objects.get(pk=record.pk).owner.username == "local"


@pytest.mark.usefixtures("server_mode")
def test_command_asks_whose_they_are(record: LatentRecord, bob: User) -> None:
    LatentRecord.objects.all().delete()
    assert run()[2] == "Say whose it is: --user NAME"
    assert run("--user", "nobody")[2] == "No active user 'nobody'"
    assert run("--user", "bob")[0] == "Rebuilt 1 record; 0 had a row already\n"


@pytest.mark.django_db
def test_empty_store_is_no_trouble() -> None:
    assert run() == ("Rebuilt 0 records; 0 had a row already\n", "", "")
