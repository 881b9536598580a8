"""Clients of every kind at a moderate rate, each of which checks each answer, byte for byte.

A request on a kept connection to which not one byte of an answer came is asked again on a new one, as any client does
(RFC 9112 section 9.3.1): a server that drains closes idle connections, and may do so while a request is on its way.
Whatever else goes wrong is a failure, with the instant at which its connection was opened.
"""

from __future__ import annotations

import http.client
import socket
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from time import monotonic
from typing import NamedTuple

from load.framing import Answer, AnswerFramer
from soaking.files import ChangingFile, content

PATIENCE = 30.0
"""Seconds that a client waits for anything."""

PIPELINE = 8
"""Requests sent in one go."""

SIPS, PAUSE = 16, 0.05
"""A slow reader takes an answer in so many pieces, with so many seconds between them."""

MIN_PIECE = 16
"""Bytes of the shortest range that is asked for."""

PROGRAM = "/cgi-bin/echo"

SCRIPT = "#!/bin/sh\nprintf 'Content-Type: text/plain\\r\\n\\r\\n%s\\n' \"$QUERY_STRING\"\ncat\n"
"""Says its query, and what it was sent."""


class Failed(NamedTuple):
    """A request without a whole answer."""

    at: float
    opened: float
    """When its connection was."""
    what: str


@dataclass
class Site:
    """What is served."""

    hot: list[ChangingFile]
    large: list[ChangingFile]
    cold: list[str]
    """Paths of files that do not change: version 0."""
    cold_size: int


@dataclass
class Tally:
    """What all clients have seen; each has its own, and they are added up at the end."""

    answers: Counter[str] = field(default_factory=Counter)
    """Right ones, by the kind of request."""
    wrong: list[str] = field(default_factory=list)
    failed: list[Failed] = field(default_factory=list)
    again: int = 0
    """Requests that were asked again, for their kept connection had been closed."""
    octets: int = 0

    def add(self, other: Tally) -> None:
        """Take over what *other* has seen."""
        self.answers += other.answers
        self.wrong += other.wrong
        self.failed += other.failed
        self.again += other.again
        self.octets += other.octets


class Wrong(Exception):
    """An answer that should not have been; the message is one line."""


