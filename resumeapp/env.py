"""Read one environment variable as a typed value, or fail loudly and say what was expected."""

import os
import re
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured

from latents.lifetimes import parse_ttl

_TRUE = {"1", "true", "yes", "on"}
_FALSE = {"0", "false", "no", "off"}
_BYTE_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}


def text(name: str, default: str = "") -> str:
    """A variable that is set to nothing counts as not set."""
    return os.environ.get(name, "").strip() or default


def required(name: str, why: str) -> str:
    value = text(name)
    if not value:
        raise ImproperlyConfigured(f"{name} must be set {why}")
    return value


def choice(name: str, default: str, choices: Sequence[str]) -> str:
    value = text(name, default)
    if value not in choices:
        raise _bad(name, value, f"one of {', '.join(choices)}")
    return value


def flag(name: str, default: bool = False) -> bool:
    value = text(name).lower()
    if not value:
        return default
    if value in _TRUE:
        return True
    if value in _FALSE:
        return False
    raise _bad(name, value, "yes or no")


def path(name: str, default: Path) -> Path:
    return Path(text(name, str(default))).expanduser().resolve()


def words(name: str, default: Sequence[str] = ()) -> list[str]:
    """A list separated by commas."""
    return [word.strip() for word in text(name).split(",") if word.strip()] or list(default)


def mapping(name: str, default: str) -> dict[str, str]:
    """Pairs `key=value` separated by commas, in their order."""
    pairs: dict[str, str] = {}
    for pair in text(name, default).split(","):
        key, separator, value = (part.strip() for part in pair.partition("="))
        if not (key and separator and value) or key in pairs:
            raise _bad(name, pair.strip(), "name=value pairs separated by commas, each name once")
        pairs[key] = value
    return pairs


def count(name: str, default: int | None) -> int | None:
    """A positive whole number, or None for "unlimited"."""
    value = text(name)
    if not value:
        return default
    if value == "unlimited":
        return None
    if not value.isascii() or not value.isdigit() or int(value) == 0:
        raise _bad(name, value, 'a positive whole number or "unlimited"')
    return int(value)


def size_bytes(name: str, default: int | None) -> int | None:
    """A size such as 500MB or 20 GB in bytes, or None for "unlimited"."""
    value = text(name)
    if not value:
        return default
    if value == "unlimited":
        return None
    match = re.fullmatch(r"(\d+) ?([kmgt]?)b?", value, re.ASCII | re.IGNORECASE)
    if not match or int(match[1]) == 0:
        raise _bad(name, value, 'a size such as 500MB or "unlimited"')
    return int(match[1]) * _BYTE_UNITS[match[2].lower()]


def duration(name: str, default: timedelta | None) -> timedelta | None:
    """A time such as 90m, 12h or 30d, or None for "never"."""
    value = text(name)
    if not value:
        return default
    try:
        return parse_ttl(value)
    except ValueError as error:
        raise ImproperlyConfigured(f"{name} {error}") from None


def _bad(name: str, value: str, expected: str) -> ImproperlyConfigured:
    return ImproperlyConfigured(f"{name} must be {expected}, not {value!r}")
