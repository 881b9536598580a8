"""The program behind the page of ``lab web``: runs a lab, and streams what happens (server-sent events, HTML 9.2).

Decision
    It is a CGI program (RFC 3875), so that websrv's own means bound it: so many at once, so long between two pieces of
    output, and killed with its group, servers and all, when the reader leaves. A message is one JSON object: ``begin``
    with a `Run` that is still empty, ``more`` lanes, events and lines of source as they come, ``end`` with the whole
    `Run`, ``failed``.
    A lab starts processes: only the page that this server gave out may ask for one. POST makes a browser say its
    Origin, which must be the Host, which must be a name of this machine: a site that has its own name point at
    127.0.0.1 (DNS rebinding) has another Host, and any other site another Origin.
Price
    What is shown live stands in the order in which it was read, and from the time of the first event; both are put
    right when the run ends.
"""

from __future__ import annotations

import json
import math
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, TypeAlias
from urllib.parse import parse_qs

from aiolsp.lab.actors import Failed
from aiolsp.lab.model import Assembly, Record, Role, Run, Shell
from aiolsp.lab.page import Sources, add_sources
from aiolsp.lab.runner import SHELLS, perform
from aiolsp.lab.scenario import Lab, Scenario
from aiolsp.lab.scenarios import LABS

LOOPBACK = ("127.0.0.1", "localhost")
"""Names under which a browser on this machine reaches the page."""

MAX_ASKED = 200
"""Bytes of a request's body: the name of a lab needs a tenth."""

LONGEST = 60
"""Seconds after which the kernel ends a lab that does not end; each takes less than 15."""

Send: TypeAlias = Callable[[Mapping[str, Any]], object]


class Refused(Exception):
    """The request is not answered by a lab; the message is for a person."""

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(reason)
        self.status = status


def asked(environ: Mapping[str, str], body: bytes) -> tuple[Lab, bool]:
    """The lab that a request means, and whether it is to be broken. Raises Refused."""
    host = environ.get("HTTP_HOST", "")
    port = environ.get("SERVER_PORT", "")
    if host not in (f"{name}:{port}" for name in LOOPBACK):
        raise Refused("403 Forbidden", "a lab is run for this machine only")
    if environ.get("REQUEST_METHOD") != "POST":
        raise Refused("405 Method Not Allowed", "a lab is asked for by POST")
    if environ.get("HTTP_ORIGIN") != f"http://{host}":
        raise Refused("403 Forbidden", "a lab is run for its own page only")
    fields = parse_qs(body.decode("latin-1"), keep_blank_values=True)
    lab = LABS.get(fields.get("lab", [""])[0])
    broken = "broken" in fields
    if lab is None or (broken and not lab.broken):
        raise Refused("404 Not Found", "there is no such lab")
    return lab, broken


class Broadcast:
    """Sends one run as it happens; `take` is for any thread."""

    def __init__(self, send: Send, sources: Sources) -> None:
        self._send = send
        self._sources = sources
        self._assembly = Assembly()
        self._zero = math.nan
        self._lanes = 0
        self._lock = threading.Lock()

    def begin(self, lab: Lab, scenario: Scenario, shell: Shell) -> None:
        """Say what is going to run."""
        self._send({"type": "begin", "run": asdict(lab.begun(scenario, shell))})

    def take(self, role: Role, record: Record) -> None:
        """Send what *record* adds to the run."""
        with self._lock:
            if "ts" in record:
                self._zero = record["ts"] if math.isnan(self._zero) else self._zero
                record = {**record, "ts": record["ts"] - self._zero}
            event = self._assembly.record(record, role)
            if event is None:
                return
            lanes, self._lanes = self._assembly.lanes[self._lanes :], len(self._assembly.lanes)
            more = {"lanes": [asdict(lane) for lane in lanes], "events": [asdict(event)]}
            self._send({"type": "more", **more, "sources": add_sources(self._sources, [event])})

    def end(self, run: Run) -> None:
        """Send the whole of it."""
        self._send({"type": "end", "run": asdict(run), "sources": add_sources(self._sources, run.events)})


def play(lab: Lab, send: Send, *, broken: bool) -> None:
    """Run every scenario of *lab* in both shells, and send what happens."""
    sources: Sources = {}
    try:
        for scenario in lab.broken if broken else lab.shown:
            for shell in SHELLS:
                broadcast = Broadcast(send, sources)
                broadcast.begin(lab, scenario, shell)
                broadcast.end(perform(lab, scenario, shell, broadcast.take))
    except Failed as failure:
        send({"type": "failed", "why": str(failure)})


def _write(message: Mapping[str, Any]) -> None:
    sys.stdout.buffer.write(b"data: %b\n\n" % json.dumps(message).encode())
    sys.stdout.buffer.flush()


def main() -> int:
    """Answer the request that the environment and stdin hold; the exit status."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.alarm(LONGEST)
    length = int(os.environ.get("CONTENT_LENGTH", "0"))
    try:
        if length > MAX_ASKED:
            raise Refused("413 Content Too Large", "this is more than the name of a lab")
        lab, broken = asked(os.environ, sys.stdin.buffer.read(length))
    except Refused as refusal:
        sys.stdout.write(f"Status: {refusal.status}\nContent-Type: text/plain\n\n{refusal}\n")
        return 0
    sys.stdout.buffer.write(b"Content-Type: text/event-stream\nCache-Control: no-store\n\n")
    play(lab, _write, broken=broken)
    return 0


if __name__ == "__main__":
    sys.exit(main())
