"""A CGI server on a process pool: the name of a program in, its output out. The blocking twin of aiolsp/cgisrv.py.

Book p. 289, listing 15-1 (processpool.h) and p. 298, listing 15-2 (cgi_conn).

Facts (epoll(7), pipe(7), tried on this kernel)
    - EPOLLHUP and EPOLLERR are reported unasked: a reset is seen at once, a half-close is EPOLLIN and an empty read.
    - Whoever writes to a full pipe waits. A pidfd is readable when its process has ended; the pipe may be held longer.
Consequence
    Client, pipe and pidfd are three descriptors of one connection; the pipe is read only while nothing is unsent.
Decision
    One `EpollWatcher` for all in each child of the pool, and the timer list for time-outs.
Price
    fork and exec are called right here, for 1 to 3 ms. What a transport does (queue, interest mask) is written out.
The C++ original runs whatever path it is sent, /bin/sh too, with the socket as its stdout and without a bound.
"""

from __future__ import annotations

import argparse
import fcntl
import logging
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Sequence

from aiolsp.blocking.mechanisms.epoll import EpollWatcher
from aiolsp.blocking.mechanisms.intake import Intake
from aiolsp.blocking.mechanisms.processes import ProcessPool
from aiolsp.blocking.mechanisms.signals import SelfPipe
from aiolsp.blocking.mechanisms.timers import seconds_until
from aiolsp.cli import UsageError, execute, program_parser, ready
from aiolsp.linux.epoll_flags import flag_names
from aiolsp.linux.listener import Address, format_address, listen
from aiolsp.linux.places import Places
from aiolsp.linux.programs import ProgramDirectory, RunningProgram
from aiolsp.sansio.programs import (
    FRESH,
    NO_PROGRAM,
    NOT_EXECUTABLE,
    NOT_STARTED,
    TOO_MANY,
    ProgramRequest,
    Refuse,
    Run,
    clean_environment,
    ended,
    timed_out,
)
from aiolsp.sansio.timers import MOST, SortedTimerList, Timer
from aiolsp.tracing import trace

log = logging.getLogger("aiolsp.cgisrv")

READ_SIZE = 64 * 1024


class CgiServer:
    """Runs the programs of *directory*: ``with CgiServer(directory, places) as server: server.run(intake)``.

    At most as many at once as there are *places*, each for *timeout* seconds.
    """

    def __init__(self, directory: ProgramDirectory, places: Places, *, timeout: float = 10.0) -> None:
        self.places = places
        self.timeout = timeout
        self.connections: set[CgiConnection] = set()
        self.running: set[CgiConnection] = set()
        self._directory = directory

    def __enter__(self) -> CgiServer:
        self.timers = SortedTimerList()
        self.watcher = EpollWatcher()
        return self

    def __exit__(self, *exc_info: object) -> None:
        for connection in list(self.connections):
            connection.abort()
        for connection in list(self.running):
            connection.program_ended()
        self.watcher.close()

    def run(self, intake: Intake) -> None:
        """Serve until the intake drains and what runs has ended; those go soon that have not asked by then."""
        intake.start(self.watcher.poller, self.add)
        fresh = Timer(0.0, self._leave_all)
        while not intake.draining or self.connections or self.running:
            self.watcher.turn(seconds_until(self.timers.next_deadline(), intake.next_deadline()), intake)
            if intake.draining and not fresh.deadline:
                fresh.deadline = time.monotonic() + FRESH
                self.timers.add(fresh)
            self._tick(intake)

    def add(self, peer: socket.socket, address: Address) -> None:
        """A client has connected."""
        self.connections.add(CgiConnection(self, peer, address))

    def start(self, name: bytes, peer: str) -> tuple[RunningProgram, int] | Refuse:
        """Start the program *name*, or say why not."""
        try:
            program = self._directory.find(name)
        except PermissionError:
            return NOT_EXECUTABLE
        except OSError:
            return NO_PROGRAM
        try:
            return self._directory.start_piped(program, clean_environment(peer), bound=True)
        except OSError as error:
            log.warning("%s does not start: %s", name.decode(errors="backslashreplace"), error.strerror)
            return NOT_STARTED

    def _leave_all(self) -> None:
        for connection in self.connections - self.running:
            connection.leave()

    def _tick(self, intake: Intake) -> None:
        now = time.monotonic()
        intake.tick(now)
        for timer in self.timers.tick(now, MOST):
            timer.callback()


