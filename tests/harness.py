"""Real servers in processes of their own, real clients on blocking sockets with a deadline: alike for every shell."""

from __future__ import annotations

import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

DEADLINE = 40.0
"""Seconds that any single wait of a test may take before it counts as a hang; a busy machine needs far less."""

FORBIDDEN = ("Traceback", "Warning", "Exception", "Task was destroyed")
"""What a program says only when something went wrong that it does not know of; `Process.kill` fails a test for it."""

READY = re.compile(r"listening on (?:http://)?(?P<host>\[[^]]+\]|[^:\s,]+):(?P<port>\d+)")


class Output:
    """Collects the lines of a pipe as they come, so that a test can wait for one."""

    def __init__(self, pipe: int) -> None:
        self._pipe = pipe
        self._changed = threading.Condition()
        self._text = ""
        self._ended = False
        self._thread = threading.Thread(target=self._collect, daemon=True)
        self._thread.start()

    def _collect(self) -> None:
        with open(self._pipe, "rb", buffering=0) as pipe:
            while data := pipe.read(65536):
                with self._changed:
                    self._text += data.decode("utf-8", "backslashreplace")
                    self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    @property
    def text(self) -> str:
        """What has come so far."""
        with self._changed:
            return self._text

    def wait_for(self, pattern: str, *, count: int = 1, timeout: float = DEADLINE) -> re.Match[str]:
        """The *count*-th match of *pattern*, as soon as it has been printed; AssertionError if it never is."""
        with self._changed:
            self._changed.wait_for(lambda: self._ended or len(re.findall(pattern, self._text)) >= count, timeout)
            found = list(re.finditer(pattern, self._text))
            assert len(found) >= count, f"{pattern!r} did not come {count} times in:\n{self._text}"
            return found[count - 1]

    def text_of_the_dead(self) -> str:
        """What has come of a process that has ended, whether or not a child of it still holds the pipe."""
        self._thread.join(0.1)
        return self.text

    def whole(self) -> str:
        """All of it, once the pipe has ended."""
        self._thread.join(DEADLINE)
        assert not self._thread.is_alive(), f"the output never ended; so far:\n{self.text}"
        return self.text


