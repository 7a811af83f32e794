"""Parts of files, as players ask for them."""

from pathlib import Path

import pytest
from django.core.files.base import ContentFile, File
from django.http import HttpResponseBase
from django.test import RequestFactory

from resumeapp.ranges import Unsatisfiable, parse_range, serve

CONTENT = bytes(range(100))

RANGES = [
    # (header, what is sent of 100 bytes, why)
    ("bytes=0-9", range(10), "both ends are part of it"),
    ("bytes=90-", range(90, 100), "an open end"),
    ("bytes=-10", range(90, 100), "the last ten"),
    ("bytes=-1000", range(100), "more than there is from the end"),
    ("bytes=50-1000", range(50, 100), "an end beyond the file"),
    ("bytes=0-0", range(1), "a single byte"),
    ("", None, "no range"),
    ("bytes=-", None, "neither end"),
    ("bytes=9-0", None, "the wrong way round"),
    ("bytes=0-1,5-6", None, "several parts may be answered with the whole"),
    ("items=0-9", None, "another unit"),
    ("bytes=a-b", None, "no numbers"),
    ("bytes=0-" + "9" * 5000, None, "a number that nobody needs"),
]


@pytest.mark.parametrize(("header", "expected", "why"), RANGES)
def test_range_header_is_read(header: str, expected: range | None, why: str) -> None:
    assert parse_range(header, 100) == expected, why


@pytest.mark.parametrize("header", ["bytes=100-", "bytes=100-200", "bytes=-0"])
def test_range_beyond_the_file_is_refused(header: str) -> None:
    with pytest.raises(Unsatisfiable):
        parse_range(header, 100)


def get(**headers: str) -> HttpResponseBase:
    request = RequestFactory(headers=headers).get("/")
    return serve(request, ContentFile(CONTENT), content_type="audio/flac", etag='"abc"')


def body(response: HttpResponseBase) -> bytes:
    return b"".join(response)  # type: ignore[arg-type]


def test_whole_file_says_that_it_has_parts() -> None:
    response = get()
    assert (response.status_code, body(response)) == (200, CONTENT)
    assert response["Accept-Ranges"] == "bytes"
    assert response["Content-Length"] == "100"
    assert response["X-Content-Type-Options"] == "nosniff"


def test_part_of_a_file_is_sent() -> None:
    response = get(range="bytes=10-19")
    assert (response.status_code, body(response)) == (206, CONTENT[10:20])
    assert response["Content-Range"] == "bytes 10-19/100"
    assert response["Content-Length"] == "10"
    assert response["Content-Type"] == "audio/flac"


def test_range_beyond_the_file_is_answered_with_its_size() -> None:
    response = get(range="bytes=200-")
    assert response.status_code == 416
    assert response["Content-Range"] == "bytes */100"


def test_known_file_is_not_sent_again() -> None:
    response = get(if_none_match='"abc"')
    assert response.status_code == 304
    assert response["ETag"] == '"abc"'


@pytest.mark.parametrize(("etag", "status"), [('"abc"', 206), ('"old"', 200)])
def test_part_of_another_version_is_never_sent(etag: str, status: int) -> None:
    assert get(range="bytes=10-19", if_range=etag).status_code == status


@pytest.mark.django_db  # the end of a response is the end of a request, for the database too
def test_file_is_closed_with_the_response(tmp_path: Path) -> None:
    path = tmp_path / "sound"
    path.write_bytes(CONTENT)
    file = File(path.open("rb"))
    response = serve(RequestFactory(headers={"range": "bytes=0-1"}).get("/"), file, content_type="x/y", etag='"e"')
    response.close()
    assert file.closed
