"""A CGI server on a process pool: the name of a program in, its output out.

Book p. 289, listing 15-1 (processpool.h) and p. 298, listing 15-2 (cgi_conn).

Facts
    - Starting a program takes milliseconds: fork, exec, an interpreter.
    - Its output comes when it comes, at any rate, and ends when the last of its group has closed the pipe; or never.
    - A client that half-closes (``printf 'name\\r\\n' | nc``) looks, until we write, like one that has left. Only the
      reset of a connection is unmistakable: EPOLLHUP and EPOLLERR, which no transport reports while it does not read.
Consequence
    fork and exec belong in a thread; output is relayed piece by piece and not read while the client does not read; time
    and number of programs are bounded; what ends early, by the clock or by its client, is killed with all its group.
Decision
    Output comes by a pipe (`PipeReader`), the end by a pidfd, and then what is in the pipe is the rest: a grandchild
    that holds it is not waited for. Each connection is also in a private epoll that asks for nothing but HUP and ERR.
    Places for programs are record locks that all processes of the pool share (linux/places.py).
Price
    A client that has closed its end before its program writes is found out at the first write only; the time-out bounds
    that. A copy of the output goes through this process: with the socket as its stdout, as in the book, a program could
    not be bounded, and its O_NONBLOCK would be the transport's: of 3,000,036 bytes, head(1) wrote 124,964.
The C++ original runs whatever path it is sent, /bin/sh too, without a bound in time or number, and reaps by
waitpid(-1) in a signal handler's wake.

Connection: connection_made -> data_received* -> started -> output* -> program_ended -> connection_lost; or refused.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import select
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import cast

from aiolsp.cli import UsageError, execute, program_parser, ready
from aiolsp.linux.epoll_flags import flag_names
from aiolsp.linux.listener import format_address, listen
from aiolsp.linux.places import Places
from aiolsp.linux.programs import ProgramDirectory, RunningProgram
from aiolsp.mechanisms.epoll import EpollWatcher
from aiolsp.mechanisms.intake import Intake
from aiolsp.mechanisms.loop import run
from aiolsp.mechanisms.pipes import PipeReader
from aiolsp.mechanisms.processes import ProcessPool
from aiolsp.mechanisms.server import StreamServer
from aiolsp.mechanisms.signals import SignalReceiver
from aiolsp.mechanisms.threads import HalfSyncPool
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
from aiolsp.tracing import trace

log = logging.getLogger("aiolsp.cgisrv")

READ_SIZE = 64 * 1024
"""Bytes of one read of the client."""

STARTERS = 2
"""Threads that fork and exec: the system does it one by one anyway."""

Started = tuple[RunningProgram, int] | Refuse


class CgiServer(StreamServer["CgiConnection"]):
    """Runs the programs of *directory*: ``async with CgiServer(directory, places) as server: server.open(listeners)``.

    At most as many at once as there are *places*, each for *timeout* seconds.
    """

    def __init__(self, directory: ProgramDirectory, places: Places, *, timeout: float = 10.0) -> None:
        super().__init__(lambda: CgiConnection(self))
        self.places = places
        self.timeout = timeout
        self.running: set[CgiConnection] = set()
        self._directory = directory

    async def __aenter__(self) -> CgiServer:
        self.watcher = EpollWatcher()
        self.pool = HalfSyncPool(STARTERS, self.places.limit, name="aiolsp-start")
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()
        await self.pool.close()
        for connection in list(self.running):
            connection.program_ended()
        self.watcher.close()

    async def finish(self) -> None:
        """Let the programs that run end, and those go soon that have not asked for one."""
        with suppress(TimeoutError):
            async with asyncio.timeout(FRESH):
                await self.empty()
        for connection in self.connections - self.running:
            connection.leave()
        await self.empty()

    def start(self, name: bytes, peer: str) -> Started:
        """In a thread: start the program *name*, or say why not."""
        try:
            program = self._directory.find(name)
        except PermissionError:
            return NOT_EXECUTABLE
        except OSError:
            return NO_PROGRAM
        try:
            return self._directory.start_piped(program, clean_environment(peer))
        except OSError as error:
            log.warning("%s does not start: %s", name.decode(errors="backslashreplace"), error.strerror)
            return NOT_STARTED


class CgiConnection(asyncio.Protocol):
    """One client, its request and its program."""

    def __init__(self, server: CgiServer) -> None:
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._request = ProgramRequest()
        self._name = b""
        self._place: int | None = None
        self._program: RunningProgram | None = None
        self._output: PipeReader | None = None
        self._lost = self._late = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the request; see from now on whether the client has left."""
        self._transport = cast(asyncio.Transport, transport)
        self.fd = transport.get_extra_info("socket").fileno()
        self.peer = transport.get_extra_info("peername")
        self._server.add(self)
        self._server.watcher.add(self.fd, select.EPOLLET, self._left)
        self._timer = self._loop.call_later(self._server.timeout, self.timed_out)

    def data_received(self, data: bytes) -> None:
        """It may be the request; what follows that is read and forgotten."""
        decision = self._request.feed(data)
        if trace.on:
            trace.event("<", "data_received", fd=self.fd, size=len(data), why=str(decision or "nothing to do"))
        match decision:
            case Run(name):
                self._run(name)
            case Refuse():
                self.refuse(decision)

    def eof_received(self) -> bool:
        """It says no more; the output is still owed to it (half-close), if there is a request."""
        if trace.on:
            trace.event("<", "eof_received", fd=self.fd, why="owe it the output" if self._request.complete else "close")
        return self._request.complete

    def pause_writing(self) -> None:
        """The client does not read: leave the output in the pipe, where its writer waits."""
        if self._output is not None:
            self._output.pause()

    def resume_writing(self) -> None:
        """The client reads again."""
        if self._output is not None:
            self._output.resume()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has left: what runs for it is killed; the end of it is still waited for."""
        if trace.on:
            trace.event("x", "connection_lost", fd=self.fd, why=str(exc or "closed"))
        self._lost = True
        self._timer.cancel()
        self._server.watcher.remove(self.fd)
        if self._program is not None:
            self._program.kill()
        self._server.discard(self)

    def refuse(self, refusal: Refuse) -> None:
        """Say why and close."""
        if not self._lost:
            log.info("refused %s: %s", format_address(self.peer), refusal.text.decode().strip())
            self._transport.write(refusal.text)
        self._end()

    def timed_out(self) -> None:
        """It had its time: kill the program, if there is one; `program_ended` follows."""
        self._late = True
        if trace.on:
            trace.event("-", "timed out", fd=self.fd, why="kill the process group" if self._program else "no request")
        if self._program is not None:
            self._program.kill()
        elif self._place is None:
            self.refuse(timed_out(self._server.timeout))

    def leave(self) -> None:
        """The server ends: close when all is written."""
        self._transport.close()

    def abort(self) -> None:
        """Close now."""
        self._transport.abort()

    def started(self, job: asyncio.Future[Started]) -> None:
        """A thread has started the program, or could not."""
        result = NOT_STARTED if job.cancelled() else job.result()
        if isinstance(result, Refuse):
            self._give_back()
            self.refuse(result)
            return
        self._program, pipe = result
        self._output = PipeReader(pipe, self.output_received)
        self._loop.add_reader(self._program.fileno(), self.program_ended)
        if trace.on:
            trace.event("=", "started", pid=self._program.pid, why=f"its output comes by the pipe fd {pipe}")
        if self._lost or self._late:
            self._program.kill()

    def output_received(self, data: bytes) -> None:
        """The program says something."""
        if trace.on:
            trace.event("<", "read", fd=self.fd, size=len(data), why="relay it")
        if not self._lost and not self._transport.is_closing():
            self._transport.write(data)

    def program_ended(self) -> None:
        """Its leader has ended, or must now: the rest of the group is killed, what is in the pipe is the rest."""
        assert self._program is not None and self._output is not None
        self._loop.remove_reader(self._program.fileno())
        self._program.kill()  # when the server ends it may run still
        status = self._program.finish()
        self._output.finish()
        self._program = None
        self._give_back()
        log.info("%s for %s", ended(self._name, status), format_address(self.peer))
        if trace.on:
            trace.event("<", "waitid", status=status, why="close when all is written")
        if self._late:
            self.refuse(timed_out(self._server.timeout))
        else:
            self._end()

    def _end(self) -> None:
        """Close when all is written, and soon: who does not read is cut off after the same time."""
        self._timer.cancel()
        if not self._lost:
            self._timer = self._loop.call_later(self._server.timeout, self.abort)
            self._transport.close()

    def _run(self, name: bytes) -> None:
        self._name = name
        self._place = self._server.places.take()
        if self._place is None:
            self.refuse(TOO_MANY)
            return
        self._server.running.add(self)
        job = self._server.pool.resume(self._server.start, name, self.peer[0])
        job.add_done_callback(self.started)

    def _give_back(self) -> None:
        assert self._place is not None
        self._server.running.discard(self)
        self._server.places.give(self._place)
        self._place = None

    def _left(self, fd: int, events: int) -> None:
        if self._transport.is_closing() or self._lost:
            return
        if trace.on:
            trace.event("x", "left", fd=fd, flags=flag_names(events), why="nobody reads any more: kill the program")
        self.abort()


class CgiClient:
    """Asks for a program and prints what it says."""

    def __init__(self, host: str, port: int) -> None:
        self._where = host, port

    async def run(self, name: str) -> None:
        """Until the server closes. Raises OSError."""
        reader, writer = await asyncio.open_connection(*self._where)
        try:
            writer.write(f"{name}\r\n".encode("utf-8", "surrogateescape"))
            while data := await reader.read(READ_SIZE):
                sys.stdout.buffer.write(data)
                sys.stdout.flush()
        finally:
            writer.close()


def serve(options: argparse.Namespace) -> None:
    """The server and its processes, until SIGINT or SIGTERM; SIGHUP replaces the processes."""
    listeners = listen(options.host, options.port, reuse_port=options.accept == "reuseport")
    try:
        directory = ProgramDirectory(options.cgi_dir)
    except OSError as error:
        for listener in listeners:
            listener.close()
        raise UsageError(f"cannot run programs of {options.cgi_dir}: {(error.strerror or '').lower()}") from None
    places = Places(options.max_children)

    async def work(intake: Intake) -> None:
        async with CgiServer(directory, places, timeout=options.cgi_timeout) as server:
            await intake.run(lambda *_: CgiConnection(server))
            await server.finish()

    async def supervise(pool: ProcessPool) -> None:
        async with SignalReceiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals, pool:
            ready(pool.addresses)
            await pool.run(signals)

    with directory, places:
        pool = ProcessPool(
            listeners,
            work,
            processes=options.processes,
            max_processes=2 * options.processes,
            accept=options.accept,
            grace=options.cgi_timeout + 1,
            loop=options.loop,
        )
        run(supervise(pool), loop=options.loop)


def talk(options: argparse.Namespace) -> None:
    """The client, until the server closes."""
    run(CgiClient(options.host, options.port).run(options.name), loop=options.loop)


ROLES = {"server": serve, "client": talk}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the role that the command line names; the exit status."""
    return execute(program_parser("cgisrv"), argv, lambda options: ROLES[options.role](options))


if __name__ == "__main__":
    sys.exit(main())
