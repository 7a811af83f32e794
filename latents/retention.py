"""How long latents live, and taking what has had its time."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from django.conf import settings

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def parse_ttl(text: str) -> timedelta | None:
    """Read a lifetime such as 90m, 12h or 30d; None is "never". Raises ValueError."""
    if text.strip() == "never":
        return None
    match = re.fullmatch(r"(\d{1,6}) ?([smhdw])", text.strip(), re.ASCII)
    if not match or int(match[1]) == 0:
        raise ValueError(f'expected a time such as 12h or 30d, or "never", not {text!r}')
    return timedelta(**{_UNITS[match[2]]: int(match[1])})


def longest_ttl() -> timedelta | None:
    """Return how long latents may live here; None is "for ever"."""
    ttl: timedelta | None = settings.REPRISE_LATENT_TTL
    return ttl


def default_expiry(now: datetime, asked: timedelta | None = None) -> datetime | None:
    """Return when latents stored now expire: after what was asked for, if that is less than the studio's own TTL."""
    ttls = [ttl for ttl in (asked, longest_ttl()) if ttl is not None]
    return now + min(ttls) if ttls else None
