"""Programs that answer: CGI/1.1 on the loop (RFC 3875). What it decides stands in http1/cgi.py and static/scripts.py.

Book p. 289 and 298: a child for each request; there its output is the socket itself, here it is read and framed.

Facts
    - Starting a program takes milliseconds, and waits for the disk.
    - A program may do anything: stop reading, stop writing, write for ever, die, leave others behind with its pipes.
Consequence
    A thread of the pool starts it. Between it and the client nothing is kept but a pipe and one write, and each thing
    that it may fail to do has a time.
Decision
    `ProgramExchange` is one request that a program answers. Input goes on while the program reads, output while the
    client does; whichever side stops stops the other. A body without a length is gathered first, within ``max_body``,
    since a program must be told the length (RFC 3875 section 4.1.2); its place among ``max_children`` is taken before,
    so that all that is gathered is bounded too.
    Time: the head must be complete within ``cgi_timeout`` of the start, of the last byte of the body that the program
    took, or of the body's end; after the head, no two pieces of output may be further apart, nor the program's end from
    the last that goes out. While all wait for the client, its own limits count instead. There is no bound on the whole:
    streams may be long.
    A program that is late, writes nonsense, or whose client has gone is killed with its group, at once: it had its
    time, and SIGTERM is easily ignored.
Price
    What a program leaves running in its group ends with it, even if that was meant to go on. A client that reads
    nothing until it has sent all may stop a program that writes while it reads: the limits on clients end that.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

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
from aiolsp.http1.messages import ProtocolError, Request
from aiolsp.http1.response import CONTINUE
from aiolsp.linux.places import Places
from aiolsp.mechanisms.threads import in_thread
from aiolsp.sansio.timers import IdleTimer
from aiolsp.static.access_log import AccessLog, Remark
from aiolsp.static.scripts import ANSWERED, DYING, TOO_MANY, Launched, Scripts
from aiolsp.tracing import trace
from aiolsp.websrv.program import PIPE_SIZE, InputPipe, ProgramRun

if TYPE_CHECKING:
    from aiolsp.websrv.connection import HttpConnection
    from aiolsp.websrv.service import Service


class Gateway:
    """The programs of one server: at most ``settings.max_children`` at once, those of other workers included.

    What they complain of goes to the access log, or to stderr if there is none.
    """

    def __init__(self, service: Service, scripts: Scripts) -> None:
        self.service = service
        self.scripts = scripts
        self.timeout = service.settings.cgi_timeout
        self._log = service.log or AccessLog(sys.stderr.fileno(), "common")
        self._places = service.shared.programs or Places(service.settings.max_children)
        self._running: dict[ProgramExchange, int] = {}
        self._emptied = asyncio.Event()

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
        return exchange if exchange.begin() else None

    def refusal(self, request: Request) -> ProtocolError | None:
        """Why no program answers *request*, for which there is no exchange; None if it means a file."""
        path = self.scripts.route(request.target)
        if isinstance(path, ScriptPath):
            return TOO_MANY
        return path

    def enter(self, exchange: ProgramExchange) -> bool:
        """Whether *exchange* may have a program run; then it has a place until it leaves."""
        place = self._places.take()
        if place is None:
            return False
        self._running[exchange] = place
        return True

    def leave(self, exchange: ProgramExchange) -> None:
        """No program of *exchange* runs any more. May be called again."""
        place = self._running.pop(exchange, None)
        if place is not None:
            self._places.give(place)
        if not self._running:
            self._emptied.set()

    def remark(self, path: ScriptPath, text: bytes) -> None:
        """Log what a program says, or what is to be said of it."""
        self._log.remark(Remark(path.name, text))

    async def close(self) -> None:
        """After the last connection: wait for the programs that were killed, and let go of the directories."""
        if self._running:
            self._emptied.clear()
            try:
                async with asyncio.timeout(DYING):
                    await self._emptied.wait()
            except TimeoutError:
                pass
        self._places.close()
        self.scripts.close()
        if self._log is not self.service.log:
            await in_thread(self._log.close, 1.0)


class ProgramExchange:
    """A request that a program answers; tells *connection* when it takes more body, and what to send.

    ``begin -> (feed | resume)* -> receive_eof -> resume*``, and ``abandon`` at any time when the client has gone.
    """

    def __init__(self, gateway: Gateway, connection: HttpConnection, request: Request, path: ScriptPath) -> None:
        # Server
        self._gateway = gateway
        self._service = gateway.service
        # Request
        self._connection = connection
        self._request = request
        self._path = path
        self._length = body_length(request)
        self._input = InputPipe(self._input_taken)
        self._complete = self._continued = self._over = False
        self._once_complete: Callable[[], None] | None = None
        self._redirects = 0
        # Run
        self._begin_run()

    def _begin_run(self) -> None:
        self._run: ProgramRun | None = None
        self._head = OutputHead()
        self._answer: ResponseBody | None = None
        self._local: bytes | None = None
        self._since = self._service.loop.time()
        self._timer = IdleTimer(self._due(), self._timed_out, self._due)

    # What the connection asks of it

    @property
    def sent(self) -> int:
        """Bytes of the body that were passed on."""
        return 0 if self._answer is None else self._answer.sent

    @property
    def full(self) -> bool:
        """Whether no more of the body is taken now."""
        return self._length is not None and self._input.size >= PIPE_SIZE

    def begin(self) -> bool:
        """Start the program, or gather its input first; False if too many run."""
        if not self._gateway.enter(self):
            return False
        if self._length is not None:
            self._start(self._length)
        else:
            self._continue()
        return True

    def feed(self, data: bytes) -> None:
        """Take a piece of the body."""
        if not self._input.size and not self._input.closed:
            self._since = self._service.loop.time()
        self._input.feed(data)

    def receive_eof(self) -> None:
        """The body is complete."""
        self._complete = True
        self._since = self._service.loop.time()
        self._input.receive_eof()
        if self._once_complete is not None:
            self._once_complete()
        elif self._length is None:
            self._length = self._input.size
            self._start(self._length)

    def resume(self) -> None:
        """The client has read: go on with the output."""
        self._since = self._service.loop.time()
        if self._run is not None:
            self._run.resume()

    def abandon(self) -> None:
        """The client has gone: end the program."""
        if not self._over:
            self._stop()

    # The program's start

    def _start(self, length: int) -> None:
        ends = Ends.of(self._connection.transport.get_extra_info("sockname"), self._connection.peer)
        # Admitted already: it has one of the few places.
        job = self._service.pool.resume(self._gateway.scripts.start, self._path, self._request, ends, length)
        job.add_done_callback(self._started)

    def _started(self, job: asyncio.Future[Launched | ProtocolError]) -> None:
        if job.cancelled():
            self._gateway.leave(self)
            self._connection.abort()
            return
        error = job.exception()
        if error is not None:
            self._service.loop.call_exception_handler({"message": "starting a program failed", "exception": error})
        launched = ProtocolError(500, "") if error is not None else job.result()
        if isinstance(launched, ProtocolError):
            self._gateway.leave(self)
            self._fail(launched)
            return
        if trace.on:
            trace.event("=", "execve", why=f"run {self._path.program!r}", pid=launched.program.pid)
        self._run = ProgramRun(launched, self)
        self._input.attach(launched.stdin)
        if self._over:
            self._stop()
            return
        self._since = self._service.loop.time()
        self._service.timers.add(self._timer)
        self._continue()
        self._connection.take_more()

    def _continue(self) -> None:
        """There is somebody now who takes the body (RFC 9110 section 10.1.1)."""
        if self._request.expects_continue and not (self._complete or self._continued):
            self._continued = True
            self._connection.stream(CONTINUE)

    def _input_taken(self) -> None:
        self._since = self._service.loop.time()
        if not self._complete and not self._over:
            self._connection.take_more()

    # What the program does

    def complain(self, line: bytes) -> None:
        """A line of its stderr."""
        self._gateway.remark(self._path, line)

    def output(self, data: bytes) -> None:
        """A piece of its output: of its head, or of the body that is passed on."""
        if self._answer is None and self._local is None:
            head = self._head.feed(data)
            if head is None:
                return
            if isinstance(head, ProtocolError):
                self._fail(head)
                return
            self._begin_answer(head)
            data = self._head.rest()
        if not self._said_all:
            self._since = self._service.loop.time()
        if self._answer is not None:
            self._connection.stream(self._answer.data(data))
            if self._connection.full and self._run is not None:
                self._run.pause()

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
        self._connection.begin_stream(self._request, head.status, said, delimited=self._answer.delimited)

    def gone(self) -> None:
        """It has ended, and there is nothing left of it."""
        self._input.close()
        self._gateway.leave(self)
        if not self._complete and not self._over:
            self._connection.take_more()

    def over(self, status: int) -> None:
        """All its output is here."""
        if status:
            self._gateway.remark(self._path, end_of_program(status))
        self._service.timers.cancel(self._timer)
        if self._local is not None:
            self._when_complete(self._follow)
        elif self._answer is None:
            self._fail(self._head.receive_eof())
        else:
            self._over = True
            end_of_body = self._answer.end(status)
            self._connection.stream(end_of_body or b"")
            self._connection.streamed(end_of_body is not None)

    def _follow(self) -> None:
        """Answer what a local redirect names instead."""
        assert self._local is not None
        self._request = redirected(self._request, self._local)
        self._redirects += 1
        path = self._gateway.scripts.route(self._local)
        if self._redirects > MAX_LOCAL_REDIRECTS:
            self._fail(ENDLESS)
        elif not isinstance(path, ScriptPath):
            self._over = True
            self._connection.release()
            self._service.answer_instead(self._connection, self._request)
        elif not self._gateway.enter(self):
            self._fail(TOO_MANY)
        else:
            self._path = path
            self._begin_run()
            self._start(0)

    # What goes wrong

    def _fail(self, fault: ProtocolError) -> None:
        """End the program, and answer *fault*; or cut the connection, if an answer has begun."""
        if self._over:
            return
        self._stop()
        if fault.status >= 500:
            self._gateway.remark(self._path, fault.reason.encode())
        if self._answer is not None:
            self._connection.streamed(False)
        else:
            self._when_complete(lambda: self._refuse(fault))

    def _refuse(self, fault: ProtocolError) -> None:
        self._connection.release()
        if self._complete:
            self._connection.send(self._request, self._service.error(fault.status, fault.reason))
        else:
            self._connection.refuse(fault._replace(to_head=self._request.method == b"HEAD"))

    def _when_complete(self, act: Callable[[], None]) -> None:
        """Do it when the body has been read, which may be now; or now, if the client waits for us to ask for it."""
        if self._complete or (self._request.expects_continue and not self._continued):
            act()
        else:
            self._once_complete = act
            self._connection.take_more()

    def _stop(self) -> None:
        self._over = True
        self._input.close()
        self._service.timers.cancel(self._timer)
        if self._run is not None:
            self._run.kill()
        elif self._length is None:
            self._gateway.leave(self)  # it was never started

    def _due(self) -> float:
        """Until when the program may be silent, as far as is known now."""
        awaits_body = not (self._complete or self._input.size or self._input.closed)
        awaits_client = awaits_body or self._connection.full
        begin = self._service.loop.time() if awaits_client else self._since
        return begin + self._gateway.timeout

    def _timed_out(self) -> None:
        silence = f"silent for {self._gateway.timeout:g} s"
        if trace.on:
            trace.event("-", "timed out", why=f"kill {self._path.program!r}: {silence}")
        if self._run is not None and self._said_all:
            self._gateway.remark(self._path, ANSWERED)
            self._run.kill()
            self.over(0)
        else:
            self._fail(ProtocolError(504, f"the program was {silence}"))
