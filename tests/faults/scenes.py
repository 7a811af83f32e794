"""What goes wrong inside a worker of the fault tests; each is set up in the process before the worker starts."""

from __future__ import annotations

import importlib
import os
import signal
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from generation import worker
from generation.models import GenerationJob, Worker
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


def pausing_before_finish(flag: str) -> None:
    """The worker stops itself with SIGSTOP right before it finishes its first job; `flag` is a file that says so."""
    finish = GenerationJob.finish

    def pause(job: GenerationJob, *arguments: Any) -> None:
        if not Path(flag).exists():
            Path(flag).write_text(str(os.getpid()))
            os.kill(os.getpid(), signal.SIGSTOP)
        finish(job, *arguments)

    GenerationJob.finish = pause  # type: ignore[method-assign]


def killed_at(moment: str, flag: str) -> None:
    """The worker is killed once, right before `moment`: a function given as module:Class.method or module:function."""
    place, _, path = moment.partition(":")
    owner: Any = importlib.import_module(place)
    *classes, name = path.split(".")
    for part in classes:
        owner = getattr(owner, part)
    original = getattr(owner, name)

    def kill(*arguments: Any, **named: Any) -> Any:
        if worker.slot.is_draining and not Path(flag).exists():
            Path(flag).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*arguments, **named)

    setattr(owner, name, kill)


def _at_each_step(act: Callable[[Attempt, int], None]) -> None:
    original = Attempt.on_step

    def on_step(attempt: Attempt, step: int, steps: int) -> None:
        act(attempt, step)
        original(attempt, step, steps)

    Attempt.on_step = on_step  # type: ignore[method-assign]
