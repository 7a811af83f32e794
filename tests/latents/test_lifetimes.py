"""Lifetimes as people write them."""

from datetime import timedelta

import pytest

from latents.lifetimes import parse_ttl

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


@pytest.mark.parametrize(
    ("text", "ttl"),
    [("45s", timedelta(seconds=45)), ("90m", 90 * MINUTE), ("12h", 12 * HOUR), ("30 d", 30 * DAY), (" 2w", 14 * DAY)],
)
def test_lifetimes_are_read(text: str, ttl: timedelta) -> None:
    assert parse_ttl(text) == ttl


def test_never_is_a_lifetime() -> None:
    assert parse_ttl("never") is None


@pytest.mark.parametrize("text", ["", "12", "h", "0h", "-1h", "1.5h", "12 hours", "1y", "١h", "99999w", "9999999999d"])
def test_what_is_no_lifetime_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"never|hundred years"):
        parse_ttl(text)
