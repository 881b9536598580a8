"""The records of a trace, as the program writes them: a named pipe in the place of the file.

Facts (fifo(7), pipe(7))
    - ``--trace FILE`` opens whatever stands at that path. A FIFO with a reader is opened without a wait.
    - A write of up to 4,096 bytes to a pipe is one piece, whoever else writes; an event is one write.
    - Poll(2) says nothing of a FIFO that had no writer yet, and POLLHUP once the last has closed it.
    - A record is preceded, not followed, by the comma that separates it from the one before.
Decision
    A thread polls and reads, so that the program never waits for room; `RecordReader` does not wait for the comma.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import threading
from collections.abc import Callable
from contextlib import suppress

from aiolsp.lab.model import Record

END_WAIT = 2.0
"""Seconds to wait for the end of a pipe whose writers have been told to end."""

ROOM = 1 << 20
"""Bytes that may wait in the pipe: pipe-max-size of an unprivileged process, some 5,000 events."""


class RecordReader:
    """Cuts a growing trace file into its records; pieces may end anywhere. What is no record is dropped."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[Record]:
        """The records that are whole by now."""
        *lines, last = (self._rest + data).split(b"\n")
        records = [record for line in lines if (record := _parse(line)) is not None]
        self._rest = last
        if last.endswith(b"}") and (record := _parse(last)) is not None:
            records.append(record)
            self._rest = b""
        return records


def _parse(line: bytes) -> Record | None:
    try:
        record = json.loads(line.rstrip(b","))
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


class Collector:
    """Reads a descriptor, its own from now on, to the end, on a thread that calls *take* with each piece.

    The last piece is empty.
    """

    def __init__(self, fd: int, take: Callable[[bytes], object], name: str) -> None:
        self._fd = fd
        self._take = take
        self._thread = threading.Thread(target=self._collect, name=name, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Wait until the last writer has closed; one that lives on after END_WAIT is given up."""
        self._thread.join(END_WAIT)

    def _collect(self) -> None:
        poller = select.poll()
        poller.register(self._fd, select.POLLIN)
        try:
            while data := self._wait_and_read(poller):
                self._take(data)
            self._take(b"")
        finally:
            os.close(self._fd)

    def _wait_and_read(self, poller: select.poll) -> bytes:
        poller.poll()
        return os.read(self._fd, 1 << 16)


class Tape:
    """A path to give to ``--trace``: *take* is called, on a thread, with each record written there."""

    def __init__(self, path: str, take: Callable[[Record], object]) -> None:
        self.path = path
        self._take = take
        self._reader = RecordReader()
        os.mkfifo(path, 0o600)
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with suppress(OSError):  # a lower limit of the system, or of this user
            fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, ROOM)
        self._collector = Collector(fd, self._feed, "tape")

    def close(self) -> None:
        """Wait until all of it has been read."""
        with suppress(OSError):  # one more writer: if there never was any, there is an end now
            os.close(os.open(self.path, os.O_WRONLY | os.O_NONBLOCK))
        self._collector.close()

    def _feed(self, data: bytes) -> None:
        for record in self._reader.feed(data):
            self._take(record)
