"""The access log: one line an answer, in the formats that log readers know, written by a thread of its own.

A record costs whoever serves one append. Records are formatted and written in batches, since stderr may be a pipe that
nobody empties, or a file on a full disk: then lines are dropped and counted, and the server goes on. A record that is
added again is one more line, formatted once: that takes 5 us, in which the interpreter is nobody else's.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import select
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from aiolsp.http1.messages import Request

FORMATS = ("common", "combined", "json", "off")

BATCH_DELAY = 0.1
"""Seconds that a record waits for others; a person who looks at a terminal does not notice."""

MAX_BACKLOG = 16 * 1024 * 1024
"""Bytes of records that may wait for a slow reader of the log; those after them are dropped and counted."""

RECORD_COST = 400
"""Bytes that a record takes besides what the client wrote."""

LINES = 256
"""Lines that are formatted before they are written: escaped, a line may be four times as long as its record."""

_TOLD = re.compile(rb"\r\n([Rr][Ee][Ff][Ee][Rr][Ee][Rr]|[Uu][Ss][Ee][Rr]-[Aa][Gg][Ee][Nn][Tt]):[ \t]*([^\r]*)")
"""The field lines of a head that the log tells."""


class LogRecord(NamedTuple):
    """What the log says of one answer; *size* counts the body's bytes, *seconds* is the time of day."""

    peer: str
    seconds: float
    method: bytes
    target: bytes
    version: tuple[int, int]
    status: int
    size: int
    referer: bytes | None
    agent: bytes | None

    @classmethod
    def of(cls, peer: str, request: Request | None, status: int, size: int) -> LogRecord:
        """The record of an answer given now; *request* is None if it could not be read, *peer* "" if it has no name."""
        now = time.time()
        if request is None:
            return cls(peer or "-", now, b"", b"", (1, 1), status, size, None, None)
        fields = request.fields
        referer, agent = fields.get(b"referer"), fields.get(b"user-agent")
        return cls(peer or "-", now, request.method, request.target, request.version, status, size, referer, agent)

    def again(self, peer: str, head: bytes) -> LogRecord:
        """The record of the same answer, given now to *peer* for *head*, the bytes of a request for the same."""
        told: dict[bytes, bytes] = {}
        for name, value in _TOLD.findall(head):
            told.setdefault(name.lower(), value.rstrip())
        referer, agent = told.get(b"referer"), told.get(b"user-agent")
        return self._replace(peer=peer or "-", seconds=time.time(), referer=referer, agent=agent)


def printable(data: bytes) -> str:
    r"""*data* as it may stand between quotes in a log: controls, quotes, backslashes and non-ASCII as ``\xHH``."""
    text = data.decode("latin-1")
    if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        return text
    return "".join(c if c.isascii() and c.isprintable() and c not in '"\\' else f"\\x{ord(c):02x}" for c in text)


def format_common(record: LogRecord) -> str:
    """NCSA common log format, as Apache's ``%h - - %t "%r" %>s %b``; the time is local, with its zone."""
    stamp = time.strftime("%d/%b/%Y:%H:%M:%S %z", time.localtime(record.seconds))
    size = record.size or "-"
    return f'{record.peer} - - [{stamp}] "{_request_line(record)}" {record.status} {size}'


def format_combined(record: LogRecord) -> str:
    """The common format with the Referer and User-Agent fields."""
    referer, agent = printable(record.referer or b"-"), printable(record.agent or b"-")
    return f'{format_common(record)} "{referer}" "{agent}"'


def format_json(record: LogRecord) -> str:
    """One JSON object a line."""
    facts: dict[str, object] = {
        "time": round(record.seconds, 3),
        "peer": record.peer,
        "method": printable(record.method),
        "target": printable(record.target),
        "version": "{}.{}".format(*record.version),
        "status": record.status,
        "bytes": record.size,
    }
    if record.referer is not None:
        facts["referer"] = printable(record.referer)
    if record.agent is not None:
        facts["agent"] = printable(record.agent)
    return json.dumps(facts)


class Remark(NamedTuple):
    """What the log says that tells of no answer: *text*, from or about *subject*."""

    subject: bytes
    text: bytes


def format_remark(remark: Remark) -> str:
    """``subject: text``, with every control character escaped: it is one line, whatever a program wrote."""
    return f"{_visible(remark.subject)}: {_visible(remark.text)}"