class CgiConnection:
    """One client, its request and its program."""

    def __init__(self, server: CgiServer, peer: socket.socket, address: Address) -> None:
        self._server = server
        self._socket = peer
        self.fd = peer.fileno()
        self.peer = address
        self._request = ProgramRequest()
        self._name = b""
        self._place = -1
        self._program: RunningProgram | None = None
        self._pipe = -1
        self._unsent = b""
        self._half_closed = self._lost = self._late = self._closing = False
        self._timer = Timer(time.monotonic() + server.timeout, self.timed_out)
        server.timers.add(self._timer)
        self._watch()

    def ready(self, events: int) -> None:
        """What epoll reported of the client."""
        if events & (select.EPOLLERR | select.EPOLLHUP):
            if trace.on:
                trace.event("x", "left", fd=self.fd, flags=flag_names(events), why="nobody reads any more")
            self.abort()
            return
        if events & select.EPOLLOUT:
            self._flush()
        if events & select.EPOLLIN and not self._lost:
            self._receive(events)

    def data_received(self, data: bytes) -> None:
        """It may be the request; what follows that is read and forgotten."""
        match self._request.feed(data):
            case Run(name):
                self._run(name)
            case Refuse() as refusal:
                self.refuse(refusal)

    def eof_received(self) -> None:
        """It says no more; the output is still owed to it (half-close), if there is a request."""
        self._half_closed = True
        if self._request.complete:
            self._watch()
        else:
            self.leave()

    def connection_lost(self, error: OSError | None) -> None:
        """The client has left, or we have: what runs for it is killed; the end of it is still waited for."""
        if self._lost:
            return
        if trace.on:
            trace.event("x", "close", fd=self.fd, why=(error and error.strerror) or "closed")
        self._lost = True
        self._server.timers.cancel(self._timer)
        self._server.watcher.unwatch(self.fd)
        self._socket.close()
        self._server.connections.discard(self)
        if self._program is not None:
            self._program.kill()

    def refuse(self, refusal: Refuse) -> None:
        """Say why and close."""
        if not self._lost:
            log.info("refused %s: %s", format_address(self.peer), refusal.text.decode().strip())
            self._send(refusal.text)
        self.leave()

    def timed_out(self) -> None:
        """It had its time: kill the program, if there is one; `program_ended` follows."""
        self._late = True
        if trace.on:
            trace.event("-", "timed out", fd=self.fd, why="kill the process group" if self._program else "no request")
        if self._program is not None:
            self._program.kill()
        else:
            self.abort() if self._closing else self.refuse(timed_out(self._server.timeout))

    def leave(self) -> None:
        """Close when all is written, and soon: who does not read is cut off after the same time."""
        if self._lost or self._closing:
            return
        self._closing = True
        if not self._unsent:
            self.abort()
            return
        self._server.timers.cancel(self._timer)
        self._timer = Timer(time.monotonic() + self._server.timeout, self.timed_out)
        self._server.timers.add(self._timer)

    def abort(self) -> None:
        """Close now."""
        self.connection_lost(None)

    def output_ready(self, events: int) -> None:
        """The program says something, or nothing any more."""
        data = os.read(self._pipe, READ_SIZE)
        if trace.on:
            trace.event("<", "read", fd=self._pipe, flags=flag_names(events), size=len(data), why="relay it")
        self._send(data) if data else self._server.watcher.unwatch(self._pipe)

    def program_ended(self, events: int = 0) -> None:
        """Its leader has ended, or must now: the rest of the group is killed, what is in the pipe is the rest."""
        assert self._program is not None
        self._server.watcher.unwatch(self._program.fileno())
        self._server.watcher.unwatch(self._pipe)
        self._program.kill()  # when the server ends it may run still
        status = self._program.finish()
        self._program = None
        self._send(self._rest())
        self._server.running.discard(self)
        self._server.places.give(self._place)
        log.info("%s for %s", ended(self._name, status), format_address(self.peer))
        if trace.on:
            trace.event("<", "waitid", status=status, why="close when all is written")
        self.refuse(timed_out(self._server.timeout)) if self._late else self.leave()

    def _run(self, name: bytes) -> None:
        self._name = name
        place = self._server.places.take()
        if place is None:
            self.refuse(TOO_MANY)
            return
        result = self._server.start(name, str(self.peer[0]))
        if isinstance(result, Refuse):
            self._server.places.give(place)
            self.refuse(result)
            return
        self._place = place
        self._program, self._pipe = result
        os.set_blocking(self._pipe, False)
        self._server.running.add(self)
        self._server.watcher.watch(self._program.fileno(), select.EPOLLIN, self.program_ended)
        self._server.watcher.watch(self._pipe, select.EPOLLIN, self.output_ready)
        if trace.on:
            trace.event("=", "started", pid=self._program.pid, why=f"its output comes by the pipe fd {self._pipe}")

    def _rest(self) -> bytes:
        """What is in the pipe, which is closed with that."""
        with open(self._pipe, "rb", buffering=0) as pipe:
            self._pipe = -1  # the number is soon another's
            return pipe.read(fcntl.fcntl(pipe, fcntl.F_GETPIPE_SZ)) or b""

    def _receive(self, events: int) -> None:
        try:
            data = self._socket.recv(READ_SIZE)
        except BlockingIOError:
            return
        except OSError as error:
            self.connection_lost(error)
            return
        if trace.on:
            trace.event("<", "recv", fd=self.fd, flags=flag_names(events), size=len(data))
        self.data_received(data) if data else self.eof_received()

    def _send(self, data: bytes) -> None:
        self._unsent += data
        self._flush()

    def _flush(self) -> None:
        if self._lost:
            return
        try:
            self._unsent = self._unsent[self._socket.send(self._unsent) :]
        except BlockingIOError:
            pass
        except OSError as error:
            self.connection_lost(error)
            return
        if self._closing and not self._unsent:
            self.abort()
        else:
            self._watch()

    def _watch(self) -> None:
        """Ask for what is wanted now: with something to send, room for it, and no more output."""
        wanted = 0 if self._half_closed else select.EPOLLIN
        self._server.watcher.watch(self.fd, wanted | (select.EPOLLOUT if self._unsent else 0), self.ready)
        if self._unsent:
            self._server.watcher.unwatch(self._pipe)
        elif self._program is not None:
            self._server.watcher.watch(self._pipe, select.EPOLLIN, self.output_ready)


