"""A server in a process of its own: started, waited for, and taken away again with all that it started.

What it prints goes to files without a name, not to pipes: a server that nobody reads from must not stop for it.
"""

from __future__ import annotations

import atexit
import os
import re
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Self

from aiolsp.linux.signals import uninterrupted

PATIENCE = 15
"""Seconds a server may take to be ready, and to stop."""

LOOK = 0.002
"""Seconds between two looks for its ready line or its port: far less than any server takes to start."""

READY = re.compile(rb"listening on (?:http://)?(?P<host>\[[^]]+\]|[^:\s,/]+):(?P<port>\d+)")


class ServerTrouble(Exception):
    """The server did not come up; the message is one line for a person."""


class ServerProcess:
    """``with ServerProcess(command, "websrv") as server``; *name* is for messages.

    *processors* are those that it may run on; all that the caller may use unless given.
    """

    def __init__(self, command: Sequence[str], name: str, *, processors: frozenset[int] | None = None) -> None:
        self._command = command
        self._name = name
        self._processors = processors

    def __enter__(self) -> Self:
        self._output, self._errors = tempfile.TemporaryFile(), tempfile.TemporaryFile()
        try:
            with ExitStack() as stack:
                # Popen waits for the new process, which would be left to itself if an interrupt came meanwhile.
                with uninterrupted(), confined_to(self._processors):
                    # Its own session: Ctrl-C on the terminal is for the generator, which then stops the server itself.
                    self._popen = subprocess.Popen(
                        self._command,
                        stdin=subprocess.DEVNULL,
                        stdout=self._output,
                        stderr=self._errors,
                        start_new_session=True,
                    )
                    # A second signal may come as `__exit__` begins.
                    atexit.register(self.stop)
                    stack.callback(self.__exit__)
                stack.pop_all()
        except OSError as error:
            self._close_files()
            raise ServerTrouble(f"{self._name} did not start: {(error.strerror or str(error)).lower()}") from None
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._close_files()

    def stop(self) -> int:
        """Have it stop, or kill it when it does not; its exit status. May be called again."""
        if self._popen.poll() is None:
            self._popen.send_signal(signal.SIGTERM)
        try:
            status = self._popen.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            os.killpg(self._popen.pid, signal.SIGKILL)
            status = self._popen.wait()
        atexit.unregister(self.stop)
        return status

    @property
    def pid(self) -> int:
        """The process that was started; it may have others below it."""
        return self._popen.pid

    def until_ready(self) -> tuple[str, int]:
        """The first address of its ready line, as soon as it is printed. Raises ServerTrouble."""
        for _ in self._looks("no ready line"):
            found = READY.search(self.output())
            if found is not None:
                return found["host"].decode().strip("[]"), int(found["port"])
        raise AssertionError

    def until_listening(self, port: int) -> None:
        """Wait until *port* of 127.0.0.1 can be connected to. Raises ServerTrouble."""
        for _ in self._looks(f"nobody listens on port {port}"):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return

    def output(self, start: int = 0) -> bytes:
        """What it has printed so far, from the byte *start*."""
        size = os.fstat(self._output.fileno()).st_size
        return os.pread(self._output.fileno(), max(size - start, 0), start)

    def _looks(self, complaint: str) -> Iterator[None]:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and self._popen.poll() is None:
            yield
            time.sleep(LOOK)
        raise ServerTrouble(f"{self._name} did not start: {self._last_error() or f'{complaint} within {PATIENCE} s'}")

    def errors(self) -> str:
        """What it has said on stderr so far."""
        self._errors.seek(0)
        return self._errors.read().decode("utf-8", "backslashreplace").strip()

    def _last_error(self) -> str:
        return (self.errors().splitlines() or [""])[-1]

    def _close_files(self) -> None:
        self._output.close()
        self._errors.close()


@contextmanager
def confined_to(processors: frozenset[int] | None) -> Iterator[None]:
    """What is started in the block runs on *processors* only; this thread is back on its own afterwards."""
    if processors is None:
        yield
        return
    own = os.sched_getaffinity(0)
    os.sched_setaffinity(0, processors)
    try:
        yield
    finally:
        os.sched_setaffinity(0, own)
