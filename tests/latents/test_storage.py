"""The folder storage: what is named is whole, durable and readable by the group."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.core.files.base import ContentFile, File

from latents.errors import StorageFailed
from latents.storage import DurableFileSystemStorage


@pytest.fixture
def storage(tmp_path: Path) -> DurableFileSystemStorage:
    return DurableFileSystemStorage(tmp_path / "store", file_permissions_mode=0o640)


def test_content_comes_back(storage: DurableFileSystemStorage) -> None:
    name = storage.save("ab/take.bin", ContentFile(b"x" * 3_000_000))
    assert name == "ab/take.bin"
    with storage.open(name) as file:
        assert file.read() == b"x" * 3_000_000


def test_file_is_for_owner_and_group_whatever_the_umask(storage: DurableFileSystemStorage) -> None:
    before = os.umask(0o077)
    try:
        path = Path(storage.path(storage.save("ab/cd/take.bin", ContentFile(b"x"))))
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    for folder in (path.parent, path.parent.parent, Path(storage.location)):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o2770


def test_nothing_is_overwritten(storage: DurableFileSystemStorage) -> None:
    storage.save("take.bin", ContentFile(b"first"))
    other = storage.save("take.bin", ContentFile(b"second"))
    assert other != "take.bin"
    assert Path(storage.path("take.bin")).read_bytes() == b"first"


def test_name_that_was_taken_meanwhile_is_refused(storage: DurableFileSystemStorage) -> None:
    storage.save("take.bin", ContentFile(b"first"))
    with pytest.raises(FileExistsError):
        storage._save("take.bin", ContentFile(b"second"))
    assert storage.listdir("") == ([], ["take.bin"])


class DiesHalfway(File):  # type: ignore[type-arg]
    def chunks(self, chunk_size: int | None = None) -> Iterator[bytes]:
        yield b"half"
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_failed_write_leaves_nothing(storage: DurableFileSystemStorage) -> None:
    with pytest.raises(StorageFailed, match="The disk is full"):
        storage.save("take.bin", DiesHalfway(None))
    assert storage.listdir("") == ([], [])


def test_file_and_folders_are_synced_before_the_name_is_given_out(
    storage: DurableFileSystemStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    fsync, rename = os.fsync, Path.rename

    def record_fsync(descriptor: int) -> None:
        events.append("fsync " + ("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file"))
        fsync(descriptor)

    def record_rename(path: Path, target: Path) -> Path:
        events.append("rename")
        return rename(path, target)

    storage.save("ab/first.bin", ContentFile(b"x"))  # makes the folders
    monkeypatch.setattr(os, "fsync", record_fsync)
    monkeypatch.setattr(Path, "rename", record_rename)
    storage.save("ab/take.bin", ContentFile(b"x"))
    assert events == ["fsync file", "rename", "fsync folder"]
    events.clear()
    storage.save("cd/take.bin", ContentFile(b"x"))
    assert events == ["fsync folder", "fsync file", "rename", "fsync folder"]
