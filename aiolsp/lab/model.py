"""What happened in a run, as data: lanes, and the events on them. Programs write it; a terminal and a page show it.

Facts
    - Every program writes a record of the Chrome trace-event format for each event (``--trace FILE``, aiolsp.tracing).
      Its clock is CLOCK_MONOTONIC: records of different processes stand on one axis.
    - A record of ours besides: ``"client": NAME`` is what a scripted client of the lab did, and metadata of that name
      says the address that it has, so that a connection can be called after it.
    - A record says the process and the thread that it comes from, and mostly the descriptor, but not the connection:
      the number of a closed descriptor is given to the next.
Decision
    An `Assembly` is fed records in the order of their time, gives each a lane, and follows descriptors from the call
    that made them to the event that closes them. It does no I/O: a file, a pipe or a test feeds it.

The JSON form (``lab NAME --json FILE``) is `document`: ``{"version": 1, "runs": [...]}``, each run with the fields of
`Run`, and in it ``lanes``, ``events`` and ``counts`` with the fields of `Lane`, `Event` and `Counts`, by name. Times
are microseconds since the run began, that is, since the server was ready.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, TypeAlias

VERSION = 1
"""Of the JSON form."""

Record: TypeAlias = Mapping[str, Any]
"""One object of a Chrome trace file."""

Role: TypeAlias = Literal["server", "client"]
Shell: TypeAlias = Literal["asyncio", "blocking"]
Variant: TypeAlias = Literal["", "broken", "mended"]

NONE = -1
"""No lane, no descriptor, no size."""

ZERO_COPY = frozenset({"splice", "sendfile"})
"""Calls that move bytes inside the kernel: the process never has them."""


CALLBACKS = frozenset(
    "accept add_reader data_received datagram_received eof_received eventfd_read fired pidfd recvfrom recvmsg signal"
    " waitid".split()
)
"""Calls whose event is a report by itself; others are one if they come with the flags that the kernel gave."""


@dataclass(frozen=True, slots=True)
class Lane:
    """A row of the timeline: a process (its main thread), another thread of it, a connection, or a scripted client."""

    id: int
    kind: Literal["process", "thread", "connection", "client"]
    role: Role
    name: str
    pid: int
    tid: int
    parent: int
    """The process's lane, of a thread and of a connection; -1 for the others."""


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened, or, with a duration, one that lasted."""

    t_us: float
    pid: int
    tid: int
    lane: int
    """The lane of the process, thread or client that did it."""
    connection: int
    """The lane of the connection that it was done to, or -1."""
    sign: str
    """``<`` in, ``>`` out, ``=`` state, ``x`` close, ``-`` time-out, ``%`` timer, ``!`` error; empty for a span."""
    call: str
    """What returned: a system call, a callback of the loop; the name of a span."""
    fd: int
    flags: str
    size: int
    """Bytes, or -1."""
    why: str
    args: dict[str, Any]
    """Further facts of this call."""
    source: str
    """``aiolsp/chat.py:166``, the line that said it; empty for a scripted client."""
    duration_us: float
    """How long a span lasted; 0 for an event."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What the kernel says of the server's processes, from the ready line to the end of the script (proc(5))."""

    sleeps: int = 0
    """How often a thread slept in a call until the kernel woke it (voluntary_ctxt_switches)."""
    threads: int = 0
    """Of all its processes, at the end."""
    processes: int = 0


@dataclass(frozen=True, slots=True)
class Counts:
    """What the server did, counted: by the kernel (`Usage`) and from the trace."""

    usage: Usage
    wake_ups: int
    """How often it was told that something is ready or has come: many may end one sleep."""
    calls: dict[str, int]
    """Events of each call, most frequent first. What the loop calls by itself leaves no event."""
    eagain: int
    bytes_in: int
    bytes_out: int
    bytes_copied: int
    """Between kernel and process, either way; what is moved inside the kernel (splice, sendfile) is not."""
    connections: int


@dataclass(slots=True)
class Run:
    """One program in one shell, from its ready line to its end."""

    lab: str
    shell: Shell
    variant: Variant
    title: str
    book: str
    command: str
    """The server's command line, as a reader would type it."""
    look_for: str
    """What to see on the timeline, in a sentence."""
    finding: str = ""
    """What was seen, in a sentence with figures of this run."""
    mend: str = ""
    """Of a broken run: what to do instead."""
    lanes: list[Lane] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    counts: Counts | None = None

    def server(self, *calls: str) -> list[Event]:
        """What the server did, of *calls* if any are named."""
        return [e for e in self.events if self.lanes[e.lane].role == "server" and (not calls or e.call in calls)]

    def client(self, name: str, *calls: str) -> list[Event]:
        """What the scripted client *name* did, of *calls* if any are named."""
        return [e for e in self.events if self.lanes[e.lane].name == name and (not calls or e.call in calls)]

    def threads(self, events: Iterable[Event]) -> list[str]:
        """The names of the lanes of *events*, each once, in the order of their first."""
        return list(dict.fromkeys(self.lanes[event.lane].name for event in events))


