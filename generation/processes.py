"""Child processes that nothing can leave behind: each leads a group of its own and dies with its parent.

Whoever forks has one thread and has never imported torch, so that a child may do both.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import util
from multiprocessing.context import ForkProcess
from typing import Final

from django.db import connections

PR_SET_PDEATHSIG: Final = 1


def bind_children_to_parents() -> None:
    """From now on every process that is forked here, or further below, dies when its parent does. Linux only."""
    if sys.platform == "linux":
        util.register_after_fork(_die_with_parent, lambda die_with_parent: die_with_parent())


def _die_with_parent() -> None:
    """Have the kernel kill this process when its parent dies, however it dies."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    parent = multiprocessing.parent_process()
    if parent and os.getppid() != parent.pid:
        os._exit(1)  # it has died already


def fork_group(target: Callable[..., None], *arguments: object) -> ForkProcess:
    """Start a child that leads a group of its own, out of reach of a terminal's Ctrl-C and of SIGTERM."""
    connections.close_all()  # a connection must not be used on both sides of a fork
    process = multiprocessing.get_context("fork").Process(target=_lead_group, args=(target, *arguments))
    process.start()
    return process


def _lead_group(target: Callable[..., None], *arguments: object) -> None:
    os.setpgid(0, 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    target(*arguments)


def kill_group(leader: ForkProcess | None) -> None:
    """Kill a child and everything below it, also where it has died itself and left the others."""
    if leader is None or leader.pid is None:
        return
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(leader.pid, signal.SIGKILL)
    if leader.is_alive():
        leader.kill()  # it had not yet made its group
    leader.join()
