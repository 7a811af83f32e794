"""Files in S3, read piece by piece: one item of a batch, the header of a tensor file, the part that a player asks for.

django-storages' own files fetch the whole object at the first byte that is read. What goes wrong is raised as a folder
would raise it: FileNotFoundError where there is no such object, another OSError where S3 cannot be reached or refuses.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from http import HTTPStatus
from typing import Any

from boto3.exceptions import Boto3Error
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from django.core.files.base import File
from storages.backends.s3 import S3Storage

BUFFER_BYTES = 1 << 16
# A request of the studio waits for this; botocore's own settings let it wait for five minutes.
PATIENCE = Config(connect_timeout=3, read_timeout=20, retries={"mode": "standard", "total_max_attempts": 3})


@contextmanager
def _failing_as_a_folder(name: str) -> Iterator[None]:
    """Raise what a folder would."""
    try:
        yield
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] == HTTPStatus.NOT_FOUND:
            raise FileNotFoundError(f"{name} is not in the bucket") from None
        raise OSError(f"S3 refused {name}: {error}") from error
    except (Boto3Error, BotoCoreError) as error:
        raise OSError(f"S3 failed at {name}: {error}") from error


class RangedS3Storage(S3Storage):  # type: ignore[misc]  # django-storages has no types
    """S3 whose files are opened without being fetched."""

    client_config: Config

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.client_config = self.client_config.merge(PATIENCE)

    def _open(self, name: str, mode: str = "rb") -> File[bytes]:
        if mode != "rb":
            raise ValueError(f"Files are written by save() and read as bytes, not opened with mode {mode!r}")
        with _failing_as_a_folder(name):
            return File(io.BufferedReader(S3Object(self.bucket.Object(self._normalize_name(name))), BUFFER_BYTES), name)

    def _save(self, name: str, content: File[bytes]) -> str:
        with _failing_as_a_folder(name):
            saved: str = super()._save(name, content)
            return saved

    def exists(self, name: str) -> bool:
        with _failing_as_a_folder(name):
            return bool(super().exists(name))

    def delete(self, name: str) -> None:
        with _failing_as_a_folder(name):
            super().delete(name)

    def listdir(self, path: str) -> tuple[list[str], list[str]]:
        with _failing_as_a_folder(path):
            folders, files = super().listdir(path)
            return folders, files

    def get_modified_time(self, name: str) -> datetime:
        with _failing_as_a_folder(name):
            modified: datetime = super().get_modified_time(name)
            return modified


class S3Object(io.RawIOBase):
    """The bytes of one object. A read streams on from where the last one ended; after a seek a new stream begins."""

    def __init__(self, stored: Any) -> None:
        self._stored = stored
        self._size: int = stored.content_length  # asks, so that a missing object is known now
        self._position = 0
        self._stream: Any = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        if start + offset != self._position:
            self._end_stream()
            self._position = start + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        if self._position >= self._size:
            return 0
        with _failing_as_a_folder(self._stored.key):
            if self._stream is None:
                # The name is never written twice, so the parts of one file always fit together.
                self._stream = self._stored.get(Range=f"bytes={self._position}-")["Body"]
            data: bytes = self._stream.read(len(buffer))
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def close(self) -> None:
        self._end_stream()
        super().close()

    def _end_stream(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None
