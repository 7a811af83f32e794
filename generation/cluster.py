"""The django-q2 cluster of one worker, as its supervisor starts it: no locks to hang on, no messages taken ahead.

Its processes are a sentinel, which is this one, and below it the worker, which calls tasks.drain, a pusher, which
takes messages from the broker, and a monitor, which acknowledges them.
"""

from __future__ import annotations

import logging
import os
import signal
import time
import uuid
from typing import Any, Final

from django.conf import settings
from django.db import Error, connection, connections
from django_q.brokers import get_broker
from django_q.conf import Conf
from django_q.signals import post_spawn

from generation import recovery, worker

logger = logging.getLogger(__name__)

LOOK_S: Final = 0.02
PATIENCE_S: Final = 0.5


def run_cluster(variant: str) -> None:
    """Be the sentinel, until the worker's slot says that it is to stop."""
    from django_q.cluster import Sentinel

    post_spawn.connect(_on_spawn, weak=False)
    broker = get_broker(variant or settings.Q_CLUSTER["name"])
    _take_only_when_idle(broker)
    if settings.Q_CLUSTER.get("orm") and connection.vendor == "sqlite":
        _take_only_after_changes(broker)
    sentinel = Sentinel(_StopFlag(), _StartFlag(), uuid.uuid4(), broker, start=False)
    # Its constructor has undone this. A SIGTERM to every process of a service is the supervisor's to act on.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sentinel.start()


class _StopFlag:
    """What the sentinel waits on in place of an Event, whose lock a killed process would take with it."""

    def is_set(self) -> bool:
        return worker.slot.is_stopping

    def wait(self, timeout: float) -> bool:
        ends = time.monotonic() + timeout
        while not worker.slot.is_stopping and time.monotonic() < ends:
            time.sleep(min(0.05, timeout))
        return worker.slot.is_stopping


class _StartFlag:
    """Only the sentinel itself asks whether it has started."""

    def __init__(self) -> None:
        self._is_set = False

    def set(self) -> None:
        self._is_set = True

    def is_set(self) -> bool:
        return self._is_set


def _on_spawn(**signal_arguments: object) -> None:
    """Begin as the working process. If there was one before, it is dead, and what it was doing can go to others."""
    worker.slot.begin(os.getpid())
    try:
        if worker.row:
            worker.row.give_up_claims()
        recovery.reap()
    except Error:
        logger.warning("The claims of the process before could not be given up", exc_info=True)
        connections.close_all()


def _take_only_when_idle(broker: Any) -> None:
    """Keep django-q2 from taking messages ahead: one that waits behind a long job would be lost to idle workers."""
    take = broker.dequeue

    def dequeue() -> Any:
        if worker.slot.is_taken():
            time.sleep(LOOK_S)
            return None
        messages = take()
        if messages:
            worker.slot.message_taken_at = time.monotonic()
        return messages

    broker.dequeue = dequeue


def _take_only_after_changes(broker: Any) -> None:
    """Ask SQLite often whether anything was committed, and look for messages only then.

    That costs a fraction of what django-q2's own polling does, and finds a message sooner. The pragma's value changes
    with every commit of another connection: sqlite.org/pragma.html#pragma_data_version
    """
    Conf.POLL = 0  # in this process and below; it would sleep after every look that finds nothing
    take = broker.dequeue
    seen = 0

    def dequeue() -> Any:
        nonlocal seen
        ends = time.monotonic() + PATIENCE_S
        while (version := _data_version()) == seen and time.monotonic() < ends and not worker.slot.is_stopping:
            time.sleep(LOOK_S)
        seen = version
        return take()

    broker.dequeue = dequeue


def _data_version() -> int:
    connection.ensure_connection()
    # Not through Django's cursor, which costs more than the question.
    version: int = connection.connection.execute("PRAGMA data_version").fetchone()[0]
    return version
