"""Whose processor time a run took: the generator's own, and that of the server when it runs on this machine.

CPU time per request is a figure that holds even when the generator is the bottleneck, which answers per second is not.
"""

from __future__ import annotations

import ipaddress
import os
import time
from dataclasses import dataclass

from load.plan import Target


@dataclass(frozen=True)
class Usage:
    """Seconds of processor time, user and system."""

    generator: float
    server: float | None
    """None when the server is not on this machine, or not ours to look at."""


class UsageMeter:
    """Reads processor times now and again; the server's processes are found once, by the port they listen on."""

    def __init__(self, target: Target) -> None:
        self.server_pids = server_processes(target)

    def read(self) -> Usage:
        """Processor time used so far."""
        return Usage(time.process_time(), _processor_seconds(self.server_pids) if self.server_pids else None)


def is_local(host: str) -> bool:
    """Whether *host* is this machine, by its loopback addresses."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def server_processes(target: Target) -> tuple[int, ...]:
    """The process that listens for *target* and its descendants; none if it is elsewhere or psutil is missing."""
    try:
        import psutil  # type: ignore[import-untyped, unused-ignore]
    except ImportError:
        return ()
    try:
        owners = {psutil.Process(pid) for pid in _listening(target)}
        return tuple(
            {process.pid for owner in owners for process in (owner, *owner.children(recursive=True))} - {os.getpid()}
        )
    except psutil.Error:
        return ()


def _listening(target: Target) -> set[int]:
    import psutil

    if target.unix is not None:
        found = psutil.net_connections("unix")
        return {entry.pid for entry in found if entry.laddr == target.unix and entry.pid}
    if not is_local(target.host):
        return set()
    found = psutil.net_connections("tcp")
    listening = [entry for entry in found if entry.status == psutil.CONN_LISTEN and entry.laddr.port == target.port]
    return {entry.pid for entry in listening if entry.pid and _serves(entry.laddr.ip, target.host)}


def _serves(bound: str, host: str) -> bool:
    address = "127.0.0.1" if host == "localhost" else host
    return bound in {address, "0.0.0.0", "::"} or (host == "localhost" and bound == "::1")


def _processor_seconds(pids: tuple[int, ...]) -> float | None:
    try:
        return sum(map(process_seconds, pids))
    except OSError:
        # A worker that ended meanwhile took its count with it: better no figure than a wrong one.
        return None


def process_seconds(pid: int) -> float:
    """Processor time of a process, its ended threads included. Raises OSError when it has ended.

    /proc and times(2) have it in ticks of 10 ms only, which is the whole of many a run.
    """
    # clock_getcpuclockid(3), as glibc computes it: bits 0 and 1 say "scheduler's clock", bit 2 "of a thread".
    return time.clock_gettime((~pid << 3) | 2)