class Process:
    """A program under test with its output collected."""

    def __init__(self, command: list[str], *, stdin: int = subprocess.DEVNULL, **settings: object) -> None:
        out_read, out_write = os.pipe()
        err_read, err_write = os.pipe()
        env = {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONWARNINGS": "default", "PYTHONASYNCIODEBUG": ""}
        settings.setdefault("env", env)
        self.popen: subprocess.Popen[bytes] = subprocess.Popen(  # type: ignore[call-overload]
            command, stdin=stdin, stdout=out_write, stderr=err_write, **settings
        )
        os.close(out_write)
        os.close(err_write)
        self.stdout = Output(out_read)
        self.stderr = Output(err_read)

    @property
    def pid(self) -> int:
        """The process id."""
        return self.popen.pid

    def send_signal(self, number: int) -> None:
        """Send a signal to the process."""
        self.popen.send_signal(number)

    def wait(self, timeout: float = DEADLINE) -> int:
        """Wait for its end; the exit status, negative for a signal."""
        return self.popen.wait(timeout)

    def kill(self) -> None:
        """End it whatever it does, and reap it; AssertionError if it has said what no program may ever say."""
        if self.popen.poll() is None:
            self.popen.kill()
            self.popen.wait(DEADLINE)
        if self.popen.stdin is not None:
            self.popen.stdin.close()
        errors = self.stderr.text_of_the_dead()
        assert not any(word in errors for word in FORBIDDEN), errors


class Server(Process):
    """A server under test: knows its address once it has printed its ready line."""

    def __init__(self, command: list[str], **settings: object) -> None:
        super().__init__(command, **settings)  # type: ignore[arg-type]
        try:
            found = self.stdout.wait_for(READY.pattern)
        except AssertionError as error:
            self.kill()
            raise AssertionError(f"{command} is not ready: {error}\n{self.stderr.whole()}") from None
        self.host = found["host"].strip("[]")
        self.port = int(found["port"])

    def connect(self, *, receive_buffer: int = 0) -> socket.socket:
        """A blocking socket connected to the server, with the test's deadline on every call."""
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        peer = socket.socket(family, socket.SOCK_STREAM)
        if receive_buffer:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        peer.settimeout(DEADLINE)
        try:
            peer.connect((self.host, self.port))
        except OSError:
            peer.close()
            raise
        return peer

    def refuses(self) -> bool:
        """Whether nobody listens any more."""
        try:
            self.connect().close()
        except ConnectionRefusedError:
            return True
        except ConnectionResetError:  # the listener was closed just then
            pass
        return False

    def rss(self) -> int:
        """Resident memory in bytes."""
        with open(f"/proc/{self.pid}/statm") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def cpu_seconds(self) -> float:
        """CPU time used so far, user and system."""
        with open(f"/proc/{self.pid}/stat") as stat:
            fields = stat.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Stop it as a person would and check that it goes quietly: status 0, no traceback, no warning of Python's."""
        if self.popen.poll() is None:
            self.send_signal(number)
        status = self.wait()
        errors = self.stderr.whole()
        assert status == 0, f"exit status {status}\n{errors}"
        assert not any(word in errors for word in FORBIDDEN), errors


@dataclass(frozen=True)
class Shell:
    """One way to run a program: stock asyncio, uvloop, or the blocking twin."""

    name: str

    def command(self, program: str, role: str, *options: object) -> list[str]:
        """The command line that runs *role* of *program* on this shell."""
        package = "aiolsp.blocking" if self.name == "blocking" else "aiolsp"
        loop = [] if self.name == "blocking" else ["--loop", self.name]
        words = [role, *loop] if role else loop
        return [sys.executable, "-m", f"{package}.{program}", *words, *map(str, options)]

    @contextmanager
    def server(self, program: str, *options: object, role: str = "server", **settings: object) -> Iterator[Server]:
        """A running server on a free port of 127.0.0.1, stopped and checked at the end of the block."""
        server = Server(self.command(program, role, "--port", 0, *options), **settings)
        try:
            yield server
            server.stop()
        finally:
            server.kill()

    @contextmanager
    def client(self, program: str, server: Server, *options: object, **settings: object) -> Iterator[Process]:
        """The program's client, connected to *server*; killed at the end of the block if it still runs."""
        address = ("--host", server.host, "--port", server.port)
        client = Process(self.command(program, "client", *address, *options), **settings)  # type: ignore[arg-type]
        try:
            yield client
        finally:
            client.kill()

    @contextmanager
    def server_writing_to(
        self, stderr: int, program: str, *options: object
    ) -> Iterator[tuple[subprocess.Popen[bytes], tuple[str, int]]]:
        """A server with *stderr*, which is closed here, and its address; killed at the end of the block."""
        command = self.command(program, "", "--port", 0, *options)
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr) as server:
            os.close(stderr)
            try:
                assert server.stdout is not None
                found = READY.search(server.stdout.readline().decode())
                assert found is not None
                yield server, ("127.0.0.1", int(found["port"]))
            finally:
                server.kill()


SHELLS = tuple(Shell(name) for name in ("asyncio", "uvloop", "blocking"))


def unused_port() -> int:
    """A port that nobody has, of those that the kernel gives to nobody who does not ask for it (ip(7)).

    For a server that is to be told its port: one that the kernel has just given may be given to another test's by then.
    """
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        with socket.socket() as probe, suppress(OSError):
            # Where the kernel gives all of them (1024 to 65535, for many clients), its choice is as good as any.
            probe.bind(("127.0.0.1", random.randrange(1024, lowest) if lowest > 1024 else 0))
            return int(probe.getsockname()[1])


def receive_exactly(peer: socket.socket, count: int) -> bytes:
    """Exactly *count* bytes; AssertionError if the peer ends before."""
    data = bytearray()
    while len(data) < count:
        piece = peer.recv(min(count - len(data), 1 << 20))
        assert piece, f"the connection ended after {len(data)} of {count} bytes: {bytes(data[-200:])!r}"
        data += piece
    return bytes(data)


def receive_until(peer: socket.socket, end: bytes) -> bytes:
    """Bytes up to and including *end*, read one by one so that nothing after it is taken."""
    data = bytearray()
    while not data.endswith(end):
        data += receive_exactly(peer, 1)
    return bytes(data)


def receive_to_end(peer: socket.socket) -> bytes:
    """All bytes until the peer's end of stream; a reset counts as the end."""
    data = bytearray()
    try:
        while piece := peer.recv(1 << 16):
            data += piece
    except ConnectionResetError:
        pass
    return bytes(data)
