"""One attempt at one job, as the working process sees it: its heartbeat, its limits, and how it is told to stop.

While the main thread makes music, a second thread does all the talking to the database. Twice a second it makes one
round trip, which shows progress if there is any, renews the lease every five seconds, and hears whether the job has
been cancelled or given to another. What it hears is raised in the main thread at its next step.

A worker that hangs must not keep its lease for ever. The thread renews it only while the main thread makes progress;
when it does not, or when C code holds the interpreter's lock so that not even the thread can run, faulthandler prints
every stack and ends the process. The supervisor starts another, and the job is tried again.
"""

from __future__ import annotations

import ctypes
import faulthandler
import logging
import mmap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Final, Self, TypeVar

from django.db import Error, InterfaceError, OperationalError, connection

from generation.models import CancelRequested, ClaimLost, GenerationJob, Worker

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

ROUND_S: Final = 0.5
BEAT_S: Final = 5.0
DEADLINE_S: Final = 2 * 3600.0
# How long a phase may go without a sign of life: a model from a slow disk, one call of a large model on a CPU.
STALL_LIMITS_S: Final = {"": 300.0, "load": 900.0, "denoise": 900.0, "store": 300.0, "decode": 900.0}
# The lease has run out by then, so that somebody else may already have the job.
HANG_S: Final = 60.0
DATABASE_PATIENCE_S: Final = 300.0
# A message that has not arrived by then never will.
HANDOVER_S: Final = 5.0


class StopRequested(Exception):
    """The worker is to stop: put the job back."""


class DeadlinePassed(Exception):
    """The job has taken longer than any job may."""

    def __init__(self) -> None:
        super().__init__(f"Stopped after {DEADLINE_S / 3600:.0f} hours, the longest that a job may take.")


class Slot(ctypes.Structure):
    """Memory that the supervisor shares with the processes it has forked. No locks: any of them may be killed."""

    _fields_ = (
        ("is_stopping", ctypes.c_bool),
        ("is_draining", ctypes.c_bool),
        ("has_died_idle", ctypes.c_bool),
        ("message_taken_at", ctypes.c_double),
        ("drained_at", ctypes.c_double),
        ("jobs_done", ctypes.c_uint),
        ("pid", ctypes.c_int),
    )

    is_stopping: bool
    is_draining: bool
    has_died_idle: bool
    message_taken_at: float
    drained_at: float
    jobs_done: int
    pid: int

    def start_over(self) -> None:
        """Forget what a cluster that is gone has left."""
        self.is_draining = self.has_died_idle = False
        self.message_taken_at = 0.0
        self.pid = 0

    def begin(self, pid: int) -> None:
        """Become the place of this process, and note how the one before it has died, if there was one."""
        has_died_idle = self.pid != 0 and not self.is_draining
        self.start_over()
        self.pid, self.has_died_idle = pid, has_died_idle

    def is_taken(self) -> bool:
        """Tell whether there is work here, or a message on its way that means work."""
        return self.is_draining or time.monotonic() - self.message_taken_at < HANDOVER_S

    @contextmanager
    def draining(self) -> Iterator[None]:
        self.is_draining = True
        try:
            yield
        finally:
            self.drained_at = time.monotonic()
            self.is_draining = False
            self.message_taken_at = 0.0


def new_slot() -> Slot:
    return Slot.from_buffer(mmap.mmap(-1, ctypes.sizeof(Slot)))


slot = new_slot()
"""What this process shares with its supervisor; one that has no supervisor shares it with nobody."""

row: Worker | None = None
"""The worker's row, set by the supervisor before it forks."""


class Attempt:
    """A claimed job while it is worked on; use it as a context manager around the work.

    The work calls on_phase(), on_step() and on_tile(), which raise what it should stop for: CancelRequested,
    ClaimLost, StopRequested or DeadlinePassed.
    """

    def __init__(self, job: GenerationJob) -> None:
        self.job = job
        self._phase = ""
        self._step = 0
        self._eta_s: float | None = None
        self._step_s: float | None = None
        self._started = self._last_sign = self._last_beat = time.monotonic()
        self._shown: tuple[str, int, float | None] | None = None
        self._heard: Exception | None = None
        self._is_over = threading.Event()
        self._heart = threading.Thread(target=self._keep_beating, name=f"heart of {job.pk}", daemon=True)

    def __enter__(self) -> Self:
        _arm_watchdog()
        self._heart.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._is_over.set()
        self._heart.join()
        faulthandler.cancel_dump_traceback_later()

    # Called by the work, in the main thread

    def on_phase(self, phase: str) -> None:
        self._sign_of_life()
        self._phase, self._eta_s = phase, None
        self.check()
        # This thread's connection was idle for the whole phase before. If the database was restarted meanwhile, the
        # next query would find out, and take the latents with it.
        persistently(_reach_database)

    def on_step(self, step: int, steps: int) -> None:
        """Note that `step` of `steps` model calls are done."""
        took_s = self._sign_of_life()
        if step > 0:  # what came before the first call says nothing about the others
            # A moving average: half of the weight is on the last two calls.
            self._step_s = took_s if self._step_s is None else 0.7 * self._step_s + 0.3 * took_s
            self._eta_s = round(self._step_s * (steps - step), 1)
        self._step = step
        self.check()

    def on_tile(self, tile: int, tiles: int) -> None:
        self._sign_of_life()
        self.check()

    def check(self) -> None:
        """Raise what the work should stop for, if anything."""
        if self._heard:
            raise self._heard
        if slot.is_stopping:
            raise StopRequested
        if time.monotonic() - self._started > DEADLINE_S:
            raise DeadlinePassed

    def _sign_of_life(self) -> float:
        """Return the seconds since the last one."""
        before, self._last_sign = self._last_sign, time.monotonic()
        return self._last_sign - before

    # The other thread

    def _keep_beating(self) -> None:
        try:
            while not self._is_over.wait(ROUND_S) and not self._hangs():
                _arm_watchdog()
                self._talk_to_database()
        finally:
            connection.close()

    def _hangs(self) -> bool:
        return time.monotonic() - self._last_sign > STALL_LIMITS_S[self._phase]

    def _talk_to_database(self) -> None:
        try:
            self._report_or_renew()
        except (CancelRequested, ClaimLost) as told:
            self._heard = told
        except Error:
            logger.warning("Job %s could not report its progress", self.job.pk, exc_info=True)
            connection.close()

    def _report_or_renew(self) -> None:
        progress = (self._phase, self._step, self._eta_s)
        if progress != self._shown:
            self.job.report(*progress)
            self._shown = progress
        elif time.monotonic() - self._last_beat > BEAT_S:
            self.job.renew_lease()
        else:
            self.job.check_claim()
            return
        self._last_beat = time.monotonic()


def _arm_watchdog() -> None:
    """End this process, with every stack on stderr, unless called again in time. Needs no interpreter lock to fire."""
    faulthandler.dump_traceback_later(HANG_S, exit=True, file=2)


def _reach_database() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")


def persistently(write: Callable[[], Result]) -> Result:
    """Do a write that must not be lost to a database that is locked or restarting."""
    patience_ends = time.monotonic() + DATABASE_PATIENCE_S
    while True:
        try:
            return write()
        except (OperationalError, InterfaceError):
            if time.monotonic() > patience_ends:
                raise
            logger.warning("The database did not take a write; trying again", exc_info=True)
            connection.close()
            time.sleep(ROUND_S)
