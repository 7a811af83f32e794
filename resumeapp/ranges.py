"""Serve a part of a file: Django's FileResponse knows nothing of byte ranges, and without them no player can seek."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Any

from django.core.files.base import File
from django.http import FileResponse, HttpRequest, HttpResponse, HttpResponseBase, HttpResponseNotModified
from django.utils.http import parse_etags

_RANGE = re.compile(r"bytes=(\d*)-(\d*)", re.ASCII)
_MAX_DIGITS = 18
BLOCK_BYTES = 1 << 16


class Unsatisfiable(ValueError):
    """The range lies beyond the file."""


def parse_range(header: str, size: int) -> range | None:
    """Return the bytes that a Range header asks for, or None where the whole file is to be sent.

    Several ranges, other units and malformed headers may be ignored (RFC 9110, 14.2). Raises Unsatisfiable.
    """
    match = _RANGE.fullmatch(header.strip())
    if not match or match.groups() == ("", "") or len(header) > 2 * _MAX_DIGITS:
        return None
    first, last = match.groups()
    if not first:  # the last n bytes
        if int(last) == 0 or size == 0:
            raise Unsatisfiable
        return range(max(size - int(last), 0), size)
    if last and int(last) < int(first):
        return None
    if int(first) >= size:
        raise Unsatisfiable
    return range(int(first), min(int(last) + 1, size) if last else size)


def serve(
    request: HttpRequest, file: File[bytes], *, content_type: str, etag: str, download_as: str = ""
) -> HttpResponseBase:
    """Answer with the file, the part that was asked for, or that the browser has it already; closes the file."""
    size = file.size
    headers = {
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, no-cache",  # kept, and asked about each time: a deleted sound is gone at once
        "ETag": etag,
        "X-Content-Type-Options": "nosniff",
    }
    if etag in parse_etags(request.headers.get("If-None-Match", "")):
        file.close()
        return HttpResponseNotModified(headers={"ETag": etag})
    try:
        wanted = parse_range(_range_header(request, etag), size)
    except Unsatisfiable:
        file.close()
        return HttpResponse(
            status=HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, headers={"Content-Range": f"bytes */{size}"}
        )
    about: dict[str, Any] = {"content_type": content_type, "as_attachment": bool(download_as), "filename": download_as}
    status = HTTPStatus.OK if wanted is None else HTTPStatus.PARTIAL_CONTENT
    if wanted is None:
        wanted = range(size)
    else:
        headers["Content-Range"] = f"bytes {wanted.start}-{wanted.stop - 1}/{size}"
    headers["Content-Length"] = str(len(wanted))
    # A part even where it is all: waitress would read a whole file in the thread that serves every connection, and with
    # S3 behind the file, all would wait for that.
    response = FileResponse(_Part(file, wanted), status=status, headers=headers, **about)
    response.block_size = BLOCK_BYTES
    return response


def _range_header(request: HttpRequest, etag: str) -> str:
    """Ignore the range if it is of another version of the file than the one that is there."""
    if_range = request.headers.get("If-Range")
    return request.headers.get("Range", "") if if_range in (None, etag) else ""


class _Part:
    """Some bytes of a file, with the two methods that a response needs."""

    def __init__(self, file: File[bytes], wanted: range) -> None:
        self._file = file
        self._left = len(wanted)
        file.seek(wanted.start)

    def read(self, size: int) -> bytes:
        data: bytes = self._file.read(min(size, self._left))
        self._left -= len(data)
        return data

    def close(self) -> None:
        self._file.close()
