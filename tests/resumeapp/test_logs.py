"""What a line of the log says beside its message."""

from __future__ import annotations

import json
import logging
import sys
import threading

import pytest

from resumeapp import logs


@pytest.fixture(autouse=True)
def no_facts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_facts", {})


def record(message: str = "it has ended") -> logging.LogRecord:
    return logging.LogRecord("generation.tasks", logging.INFO, __file__, 1, message, (), None)


def written() -> str:
    """Return a line without its time, which has two parts."""
    return logs.TextFormatter().format(record()).split(" ", 2)[2]


def test_line_carries_the_facts_of_its_time() -> None:
    assert written() == "INFO generation.tasks: it has ended"
    logs.always(worker="east:12")
    with logs.about(job="1f", attempt=2):
        assert written() == "INFO generation.tasks worker=east:12 job=1f attempt=2: it has ended"
    assert written() == "INFO generation.tasks worker=east:12: it has ended"


def test_facts_are_those_of_every_thread() -> None:
    lines: list[str] = []
    with logs.about(job="1f"):
        thread = threading.Thread(target=lambda: lines.append(written()))
        thread.start()
        thread.join()
    assert lines == ["INFO generation.tasks job=1f: it has ended"]


def test_facts_end_with_an_error_too() -> None:
    with pytest.raises(ValueError, match="wrong"), logs.about(job="1f"):
        raise ValueError("wrong")
    assert written() == "INFO generation.tasks: it has ended"


def test_json_has_one_object_per_line() -> None:
    failed = record("two\nlines")
    try:
        raise ValueError("wrong")
    except ValueError:
        failed.exc_info = sys.exc_info()
    with logs.about(job="1f", attempt=2):
        line = logs.JsonFormatter().format(failed)
    assert "\n" not in line
    said = json.loads(line)
    assert (said["level"], said["logger"], said["message"]) == ("INFO", "generation.tasks", "two\nlines")
    assert (said["job"], said["attempt"]) == ("1f", "2")
    assert said["traceback"].endswith("ValueError: wrong")
    assert said["time"].endswith("+00:00")
