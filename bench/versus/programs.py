"""The programs of the book, each on uvloop, on the stock loop and as its blocking twin, under the same load."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial

from aiolsp.linux.scratch import scratch
from versus.group_loads import Expiry, Fanout, Stream
from versus.loads import Datagrams, Exchange, Exchanges, PingPong, SocketLoad
from versus.results import About
from versus.rounds import Case, Entrant, Load
from versus.servers import Server

SHELLS = ("uvloop", "asyncio", "blocking")
TWIN = "blocking"

KIND = "twins"

MESSAGE = b"sixty-four bytes, which is about what a program says to another\n"

REQUEST = b"GET /index.html HTTP/1.1\r\nHost: example.com\r\nAccept: text/html\r\n\r\n"

CORRECT = b"I get a correct result\n"

GREETING = b"hello from a program\n"

TIMESLOT, QUICK_TIMESLOT = 2.0, 0.3
"""Seconds; a connection expires after three: time enough to open and touch all of them, 10,000 or 1,000."""


@dataclass(frozen=True)
class Spec:
    """A case of a program, for all of its shells."""

    program: str
    name: str
    title: str
    unit: str
    latency: str
    options: Callable[[bool], Sequence[str]]
    """The server's options, given whether it must be quick."""
    load: Callable[[Server, bool], SocketLoad]
    files: dict[str, bytes] | None = None
    """Programs in a directory that the server's ``--cgi-dir`` is to be."""


def none(_: bool) -> Sequence[str]:
    """A server without options."""
    return ()


def _some(full: int, quick: int, hurry: bool) -> int:
    return quick if hurry else full


SPECS = (
    Spec(
        "echo",
        "echo TCP",
        "64 connections, 64-byte messages to and fro",
        "a message echoed",
        "from sent to back",
        none,
        lambda server, quick: PingPong(server, connections=64, message=MESSAGE, idle=_some(1000, 200, quick)),
    ),
    Spec(
        "echo",
        "echo 32 KiB",
        "4 connections, 32 KiB messages to and fro",
        "a message echoed",
        "from sent to back",
        none,
        lambda server, _: PingPong(server, connections=4, message=MESSAGE * 512),
    ),
    Spec(
        "echo",
        "echo UDP",
        "64 sockets, 64-byte datagrams to and fro",
        "a datagram echoed",
        "from sent to back",
        none,
        lambda server, _: Datagrams(server, sockets=64, message=MESSAGE),
    ),
    Spec(
        "chat",
        "chat",
        "100 members, 10 of them speak at once, 99 hear each",
        "a line delivered to a member",
        "from 10 lines said to the last of them heard by all",
        lambda _: ("--max-users", "100"),
        lambda server, _: Fanout(server, members=100, speakers=10),
    ),
    *(
        Spec(
            "trigger",
            f"trigger {mode}",
            f"1 MiB on one connection, read by 4 KiB, {name} triggered",
            "a MiB read",
            "from connecting to the server's close",
            partial(lambda mode, _: ("--mode", mode, "--buffer", "4096"), mode),
            lambda server, _: Stream(server),
        )
        for mode, name in (("lt", "level"), ("et", "edge"))
    ),
    Spec(
        "oneshot",
        "oneshot",
        "8 connections at a time, each read to its end by a worker thread of 8",
        "a connection",
        "from connecting to the server's close",
        lambda _: ("--wait", "0.01"),
        lambda server, quick: Exchanges(
            server, Exchange(MESSAGE, b"", half_close=True), lanes=8, idle=_some(1000, 200, quick)
        ),
    ),
    Spec(
        "analyze",
        "analyze",
        "16 connections at a time, a request on each",
        "a request analysed",
        "from connecting to the end of the answer",
        none,
        lambda server, quick: Exchanges(server, Exchange(REQUEST, CORRECT), lanes=16, idle=_some(1000, 200, quick)),
    ),
    Spec(
        "idle",
        "idle",
        "connections with a timer each: 10,000, or 1,000 when it must be quick",
        "a touch: bytes came, the timer is moved",
        "how late the server closed a connection that had fallen silent",
        lambda quick: ("--timeslot", str(QUICK_TIMESLOT if quick else TIMESLOT)),
        lambda server, quick: Expiry(
            server,
            connections=_some(10_000, 1_000, quick),
            touches=3,
            idle_timeout=3 * (QUICK_TIMESLOT if quick else TIMESLOT),
        ),
    ),
    Spec(
        "shmchat",
        "shmchat",
        "20 members, each with a process; 4 of them speak at once, 19 hear each",
        "a line delivered to a member",
        "from 4 lines said to the last of them heard by all",
        lambda _: ("--max-users", "20"),
        lambda server, _: Fanout(server, members=20, speakers=4),
    ),
    Spec(
        "cgisrv",
        "cgisrv",
        "4 connections at a time, a shell script run for each",
        "a program run",
        "from connecting to the end of its output",
        none,
        lambda server, _: Exchanges(server, Exchange(b"hello\r\n", GREETING), lanes=4),
        files={"hello": b"#!/bin/sh\necho " + GREETING},
    ),
)


def program_cases(names: Sequence[str], *, quick: bool, processors: frozenset[int] | None) -> list[Case]:
    """The cases of the programs called *names*."""
    return [_case(spec, quick, processors) for spec in SPECS if spec.program in names]


def command(program: str, shell: str, *options: str) -> list[str]:
    """The command line of a program of the book, or of its twin."""
    package = "aiolsp.blocking" if shell == TWIN else "aiolsp"
    loop = () if shell == TWIN else ("--loop", shell)
    return [sys.executable, "-m", f"{package}.{program}", *options, *loop, "--port", "0"]


def _case(spec: Spec, quick: bool, processors: frozenset[int] | None) -> Case:
    entrants = [Entrant(shell, partial(_open, spec, shell, quick, processors)) for shell in SHELLS]
    about = About(KIND, spec.program, spec.name, spec.title, spec.unit, spec.latency, TWIN)
    return Case(about, tuple(entrants))


@contextmanager
def _open(spec: Spec, shell: str, quick: bool, processors: frozenset[int] | None) -> Iterator[Load]:
    with ExitStack() as stack:
        directory = _directory(stack, spec.files)
        words = command(spec.program, shell, "server", *spec.options(quick), *directory)
        server = stack.enter_context(Server(words, f"{spec.program} ({shell})", processors=processors))
        yield stack.enter_context(spec.load(server, quick))


def _directory(stack: ExitStack, files: dict[str, bytes] | None) -> tuple[str, ...]:
    if files is None:
        return ()
    directory = stack.enter_context(scratch("compare-"))
    for name, content in files.items():
        path = directory / name
        path.write_bytes(content)
        path.chmod(0o755)
    return ("--cgi-dir", str(directory))
