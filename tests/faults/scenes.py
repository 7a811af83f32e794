"""What goes wrong inside a worker of the fault tests; each is set up in the process before the worker starts."""

from __future__ import annotations

import importlib
import os
import signal
import sqlite3
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

from django.db import connection
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created
from django.utils import timezone

from generation import worker
from generation.models import Worker
from generation.worker import Attempt


def slow(step_s: float) -> None:
    """Every model call takes this long."""
    _at_each_step(lambda attempt, step: time.sleep(step_s))


def poison(word: str) -> None:
    """A job with this word in its caption kills its worker."""

    def kill(attempt: Attempt, step: int) -> None:
        if word in attempt.job.params["caption"]:
            os.kill(os.getpid(), signal.SIGKILL)

    _at_each_step(kill)


def stuck(flag: str) -> None:
    """The first job does not come back from C code that holds the interpreter's lock, so that no thread can run."""
    _hang_once(flag, lambda: sum(range(10**14)))


def stalled(flag: str) -> None:
    """The first job does not come back from C code that lets other threads run, as a hung GPU does."""
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
    _hang_once(flag, lambda: sqlite3.connect(":memory:").execute(endless).fetchone())


def _hang_once(flag: str, hang: Callable[[], object]) -> None:
    def act(attempt: Attempt, step: int) -> None:
        if not Path(flag).exists():
            Path(flag).touch()
            hang()

    _at_each_step(act)


def dying() -> None:
    """Every worker process dies as soon as it is there."""

    def die(row: Worker) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    Worker.give_up_claims = die  # type: ignore[method-assign]


def paused_at(moment: str, flag: str) -> None:
    """The worker stops itself with SIGSTOP once, right before a moment; `flag` is a file that then has its pid."""
    _once_at(moment, flag, lambda: os.kill(os.getpid(), signal.SIGSTOP))


def killed_at(moment: str, flag: str) -> None:
    """The worker is killed once, right before a moment."""
    _once_at(moment, flag, lambda: os.kill(os.getpid(), signal.SIGKILL))


def locked_at(moment: str, flag: str, seconds: float) -> None:
    """Somebody else writes to the SQLite database for so long, from right before a moment on."""

    def lock() -> None:
        other = sqlite3.connect(connection.settings_dict["NAME"], isolation_level=None, check_same_thread=False)
        other.execute("PRAGMA busy_timeout = 20000")
        other.execute("BEGIN IMMEDIATE")
        threading.Timer(seconds, other.close).start()

    _once_at(moment, flag, lock)


def impatient(busy_ms: int) -> None:
    """SQLite waits for a lock no longer than this."""

    def hurry(connection: BaseDatabaseWrapper, **named: Any) -> None:
        connection.connection.execute(f"PRAGMA busy_timeout = {busy_ms}")

    connection_created.connect(hurry, weak=False)


def wrong_clock(file: str) -> None:
    """This machine's clock is wrong by the seconds that the file says, for Python and for SQLite, which both ask it."""

    def error_s() -> float:
        return float(Path(file).read_text())

    def set_sqlite_clock(connection: BaseDatabaseWrapper, **named: Any) -> None:
        if connection.vendor == "sqlite":
            connection.connection.create_function("strftime", 2, lambda form, when: _strftime(form, error_s()))

    right_time, right_now = time.time, timezone.now
    time.time = lambda: right_time() + error_s()
    timezone.now = lambda: right_now() + timedelta(seconds=error_s())
    connection_created.connect(set_sqlite_clock, weak=False)


def _strftime(form: str, error_s: float) -> str:
    """Do what SQLite does for Now(), the only question that the studio asks of its clock."""
    assert form == "%Y-%m-%d %H:%M:%f"
    now = datetime.now(UTC) + timedelta(seconds=error_s)
    return now.strftime("%Y-%m-%d %H:%M:%S.") + f"{now.microsecond // 1000:03}"


def _once_at(moment: str, flag: str, act: Callable[[], object]) -> None:
    """Do something right before a moment, the first time that the worker comes there while it works on a job.

    A moment is a function, given as module:Class.method or module:function; with "@2" behind it, its second call.
    """
    path, _, number = moment.partition("@")
    place, _, path = path.partition(":")
    owner: Any = importlib.import_module(place)
    *classes, name = path.split(".")
    for part in classes:
        owner = getattr(owner, part)
    original = getattr(owner, name)
    calls = count(1)

    def wrapper(*arguments: Any, **named: Any) -> Any:
        if worker.slot.is_draining and next(calls) == int(number or 1) and not Path(flag).exists():
            Path(flag).write_text(str(os.getpid()))
            act()
        return original(*arguments, **named)

    setattr(owner, name, wrapper)


def _at_each_step(act: Callable[[Attempt, int], None]) -> None:
    original = Attempt.on_step

    def on_step(attempt: Attempt, step: int, steps: int) -> None:
        act(attempt, step)
        original(attempt, step, steps)

    Attempt.on_step = on_step  # type: ignore[method-assign]
