"""Keep one django-q2 cluster working: start it, watch it, replace it, stop it.

django-q2 loses its way in ways that it does not notice: a worker killed while idle takes the queue's lock with it, a
killed sentinel leaves orphans that go on working, a SIGTERM to every process at once can hang all of them. So nothing
here trusts it. The cluster runs in a process group of its own, every process in it dies with its parent, and nothing
is shared with it but memory without locks, the worker's slot. The supervisor looks from outside: is the cluster
alive, and is a waiting job picked up while its worker has nothing to do? If not, the whole group is killed and a new
one started. That is always safe, because jobs live in rows and leases.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import time
from contextlib import suppress
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import Final

from django.db import Error, connections

from generation import recovery, worker
from generation.cluster import run_cluster
from generation.models import ClaimLost, Worker
from generation.processes import bind_children_to_parents, fork_group, kill_group
from generation.tasks import wake_worker
from resumeapp import logs

logger = logging.getLogger(__name__)

LOOK_S: Final = 0.2
ROUND_S: Final = 5.0
WEDGED_S: Final = 30.0
# The running step may take this long to end; then the group is killed and the job put back all the same.
STOP_STEP_S: Final = 30.0
STOP_IDLE_S: Final = 5.0
# A cluster that has picked up work, or has lasted for this long, was well; so many that were not will not get better.
HEALTHY_S: Final = 60.0
MAX_FAILURES: Final = 5


def supervise(variant: str) -> int:
    """Run a worker for this variant, or for every one if empty, until SIGTERM or SIGINT; return the exit status."""
    bind_children_to_parents()
    supervisor = Supervisor(variant)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, supervisor.on_signal)
    return supervisor.run()


class ClusterFailed(Exception):
    """The cluster dies or wedges again and again."""


class Supervisor:
    """One worker's supervisor; see the module's description."""

    def __init__(self, variant: str) -> None:
        self.variant = variant
        self.row = Worker.objects.create(host=socket.gethostname(), pid=os.getpid(), variant=variant)
        logs.always(worker=self.row)
        self.cluster: ForkProcess | None = None
        self.pruning: ForkProcess | None = None
        self.started_at = 0.0
        self.failures = 0
        self.waiting_since: float | None = None
        self.progress: tuple[float, int] | None = None
        self.is_asked_to_stop = False

    def on_signal(self, number: int, frame: object) -> None:
        """Only note it: anything more could run into a lock that the interrupted code holds."""
        self.is_asked_to_stop = True

    def run(self) -> int:
        """Work until asked to stop; return the exit status."""
        worker.row, worker.slot = self.row, worker.new_slot()
        try:
            self._start_cluster()
            self._watch()
            return self._stop()
        except ClusterFailed as failure:
            logger.critical("%s", failure)
            return 1
        finally:
            kill_group(self.cluster)
            kill_group(self.pruning)
            self._record(Worker.State.STOPPED)

    # Watching

    def _watch(self) -> None:
        next_round = 0.0
        while not self.is_asked_to_stop:
            if self.cluster and not self.cluster.is_alive():
                self._replace_cluster(f"it has ended by itself, with status {self.cluster.exitcode}")
            elif worker.slot.has_died_idle:
                self._replace_cluster("its worker has died while it held the lock of django-q2's queue")
            if time.monotonic() >= next_round:
                self._round()
                next_round = time.monotonic() + ROUND_S
            time.sleep(LOOK_S)

    def _round(self) -> None:
        self._record(Worker.State.BUSY if worker.slot.is_draining else Worker.State.IDLE)
        try:
            recovery.reap()
            self._attend_to_waiting()
            if recovery.is_turn_to_prune():
                self.pruning = fork_group(recovery.prune)
        except ClusterFailed:
            raise
        except Exception:  # the cluster goes on with its work whatever happens here, most often to the database
            logger.warning("The supervisor could not look after its jobs", exc_info=True)
            connections.close_all()

    def _attend_to_waiting(self) -> None:
        """Wake the worker again while it is idle and a job waits, and replace the cluster if that does not help."""
        progress, self.progress = self.progress, (worker.slot.drained_at, worker.slot.jobs_done)
        is_well = progress != self.progress or self.row.jobs.beating().exists()
        if is_well or not recovery.is_work_waiting(self.variant):
            self.waiting_since = None
        elif self.waiting_since is None:
            self.waiting_since = time.monotonic()
        if self.waiting_since is None:
            return
        if time.monotonic() - self.waiting_since > WEDGED_S:
            self._replace_cluster("jobs wait and it does not take them")
        else:
            wake_worker(self.variant)

    def _record(self, state: Worker.State) -> None:
        try:
            self.row.beat(state=state, jobs_done=worker.slot.jobs_done, memory_bytes=_resident_bytes(worker.slot.pid))
        except Error:
            logger.warning("The database does not take this worker's heartbeat", exc_info=True)
            connections.close_all()

    # Starting and ending the cluster

    def _is_alive(self) -> bool:
        return self.cluster is not None and self.cluster.is_alive()

    def _start_cluster(self) -> None:
        worker.slot.start_over()
        self.started_at = time.monotonic()
        self.waiting_since = None
        self.cluster = fork_group(run_cluster, self.variant)

    def _replace_cluster(self, why: str) -> None:
        logger.error("The worker's cluster is replaced: %s", why)
        is_fruitful = worker.slot.drained_at > self.started_at
        is_old = time.monotonic() - self.started_at > HEALTHY_S
        self.failures = 1 if is_fruitful or is_old else self.failures + 1
        if self.failures > MAX_FAILURES:
            raise ClusterFailed(f"The worker's cluster has failed {self.failures} times in a row: {why}.")
        kill_group(self.cluster)
        self._start_cluster()

    def _stop(self) -> int:
        """Let the running step end, then the cluster; put back what it had to be killed for."""
        worker.slot.is_stopping = True
        self._record(Worker.State.STOPPING)
        ends = time.monotonic() + STOP_STEP_S
        while self._is_alive() and time.monotonic() < ends:
            if not worker.slot.is_draining:
                ends = min(ends, time.monotonic() + STOP_IDLE_S)
            time.sleep(0.05)
        kill_group(self.cluster)
        return 1 if self._put_back() else 0

    def _put_back(self) -> bool:
        """Put back what the dead cluster was working on; if that fails, its lease runs out."""
        try:
            cut_short = list(self.row.jobs.running())
            for job in cut_short:
                with suppress(ClaimLost):
                    job.release()
        except Error:
            logger.warning("The running job could not be put back", exc_info=True)
            return True
        return bool(cut_short)


def _resident_bytes(pid: int) -> int:
    """Return how much memory a process has in use; 0 where that cannot be read."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
