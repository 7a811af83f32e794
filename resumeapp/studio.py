"""The whole studio on one machine: a web server and a worker, two processes below one that watches both.

Neither goes on without the other. Whichever ends by itself ends the studio, and the exit status says so.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import http.client
import logging
import multiprocessing
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import Final, NoReturn

from django.conf import settings
from django.contrib.staticfiles.finders import get_finders
from django.core.management import call_command

from generation.processes import bind_children_to_parents
from generation.supervisor import STOP_IDLE_S, STOP_STEP_S, supervise

STUDIO_MARK: Final = "REPRISE_STARTED_BY_STUDIO"
WEB_THREADS: Final = 8
# Open connections, most of them idle: six for each of eighty browsers.
WEB_CONNECTIONS: Final = 500
# A model uses every core there is; the page that shows how far it is must answer all the same.
WORKER_NICENESS: Final = 5
WEB_STOP_S: Final = 5.0
WORKER_STOP_S: Final = STOP_STEP_S + STOP_IDLE_S + 5.0
ANSWER_WITHIN_S: Final = 60.0
LOOK_S: Final = 0.1

fork = multiprocessing.get_context("fork")


class CannotStart(Exception):
    """Why the studio does not start, in words for whoever tried."""


def run(host: str, port: int, say: Callable[[str], object]) -> int:
    """Serve until SIGTERM or SIGINT; return the exit status. Raises CannotStart."""
    _require_loopback(host)
    with _only_one_here(settings.REPRISE_DATA / "studio.lock"):
        return Studio(_bind(host, port), say).run()


def _require_loopback(host: str) -> None:
    if settings.REPRISE_MODE != "local" or host == "localhost":
        return
    try:
        is_loopback = ip_address(host).is_loopback
    except ValueError:
        is_loopback = False
    if not is_loopback:
        raise CannotStart(
            f"Local mode knows no login, so it serves this computer only: --host must be 127.0.0.1, not {host}. "
            "To serve others, set REPRISE_MODE=server."
        )


@contextmanager
def _only_one_here(path: Path) -> Iterator[None]:
    """Hold the data folder. The kernel lets go when this process and all it has forked are gone, however they end."""
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise CannotStart(
                f"Reprise is already running on {path.parent} (process {file.read() or 'unknown'}). "
                "Stop it first, or set REPRISE_DATA to another folder."
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except (OSError, OverflowError) as error:
        listener.close()
        if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
            raise CannotStart(f"Port {port} on {host} is in use. Choose another with --port.") from None
        raise CannotStart(f"Cannot listen on port {port} of {host}: {str(error).rstrip('.')}.") from None
    return listener


def _prepare(say: Callable[[str], object]) -> None:
    """Bring the database and the static files up to date."""
    call_command("migrate", verbosity=0, interactive=False)
    fingerprint = _fingerprint_static_files()
    collected = Path(settings.STATIC_ROOT) / ".collected"
    if not collected.exists() or collected.read_text() != fingerprint:
        say("Compressing the static files, once…")
        call_command("collectstatic", verbosity=0, interactive=False, clear=True)
        collected.write_text(fingerprint)


def _fingerprint_static_files() -> str:
    """Return what changes when any static file does; collecting and compressing them takes seconds."""
    digest = hashlib.sha256(repr(settings.STORAGES["staticfiles"]).encode())
    for finder in get_finders():
        for name, storage in finder.list([]):
            stat = Path(storage.path(name)).stat()
            digest.update(f"{name}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()


class Studio:
    """The two processes, and what becomes of them."""

    def __init__(self, listener: socket.socket, say: Callable[[str], object]) -> None:
        self.listener = listener
        self.say = say
        self.is_asked_to_stop = False
        host, port = listener.getsockname()[:2]
        self.address = (host, port)
        self.url = f"http://{f'[{host}]' if ':' in host else host}:{port}/"

    def on_signal(self, number: int, frame: object) -> None:
        self.is_asked_to_stop = True

    def run(self) -> int:
        """Start both, wait until one ends or somebody asks, then stop both; return the exit status."""
        os.environ[STUDIO_MARK] = "1"
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self.on_signal)
        bind_children_to_parents()
        self._prepare()
        web = fork.Process(target=_serve, args=(self.listener,), name="web server")
        worker = fork.Process(target=_work, args=(self.listener,), name="worker")
        try:
            web.start()
            worker.start()
            self.listener.close()
            ended = self._watch([web, worker])
        finally:
            self._stop(web, worker)
        if ended:
            self.say(f"The {ended.name} has ended by itself (exit status {ended.exitcode}), so the studio stops.")
            return 1
        return 0 if web.exitcode == 0 and worker.exitcode == 0 else 1

    def _prepare(self) -> None:
        # In a process of its own: compressing leaves tens of megabytes behind that every other process would inherit.
        preparation = fork.Process(target=_prepare, args=(self.say,))
        preparation.start()
        preparation.join()
        if preparation.exitcode != 0:
            raise CannotStart("The database or the static files could not be brought up to date.")

    def _watch(self, processes: list[ForkProcess]) -> ForkProcess | None:
        """Return the process that ended by itself, or None when asked to stop. Announce the URL once it answers."""
        gives_up_at = time.monotonic() + ANSWER_WITHIN_S
        has_answered = False
        while not self.is_asked_to_stop:
            for process in processes:
                if not process.is_alive():
                    # A signal to the whole group may have reached the process first.
                    return None if self.is_asked_to_stop else process
            if not has_answered and (has_answered := self._answers()):
                self.say(f"Reprise is at {self.url}  Press Ctrl-C to stop it.")
            if not has_answered and time.monotonic() > gives_up_at:
                return processes[0]
            time.sleep(LOOK_S)
        return None

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection(*self.address, timeout=5)
        try:
            connection.request("GET", "/healthz")
            connection.getresponse()
        except OSError:
            return False
        finally:
            connection.close()
        return True

    def _stop(self, web: ForkProcess, worker: ForkProcess) -> None:
        """Ask both at once, and end whichever does not end in its time."""
        for process in (worker, web):
            if process.is_alive():
                process.terminate()
        for process, patience_s in ((web, WEB_STOP_S), (worker, WORKER_STOP_S)):
            if process.pid is None:
                continue
            process.join(patience_s)
            if process.is_alive():
                self.say(f"The {process.name} does not stop and is killed.")
                process.kill()
                process.join()


def _serve(listener: socket.socket) -> None:
    """Be the web server."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process; the studio decides
    signal.signal(signal.SIGTERM, _exit)
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # it warns of every request that waits for a thread

    import waitress

    from resumeapp.wsgi import application

    waitress.serve(
        application,
        sockets=[listener],
        threads=WEB_THREADS,
        connection_limit=WEB_CONNECTIONS,
        asyncore_use_poll=True,  # select() fails at the 1024th file
        ident=None,
        # Django must see them: local mode refuses whatever came through a proxy.
        clear_untrusted_proxy_headers=False,
        # The limit of our own views answers in words; this one only stops what nobody would read.
        max_request_body_size=2 * (settings.REPRISE_MAX_UPLOAD_BYTES or sys.maxsize // 4),
        _quiet=True,
    )


def _exit(number: int, frame: object) -> NoReturn:
    raise SystemExit(0)


def _work(listener: socket.socket) -> None:
    """Be the worker's supervisor."""
    listener.close()
    os.nice(WORKER_NICENESS)
    sys.exit(supervise(""))
