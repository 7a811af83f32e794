"""Disks that are full, read-only or failing, and files that rot: nothing half is kept, and people hear what to do."""

from __future__ import annotations

import copy
import errno
import os
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from django.core.files.base import File
from django.core.files.storage import storages
from django.db import connection
from django.db.backends.signals import connection_created
from django.db.models.functions import Now
from django.utils import timezone
from pytest_django import Settings

from generation import recovery, worker
from generation.models import GenerationJob, Sample
from latents import store
from latents.audit import audit
from latents.errors import LatentDamaged
from latents.models import LatentHold, LatentRecord
from latents.storage import DurableFileSystemStorage
from tests.faults.conftest import assert_done, assert_files_are_whole, assert_garbage_is_found, files_in, reload

Status = GenerationJob.Status
Submit = Callable[..., GenerationJob]
Drain = Callable[[], None]

FULL = "The disk is full. Free some space, then try again."
READ_ONLY = "The disk can be read but not written. Make it writable, then try again."
FAILING = "The disk reports an error: Input/output error. It may be about to fail: look after it first."


def assert_nothing_half() -> None:
    assert_files_are_whole()
    assert files_in("latents") == set(LatentRecord.objects.values_list("file", flat=True))
    assert files_in("audio") == set(Sample.objects.values_list("audio_file", flat=True))
    assert not LatentHold.objects.exists()