class Assembly:
    """Gives records their lanes; `lanes` and `events` grow as they come.

    *zero_us* is the time at which the run began. Calling sequence: ``record`` for each, ``count`` at the end.
    """

    def __init__(self, zero_us: float = 0.0) -> None:
        self.lanes: list[Lane] = []
        self.events: list[Event] = []
        self._zero = zero_us
        self._names: dict[tuple[int, int], str] = {}
        self._places: dict[tuple[int, int], int] = {}
        self._processes: dict[int, int] = {}
        self._clients: dict[str, int] = {}
        self._peers: dict[str, str] = {}
        self._open: dict[tuple[int, int], int] = {}
        self._handed: deque[int] = deque()
        self._inherited: dict[int, int] = {}

    def record(self, record: Record, role: Role) -> Event | None:
        """Take a record of a process in *role*; the event that it is, or None for one that only gives a name."""
        pid, tid = record["pid"], record["tid"]
        if record["ph"] == "M":
            self._name(record, pid, tid)
            return None
        sign, _, call = record["name"].partition(" ") if record["ph"] == "i" else ("", "", record["name"])
        args = dict(record["args"])
        fd, flags = args.pop("fd", NONE), args.pop("flags", "")
        event = Event(
            t_us=record["ts"] - self._zero,
            pid=pid,
            tid=tid,
            lane=self._client(record["client"]) if "client" in record else self._place(pid, tid, role),
            connection=self._connection(pid, fd, f"{sign} {call}", flags, args),
            sign=sign,
            call=call,
            fd=fd,
            flags=flags,
            size=args.pop("bytes", NONE),
            why=args.pop("why", ""),
            args=args,
            source=record.get("source", ""),
            duration_us=record.get("dur", 0.0),
        )
        self.events.append(event)
        return event

    def count(self, usage: Usage) -> Counts:
        """What the server's lanes show, beside what the kernel says it used."""
        server = {lane.id for lane in self.lanes if lane.role == "server"}
        events = [event for event in self.events if event.lane in server and event.sign]
        moved = [event for event in events if event.size > 0 and event.sign in "<>"]
        return Counts(
            usage=usage,
            wake_ups=sum(event.sign in "<%" and (event.flags != "" or event.call in CALLBACKS) for event in events),
            calls=dict(Counter(event.call for event in events).most_common()),
            eagain=sum("EAGAIN" in event.call for event in events),
            bytes_in=sum(event.size for event in moved if event.sign == "<"),
            bytes_out=sum(event.size for event in moved if event.sign == ">"),
            bytes_copied=sum(event.size for event in moved if event.call not in ZERO_COPY),
            connections=sum(lane.kind == "connection" and lane.role == "server" for lane in self.lanes),
        )

    def _name(self, record: Record, pid: int, tid: int) -> None:
        if record["name"] == "thread_name":
            self._names[pid, tid] = record["args"]["name"]
        elif record["name"] == "client":
            self._peers[record["args"]["address"]] = record["args"]["name"]

    def _client(self, name: str) -> int:
        if name not in self._clients:
            self._clients[name] = self._add("client", "client", name, 0, 0, NONE)
        return self._clients[name]

    def _process(self, pid: int, role: Role) -> int:
        if pid not in self._processes:
            number = sum(lane.kind == "process" and lane.role == role for lane in self.lanes) + 1
            name = f"{role} process {number}" if number > 1 else role
            self._processes[pid] = self._add("process", role, name, pid, pid, NONE)
        return self._processes[pid]

    def _place(self, pid: int, tid: int, role: Role) -> int:
        """The lane of a thread: its process's, if it is the main one."""
        if (pid, tid) not in self._places:
            process = self._process(pid, role)
            name = self._names.get((pid, tid), f"thread {tid}")
            self._places[pid, tid] = process if tid == pid else self._add("thread", role, name, pid, tid, process)
        return self._places[pid, tid]

    def _connection(self, pid: int, fd: int, what: str, flags: str, args: dict[str, Any]) -> int:
        """The lane of the connection that an event is about, opened by the first event and left by the last."""
        if what == "< accept" and "peer" in args:
            peer = self._peers.get(args["peer"], args["peer"])
            process = self._process(pid, "server")
            self._open[pid, fd] = self._add("connection", "server", f"connection of {peer}", pid, 0, process)
        elif what == "< recvmsg" and flags == "SCM_RIGHTS" and self._handed:
            self._open[pid, fd] = self._handed.popleft()
        connection = self._open.get((pid, fd), self._inherited.get(pid, NONE))
        if what == "> sendmsg" and flags == "SCM_RIGHTS":
            self._handed.append(connection)
        elif what == "= fork" and "pid" in args and fd != NONE:
            self._inherited[args["pid"]] = connection  # that process is there for this connection only
        elif what[0] == "x" or what == "< taken":
            self._open.pop((pid, fd), None)
        return connection

    def _add(self, kind: Any, role: Role, name: str, pid: int, tid: int, parent: int) -> int:
        self.lanes.append(Lane(len(self.lanes), kind, role, name, pid, tid, parent))
        return len(self.lanes) - 1


def assemble(records: Iterable[tuple[Role, Record]], zero_us: float) -> Assembly:
    """The whole of a run at once, whatever the order of its *records*."""
    assembly = Assembly(zero_us)
    for role, record in sorted(records, key=lambda pair: pair[1].get("ts", -math.inf)):
        assembly.record(record, role)
    return assembly


def document(runs: Iterable[Run]) -> dict[str, Any]:
    """*runs* in the JSON form."""
    return {"version": VERSION, "runs": [asdict(run) for run in runs]}
