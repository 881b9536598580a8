"""The event trace: what the kernel said, and why the program does what it does next.

A learner runs a program with ``-v`` and sees each event as one line; ``--trace FILE`` writes the same events as Chrome
trace-event JSON, which ui.perfetto.dev and chrome://tracing open as lanes, one per thread and process.

A line is: sign, call, descriptor, event flags by name, bytes, reason. The signs are an alphabet for the whole project:

    <  bytes or a connection came in       x  something was closed
    >  bytes went out                      -  a time-out
    =  state or registration changed       %  a timer was armed, moved or fired
    !  an error, or something refused

Calling sequence: ``trace.open(...)`` once, ``if trace.on: trace.event(...)`` at each event, ``trace.close()``. A silent
trace costs that one attribute test. Any thread may write; a forked child goes on writing to the same file. An event of
the JSON also has the line of the program that it comes from, as ``"source": "aiolsp/chat.py:166"``.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep


class Trace:
    """Writes events as lines for people and as JSON for a timeline; silent until opened."""

    def __init__(self) -> None:
        self.on = False
        self._lines: TextIO | None = None
        self._json: int | None = None
        self._file: int | None = None
        self._owner = 0
        self._lanes: set[tuple[int, int]] = set()

    def open(self, lines: TextIO | None = None, json_path: str | None = None) -> None:
        """Start writing: lines to *lines* (usually stderr), JSON to a new file at *json_path*.

        Raises OSError if the file cannot be made.
        """
        self.close()
        self._lines = lines
        self._owner = os.getpid()
        if json_path is not None:
            # O_APPEND and one write per event: threads and forked children share the file without a lock.
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC
            descriptor = os.open(json_path, flags, 0o644)
            try:
                os.write(descriptor, b"[\n" + _dump(_metadata("process_name", _command())))
            except OSError:
                os.close(descriptor)
                raise
            self._json = self._file = descriptor
        self.on = lines is not None or json_path is not None

    def event(
        self,
        sign: str,
        call: str,
        *,
        fd: int = -1,
        flags: str = "",
        size: int = -1,
        why: str = "",
        **args: object,
    ) -> None:
        """Record one event; *args* are further facts of this call, shown as ``name=value``. Never raises.

        A trace that cannot be written (its reader left, the disk is full) ends; the program goes on.
        """
        lines = self._lines  # another thread may take it away meanwhile
        if lines is not None:
            try:
                lines.write(_line(sign, call, fd, flags, size, why, args))
            except OSError:
                self._lines = None
                self.on = self._json is not None
        if self._json is not None:
            facts = {"fd": fd, "flags": flags, "bytes": size, "why": why}
            known = {name: value for name, value in facts.items() if value not in (-1, "")}
            record = {"name": f"{sign} {call}", "ph": "i", "s": "t", "ts": _now_us(), "args": {**known, **args}}
            self._append({**record, "source": _source(2)})

    @contextmanager
    def span(self, name: str, **args: object) -> Iterator[None]:
        """A bar on the timeline for as long as the block runs (JSON only)."""
        begin, source = _now_us(), _source(3) if self._json is not None else ""
        try:
            yield
        finally:
            if self._json is not None:
                duration = _now_us() - begin
                record = {"name": name, "ph": "X", "ts": begin, "dur": duration, "args": args}
                self._append({**record, "source": source})

    def descriptors(self) -> list[int]:
        """The files of its own that it writes to: a child that closes all others goes on writing to these."""
        return [] if self._file is None else [self._file]

    def close(self) -> None:
        """End the JSON so that it is a whole document; only the process that opened it does."""
        if os.getpid() == self._owner:
            self._write(b"\n]\n")
        if self._file is not None:
            os.close(self._file)
        self._json = self._file = self._lines = None
        self._lanes.clear()
        self.on = False

    def _append(self, record: dict[str, object]) -> None:
        lane = (os.getpid(), threading.get_native_id())
        if lane not in self._lanes:
            if lane[0] not in {self._owner, *(pid for pid, _ in self._lanes)}:
                name = f"{_command()} (child of {self._owner})"
                self._write(b",\n" + _dump(_metadata("process_name", name)))
            self._lanes.add(lane)
            self._write(b",\n" + _dump(_metadata("thread_name", threading.current_thread().name)))
        self._write(b",\n" + _dump(record))

    def _write(self, data: bytes) -> None:
        descriptor = self._json
        if descriptor is not None:
            try:
                os.write(descriptor, data)
            except OSError:
                # `close` closes it: another thread may be about to write there, and the number would be a socket's.
                self._json = None
                self.on = self._lines is not None


def _command() -> str:
    return " ".join(sys.argv[:3])


def _line(sign: str, call: str, fd: int, flags: str, size: int, why: str, args: dict[str, object]) -> str:
    thread = threading.current_thread()
    words = [] if thread is threading.main_thread() else [f"[{thread.name}]"]
    words += [sign, call]
    if fd >= 0:
        words.append(f"fd={fd}")
    if flags:
        words.append(flags)
    if size >= 0:
        words.append(f"{size} B")
    words += [f"{name}={value}" for name, value in args.items()]
    if why:
        words.append(f" {why}")
    return _one_line(" ".join(words)) + "\n"


def _one_line(text: str) -> str:
    # What a peer sent may stand in an event: it must neither end the line nor steer the terminal.
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def _source(depth: int) -> str:
    """The file and line of the caller *depth* frames up, for a file of the package from the package's name on."""
    frame = sys._getframe(depth)
    return f"{frame.f_code.co_filename.removeprefix(_ROOT)}:{frame.f_lineno}"


def _metadata(name: str, value: str) -> dict[str, object]:
    return {"name": name, "ph": "M", "args": {"name": value}}


def _dump(record: dict[str, object]) -> bytes:
    import json  # here, because most runs write none, and start sooner without

    record = {**record, "pid": os.getpid(), "tid": threading.get_native_id()}
    return json.dumps(record, default=str).encode()


def _now_us() -> float:
    """Monotonic microseconds, the unit of the trace-event format."""
    return time.monotonic_ns() / 1000


trace = Trace()
