"""What a request was parsed as, line by line, and the verdict on it.

Book p. 137, listing 8-3: parse_content over parse_line, and the two answers of its main.
Calling sequence: feed* -> receive_eof, until `answer` is there; each gives the lines to print.

The parser tells an observer of each line of a head: the state that it was read in, and what the line machine said of
it. A line can be OK there and wrong to the machine above: only the verdict has the reason. The client's part is what
it sends, in which pieces, and how it takes the answer.
"""

from __future__ import annotations

from aiolsp.http1.limits import Limits
from aiolsp.http1.messages import Data, EndOfMessage, ProtocolError, Request
from aiolsp.http1.parser import RequestParser
from aiolsp.http1.states import ParseState
from aiolsp.sansio.lines import LineStatus

CORRECT = b"I get a correct result\n"
WRONG = b"Something wrong\n"

LINGER = 2.0
"""Seconds that a peer has to close after its answer; nginx's lingering_timeout is 5 s."""

PAUSE = 0.01
"""Seconds between the pieces of ``--split``: without a pause the kernel would hand several over as one."""

REQUEST = b"GET /index.html HTTP/1.1\r\nHost: example.com\r\nAccept: text/html\r\n\r\n"
"""What the client sends if it is not told otherwise."""

SHOWN = 64
"""Bytes of a line that are printed: a screen has 80 columns, a head up to 32 KiB."""


class RequestAnalysis:
    """The analysis of one request; what comes after it is ignored. Never raises for what the peer sends."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.answer: bytes | None = None
        self._parser = RequestParser(limits or Limits(), self._on_line)
        self._report: list[str] = []
        self._in_head = True
        self._summary = ""

    def feed(self, data: bytes) -> list[str]:
        """What *data* was parsed as; [] once there is an answer."""
        if self.answer is not None:
            return []
        self._report = []
        for event in self._parser.feed(data):
            match event:
                case Request():
                    self._summary = _summary(event)
                case Data(piece):
                    self._say(ParseState.CONTENT, LineStatus.OK, f"{len(piece)} B")
                case EndOfMessage():
                    self._conclude(CORRECT, f"correct: {self._summary}")
                    break
                case ProtocolError(status, reason):
                    self._conclude(WRONG, f"wrong: {status} {reason}")
        if self.answer is None:
            self._say(self._parser.state, LineStatus.OPEN, "need more")
        return self._report

    def receive_eof(self) -> list[str]:
        """The peer says no more: wrong in the middle of a request; before one there is nothing to answer."""
        if self.answer is not None or self._parser.between_messages:
            return []
        self._report = []
        self._conclude(WRONG, f"wrong: it ended in {self._parser.state.name}")
        return self._report

    def _on_line(self, state: ParseState, status: LineStatus, line: bytes) -> None:
        if self._in_head:
            shown = repr(line[:SHOWN])[1:] + ("..." if len(line) > SHOWN else "")
            self._say(state, status, shown)
            self._in_head = state is ParseState.REQUEST_LINE or bool(line)

    def _say(self, state: ParseState, status: LineStatus, what: str) -> None:
        self._report.append(f"{state.name:<12} {status.name:<4} {what}")

    def _conclude(self, answer: bytes, verdict: str) -> None:
        self.answer = answer
        self._report.append(verdict)


def pieces(request: bytes, split: int | None) -> list[bytes]:
    """The request in pieces of *split* bytes, or whole."""
    size = split or max(1, len(request))
    return [request[start : start + size] for start in range(0, len(request), size)]


def checked(answer: bytes) -> str:
    """The answer as text. Raises ConnectionError if there is none."""
    if not answer:
        raise ConnectionError("the server closed without an answer")
    return answer.decode("ascii", "backslashreplace").rstrip("\n")


def _summary(request: Request) -> str:
    method, target = request.method.decode("ascii"), request.target[:SHOWN].decode("ascii")
    body = "with a body" if request.has_body else "no body"
    count = len(request.fields)
    return f"{method} {target}, {count} field{'' if count == 1 else 's'}, {body}"
