"""Programs that answer: CGI/1.1, a thread for each that runs (RFC 3875); the twin of websrv/cgi.py.

Book p. 289 and 298: a child for each request; there its output is the socket itself, here it is read and framed.

Facts as there: a program may do anything, so each thing that it may fail to do has a time.
Consequence
    A program takes as long as it takes, and so would keep a thread of the pool from the disk.
Decision
    Threads of their own, as many as programs may run: ``max_children``; those of all workers share that many places
    (linux/places.py). Such a thread holds the connection from the request's head to the end of the answer, and waits in
    one poll(2) for all there is: the client's socket, the program's three pipes and its pidfd, with the first of all
    deadlines as the time-out. So input goes on while the program reads, output while the client does, and it reads like
    the sequence that it is. The times are those of the other shell. Then the pool has the connection back.
Price
    A stack for each program; where the loop of the other shell has callbacks, the state of an exchange is its thread's.
"""

from __future__ import annotations

import logging
import math
import select
import sys
import threading
import time
from typing import TYPE_CHECKING

from aiolsp.blocking.mechanisms.threads import HalfSyncPool
from aiolsp.blocking.websrv.program import PIPE_SIZE, ProgramRun
from aiolsp.http1.cgi import (
    ENDLESS,
    MAX_LOCAL_REDIRECTS,
    CgiHead,
    Ends,
    OutputHead,
    ResponseBody,
    ScriptPath,
    body_length,
    end_of_program,
    redirected,
)
from aiolsp.http1.messages import Data, EndOfMessage, ProtocolError, Request
from aiolsp.http1.response import CONTINUE
from aiolsp.linux.places import Places
from aiolsp.static.access_log import AccessLog, Remark
from aiolsp.static.phases import Phase
from aiolsp.static.scripts import ANSWERED, DYING, TOO_MANY, Scripts
from aiolsp.tracing import trace

if TYPE_CHECKING:
    from aiolsp.blocking.websrv.connection import HttpConnection
    from aiolsp.blocking.websrv.service import Service

log = logging.getLogger("aiolsp.websrv")


class ProgramFault(Exception):
    """The program failed; its one argument is what to answer, if nothing was answered yet."""


class ClientFault(Exception):
    """The client sent what cannot be read, or not in time; its one argument is what to answer before closing."""


class Gateway:
    """The programs of one server: at most ``settings.max_children`` at once, those of other workers included.

    What they complain of goes to the access log, or to stderr if there is none.
    """

    def __init__(self, service: Service, scripts: Scripts) -> None:
        self.service = service
        self.scripts = scripts
        self.timeout = service.settings.cgi_timeout
        # The places are the bound: who has one may have to wait for a thread that is about to end, but is not refused.
        most = service.settings.max_children
        self.threads = HalfSyncPool(most, most, name="aiolsp-cgi")
        self._log = service.log or AccessLog(sys.stderr.fileno(), "common")
        self._places = service.shared.programs or Places(most)
        self._running: dict[ProgramExchange, int] = {}
        self._lock = threading.Lock()

    @property
    def running(self) -> int:
        """Programs that run."""
        return len(self._running)

    def exchange(self, connection: HttpConnection, request: Request) -> ProgramExchange | None:
        """What answers *request* by a program; None if none is meant, or can be had now (see `refusal`)."""
        path = self.scripts.route(request.target)
        if not isinstance(path, ScriptPath):
            return None
        exchange = ProgramExchange(self, connection, request, path)
        return exchange if self.enter(exchange) else None

    def refusal(self, request: Request) -> ProtocolError | None:
        """Why no program answers *request*, for which there is no exchange; None if it means a file."""
        path = self.scripts.route(request.target)
        if isinstance(path, ScriptPath):
            return TOO_MANY
        return path

    def enter(self, exchange: ProgramExchange) -> bool:
        """Whether *exchange* may have a program run; then it has a place until it leaves."""
        with self._lock:
            place = self._places.take()
            if place is None:
                return False
            self._running[exchange] = place
        return True

    def leave(self, exchange: ProgramExchange) -> None:
        """No program of *exchange* runs any more."""
        with self._lock:
            self._places.give(self._running.pop(exchange))

    def remark(self, path: ScriptPath, text: bytes) -> None:
        """Log what a program says, or what is to be said of it."""
        self._log.remark(Remark(path.name, text))

    def close(self) -> None:
        """After the last connection: wait for the programs that were killed, and let go of the directories."""
        if self.threads.close(DYING):
            self._places.close()
            self.scripts.close()
        if self._log is not self.service.log:
            self._log.close(1.0)


