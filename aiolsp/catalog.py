"""The table of programs: name, mechanism, page of the book, and the options that a program and its twin share.

One entry serves the program, its twin, ``python -m aiolsp`` and the tests, so that none can differ from the others.
"""

from __future__ import annotations

import argparse
import importlib.util
import math
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Option:
    """One command-line option: its names, and what ``argparse.add_argument`` takes besides."""

    names: tuple[str, ...]
    settings: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Program:
    """A program of the book: what it shows, where the book has it, and the options of each of its roles."""

    name: str
    pages: str
    mechanism: str
    summary: str
    port: int
    roles: dict[str, tuple[Option, ...]] = field(default_factory=dict)


def option(*names: str, **settings: Any) -> Option:
    """An Option, written as a call of ``add_argument`` would be."""
    return Option(names, settings)


def positive(text: str) -> int:
    """A whole number of at least 1. Raises argparse.ArgumentTypeError."""
    if text.isascii() and text.isdigit() and 0 < int(text) < 1 << 31:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")


def seconds(text: str) -> float:
    """A time of more than 0 seconds. Raises argparse.ArgumentTypeError."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if 0 < value < 1e6:
        return value
    raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")


def shared_memory(text: str) -> str:
    """A kind of shared memory. Raises argparse.ArgumentTypeError for System V's where its package is missing."""
    if text == "sysv" and importlib.util.find_spec("sysv_ipc") is None:
        raise argparse.ArgumentTypeError("sysv_ipc is not installed: use memfd or posix, or pip install sysv-ipc")
    return text


def ring_size(text: str) -> int:
    """Bytes of a ring of lines, room for two at least. Raises argparse.ArgumentTypeError."""
    if text.isascii() and text.isdigit() and 4096 <= int(text) < 1 << 31:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a number of bytes from 4096 on")


_BUFFER = option("--buffer", type=positive, default=10, metavar="BYTES", help="size of one read (default %(default)s)")

WEB_SERVER = Program("websrv", "301, 304, 318", "all of them together", "Serve a directory over HTTP/1.1", 8080)
"""It has no roles, and its options are in websettings."""

