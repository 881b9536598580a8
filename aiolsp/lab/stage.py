"""Where a scenario plays: one server in a process, clients that act by a script, and the records of all they do.

Decision
    The server is a child process with a `Tape` for its trace. Scripted clients are blocking sockets of this process,
    each call with a deadline, so that the same script plays before both shells. A script waits for what the server's
    trace says (`Stage.wait_for`), not for a time to pass. Whatever ends the script, `close` ends the server.
    The kernel kills the server when this process dies: of a lab that is killed only its directory is left.
"""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TypeAlias

from aiolsp.lab import kernel
from aiolsp.lab.actors import PATIENCE, Actor, Failed
from aiolsp.lab.model import Record, Role, Usage
from aiolsp.lab.tape import Collector, Tape
from aiolsp.linux.process_control import die_with_parent
from aiolsp.linux.signals import uninterrupted

START = 20.0
"""Seconds that a server has to come up: it imports, which takes a tenth of one unless others want the machine too."""

GRACE = 3.0
"""Seconds that a server has to stop before it is killed."""

READY = re.compile(r"listening on (?:http://)?(?P<host>[^:\s,]+):(?P<port>\d+)")

Address: TypeAlias = tuple[str, int]

Take: TypeAlias = Callable[[Role, Record], object]
"""Told of each record as it comes, from any thread."""


