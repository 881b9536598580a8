"""Every outcome of accept(2), and what is accepted."""

from __future__ import annotations

import errno
import os
import resource
import select
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from aiolsp.linux.listener import (
    DIED_IN_BACKLOG,
    OVERLOAD,
    accept_ready,
    listen,
    listen_unix,
)
from listening import accept_once_ready, close_all, connect, listening

# Accepting


def test_nothing_waiting_is_an_empty_round() -> None:
    with listening("127.0.0.1") as [listener]:
        assert accept_ready(listener) == ([], 0)


def test_a_round_takes_its_budget_and_leaves_the_rest() -> None:
    with listening("127.0.0.1") as [listener], ExitStack() as peers:
        for _ in range(5):
            peers.enter_context(connect(listener.getsockname()))
        assert close_all(accept_once_ready(listener, 3)) == 3
        assert close_all(accept_once_ready(listener, 3)) == 2


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6, socket.AF_UNIX])
def test_what_is_accepted_knows_its_family_and_type(tmp_path: Path, family: socket.AddressFamily) -> None:
    [listener] = (
        [listen_unix(str(tmp_path / "s"))]
        if family == socket.AF_UNIX
        else listen("127.0.0.1" if family == socket.AF_INET else "::1", 0)
    )
    with listener, socket.socket(family) as peer:
        peer.connect(listener.getsockname())
        [(connection, _)], _ = accept_once_ready(listener)
        with connection, socket.socket(fileno=os.dup(connection.fileno())) as plain:
            for known in (listener, connection):
                assert (known.family, known.type) == (plain.family, plain.type) == (family, socket.SOCK_STREAM)
                assert {"family", "type"} <= vars(type(known)).keys()  # and does not look them up


def test_what_is_accepted_does_not_block() -> None:
    with listening("127.0.0.1") as [listener], connect(listener.getsockname()):
        [(connection, _)], _ = accept_once_ready(listener)
        with connection:
            assert os.get_blocking(connection.fileno()) is False
            assert connection.get_inheritable() is False


def test_what_is_accepted_blocks_if_that_is_asked_for() -> None:
    with listening("127.0.0.1") as [listener], connect(listener.getsockname()):
        select.select([listener], [], [], 10)
        [(connection, _)], _ = accept_ready(listener, blocking=True)
        with connection:
            assert os.get_blocking(connection.fileno()) is True
            assert connection.get_inheritable() is False


def test_what_is_accepted_never_waits_though_there_be_a_default_time_out() -> None:
    with listening("127.0.0.1") as [listener], connect(listener.getsockname()):
        select.select([listener], [], [], 10)
        socket.setdefaulttimeout(10)
        try:
            [(connection, _)], _ = accept_ready(listener, blocking=True)
        finally:
            socket.setdefaulttimeout(None)
        with connection:
            assert connection.gettimeout() == 0.0


def test_what_is_accepted_is_in_all_else_what_python_accepts() -> None:
    with listening("127.0.0.1") as [listener], ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(connect(listener.getsockname()))
        [(ours, _), (other, _)], _ = accept_once_ready(listener, 2)
        plain = stack.enter_context(socket.socket(fileno=other.detach()))
        assert other.fileno() == -1
        other.close()
        with ours, ours.dup() as second:
            for name in socket.socket.__slots__:
                assert hasattr(ours, name) is hasattr(plain, name)
                assert name == "__weakref__" or getattr(ours, name) == getattr(plain, name)
            assert (type(second), second.proto) == (type(ours), plain.proto) == (type(listener), ours.proto)
        assert ours.fileno() == -1


@contextmanager
def descriptors_exhausted(spare: int) -> Iterator[None]:
    """No more than *spare* descriptors can be opened within the block."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with ExitStack() as kept:
        # Fill the gaps below the highest one, so that the limit leaves exactly the spare ones.
        highest = max(map(int, os.listdir("/proc/self/fd")))
        while (fd := os.open("/dev/null", os.O_RDONLY)) < highest:
            kept.callback(os.close, fd)
        os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (fd + spare, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_want_of_descriptors_is_told_and_loses_no_connection() -> None:
    with listening("127.0.0.1") as [listener], ExitStack() as peers:
        for _ in range(3):
            peers.enter_context(connect(listener.getsockname()))
        with descriptors_exhausted(spare=2):
            accepted = accept_ready(listener)
        assert accepted[1] == errno.EMFILE
        assert close_all(accepted) == 2
        assert close_all(accept_once_ready(listener)) == 1


class FailingListener:
    """Stands for a listener whose accept(2) fails with each of *errors* in turn, then has nothing more."""

    def __init__(self, *errors: int) -> None:
        self.errors = list(errors)

    def accept(self) -> tuple[socket.socket, object]:
        """Fail as told."""
        number = self.errors.pop(0) if self.errors else errno.EAGAIN
        raise OSError(number, os.strerror(number))


@pytest.mark.parametrize("number", sorted(DIED_IN_BACKLOG), ids=lambda number: errno.errorcode[number])
def test_a_connection_that_died_in_the_backlog_is_skipped(number: int) -> None:
    listener = FailingListener(number, number)
    assert accept_ready(listener) == ([], 0)  # type: ignore[arg-type]
    assert not listener.errors


@pytest.mark.parametrize("number", sorted(OVERLOAD), ids=lambda number: errno.errorcode[number])
def test_overload_ends_the_round_at_once(number: int) -> None:
    listener = FailingListener(number, number)
    assert accept_ready(listener) == ([], number)  # type: ignore[arg-type]
    assert len(listener.errors) == 1


def test_a_fault_of_ours_is_not_hidden() -> None:
    with pytest.raises(OSError, match=os.strerror(errno.EINVAL)):
        accept_ready(FailingListener(errno.EINVAL))  # type: ignore[arg-type]
