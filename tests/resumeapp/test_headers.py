"""What Django would fall over is refused before it sees it."""

from __future__ import annotations

from typing import Any

import pytest

from resumeapp.headers import refuse_unreadable


def ask(**headers: str) -> str:
    """Return the status that a request with these headers gets."""
    said: list[str] = []

    def studio(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return []

    list(refuse_unreadable(studio)(headers, lambda status, _: said.append(status)))
    return said[0]


@pytest.mark.parametrize(
    "headers",
    [
        {"CONTENT_TYPE": "text/plain; x*=nonsense''%41"},  # an encoding that does not exist
        {"CONTENT_TYPE": "multipart/form-data; boundary=b; charset=hex"},  # a codec that is no text
        {"CONTENT_TYPE": "multipart/form-data; boundary=b; charset=nonsense"},
        {"CONTENT_TYPE": "application/json; charset=utf-16"},
        {"CONTENT_LENGTH": "nonsense"},
        {"HTTP_ACCEPT": "text/html, text/plain; q*=nonsense''%41"},
        {"HTTP_COOKIE": 'theme=dark; reprise_session="\\000abcdefgh"'},
        {"QUERY_STRING": "q=a&status__exact=%00"},
        {"HTTP_HX_CURRENT_URL": "http://["},
        {"HTTP_HX_CURRENT_URL": "http://%5b"},
    ],
)
def test_unreadable_head_is_refused(headers: dict[str, str]) -> None:
    assert ask(**headers) == "400 Bad Request"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"CONTENT_TYPE": "", "CONTENT_LENGTH": ""},
        {"CONTENT_TYPE": "application/json; charset=UTF-8", "CONTENT_LENGTH": "12"},
        {"CONTENT_TYPE": "multipart/form-data; boundary=----WebKitFormBoundary"},
        {"HTTP_ACCEPT": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"},
        {"HTTP_COOKIE": 'reprise_session=abcdefgh; other="a \\"b\\" \\303\\251"; broken'},
        {"QUERY_STRING": "caption=100%25+%C3%A9&bpm=82"},
        {"HTTP_HX_CURRENT_URL": "http://[::1]:8000/?caption=a%20b"},
    ],
)
def test_what_browsers_and_programs_send_is_let_through(headers: dict[str, str]) -> None:
    assert ask(**headers) == "200 OK"
