"""How a line of the log says what it is about: the worker that writes it, the job it is on, and the attempt."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

# One for the whole process, whatever its threads: a worker does one job at a time, and its heartbeat is about that too.
# Replaced and never changed, so that another thread may read it meanwhile.
_facts: dict[str, str] = {}


def always(**facts: object) -> None:
    """Have every line of this process, and of those it forks, carry these facts."""
    global _facts
    _facts = _facts | {name: str(fact) for name, fact in facts.items()}


@contextmanager
def about(**facts: object) -> Iterator[None]:
    """Have every line carry these facts for a while. Only for processes that do one thing at a time."""
    global _facts
    before = _facts
    always(**facts)
    try:
        yield
    finally:
        _facts = before


class TextFormatter(logging.Formatter):
    """A line for people, with its facts as name=value."""

    def __init__(self) -> None:
        super().__init__("{asctime} {levelname} {name}{facts}: {message}", style="{")

    def format(self, record: logging.LogRecord) -> str:
        record.facts = "".join(f" {name}={fact}" for name, fact in _facts.items())
        return super().format(record)


class JsonFormatter(logging.Formatter):
    """One JSON object per line, a traceback within it."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        } | _facts
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)