class CgiClient:
    """Asks for a program and prints what it says."""

    def __init__(self, host: str, port: int) -> None:
        self._where = host, port

    def run(self, name: str) -> None:
        """Until the server closes. Raises OSError."""
        with socket.create_connection(self._where) as connection:
            connection.sendall(f"{name}\r\n".encode("utf-8", "surrogateescape"))
            while data := connection.recv(READ_SIZE):
                sys.stdout.buffer.write(data)
                sys.stdout.flush()


def serve(options: argparse.Namespace) -> None:
    """The server and its processes, until SIGINT or SIGTERM; SIGHUP replaces them."""
    listeners = listen(options.host, options.port, reuse_port=options.accept == "reuseport")
    try:
        directory = ProgramDirectory(options.cgi_dir)
    except OSError as error:
        for listener in listeners:
            listener.close()
        raise UsageError(f"cannot run programs of {options.cgi_dir}: {(error.strerror or '').lower()}") from None
    places = Places(options.max_children)

    def work(intake: Intake) -> None:
        with CgiServer(directory, places, timeout=options.cgi_timeout) as server:
            server.run(intake)

    pool = ProcessPool(
        listeners,
        work,
        processes=options.processes,
        max_processes=2 * options.processes,
        accept=options.accept,
        grace=options.cgi_timeout + 1,
        shared=(directory.fileno(), places.fileno()),
        adopt=True,
    )
    with directory, places, SelfPipe(signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD) as signals, pool:
        ready(pool.addresses)
        pool.run(signals)


def talk(options: argparse.Namespace) -> None:
    """The client, until the server closes."""
    CgiClient(options.host, options.port).run(options.name)


ROLES = {"server": serve, "client": talk}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the role that the command line names; the exit status."""
    return execute(program_parser("cgisrv", blocking=True), argv, lambda options: ROLES[options.role](options))


if __name__ == "__main__":
    sys.exit(main())