PROGRAMS: dict[str, Program] = {
    program.name: program
    for program in (
        Program(
            "analyze",
            "137",
            "HTTP state machine",
            "Print what each line of a request was parsed as",
            8137,
            {
                "server": (),
                "client": (
                    option("--request", metavar="FILE", help="send this file (default: a small good request)"),
                    option("--split", type=positive, metavar="N", help="send N bytes at a time"),
                ),
            },
        ),
        Program(
            "oob",
            "148",
            "urgent (out-of-band) data",
            "Report normal bytes, urgent bytes and where the urgent mark stood",
            8148,
            {
                "server": (
                    option(
                        "--notify",
                        choices=("pri", "sigurg"),
                        default="pri",
                        help="EPOLLPRI or SIGURG (default %(default)s)",
                    ),
                ),
                "client": (
                    option(
                        "parts",
                        nargs="*",
                        default=["123", "!abc", "123"],
                        metavar="PART",
                        help="what to send, in order; '!abc' is sent urgent (default: 123 !abc 123)",
                    ),
                ),
            },
        ),
        Program(
            "trigger",
            "154",
            "level and edge triggering",
            "Count the wake-ups and calls that level and edge triggering need",
            8154,
            {
                "server": (
                    option(
                        "--mode",
                        choices=("lt", "et"),
                        default="lt",
                        help="level or edge triggered (default %(default)s)",
                    ),
                    _BUFFER,
                    option(
                        "--broken",
                        action="store_true",
                        help="with --mode et: read once a wake-up, to see bytes stick",
                    ),
                ),
                "client": (
                    option(
                        "--bytes",
                        type=positive,
                        default=54,
                        metavar="N",
                        help="how many to send in one go (default %(default)s)",
                    ),
                ),
                "matrix": (
                    option(
                        "--connections",
                        type=positive,
                        default=20,
                        metavar="N",
                        help="how many (default %(default)s)",
                    ),
                    option(
                        "--bytes",
                        type=positive,
                        default=54,
                        metavar="N",
                        help="sent on each (default %(default)s)",
                    ),
                    _BUFFER,
                ),
            },
        ),
        Program(
            "oneshot",
            "157",
            "EPOLLONESHOT",
            "Let one thread at a time serve a socket",
            8157,
            {
                "server": (
                    option(
                        "--wait",
                        type=seconds,
                        default=5.0,
                        metavar="S",
                        help="how long a worker waits for more (default %(default)s)",
                    ),
                    option(
                        "--threads",
                        type=positive,
                        default=8,
                        metavar="N",
                        help="worker threads (default %(default)s)",
                    ),
                    option(
                        "--broken",
                        action="store_true",
                        help="without EPOLLONESHOT, to see two threads on one socket",
                    ),
                ),
                "client": (
                    option(
                        "--bursts",
                        type=positive,
                        default=3,
                        metavar="N",
                        help="how many bursts to send (default %(default)s)",
                    ),
                    option(
                        "--every",
                        type=seconds,
                        default=0.2,
                        metavar="S",
                        help="pause between bursts (default %(default)s)",
                    ),
                ),
            },
        ),
        Program(
            "chat",
            "165",
            "poll chat room, splice client",
            "Send each line to all but its sender",
            8165,
            {
                "server": (
                    option(
                        "--max-users",
                        type=positive,
                        default=5,
                        metavar="N",
                        help="members at once (default %(default)s)",
                    ),
                    option(
                        "--high-water",
                        type=positive,
                        default=64 * 1024,
                        metavar="BYTES",
                        help="drop a member that has this much unread (default %(default)s)",
                    ),
                ),
                "client": (),
            },
        ),
        Program(
            "echo",
            "171",
            "TCP and UDP on one port",
            "Echo exactly what came, on TCP and on UDP",
            8171,
            {
                "server": (),
                "client": (option("--udp", action="store_true", help="one datagram a line instead of a TCP stream"),),
            },
        ),
        Program(
            "events",
            "184",
            "signals as events",
            "Take signals as events among the socket events",
            8184,
            {
                "server": (),
                "client": (
                    option(
                        "lines",
                        nargs="*",
                        default=["hello", "child 3"],
                        metavar="LINE",
                        help="what to send; 'child N' starts a child that exits with N (default: hello 'child 3')",
                    ),
                ),
            },
        ),
        Program(
            "idle",
            "196, 200",
            "sorted timer list",
            "Close connections that were silent for three time slots",
            8196,
            {
                "server": (
                    option(
                        "--timeslot",
                        type=seconds,
                        default=5.0,
                        metavar="S",
                        help="a connection silent for three of these is closed (default %(default)s)",
                    ),
                ),
                "client": (
                    option(
                        "--every",
                        type=seconds,
                        default=2.0,
                        metavar="S",
                        help="send a line this often (default %(default)s)",
                    ),
                    option(
                        "--lines",
                        type=positive,
                        default=3,
                        metavar="N",
                        help="then fall silent (default %(default)s)",
                    ),
                ),
            },
        ),
        Program(
            "shmchat",
            "255",
            "shared memory, a process per connection",
            "Send each line to all but its sender, across processes",
            8255,
            {
                "server": (
                    option(
                        "--max-users",
                        type=positive,
                        default=5,
                        metavar="N",
                        help="members at once, each a process (default %(default)s)",
                    ),
                    option(
                        "--shm",
                        type=shared_memory,
                        choices=("memfd", "posix", "sysv"),
                        default="memfd",
                        help="where the memory comes from (default %(default)s)",
                    ),
                    option(
                        "--slot-size",
                        type=ring_size,
                        default=64 * 1024,
                        metavar="BYTES",
                        help="a member's ring of lines, 1,032 bytes each (default %(default)s)",
                    ),
                ),
                "client": (),
            },
        ),
        Program(
            "cgisrv",
            "289, 298",
            "process pool, CGI server",
            "Run the program that a line names, with its output to the socket",
            8289,
            {
                "server": (
                    option(
                        "--cgi-dir", default="cgi-bin", metavar="DIR", help="its programs run (default %(default)s)"
                    ),
                    option(
                        "--cgi-timeout",
                        type=seconds,
                        default=10.0,
                        metavar="S",
                        help="a program that runs longer is killed (default %(default)s)",
                    ),
                    option(
                        "--max-children",
                        type=positive,
                        default=16,
                        metavar="N",
                        help="programs at once, in all processes (default %(default)s)",
                    ),
                    option(
                        "--processes",
                        type=positive,
                        default=8,
                        metavar="N",
                        help="processes of the pool (default %(default)s)",
                    ),
                    option(
                        "--accept",
                        choices=("parent", "child", "reuseport"),
                        default="parent",
                        help="who accepts: the parent hands out in turn, or the children (default %(default)s)",
                    ),
                ),
                "client": (
                    option(
                        "name",
                        nargs="?",
                        default="hello",
                        metavar="NAME",
                        help="the program to run (default %(default)s)",
                    ),
                ),
            },
        ),
    )
}
