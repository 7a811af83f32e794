"""Latents in S3: the same promises as in a folder, with no more bytes fetched than are needed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
import torch
from django.contrib.auth.models import User
from django.core.files.base import ContentFile
from django.core.files.storage import Storage, storages
from django.utils import timezone

from latents import store
from latents.audit import audit, fix
from latents.errors import LatentDamaged, LatentFileMissing
from latents.models import LatentRecord
from latents.retention import prune
from tests.latents.conftest import make_provenance, random_latents


@pytest.fixture
def bucket(s3_storages: None) -> Storage:
    return storages["latents"]


@pytest.fixture
def record(bucket: Storage, db: None) -> LatentRecord:
    return store.save(random_latents(), make_provenance(), owner=User.objects.create_user("alice"))


def replace(bucket: Storage, record: LatentRecord, change: Callable[[bytes], bytes]) -> None:
    with bucket.open(record.file) as file:
        content = file.read()
    bucket.delete(record.file)
    assert bucket.save(record.file, ContentFile(change(content))) == record.file


@contextmanager
def counted_bytes(bucket: Any) -> Iterator[list[int]]:
    """Count what the server is asked to send, range by range; what a closed stream leaves unread is not sent."""
    counted: list[int] = []

    def count(parsed: dict[str, Any], **about: Any) -> None:
        body, read = parsed["Body"], parsed["Body"].read

        def counting(*arguments: Any) -> bytes:
            data: bytes = read(*arguments)
            counted.append(len(data))
            return data

        body.read = counting

    events = bucket.connection.meta.client.meta.events
    events.register("after-call.s3.GetObject", count)
    yield counted
    events.unregister("after-call.s3.GetObject", count)


def test_latents_come_back_with_the_same_bits(record: LatentRecord) -> None:
    store.check(record)
    store.verify(record)
    assert torch.equal(store.load(record), random_latents())
    assert torch.equal(store.load_item(record, 1).latents, random_latents()[1])


def test_one_item_is_fetched_without_the_others(record: LatentRecord, bucket: Storage) -> None:
    latents = random_latents(batch_size=16, frames=2000, channels=16)
    large = store.save(latents, make_provenance(), owner=record.owner)
    with counted_bytes(bucket) as counted:
        item = store.load_item(large, 9)
    assert torch.equal(item.latents, latents[9])
    assert sum(counted) < 2000 * 16 * 4 + 3 * 2**16
    with counted_bytes(bucket) as counted:
        store.check(large)
    assert sum(counted) <= 2**16


def test_missing_file_is_not_found(record: LatentRecord, bucket: Storage) -> None:
    bucket.delete(record.file)
    for read in (store.check, store.verify, store.load, lambda record: store.load_item(record, 0)):
        with pytest.raises(LatentFileMissing, match=f"^Failed to load latent tensor '{record.pk}'$"):
            read(record)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content[:-1], "bytes, expected"),
        (lambda content: b"", "it has 0 bytes"),
        (lambda content: b"x" * len(content), "not a safetensors file"),
    ],
)
def test_damage_is_seen_before_any_work(
    record: LatentRecord, bucket: Storage, change: Callable[[bytes], bytes], message: str
) -> None:
    replace(bucket, record, change)
    for read in (store.check, store.verify, store.load, lambda record: store.load_item(record, 0)):
        with pytest.raises(LatentDamaged, match=message):
            read(record)


def test_changed_bits_are_seen_by_whoever_reads_them(record: LatentRecord, bucket: Storage) -> None:
    replace(bucket, record, lambda content: content[:-1] + bytes([content[-1] ^ 1]))
    store.check(record)
    assert store.load_item(record, 0).latents.shape == (30, 4)
    for read in (store.verify, store.load, lambda record: store.load_item(record, 1)):
        with pytest.raises(LatentDamaged, match="checksum"):
            read(record)


def test_audit_finds_and_removes_a_file_without_row_once_it_is_a_day_old(record: LatentRecord, bucket: Storage) -> None:
    for number in range(2):
        store.save(random_latents(), make_provenance(), owner=record.owner)
        bucket.save(f"ab/{number}.safetensors", ContentFile(b"left behind"))
    now = timezone.now()
    assert (audit(now).young, audit(now).orphans) == (2, [])
    tomorrow = now + timedelta(days=2)
    found = audit(tomorrow, verify=True)
    assert found.orphans == ["ab/0.safetensors", "ab/1.safetensors"]
    assert (found.missing, found.damaged) == ([], [])
    fix(found, tomorrow)
    assert audit(tomorrow).is_clean


def test_prune_takes_the_bytes(record: LatentRecord, bucket: Storage) -> None:
    name = record.file
    record.delete_softly(timezone.now() - timedelta(hours=1))
    assert prune(timezone.now()).records == 1
    assert not bucket.exists(name)


def test_parts_of_a_file_are_read_in_any_order(bucket: Storage) -> None:
    content = bytes(range(256)) * 1000
    name = bucket.save("parts", ContentFile(content))
    with bucket.open(name) as file:
        assert file.size == len(content)
        for start in (200_000, 3, 70_000, 255_999, 0):
            file.seek(start)
            assert file.read(70_000) == content[start : start + 70_000]
        file.seek(-10, 2)
        assert file.read() == content[-10:]
        assert file.read() == b""


def test_a_name_is_never_written_twice(bucket: Storage) -> None:
    assert bucket.save("song", ContentFile(b"one")) == "song"
    assert bucket.save("song", ContentFile(b"two")) != "song"
    with bucket.open("song") as file:
        assert file.read() == b"one"