class TestWrite:
    @pytest.mark.parametrize("place", ["latents", "checkpoint", "sound"])
    @pytest.mark.parametrize(
        ("number", "sentence"),
        [(errno.ENOSPC, FULL), (errno.EROFS, READ_ONLY), (errno.EIO, FAILING)],
        ids=["full", "read-only", "failing"],
    )
    def test_that_fails_half_way_fails_the_job_with_a_remedy(
        self,
        submit: Submit,
        drain: Drain,
        monkeypatch: pytest.MonkeyPatch,
        place: str,
        number: int,
        sentence: str,
    ) -> None:
        write, writes = DurableFileSystemStorage._write, count()
        at = ["latents", "checkpoint", "sound"].index(place)

        def fail_half_way(storage: DurableFileSystemStorage, path: Path, content: File[bytes]) -> None:
            write(storage, path, content)
            if next(writes) == at:
                os.truncate(path, path.stat().st_size // 2)
                raise OSError(number, os.strerror(number))

        monkeypatch.setattr(DurableFileSystemStorage, "_write", fail_half_way)
        job = submit(checkpoint_step=2)
        drain()
        failed = reload(job)
        assert (failed.status, failed.error, failed.attempts) == (Status.FAILED, sentence, 1)
        assert_nothing_half()
        assert LatentRecord.objects.count() == (2 if place == "sound" else 0)
        again = failed.retry_decode() if place == "sound" else failed.retry()
        drain()
        assert_done(again)
        assert LatentRecord.objects.count() == 2

    @pytest.mark.parametrize(("room_kb", "keeps_latents"), [(0, False), (8, True)])
    def test_to_a_disk_that_is_really_full_does_the_same(
        self, submit: Submit, drain: Drain, small_disk: Path, room_kb: int, keeps_latents: bool
    ) -> None:
        job = submit()
        filler = small_disk / "filler"
        free = shutil.disk_usage(small_disk).free
        filler.write_bytes(bytes(free - 1024 * room_kb))
        drain()
        assert (reload(job).status, reload(job).error) == (Status.FAILED, FULL)
        assert bool(reload(job).latent) == keeps_latents
        assert_nothing_half()
        filler.unlink()
        again = reload(job).retry()
        drain()
        assert_done(again)

    def test_to_a_disk_that_is_really_read_only_does_the_same(
        self, submit: Submit, drain: Drain, small_disk: Path
    ) -> None:
        job = submit()
        subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
        drain()
        assert (reload(job).status, reload(job).error) == (Status.FAILED, READ_ONLY)
        assert_nothing_half()


@pytest.fixture
def small_disk(tmp_path: Path, settings: Settings) -> Iterator[Path]:
    """Keep this test's files on a disk of one megabyte."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("nothing may be mounted here")
    changed = copy.deepcopy(settings.STORAGES)
    for alias in ("latents", "audio"):
        changed[alias]["OPTIONS"]["location"] = disk / alias
    settings.STORAGES = changed
    yield disk
    subprocess.run(["umount", disk], check=True)


Break = Callable[[str, int], None]


@pytest.fixture
def break_database(transactional_db: None) -> Iterator[Break]:
    """Return a function that gives this SQLite connection a pragma, and so many new ones after it."""
    if connection.vendor != "sqlite":
        pytest.skip("PostgreSQL cannot be told that its disk is full")
    pragma, left = "", -1

    def hinder(connection: Any, **named: Any) -> None:
        nonlocal left
        if left >= 0:
            left -= 1
            connection.connection.execute(f"PRAGMA {pragma}")

    def break_database(new_pragma: str, connections: int) -> None:
        nonlocal pragma, left
        pragma, left = new_pragma, connections
        if connections >= 0:
            connection.connection.execute("VACUUM")  # no free pages
        hinder(connection)

    connection_created.connect(hinder)
    yield break_database
    connection_created.disconnect(hinder)
    connection.close()


# No page more than there are, which is what SQLite does on a full disk; nothing written at all.
HINDRANCES = ["max_page_count = 1", "query_only = yes"]
LONG = {"lyrics": "la la " * 1500, "instrumental": False}  # so that its row needs pages of its own


class TestDatabase:
    @pytest.mark.parametrize("pragma", HINDRANCES)
    def test_that_takes_no_row_for_a_moment_gets_it_again(
        self,
        submit: Submit,
        drain: Drain,
        break_database: Break,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
        pragma: str,
    ) -> None:
        job = submit(**LONG)
        before_storing(monkeypatch, lambda: break_database(pragma, 1))
        drain()
        assert "did not take a write" in caplog.text
        assert_done(job)
        assert_nothing_half()

    @pytest.mark.parametrize("pragma", HINDRANCES)
    def test_that_stays_so_costs_the_attempt_and_nothing_else(
        self, submit: Submit, drain: Drain, break_database: Break, monkeypatch: pytest.MonkeyPatch, pragma: str
    ) -> None:
        monkeypatch.setattr(worker, "DATABASE_PATIENCE_S", 0.2)
        job = submit(**LONG)
        before_storing(monkeypatch, lambda: break_database(pragma, 10**6))
        drain()
        break_database("query_only = no", -1)
        connection.close()
        assert not LatentRecord.objects.exists()
        assert_files_are_whole()
        if reload(job).status == Status.FAILED:  # there was room for that
            assert reload(job).error == "The database did not keep the take: database or disk is full."
            job = reload(job).retry()
        else:
            GenerationJob.objects.update(lease_until=Now() - timedelta(seconds=1))
            recovery.reap()
        drain()
        assert reload(job).status == Status.SUCCEEDED
        assert_files_are_whole()
        assert_garbage_is_found()


def before_storing(monkeypatch: pytest.MonkeyPatch, act: Callable[[], None]) -> None:
    """Do something once, when the take is there and nothing of it is stored."""
    write, calls = store.write, count()

    def act_first(*arguments: Any, **named: Any) -> store.Draft:
        if next(calls) == 0:
            act()
        return write(*arguments, **named)

    monkeypatch.setattr(store, "write", act_first)


def flip(content: bytes, other: bytes) -> bytes:
    return content[:-9] + bytes([content[-9] ^ 16]) + content[-8:]


def cut(content: bytes, other: bytes) -> bytes:
    return content[: len(content) // 2]


def swap(content: bytes, other: bytes) -> bytes:
    return other


class TestRot:
    @pytest.mark.parametrize(
        ("damage", "what"), [(flip, "the checksum of item 0 differs"), (cut, "bytes, expected"), (swap, "differs")]
    )
    def test_of_a_file_that_a_job_waits_for_fails_it_with_what_is_wrong(
        self,
        submit: Submit,
        drain: Drain,
        damage: Callable[[bytes, bytes], bytes],
        what: str,
    ) -> None:
        first, second = (make_latent(submit, drain, seed) for seed in (1, 2))
        job = submit(first)
        path = Path(storages["latents"].path(first.file))
        other = Path(storages["latents"].path(second.file)).read_bytes()
        path.write_bytes(damage(path.read_bytes(), other))
        drain()
        error = reload(job).error
        assert reload(job).status == Status.FAILED
        assert error.startswith(f"Latent '{first.pk}' is damaged: ")
        assert what in error
        (found,) = audit(timezone.now(), verify=True).damaged
        assert found[0] == first

    def test_of_any_single_bit_is_found_and_never_heard(self, submit: Submit, drain: Drain) -> None:
        record = make_latent(submit, drain, 1)
        path = Path(storages["latents"].path(record.file))
        whole, right = path.read_bytes(), store.load(record)
        luck = random.Random(1)
        for _ in range(200):
            bit = luck.randrange(8 * len(whole))
            rotten = bytearray(whole)
            rotten[bit // 8] ^= 1 << bit % 8
            path.write_bytes(rotten)
            with pytest.raises(LatentDamaged):
                store.verify(record)
            try:
                assert (store.load(record) == right).all(), "the bit was in the description of the file"
            except LatentDamaged:
                continue


def make_latent(submit: Submit, drain: Drain, seed: int) -> LatentRecord:
    job = submit(seed=seed)
    drain()
    latent = reload(job).latent
    assert latent
    return latent