class ProgramExchange:
    """A request that a program answers, on *connection*, which `run` holds until it returns."""

    def __init__(self, gateway: Gateway, connection: HttpConnection, request: Request, path: ScriptPath) -> None:
        self._gateway = gateway
        self._service = gateway.service
        self._connection = connection
        self._request = request
        self._path = path
        self._body = bytearray()
        self._complete = self._continued = False
        # Run
        self._run: ProgramRun | None = None
        self._head = OutputHead()
        self._answer: ResponseBody | None = None
        self._local: bytes | None = None
        self._since = time.monotonic()
        self._excused = False

    def run(self) -> None:
        """On a thread of the gateway: read, run, answer; then the pool goes on with the connection."""
        connection = self._connection
        try:
            self._serve()
        except ProgramFault as fault:
            self._fail(fault.args[0])
        except ClientFault as fault:
            self._refuse(fault.args[0])
        finally:
            self._gateway.leave(self)
            if self._answer is not None:
                self._service.note(connection, self._request, self._answer.head.status, self._answer.sent)

    def _serve(self) -> None:
        length = body_length(self._request)
        if length is None:
            # A program must be told the length (RFC 3875 section 4.1.2).
            self._continue()
            self._read_body()
            length = len(self._body)
        for _ in range(1 + MAX_LOCAL_REDIRECTS):
            self._run_program(length)
            if self._local is None:
                return
            self._read_body()
            self._request, self._local = redirected(self._request, self._local), None
            path = self._gateway.scripts.route(self._request.target)
            if not isinstance(path, ScriptPath):
                self._service.answer(self._connection, self._request, busy=False)
                return
            self._path, self._head, length = path, OutputHead(), 0
        raise ProgramFault(ENDLESS)

    def _run_program(self, length: int) -> None:
        """One program from its start to its end, and its output to the client."""
        ends = Ends.of(self._connection.local, self._connection.peer)
        launched = self._gateway.scripts.start(self._path, self._request, ends, length)
        if isinstance(launched, ProtocolError):
            raise ProgramFault(launched)
        if trace.on:
            trace.event("=", "execve", why=f"run {self._path.program!r}", pid=launched.program.pid)
        with ProgramRun(launched, lambda line: self._gateway.remark(self._path, line)) as run:
            self._run = run
            self._excused = False
            self._since = time.monotonic()
            try:
                self._continue()
                self._pass_on(bytes(self._body))
                self._take_body()
                while not run.over:
                    self._wait()
            finally:
                self._run = None
        self._end(0 if self._excused else run.status or 0)

    def _end(self, status: int) -> None:
        if status:
            self._gateway.remark(self._path, end_of_program(status))
        if self._local is None and self._answer is None:
            raise ProgramFault(self._head.receive_eof())
        if self._answer is not None:
            end_of_body = self._answer.end(status)
            if end_of_body is None:
                raise ConnectionAbortedError("the program's answer is not whole")
            self._connection.output.put(end_of_body)

    # One wait for everything

    def _wait(self) -> None:
        """Wait until the client or the program is ready, or late, and go on with what is."""
        connection, run = self._connection, self._run
        unsent = connection.output.size
        wants_body = not self._complete and (run is None or run.size < PIPE_SIZE)
        poller = select.poll()
        poller.register(connection.fd, (select.POLLOUT if unsent else 0) | (select.POLLIN if wants_body else 0))
        if run is not None:
            run.watch(poller, output=not unsent)
        deadline, phase = self._deadline()
        ready = dict(poller.poll(max(0, math.ceil((deadline - time.monotonic()) * 1000))))
        if not ready or (self._said_all and time.monotonic() >= deadline):
            self._late(phase)
            return
        client = ready.pop(connection.fd, 0)
        if client & (select.POLLERR | select.POLLHUP):
            raise ConnectionResetError("the client has gone")
        if client & select.POLLOUT and connection.output.flush():
            self._since = time.monotonic()
        if client & select.POLLIN:
            connection.receive()
            self._take_body()
        if run is not None and ready:
            self._take_output(run, ready)

    def _take_output(self, run: ProgramRun, ready: dict[int, int]) -> None:
        before = run.size
        data = run.take(ready)
        if (data or run.size < before) and not self._said_all:
            self._since = time.monotonic()
        if data and self._answer is None and self._local is None:
            head = self._head.feed(data)
            if head is None:
                return
            if isinstance(head, ProtocolError):
                raise ProgramFault(head)
            self._begin_answer(head)
            data = self._head.rest()
        if data and self._answer is not None:
            self._connection.output.put(self._answer.data(data))
            self._connection.output.flush()

    @property
    def _said_all(self) -> bool:
        """Whether nothing more that the program writes matters."""
        if self._answer is None:
            return self._local is not None
        return self._answer.complete or (self._run is not None and self._run.output_ended)

    def _begin_answer(self, head: CgiHead) -> None:
        if head.local is not None:
            self._local = head.local
            return
        self._answer = ResponseBody(head, self._request)
        said = self._answer.response_head(self._service.root.common)
        self._connection.begin_stream(self._request, said, delimited=self._answer.delimited)

    def _deadline(self) -> tuple[float, Phase]:
        """Until when to wait, and for whom: the client, if it has to act, or else the program."""
        run = self._run
        if self._connection.output.size:
            phase = Phase.SENDING
        elif not self._complete and (run is None or (run.reads and not run.size)):
            phase = Phase.BODY
        else:
            return self._since + self._gateway.timeout, Phase.ANSWER
        return self._connection.deadline_of(phase), phase

    def _late(self, phase: Phase) -> None:
        if trace.on:
            trace.event("-", "timed out", fd=self._connection.fd, why=f"waited for {phase.value}")
        if phase is Phase.SENDING:
            raise TimeoutError("the client does not read")
        if phase is Phase.BODY:
            raise ClientFault(ProtocolError(408, f"waited too long for {phase.value}"))
        if self._run is None or not self._said_all:
            raise ProgramFault(ProtocolError(504, f"the program was silent for {self._gateway.timeout:g} s"))
        self._gateway.remark(self._path, ANSWERED)
        self._run.kill()
        self._excused = True
        self._since = time.monotonic()

    # The request's body

    def _read_body(self) -> None:
        """Take the rest of the body; a program that runs no more needs none of it."""
        self._take_body()
        while not self._complete:
            self._wait()

    def _take_body(self) -> None:
        while not self._complete and (event := self._connection.body_event()) is not None:
            match event:
                case Data(data):
                    self._pass_on(data)
                case EndOfMessage():
                    self._complete = True
                    self._since = time.monotonic()
                    if self._run is not None:
                        self._run.receive_eof()
                case ProtocolError() as fault:
                    raise ClientFault(fault)
        if not self._complete and self._connection.ended:
            raise ConnectionResetError("the client left in the middle of its request")

    def _pass_on(self, data: bytes) -> None:
        if self._run is None:
            self._body += data
            return
        if not self._run.size:
            self._since = time.monotonic()
        self._run.feed(data)
        if self._complete:
            self._run.receive_eof()

    def _continue(self) -> None:
        """There is somebody now who takes the body (RFC 9110 section 10.1.1)."""
        if self._request.expects_continue and not (self._complete or self._continued):
            self._continued = True
            self._connection.output.put(CONTINUE)
            self._connection.output.flush()

    # What goes wrong

    def _fail(self, fault: ProtocolError) -> None:
        """Answer *fault* of the program's; or cut the connection, if an answer has begun."""
        if fault.status >= 500:
            self._gateway.remark(self._path, fault.reason.encode())
        if self._answer is not None:
            raise ConnectionAbortedError(fault.reason)
        if self._request.expects_continue and not (self._complete or self._continued):
            self._refuse(fault)
            return
        try:
            self._read_body()
        except ClientFault as other:
            self._refuse(other.args[0])
            return
        self._connection.send(self._request, self._service.error(fault.status, fault.reason))

    def _refuse(self, fault: ProtocolError) -> None:
        if self._answer is not None:
            raise ConnectionAbortedError(fault.reason)
        self._connection.refuse(fault._replace(to_head=self._request.method == b"HEAD"))
