"""Files in S3, read piece by piece: one item of a batch, the header of a tensor file, the part that a player asks for.

django-storages' own files fetch the whole object at the first byte that is read.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from http import HTTPStatus
from typing import Any

from django.core.files.base import File
from storages.backends.s3 import S3Storage

BUFFER_BYTES = 1 << 16


class RangedS3Storage(S3Storage):  # type: ignore[misc]  # django-storages has no types
    """S3 whose files are opened without being fetched."""

    def _open(self, name: str, mode: str = "rb") -> File[bytes]:
        if mode != "rb":
            raise ValueError(f"Files are written by save() and read as bytes, not opened with mode {mode!r}")
        with self._missing_is_not_found(name):
            return File(io.BufferedReader(S3Object(self.bucket.Object(self._normalize_name(name))), BUFFER_BYTES), name)

    def get_modified_time(self, name: str) -> datetime:
        with self._missing_is_not_found(name):
            modified: datetime = super().get_modified_time(name)
            return modified

    @contextmanager
    def _missing_is_not_found(self, name: str) -> Iterator[None]:
        """Raise what a folder would."""
        try:
            yield
        except self.connection.meta.client.exceptions.ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] == HTTPStatus.NOT_FOUND:
                raise FileNotFoundError(f"{name} is not in the bucket") from None
            raise


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