def _visible(data: bytes) -> str:
    text = data.decode("utf-8", "backslashreplace")
    return text if text.isprintable() else "".join(c if c.isprintable() else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def _remark_as_json(remark: Remark) -> str:
    return json.dumps({"subject": _visible(remark.subject), "remark": _visible(remark.text)})


def _request_line(record: LogRecord) -> str:
    if not record.method:
        return "-"
    return "{} {} HTTP/{}.{}".format(printable(record.method), printable(record.target), *record.version)


_FORMATTERS = {"common": format_common, "combined": format_combined, "json": format_json}


class AccessLog:
    """Takes records on any thread; a thread of its own formats and writes them to the descriptor *fd*.

    The thread is a daemon, and no executor's: those are waited for at exit, and a full pipe would hold the process.
    """

    def __init__(self, fd: int, form: str) -> None:
        self._fd = fd
        self.repeats = form == "common"
        """Whether the lines of equal answers to one client within a second are equal: so one record does for them."""
        self._format = _FORMATTERS[form]
        self._format_remark = _remark_as_json if form == "json" else format_remark
        self._waiting: list[LogRecord | Remark] = []
        self._size = self._dropped = 0
        # The thread's own: lines that could not be written, why, and whether the last of them may stand there in part.
        self._missing, self._why, self._torn = 0, "", False
        self._lock = threading.Lock()
        self._filled, self._closing = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="aiolsp-log", daemon=True)
        self._thread.start()

    record = staticmethod(LogRecord.of)

    def add(self, record: LogRecord) -> None:
        """Log *record* soon."""
        told = len(record.method) + len(record.target) + len(record.referer or b"") + len(record.agent or b"")
        self._put(record, told)

    def remark(self, remark: Remark) -> None:
        """Log *remark* soon, among the records."""
        self._put(remark, len(remark.subject) + len(remark.text))

    def _put(self, record: LogRecord | Remark, told: int) -> None:
        with self._lock:
            if self._size > MAX_BACKLOG:
                self._dropped += 1
                return
            self._size += RECORD_COST + told
            self._waiting.append(record)
            first = len(self._waiting) == 1
        if first:
            self._filled.set()

    def close(self, grace: float) -> None:
        """Write what waits, but give up on a reader who takes longer than *grace* seconds; blocks for so long."""
        self._closing.set()
        self._filled.set()
        self._thread.join(grace)

    def _run(self) -> None:
        closing = False
        while not closing:
            self._filled.wait()
            self._closing.wait(BATCH_DELAY)
            # In this order: what is added after the look, or before the end, is seen by the next turn.
            self._filled.clear()
            closing = self._closing.is_set()
            self._write(*self._take())

    def _take(self) -> tuple[list[LogRecord | Remark], int]:
        """What has gathered since the last time, and how many records there was no room for."""
        with self._lock:
            taken = self._waiting, self._dropped
            self._waiting, self._size, self._dropped = [], 0, 0
        return taken

    def _write(self, records: list[LogRecord | Remark], dropped: int) -> None:
        self._tell_missing()
        for start in range(0, len(records), LINES):
            self._write_lines(self._lines(records[start : start + LINES]))
        if dropped:
            self._missing += dropped
            self._why = self._why or "the log is not read fast enough"
        self._tell_missing()

    def _tell_missing(self) -> None:
        if not self._missing:
            return
        missing, self._missing = self._missing, 0
        subject = b"%d more lines were not logged" % missing
        self._write_lines([self._format_remark(Remark(subject, self._why.encode()))])
        if self._missing:  # nor could this one be
            self._missing = missing
        else:
            self._why = ""

    def _lines(self, records: list[LogRecord | Remark]) -> list[str]:
        made: dict[int, str] = {}
        for record in records:
            if id(record) not in made:
                made[id(record)] = self._format_remark(record) if isinstance(record, Remark) else self._format(record)
        return [made[id(record)] for record in records]

    def _write_lines(self, lines: list[str]) -> None:
        data = ("\n" * self._torn + "\n".join(lines) + "\n").encode()
        try:
            with _alone(self._fd):
                while data:
                    data = data[self._write_some(data) :]
            self._torn = False
        except OSError as error:  # nobody reads the log any more, or there is no room for it; serving goes on
            # With none of it written there may be a part of another process's line, whose disk is full as well.
            self._missing += min(data.count(b"\n"), len(lines))
            self._why = (error.strerror or "").lower()
            self._torn = True

    def _write_some(self, data: bytes) -> int:
        try:
            return os.write(self._fd, data)
        except BlockingIOError:
            # Whoever shares this pipe or terminal has made it non-blocking.
            writable = select.poll()
            writable.register(self._fd, select.POLLOUT)
            writable.poll()
            return 0


@contextmanager
def _alone(fd: int) -> Iterator[None]:
    """Keep other processes that log to the file, pipe or terminal *fd* from writing into the middle of a line.

    write(2) to a pipe is whole up to PIPE_BUF, 4096 bytes; lines may be longer. A record lock (fcntl(2)) belongs to the
    process, and goes with it when it is killed.
    """
    try:
        fcntl.lockf(fd, fcntl.LOCK_EX)
    except OSError:  # what cannot be locked is written all the same
        yield
        return
    try:
        yield
    finally:
        fcntl.lockf(fd, fcntl.LOCK_UN)