class Stage:
    """A running server and its records: ``with Stage(command, home) as stage: script(stage)``.

    *command* lacks ``--port`` and ``--trace``; *home* is an empty directory, for pipes and for what a script needs.
    *take* is told of each record as it comes; without *traced* there are none. Raises Failed if the server does not
    come up.
    """

    def __init__(self, command: Sequence[str], home: Path, take: Take | None = None, *, traced: bool = True) -> None:
        self.records: list[tuple[Role, Record]] = []
        self.usage = Usage()
        self.zero_us = 0.0
        self.home = home
        self.address: Address = ("127.0.0.1", 0)
        self._command = command
        self._take = take
        self._traced = traced
        self._changed = threading.Condition()
        self._printed = ""
        self._silent = False
        self._server: subprocess.Popen[bytes] | None = None
        self._ready: Usage | None = None
        self._actors: list[Actor] = []
        self._players: list[subprocess.Popen[bytes]] = []
        self._tapes: list[Tape] = []
        self._outputs: list[Collector] = []

    def __enter__(self) -> Stage:
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    @property
    def command(self) -> str:
        """The server's command line."""
        return " ".join(self._command)

    @property
    def pid(self) -> int:
        """The server's process id."""
        assert self._server is not None
        return self._server.pid

    def note(self, record: Record, role: Role = "client") -> None:
        """Something has happened."""
        with self._changed:
            self.records.append((role, record))
            self._changed.notify_all()
        if self._take is not None:
            self._take(role, record)

    def client(self, name: str, *, udp: bool = False, receive_buffer: int = 0) -> Actor:
        """A scripted client *name*, connected; closed at the end of the stage."""
        actor = Actor(name, self.address, self.note, udp=udp, receive_buffer=receive_buffer)
        self._actors.append(actor)
        return actor

    def play(self, program: str, *options: str, said: bytes = b"") -> str:
        """Run the client of *program*, in the server's shell, to its end with *said* as its input; what it printed."""
        module = f"{'aiolsp.blocking' if 'aiolsp.blocking' in self.command else 'aiolsp'}.{program}"
        tape = self._tape("client")
        host, port = self.address
        command = [sys.executable, "-m", module, "client", "--host", host, "--port", str(port), "--trace", tape.path]
        player = subprocess.Popen([*command, *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._players.append(player)
        try:
            return player.communicate(said, PATIENCE)[0].decode("utf-8", "backslashreplace")
        except subprocess.TimeoutExpired:
            raise Failed(f"{module} client does not end") from None

    def signal(self, number: signal.Signals, *, why: str = "") -> None:
        """Send a signal to the server."""
        self.remark(f"> kill {number.name}", why)
        os.kill(self.pid, number)

    def remark(self, what: str, why: str) -> None:
        """Put on the timeline what the lab itself did or found: a sign and a word, and the reason."""
        args = {"why": why} if why else {}
        record = {"name": what, "ph": "i", "ts": time.monotonic_ns() / 1000, "args": args}
        self.note({**record, "pid": 0, "tid": 0, "client": "the lab"})

    def wait_for(self, call: str | tuple[str, ...], *, count: int = 1, why: str = "", size: int | None = None) -> None:
        """Wait until the server has written *count* events of *call*, or one of several, with *why* in their reason.

        Raises Failed after PATIENCE.
        """
        calls = (call,) if isinstance(call, str) else call

        def matches(record: Record) -> bool:
            args = record["args"]
            fits = why in args.get("why", "") and size in (None, args.get("bytes"))
            return record["ph"] == "i" and record["name"][2:] in calls and fits

        def found() -> int:
            return sum(role == "server" and matches(record) for role, record in self.records)

        with self._changed:
            if not self._changed.wait_for(lambda: found() >= count, PATIENCE):
                raise Failed(f"the server's trace has {' or '.join(calls)} {found()} times, not {count}")

    def unreaped(self) -> int:
        """Wait until the children that the server has started have ended; how many of them it has not reaped."""
        pids = [record["args"]["pid"] for _, record in self.records if record["name"] == "= started"]
        for pid in pids:
            with suppress(ProcessLookupError):  # reaped already
                _wait_for_end(pid)
        return sum(kernel.state(pid) == "Z" for pid in pids)

    def pause(self, seconds: float) -> None:
        """Let time pass, as the script has it."""
        time.sleep(seconds)

    def close(self) -> None:
        """End the server and the clients; after that, all they have written is in `records`."""
        if self._server is not None and self._ready is not None:
            self.usage = kernel.since(self._ready, kernel.read(self._server.pid))
        for actor in self._actors:
            actor.close()
        for player in self._players:
            player.kill()
            player.wait()
        if self._server is not None:
            _stop(self._server)
        for tape in self._tapes:
            tape.close()
        for output in self._outputs:
            output.close()

    def _start(self) -> None:
        traced = ["--trace", self._tape("server").path] if self._traced else []
        out_read, out_write = os.pipe()
        self._outputs.append(Collector(out_read, self._hear, "stdout"))
        try:
            with open(self.home / "stderr", "wb") as complaints, uninterrupted():
                self._server = subprocess.Popen(
                    [*self._command, "--port", "0", *traced],
                    stdin=subprocess.DEVNULL,
                    stdout=out_write,
                    stderr=complaints,
                    preexec_fn=partial(die_with_parent, os.getpid()),
                )
        finally:
            os.close(out_write)
        with self._changed:
            self._changed.wait_for(lambda: READY.search(self._printed) or self._silent, START)
            found = READY.search(self._printed)
        if found is None:
            complaint = (self.home / "stderr").read_text(errors="replace").strip().rpartition("\n")[2]
            raise Failed(complaint or f"{self.command} is not ready after {START:g} s")
        self.address = found["host"], int(found["port"])
        self.zero_us = time.monotonic_ns() / 1000
        self._ready = kernel.read(self._server.pid)

    def _tape(self, role: Role) -> Tape:
        tape = Tape(str(self.home / f"{role}-{len(self._tapes)}"), lambda record: self.note(record, role))
        self._tapes.append(tape)
        return tape

    def _hear(self, data: bytes) -> None:
        with self._changed:
            self._printed += data.decode("utf-8", "backslashreplace")
            self._silent = not data
            self._changed.notify_all()


def _wait_for_end(pid: int) -> None:
    with open(os.pidfd_open(pid), "rb", buffering=0) as process:
        poller = select.poll()
        poller.register(process, select.POLLIN)
        if not poller.poll(PATIENCE * 1000):
            raise Failed(f"process {pid} does not end")


def _stop(server: subprocess.Popen[bytes]) -> None:
    server.terminate()
    try:
        server.wait(GRACE)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()
