"""SplicePipe between every kind of descriptor that a client's stdin and stdout may be."""

from __future__ import annotations

import errno
import os
import pty
import select
import socket
import subprocess
import sys
import termios
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from aiolsp.linux.splice import PIECE, SplicePipe
from harness import DEADLINE

PAYLOAD = bytes(range(256)) * 2000

Connected = tuple[socket.socket, socket.socket]


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    """Descriptors and sockets to be closed at the end of the test."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def connected(opened: ExitStack) -> Connected:
    """A non-blocking socket, as a client has, and its blocking peer."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.settimeout(DEADLINE)
    return opened.enter_context(ours), opened.enter_context(theirs)


def run(pipe: SplicePipe) -> None:
    """Move everything, waiting as a client does; a descriptor that poll does not know how to wait for is ready."""
    while (wait := pipe.waits_for) is not None:
        poller = select.poll()
        poller.register(*wait)
        assert poller.poll(DEADLINE * 1000), f"nothing happened on {wait}"
        pipe.move()


def from_file(data: bytes, opened: ExitStack, tmp_path: Path) -> int:
    path = tmp_path / "source"
    path.write_bytes(data)
    fd = os.open(path, os.O_RDONLY)
    opened.callback(os.close, fd)
    return fd


def from_pipe(data: bytes, opened: ExitStack, tmp_path: Path) -> int:
    outlet, inlet = os.pipe()
    opened.callback(os.close, outlet)

    def feed() -> None:
        with open(inlet, "wb") as stream:
            stream.write(data)

    feeder = threading.Thread(target=feed)
    feeder.start()
    opened.callback(feeder.join)
    return outlet


def from_socket(data: bytes, opened: ExitStack, tmp_path: Path) -> int:
    ours, theirs = socket.socketpair()
    opened.enter_context(ours)

    def feed() -> None:
        with theirs:
            theirs.sendall(data)

    feeder = threading.Thread(target=feed)
    feeder.start()
    opened.callback(feeder.join)
    return ours.fileno()


@pytest.mark.parametrize("source", [from_file, from_pipe, from_socket])
def test_everything_arrives_from_each_kind_of_source(
    source: Callable[[bytes, ExitStack, Path], int], connected: Connected, opened: ExitStack, tmp_path: Path
) -> None:
    ours, theirs = connected
    received = bytearray()

    def collect() -> None:
        while data := theirs.recv(PIECE):
            received.extend(data)

    collector = threading.Thread(target=collect)
    collector.start()
    with SplicePipe(source(PAYLOAD, opened, tmp_path), ours.fileno()) as pipe:
        run(pipe)
        assert pipe.moved == len(PAYLOAD)
    ours.shutdown(socket.SHUT_WR)
    collector.join()
    assert received == PAYLOAD


def test_the_end_of_dev_null_is_an_end_although_splice_refuses_it(connected: Connected, opened: ExitStack) -> None:
    null = os.open(os.devnull, os.O_RDONLY)
    opened.callback(os.close, null)
    with SplicePipe(null, connected[0].fileno()) as pipe:
        run(pipe)
        assert pipe.moved == 0


def test_a_terminal_is_a_source_line_by_line_and_control_d_ends_it(connected: Connected, opened: ExitStack) -> None:
    master, slave = pty.openpty()
    opened.callback(os.close, master)
    opened.callback(os.close, slave)
    with SplicePipe(slave, connected[0].fileno()) as pipe:
        os.write(master, b"hello\n")
        pipe.move()
        pipe.move()
        assert connected[1].recv(100) == b"hello\n"
        os.write(master, b"\x04")
        run(pipe)
        assert pipe.waits_for is None
    assert os.get_blocking(slave)


def test_a_terminal_is_a_target(connected: Connected, opened: ExitStack) -> None:
    master, slave = pty.openpty()
    opened.callback(os.close, master)
    opened.callback(os.close, slave)
    attributes = termios.tcgetattr(slave)
    attributes[1] &= ~termios.OPOST
    termios.tcsetattr(slave, termios.TCSANOW, attributes)
    ours, theirs = connected
    theirs.sendall(b"hello\n")
    theirs.shutdown(socket.SHUT_WR)
    with SplicePipe(ours.fileno(), slave) as pipe:
        run(pipe)
    assert os.read(master, 100) == b"hello\n"


@pytest.mark.parametrize("flags", [0, os.O_APPEND], ids=["plain", "append"])
def test_a_file_is_a_target_even_one_opened_for_appending(
    flags: int, connected: Connected, opened: ExitStack, tmp_path: Path
) -> None:
    path = tmp_path / "target"
    target = os.open(path, os.O_WRONLY | os.O_CREAT | flags, 0o600)
    opened.callback(os.close, target)
    ours, theirs = connected

    def feed() -> None:
        theirs.sendall(PAYLOAD)
        theirs.shutdown(socket.SHUT_WR)

    feeder = threading.Thread(target=feed)
    feeder.start()
    with SplicePipe(ours.fileno(), target) as pipe:
        run(pipe)
    feeder.join()
    assert path.read_bytes() == PAYLOAD


def test_a_target_that_takes_nothing_stops_the_source(connected: Connected, opened: ExitStack, tmp_path: Path) -> None:
    ours, theirs = connected
    with SplicePipe(from_file(PAYLOAD, opened, tmp_path), ours.fileno()) as pipe:
        for _ in range(100):
            pipe.move()
        assert pipe.waits_for == (pipe.target, select.EPOLLOUT)
        assert os.lseek(pipe.source, 0, os.SEEK_CUR) <= pipe.moved + PIECE < len(PAYLOAD)
        received = bytearray()
        while len(received) < len(PAYLOAD):
            received += theirs.recv(PIECE)
            pipe.move()
            pipe.move()
        run(pipe)
    assert received == PAYLOAD


def test_a_source_that_is_not_ready_is_asked_again(connected: Connected) -> None:
    ours, theirs = connected
    with SplicePipe(ours.fileno(), 2) as pipe:
        pipe.move()
        assert pipe.waits_for == (ours.fileno(), select.EPOLLIN)


def test_a_target_that_is_gone_is_an_error(connected: Connected, opened: ExitStack, tmp_path: Path) -> None:
    ours, theirs = connected
    theirs.close()
    with SplicePipe(from_file(PAYLOAD, opened, tmp_path), ours.fileno()) as pipe:
        with pytest.raises(OSError) as raised:
            run(pipe)
    assert raised.value.errno in (errno.EPIPE, errno.ECONNRESET)


def descriptors_of_a_child() -> int:
    script = "import os; print(len(os.listdir('/proc/self/fd')))"
    command = [sys.executable, "-c", script]
    return int(subprocess.run(command, stdout=subprocess.PIPE, close_fds=False, check=True).stdout)


def test_the_pipe_is_not_inherited_by_children(connected: Connected) -> None:
    before = descriptors_of_a_child()
    with SplicePipe(0, connected[0].fileno()):
        assert descriptors_of_a_child() == before
