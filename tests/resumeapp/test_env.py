"""Values of environment variables: what is read, what is refused, and in which words."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from resumeapp import env


@pytest.fixture
def setenv(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    return lambda value: monkeypatch.setenv("REPRISE_X", value)


@pytest.mark.parametrize("value", [None, "", "  "])
def test_variable_that_is_unset_or_empty_gives_the_default(value: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REPRISE_X", raising=False)
    if value is not None:
        monkeypatch.setenv("REPRISE_X", value)
    assert env.text("REPRISE_X", "fallback") == "fallback"
    assert env.choice("REPRISE_X", "a", ["a", "b"]) == "a"
    assert env.flag("REPRISE_X", True) is True
    assert env.path("REPRISE_X", Path("/data")) == Path("/data")
    assert env.words("REPRISE_X", ["a"]) == ["a"]
    assert env.mapping("REPRISE_X", "a=b") == {"a": "b"}
    assert env.count("REPRISE_X", 7) == 7
    assert env.size_bytes("REPRISE_X", 7) == 7
    assert env.duration("REPRISE_X", timedelta(days=1)) == timedelta(days=1)


@pytest.mark.parametrize(
    ("read", "value", "expected"),
    [
        (lambda: env.choice("REPRISE_X", "a", ["a", "b"]), "b", "b"),
        (lambda: env.flag("REPRISE_X"), "Yes", True),
        (lambda: env.flag("REPRISE_X", True), "0", False),
        (lambda: env.path("REPRISE_X", Path("/data")), "/srv/../music", Path("/music")),
        (lambda: env.words("REPRISE_X"), "a.example, b.example,", ["a.example", "b.example"]),
        (lambda: env.mapping("REPRISE_X", "a=b"), "x = /models/x, y=hub/y", {"x": "/models/x", "y": "hub/y"}),
        (lambda: env.count("REPRISE_X", 7), "3", 3),
        (lambda: env.count("REPRISE_X", 7), "unlimited", None),
        (lambda: env.size_bytes("REPRISE_X", 7), "1500", 1500),
        (lambda: env.size_bytes("REPRISE_X", 7), "2 GB", 2_000_000_000),
        (lambda: env.size_bytes("REPRISE_X", 7), "500mb", 500_000_000),
        (lambda: env.size_bytes("REPRISE_X", 7), "unlimited", None),
        (lambda: env.duration("REPRISE_X", None), "90m", timedelta(minutes=90)),
        (lambda: env.duration("REPRISE_X", None), "2w", timedelta(weeks=2)),
        (lambda: env.duration("REPRISE_X", timedelta(1)), "never", None),
    ],
)
def test_good_value_is_read(read: Callable[[], Any], value: str, expected: Any, setenv: Callable[[str], None]) -> None:
    setenv(value)
    assert read() == expected


@pytest.mark.parametrize(
    ("read", "value", "sentence"),
    [
        (lambda: env.choice("REPRISE_X", "a", ["a", "b"]), "c", "REPRISE_X must be one of a, b, not 'c'"),
        (lambda: env.flag("REPRISE_X"), "maybe", "REPRISE_X must be yes or no, not 'maybe'"),
        (lambda: env.mapping("REPRISE_X", ""), "sketch", "name=value pairs"),
        (lambda: env.mapping("REPRISE_X", ""), "a=1,a=2", "each name once"),
        (lambda: env.mapping("REPRISE_X", ""), "a=1,,b=2", "name=value pairs"),
        (lambda: env.count("REPRISE_X", 7), "0", "a positive whole number"),
        (lambda: env.count("REPRISE_X", 7), "-1", "a positive whole number"),
        (lambda: env.count("REPRISE_X", 7), "١", "a positive whole number"),  # a digit, but not an ASCII one
        (lambda: env.size_bytes("REPRISE_X", 7), "20 GiB", "a size such as 500MB"),
        (lambda: env.size_bytes("REPRISE_X", 7), "0", "a size such as 500MB"),
        (lambda: env.duration("REPRISE_X", None), "30", "a time such as 12h"),  # of what?
        (lambda: env.duration("REPRISE_X", None), "0d", "a time such as 12h"),
        (lambda: env.duration("REPRISE_X", None), "99999999w", "a time such as 12h"),
        (
            lambda: env.duration("REPRISE_X", None),
            "999999w",
            '"never" or less than a hundred years',
        ),  # beyond all dates
    ],
)
def test_bad_value_is_refused_with_its_name(
    read: Callable[[], Any], value: str, sentence: str, setenv: Callable[[str], None]
) -> None:
    setenv(value)
    with pytest.raises(ImproperlyConfigured, match="REPRISE_X must be") as refusal:
        read()
    assert sentence in str(refusal.value)


def test_required_variable_says_why_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REPRISE_X", raising=False)
    with pytest.raises(ImproperlyConfigured, match="REPRISE_X must be set in server mode"):
        env.required("REPRISE_X", "in server mode")
