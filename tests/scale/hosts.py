"""Hosts on one machine: network namespaces with a name and a cable of their own, which can be pulled out.

The services listen on this machine's loopback address, where no other namespace can reach them. So what a host says to
the network's address is passed on to the same port there.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass

SUBNET = f"10.{200 + os.getpid() % 50}.{os.getpid() // 50 % 250}"
ADDRESS = f"{SUBNET}.1"
LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Host:
    """A network namespace: no network but a cable to this machine, and a hostname."""

    name: str
    namespace: str
    cable: str

    def command(self, *command: str) -> list[str]:
        """Return what runs a command here."""
        named = ["unshare", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"', self.name]
        return ["ip", "netns", "exec", self.namespace, *named, *command]

    def environment(self, environment: Mapping[str, str]) -> dict[str, str]:
        """Return the variables with addresses as they are from here."""
        return {name: value.replace(LOOPBACK, ADDRESS) for name, value in environment.items()}

    def unplug(self) -> None:
        _ip("link", "set", self.cable, "down")

    def plug(self) -> None:
        _ip("link", "set", self.cable, "up")


def find_missing() -> str:
    """Return what keeps hosts from being made here, or nothing."""
    if os.geteuid() != 0:
        return "the rights of root"
    if missing := [name for name in ("ip", "unshare") if not shutil.which(name)]:
        return missing[0]
    probe = subprocess.run(["unshare", "--net", "--uts", "true"], check=False, capture_output=True)
    return "" if probe.returncode == 0 else "network namespaces"


@contextmanager
def network(*names: str, ports: Iterable[int]) -> Iterator[list[Host]]:
    """Give hosts of these names, which reach these ports of this machine's services."""
    mark = f"rp{os.getpid() % 10**6}"
    with ExitStack() as undo:
        _ip("link", "add", mark, "type", "bridge")
        undo.callback(_ip, "link", "delete", mark)
        _ip("address", "add", f"{ADDRESS}/24", "dev", mark)
        _ip("link", "set", mark, "up")
        hosts = [_host(undo, mark, number, name) for number, name in enumerate(names)]
        for port in ports:
            undo.enter_context(_passed_on(port))
        yield hosts


def _host(undo: ExitStack, bridge: str, number: int, name: str) -> Host:
    host = Host(name, f"{bridge}-{name}", f"{bridge}v{number}")
    _ip("netns", "add", host.namespace)
    undo.callback(_ip, "netns", "delete", host.namespace)  # takes the cable with it
    _ip("link", "add", host.cable, "type", "veth", "peer", "name", "eth0", "netns", host.namespace)
    _ip("link", "set", host.cable, "master", bridge, "up")
    for command in (f"address add {SUBNET}.{number + 2}/24 dev eth0", "link set eth0 up", "link set lo up"):
        _ip("-netns", host.namespace, *command.split())
    return host


def _ip(*command: str) -> None:
    subprocess.run(["ip", *command], check=True, capture_output=True)


@contextmanager
def _passed_on(port: int) -> Iterator[None]:
    with socket.create_server((ADDRESS, port)) as listener:
        threading.Thread(target=_accept, args=(listener, port), daemon=True).start()
        yield


def _accept(listener: socket.socket, port: int) -> None:
    with suppress(OSError):  # the listener is closed, which ends this
        while True:
            outside, _ = listener.accept()
            try:
                inside = socket.create_connection((LOOPBACK, port))
            except OSError:  # the service is not there
                outside.close()
                continue
            for pair in ((outside, inside), (inside, outside)):
                threading.Thread(target=_pump, args=pair, daemon=True).start()


def _pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)
    for end in (source, target):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
