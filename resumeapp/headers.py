"""Refuse requests whose head cannot be read, before Django, django-htmx or PostgreSQL fall over it."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from django.http.cookie import parse_cookie
from django.utils.http import parse_header_parameters

Environ = dict[str, Any]
Application = Callable[[Environ, Any], Iterable[bytes]]

# The studio speaks UTF-8. Python has codecs that are no text at all, and Django would decode a form with any of them.
_CHARSETS: Final = {"utf-8", "ascii"}


def refuse_unreadable(application: Application) -> Application:
    """Be the WSGI application in front of Django that answers 400 to what it could not read."""

    def answer(environ: Environ, start_response: Any) -> Iterable[bytes]:
        name = unreadable_part(environ)
        if not name:
            return application(environ, start_response)
        start_response("400 Bad Request", [("Content-Type", "text/plain")])
        return [f"This request cannot be read: {name}\n".encode()]

    return answer


def unreadable_part(environ: Mapping[str, Any]) -> str:
    """Return the name of a header that cannot be read, or of the query; empty if all can."""
    for name, key, read in _READERS:
        try:
            read(environ.get(key, ""))
        except (ValueError, LookupError):
            return name
    return ""


def _read_content_type(value: str) -> None:
    _, parameters = parse_header_parameters(value)
    if codecs.lookup(parameters.get("charset", "utf-8")).name not in _CHARSETS:
        raise ValueError("not a charset that forms are read in")


def _read_accept(value: str) -> None:
    for media_type in value.split(","):
        parse_header_parameters(media_type)


def _read_cookies(value: str) -> None:
    # Quoted cookies may hold any code, and a session's key is looked up in the database.
    if any("\0" in cookie for cookie in parse_cookie(value).values()):
        raise ValueError("a NUL, which PostgreSQL cannot compare")


def _read_query(value: str) -> None:
    if "%00" in value:  # the admin passes what it is filtered by to the database as it is
        raise ValueError("a NUL, which PostgreSQL cannot compare")


def _read_url(value: str) -> None:
    urlsplit(value), urlsplit(unquote(value))  # a companion header says which of the two is meant


_READERS: Final = (
    ("Content-Type", "CONTENT_TYPE", _read_content_type),
    ("Content-Length", "CONTENT_LENGTH", lambda value: int(value or 0)),
    ("Accept", "HTTP_ACCEPT", _read_accept),
    ("Cookie", "HTTP_COOKIE", _read_cookies),
    ("query", "QUERY_STRING", _read_query),
    ("HX-Current-URL", "HTTP_HX_CURRENT_URL", _read_url),
)
