"""Bytes that are hardly HTTP, to the real server over real sockets: each is answered soon, and nobody else waits."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest

from tests.resumeapp.test_studio import Studio, get, url_of

MAX_UPLOAD_BYTES = 100_000
PATIENCE_S = 20.0
LOCAL = b"Host: 127.0.0.1\r\n"
POST = b"POST /latents/import HTTP/1.1\r\n" + LOCAL
FORM = b"Content-Type: multipart/form-data; boundary=b\r\n"

NOT_HTTP = {
    "zeros": bytes(1000),
    "a TLS greeting": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500) + b"\r\n\r\n",
    "no version": b"GET /\r\n\r\n",
    "no path": b"GET\r\n\r\n",
    "a path that is no URL": b"GET http://[ HTTP/1.1\r\n" + LOCAL + b"\r\n",
    "bytes in the path": b"GET /\xff\xfe\x00%zz HTTP/1.1\r\n" + LOCAL + b"\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "a foreign host": b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n",
    "two lengths": POST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nx",
    "a length of words": POST + b"Content-Length: many\r\n\r\n",
    "a negative length": POST + b"Content-Length: -1\r\n\r\n",
    "length and chunks": POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks of no size": POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nx\r\n",
    "chunks below zero": POST + b"Transfer-Encoding: chunked\r\n\r\n-1\r\nx\r\n",
    "a folded header": b"GET / HTTP/1.1\r\n" + LOCAL + b" folded\r\n\r\n",
    "a header without a name": b"GET / HTTP/1.1\r\n" + LOCAL + b": x\r\n\r\n",
    "NUL in a header": b"GET / HTTP/1.1\r\n" + LOCAL + b"X: a\0b\r\n\r\n",
    "a header of 300 kB": b"GET / HTTP/1.1\r\n" + LOCAL + b"X: " + b"x" * 300_000 + b"\r\n\r\n",
    "50,000 headers": b"GET / HTTP/1.1\r\n" + LOCAL + b"X: y\r\n" * 50_000 + b"\r\n",
    "an endless path": b"GET /" + b"a" * 300_000 + b" HTTP/1.1\r\n" + LOCAL + b"\r\n",
    "an encoding of nowhere": POST + b"Content-Type: text/plain; x*=nonsense''%41\r\nContent-Length: 0\r\n\r\n",
    "a charset that is none": POST + b"Content-Type: multipart/form-data; boundary=b; charset=hex\r\n\r\n",
    "an accepted nothing": b"GET / HTTP/1.1\r\n" + LOCAL + b"Accept: text/html; q*=nonsense''%41\r\n\r\n",
    "a page that is no URL": b"GET / HTTP/1.1\r\n" + LOCAL + b"HX-Request: true\r\nHX-Current-URL: http://[\r\n\r\n",
}


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    data = tmp_path_factory.mktemp("studio")
    studio = Studio(data, "--port", "0", REPRISE_MAX_UPLOAD_BYTES=str(MAX_UPLOAD_BYTES))
    studio.read_until("Reprise is at")
    yield studio
    try:
        studio.process.terminate()
        assert studio.wait() == 0
        assert "Traceback" not in studio.output
        assert not [path for alias in ("latents", "audio") for path in (data / alias).rglob("*") if path.is_file()]
    finally:
        studio.kill()


def connect(studio: Studio) -> socket.socket:
    port = int(url_of(studio).rstrip("/").rpartition(":")[2])
    return socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)


def send(studio: Studio, *parts: bytes) -> bytes:
    """Return what the server says until it closes, or until its answer is complete."""
    with connect(studio) as connection:
        with suppress(ConnectionError):  # it may have answered and left before it has heard all
            for part in parts:
                connection.sendall(part)
            connection.shutdown(socket.SHUT_WR)
        said = b""
        with suppress(ConnectionError):
            while chunk := connection.recv(1 << 16):
                said += chunk
        return said


def status(said: bytes) -> int:
    return int(said.split(b" ", 2)[1])


@pytest.mark.parametrize("name", NOT_HTTP)
def test_what_is_hardly_http_is_refused(studio: Studio, name: str) -> None:
    said = send(studio, NOT_HTTP[name])
    # Whoever does not finish a request gets no answer.
    assert not said or 400 <= status(said) < 500, said[:200]
    assert b"Traceback" not in said
    assert get(f"{url_of(studio)}healthz") == 200


def test_body_that_says_it_is_too_large_is_refused_at_once(studio: Studio) -> None:
    said = send(studio, POST + FORM + b"Content-Length: 10000000000\r\n\r\n--b")
    assert status(said) == 413


def test_body_that_becomes_too_large_is_refused(studio: Studio) -> None:
    chunk = b"10000\r\n" + bytes(0x10000) + b"\r\n"
    said = send(studio, POST + FORM + b"Transfer-Encoding: chunked\r\n\r\n", *[chunk] * 10, b"0\r\n\r\n")
    assert not said or status(said) == 413  # a reset may overtake the answer


def test_those_who_dawdle_keep_nobody_waiting(studio: Studio) -> None:
    with ExitStack() as dawdlers:
        for number in range(60):
            connection = dawdlers.enter_context(connect(studio))
            head = POST + FORM + b"Content-Length: 1000\r\n\r\n" if number % 2 else b"GET / HTTP/1.1\r\nX: "
            connection.sendall(head + b"-")
        asked_at = time.monotonic()
        for _ in range(10):
            assert get(f"{url_of(studio)}healthz") == 200
        assert time.monotonic() - asked_at < PATIENCE_S
