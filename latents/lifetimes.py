"""How long something is kept, as people write it: 90m, 12h, 30d or never. Plain Python: the settings read it too."""

from __future__ import annotations

import re
from datetime import timedelta

LONGEST_TTL = timedelta(days=36_500)  # dates end with the year 9999

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def parse_ttl(text: str) -> timedelta | None:
    """Read a lifetime; None is "never". Raises ValueError, which says what it "must be …"."""
    if text.strip() == "never":
        return None
    match = re.fullmatch(r"(\d{1,6}) ?([smhdw])", text.strip(), re.ASCII)
    if not match or int(match[1]) == 0:
        raise ValueError(f'must be a time such as 12h or 30d, or "never", not {text!r}')
    ttl = timedelta(**{_UNITS[match[2]]: int(match[1])})
    if ttl > LONGEST_TTL:
        raise ValueError(f'must be "never" or less than a hundred years, not {text!r}')
    return ttl