class Client(threading.Thread):
    """Asks for this and that until *ended*, *pause* seconds apart on average."""

    def __init__(self, address: tuple[str, int], site: Site, ended: threading.Event, pause: float, seed: int) -> None:
        super().__init__(name=f"client-{seed}", daemon=True)
        self.tally = Tally()
        self._address = address
        self._site = site
        self._stop_event = ended
        self._pause = pause
        self._random = Random(seed)
        self._kept: http.client.HTTPConnection | None = None
        self._opened = 0.0
        self._kinds: dict[Callable[[], None], int] = {
            self.hot: 40,
            self.conditional: 12,
            self.part: 10,
            self.cold: 12,
            self.missing: 4,
            self.head: 3,
            self.large: 3,
            self.slow: 1,
            self.program: 3,
            self.pipelined: 5,
            self.once: 7,
        }

    def run(self) -> None:
        """Until the event is set, whatever comes."""
        kinds, weights = list(self._kinds), list(self._kinds.values())
        while not self._stop_event.wait(self._random.expovariate(1 / self._pause)):
            (kind,) = self._random.choices(kinds, weights)
            try:
                kind()
                self.tally.answers[kind.__name__] += 1
            except Wrong as fault:
                self.tally.wrong.append(f"{kind.__name__}: {fault}")
            except (OSError, http.client.HTTPException) as error:
                what = f"{kind.__name__}: {type(error).__name__} {error}"
                self.tally.failed.append(Failed(monotonic(), self._opened, what))
                self.leave()
        self.leave()

    def leave(self) -> None:
        """Close its connection, if it has one."""
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    # The kinds of requests, one method each

    def hot(self) -> None:
        """A small file on a kept connection."""
        self._whole(self._random.choice(self._site.hot))

    def large(self) -> None:
        """A file that goes out by sendfile."""
        self._whole(self._random.choice(self._site.large))

    def slow(self) -> None:
        """The same, read piece by piece with pauses: long enough for it to be replaced, and its worker too."""
        file = self._random.choice(self._site.large)

        def sip(response: http.client.HTTPResponse) -> bytes:
            pieces = []
            while piece := response.read(file.least // SIPS):
                pieces.append(piece)
                self._stop_event.wait(PAUSE)
            whole = b"".join(pieces)
            if response.length:  # read(amount) takes the end of a connection for the end of an answer
                raise http.client.IncompleteRead(whole, response.length)
            return whole

        self._whole(file, read=sip)

    def once(self) -> None:
        """A small file on a connection of its own."""
        self.leave()
        self._whole(self._random.choice(self._site.hot), {"Connection": "close"})
        self.leave()

    def conditional(self) -> None:
        """What has been seen before, if it has changed."""
        file = self._random.choice(self._site.hot)
        tag = self._whole(file)
        asked = monotonic()
        response, body = self._ask("GET", file.path, {"If-None-Match": tag})
        if response.status == 304:
            if file.version_tagged(tag) not in file.possible(asked, monotonic()):
                raise Wrong(f"304 for {file.path}, which has changed")
        else:
            self._check(file, asked, response, body)

    def part(self) -> None:
        """A range of a large file."""
        file = self._random.choice(self._site.large)
        first = self._random.randrange(file.least - MIN_PIECE)
        last = self._random.randrange(first + MIN_PIECE - 1, file.least)
        asked = monotonic()
        response, body = self._ask("GET", file.path, {"Range": f"bytes={first}-{last}"})
        told, _, whole = response.getheader("Content-Range", "").partition("/")
        if response.status != 206 or told != f"bytes {first}-{last}" or len(body) != last - first + 1:
            raise Wrong(f"{response.status} {told!r} and {len(body)} bytes for bytes {first}-{last} of {file.path}")
        self._check_version(file, asked, response, body, first, int(whole))

    def cold(self) -> None:
        """One of many files that nobody has asked for in a while."""
        path = self._random.choice(self._site.cold)
        response, body = self._ask("GET", path)
        if response.status != 200 or body != content(path, 0, self._site.cold_size):
            raise Wrong(f"{response.status} and {len(body)} bytes for {path}")

    def missing(self) -> None:
        """A file that is not there."""
        self._status("GET", f"/missing-{self._random.randrange(10**9)}", 404)

    def head(self) -> None:
        """The head of a large file."""
        self._status("HEAD", self._random.choice(self._site.large).path, 200)

    def program(self) -> None:
        """A program that says what it was told."""
        word, sent = str(self._random.randrange(10**9)), self._random.randbytes(self._random.randrange(100_000))
        response, body = self._ask("POST", f"{PROGRAM}?{word}", body=sent)
        if response.status != 200 or body != f"{word}\n".encode() + sent:
            raise Wrong(f"{response.status} and {len(body)} bytes from a program that was sent {len(sent)}")

    def pipelined(self) -> None:
        """Several files in one go: as many answers, in order."""
        files = self._random.choices(self._site.hot, k=PIPELINE)
        framer = AnswerFramer({}, keep_content=True)
        answers: list[Answer] = []
        asked = self._opened = monotonic()
        with socket.create_connection(self._address, PATIENCE) as connection:
            connection.sendall(b"".join(f"GET {file.path} HTTP/1.1\r\nHost: soak\r\n\r\n".encode() for file in files))
            while len(answers) < len(files):
                data = connection.recv(1 << 16)
                if not data:
                    raise ConnectionResetError(f"closed after {len(answers)} of {len(files)} answers")
                answers += framer.feed(data)
        for file, answer in zip(files, answers, strict=True):
            self.tally.octets += answer.octets
            possible = file.possible(asked, monotonic())
            if answer.status != 200 or file.version_of(answer.content, 0, answer.octets, possible) is None:
                raise Wrong(f"{answer.status} and {answer.octets} bytes for {file.path} {answer.example}")

    # How they ask, and what they check

    def _whole(
        self,
        file: ChangingFile,
        fields: dict[str, str] | None = None,
        read: Callable[[http.client.HTTPResponse], bytes] = http.client.HTTPResponse.read,
    ) -> str:
        asked = monotonic()
        response, body = self._ask("GET", file.path, fields, read=read)
        return self._check(file, asked, response, body)

    def _check(self, file: ChangingFile, asked: float, response: http.client.HTTPResponse, body: bytes) -> str:
        if response.status != 200:
            raise Wrong(f"{response.status} for {file.path}")
        return self._check_version(file, asked, response, body, 0, len(body))

    def _check_version(
        self, file: ChangingFile, asked: float, response: http.client.HTTPResponse, body: bytes, first: int, whole: int
    ) -> str:
        version = file.version_of(body, first, whole, file.possible(asked, monotonic()))
        if version is None:
            raise Wrong(f"{len(body)} bytes from {first} on of {file.path} that no version has, or an old one")
        tag = response.getheader("ETag", "")
        if fault := file.tag_fault(tag, version):
            raise Wrong(f"{file.path}: {fault}")
        return tag

    def _status(self, method: str, path: str, expected: int) -> None:
        response, _ = self._ask(method, path)
        if response.status != expected:
            raise Wrong(f"{response.status} for {method} {path}")

    def _ask(
        self,
        method: str,
        path: str,
        fields: dict[str, str] | None = None,
        *,
        body: bytes | None = None,
        read: Callable[[http.client.HTTPResponse], bytes] = http.client.HTTPResponse.read,
    ) -> tuple[http.client.HTTPResponse, bytes]:
        if method == "POST":
            self.leave()  # it may not be asked twice
        while True:
            connection, fresh = self._connection()
            try:
                connection.request(method, path, body, fields or {})
                response = connection.getresponse()
                break
            except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError):
                if fresh:
                    raise
                self.leave()
                self.tally.again += 1
        with response:
            data = read(response)
        self.tally.octets += len(data)
        if response.will_close:
            self.leave()
        return response, data

    def _connection(self) -> tuple[http.client.HTTPConnection, bool]:
        fresh = self._kept is None
        if self._kept is None:
            self._opened = monotonic()
            self._kept = http.client.HTTPConnection(*self._address, timeout=PATIENCE)
            self._kept.connect()
        return self._kept, fresh
