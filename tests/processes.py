"""Process trees: where they listen, and whether they end on Ctrl-C."""

import ipaddress
import os
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any

import psutil

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def free_port() -> int:
    """A port of loopback on which nobody listens."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def start_ignoring_interrupts(command: list[Any], **options: Any) -> subprocess.Popen[str]:
    """Start a process as a script's `&` does: SIGINT is ignored."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        return subprocess.Popen(command, text=True, **options)
    finally:
        signal.signal(signal.SIGINT, before)


def tree(process: subprocess.Popen[str]) -> list[psutil.Process]:
    own = psutil.Process(process.pid)
    return [own, *own.children(recursive=True)]


def running(process: subprocess.Popen[str], word: str) -> list[psutil.Process]:
    """Those of a process's tree that have a word on their command line; empty once they ended."""
    found = []
    for one in tree(process):
        try:
            found += [one] if word in one.cmdline() else []
        except psutil.NoSuchProcess:
            continue
    return found


def listening(processes: list[psutil.Process]) -> list[tuple[str, Address, int]]:
    """Process name, address and port of each socket that waits for anybody's connection or datagram."""
    found = []
    for process in processes:
        try:
            sockets = process.net_connections(kind="inet")
        except psutil.NoSuchProcess:
            continue
        for one in sockets:
            if one.status == psutil.CONN_LISTEN or (one.status == psutil.CONN_NONE and one.laddr and not one.raddr):
                found.append((process.name(), ipaddress.ip_address(one.laddr.ip), one.laddr.port))
    return found


def is_loopback(address: Address) -> bool:
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


def interrupt(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """Send SIGINT, wait for the end, and return what still runs of what the process started."""
    started = tree(process)[1:]
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    return psutil.wait_procs(started, timeout=60)[1]


def environment(repository: Path, **more: str) -> dict[str, str]:
    """This one without what names a cluster or a server, for modules of the checkout."""
    dropped = ("RAY_", "PREFECT_API")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    return kept | {"PYTHONPATH": str(repository), "PYTHONUNBUFFERED": "1"} | more
