"""What the private epoll promises on both loops besides the facts of its essay: whom it calls, drains, refuses."""

from __future__ import annotations

import asyncio
import io
import os
import select
import socket
import tempfile
import threading
from typing import Any

import pytest

from aiolsp.mechanisms.epoll import EpollWatcher
from aiolsp.tracing import trace
from harness import DEADLINE
from watching import ET, IN, ONESHOT, RDHUP, Run, Seen, connection, turns


def test_one_socket_is_served_by_one_worker_at_a_time_and_every_byte_is_read(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        busy, overlaps, received = 0, 0, 0
        lock = threading.Lock()
        finished = asyncio.Event()
        with connection() as (served, peer), EpollWatcher() as watcher:

            def work(fd: int) -> None:
                nonlocal busy, overlaps, received
                with lock:
                    busy += 1
                    overlaps += busy > 1
                try:
                    while data := served.recv(3):
                        received += len(data)
                except BlockingIOError:
                    pass
                with lock:
                    busy -= 1
                if received == 1000:
                    loop.call_soon_threadsafe(finished.set)
                else:
                    watcher.rearm(fd, IN | ET | ONESHOT)

            def send() -> None:
                for _ in range(200):
                    peer.send(b"12345")

            watcher.add(served.fileno(), IN | ET | ONESHOT, lambda fd, _: loop.run_in_executor(None, work, fd))
            sending = loop.run_in_executor(None, send)
            async with asyncio.timeout(DEADLINE):
                await finished.wait()
                await sending
            assert (received, overlaps) == (1000, 0)
            watcher.remove(served.fileno())

    run(main())


def test_rearming_what_was_removed_or_closed_is_refused(run: Run) -> None:
    async def main() -> None:
        with connection() as (served, _):
            watcher = EpollWatcher()
            watcher.add(served.fileno(), IN | ONESHOT, Seen())
            assert watcher.rearm(served.fileno(), IN | ONESHOT)
            watcher.remove(served.fileno())
            assert not watcher.rearm(served.fileno(), IN | ONESHOT)
            watcher.add(served.fileno(), IN | ONESHOT, Seen())
            watcher.close()
            assert not watcher.rearm(served.fileno(), IN | ONESHOT)

    run(main())


@pytest.mark.parametrize("what", [ZeroDivisionError, asyncio.CancelledError])
def test_a_callback_that_raises_is_reported_and_the_others_of_its_batch_still_run(
    run: Run, what: type[BaseException]
) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        reported: list[dict[str, Any]] = []
        loop.set_exception_handler(lambda loop, context: reported.append(context))
        seen = Seen()
        pairs = [socket.socketpair() for _ in range(5)]

        def fail(fd: int, events: int) -> None:
            raise what

        with EpollWatcher() as watcher:
            for number, (mine, other) in enumerate(pairs):
                other.send(b"x")
                watcher.add(mine.fileno(), IN | ET, fail if number % 2 == 0 else seen)
            await seen.wait(2)
            await turns(1)
        assert [type(context["exception"]) for context in reported] == [what] * 3
        assert "EPOLLIN" in reported[0]["message"]
        for pair in pairs:
            for end in pair:
                end.close()

    run(main())


def test_an_event_of_a_batch_for_what_an_earlier_callback_removed_or_replaced_is_dropped(run: Run) -> None:
    async def main() -> None:
        called: list[int] = []
        fresh = Seen()
        pairs = [socket.socketpair() for _ in range(4)]
        fds = [mine.fileno() for mine, _ in pairs]
        replacement, other_end = socket.socketpair()
        with EpollWatcher() as watcher:

            def first_wins(fd: int, events: int) -> None:
                called.append(fd)
                rest = [other for other in fds if other != fd]
                for removed in rest:
                    watcher.remove(removed)
                os.dup2(replacement.fileno(), rest[0])  # closed, and its number given to another socket at once
                watcher.add(rest[0], IN | ET, fresh)

            for mine, other in pairs:
                other.send(b"x")
                watcher.add(mine.fileno(), IN | ET, first_wins)
            await turns()
            assert len(called) == 1
            assert fresh.events == []
            other_end.send(b"x")
            await fresh.wait()
        for end in [replacement, other_end, *(end for pair in pairs for end in pair)]:
            end.close()

    run(main())


def test_closing_before_removing_is_told(run: Run) -> None:
    async def main() -> None:
        seen = Seen()
        with EpollWatcher() as watcher:
            reader, writer = os.pipe()
            watcher.add(reader, IN | ET, seen)
            os.close(reader)
            other = os.open("/dev/null", os.O_RDONLY)
            assert other == reader, "the number is used again"
            with pytest.raises(ValueError, match="remove it before it is closed"):
                watcher.add(reader, IN | ET, seen)
            with pytest.raises(RuntimeError, match="closed before it was removed"):
                watcher.remove(reader)
            os.close(other)
            os.close(writer)
            assert len(watcher) == 0
            watcher.remove(reader)

    run(main())


def test_what_an_epoll_cannot_watch_is_refused_and_not_kept(run: Run) -> None:
    async def main() -> None:
        with EpollWatcher() as watcher, tempfile.TemporaryFile() as file, connection() as (served, _):
            with pytest.raises(PermissionError):
                watcher.add(file.fileno(), IN, Seen())
            with pytest.raises(ValueError, match="EPOLLEXCLUSIVE"):
                watcher.add(served.fileno(), IN | select.EPOLLEXCLUSIVE, Seen())
            assert len(watcher) == 0

    run(main())


def test_draining_stops_at_eagain_and_lets_others_in_after_its_budget(run: Run) -> None:
    async def main() -> None:
        order: list[str] = []
        finished = asyncio.Event()
        with connection() as (busy, busy_peer), connection() as (other, other_peer), EpollWatcher() as watcher:

            def read_busy() -> bool:
                try:
                    data = busy.recv(1)
                except BlockingIOError:
                    finished.set()
                    return False
                order.append("busy")
                return bool(data)

            def read_other(fd: int, events: int) -> None:
                other.recv(10)
                order.append("other")

            busy_peer.send(bytes(100))
            other_peer.send(b"x")
            watcher.add(busy.fileno(), IN | ET, lambda fd, events: watcher.drain(fd, read_busy, budget=10))
            watcher.add(other.fileno(), IN | ET, read_other)
            async with asyncio.timeout(DEADLINE):
                await finished.wait()
            assert order.count("busy") == 100
            assert "other" in order[:30], "it had its turn within two rounds"
            watcher.remove(busy.fileno())
            watcher.remove(other.fileno())

    run(main())


def test_an_edge_during_a_drain_starts_no_second_round(run: Run) -> None:
    async def main() -> None:
        steps = 0
        finished = asyncio.Event()
        with connection() as (served, _), EpollWatcher() as watcher:

            def step() -> bool:
                nonlocal steps
                steps += 1
                if steps == 30:
                    finished.set()
                return steps % 30 != 0

            watcher.add(served.fileno(), IN | ET, Seen())
            for _ in range(5):
                watcher.drain(served.fileno(), step, budget=3)
            assert steps == 3
            async with asyncio.timeout(DEADLINE):
                await finished.wait()
            await turns()
            assert steps == 30
            watcher.drain(served.fileno(), step, budget=3)
            assert steps == 33, "the next edge drains again"
            watcher.remove(served.fileno())

    run(main())


def test_a_drain_ends_when_its_descriptor_is_removed_or_its_step_raises(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        reported: list[dict[str, Any]] = []
        loop.set_exception_handler(lambda loop, context: reported.append(context))
        steps = 0
        with connection() as (served, peer), EpollWatcher() as watcher:
            fd = served.fileno()

            def forever() -> bool:
                nonlocal steps
                steps += 1
                return True

            def fail() -> bool:
                raise ZeroDivisionError

            watcher.add(fd, IN | ET, Seen())
            watcher.drain(fd, forever, budget=2)
            await turns(2)
            assert steps > 4
            watcher.remove(fd)
            before = steps
            await turns(2)
            assert steps == before
            seen = Seen()
            watcher.add(fd, IN | ET, lambda fd, events: watcher.drain(fd, fail))
            peer.send(b"x")
            await turns()
            assert len(reported) == 1
            watcher.modify(fd, IN | ET, seen)
            await seen.wait()
            watcher.remove(fd)
            watcher.drain(fd, forever)
            assert steps == before, "what is not watched is not drained"

    run(main())


def test_closing_leaves_descriptors_open_and_none_of_its_own(run: Run) -> None:
    async def main() -> None:
        seen = Seen()
        with connection() as (served, peer):
            descriptors = set(os.listdir("/proc/self/fd"))
            watcher = EpollWatcher()
            watcher.add(served.fileno(), IN | ET, seen)
            watcher.close()
            watcher.close()
            peer.send(b"x")
            await turns()
            assert seen.events == []
            assert served.recv(1) == b"x"
            assert set(os.listdir("/proc/self/fd")) == descriptors

    run(main())


def test_the_trace_names_every_flag(run: Run) -> None:
    async def main() -> None:
        seen = Seen()
        with connection() as (served, peer), EpollWatcher() as watcher:
            fd = served.fileno()
            watcher.add(fd, IN | ET | ONESHOT, seen)
            peer.send(b"x")
            await seen.wait()
            watcher.rearm(fd, IN | RDHUP | ET | ONESHOT)
            await seen.wait(2)
            watcher.remove(fd)
            text = lines.getvalue().replace(f"fd={fd}", "fd=N").splitlines()
            assert text == [
                "= epoll_ctl ADD fd=N EPOLLIN|EPOLLONESHOT|EPOLLET",
                "< epoll_wait fd=N EPOLLIN",
                "= epoll_ctl MOD fd=N EPOLLIN|EPOLLRDHUP|EPOLLONESHOT|EPOLLET  armed again",
                "< epoll_wait fd=N EPOLLIN",
                "= epoll_ctl DEL fd=N",
            ]

    lines = io.StringIO()
    trace.open(lines)
    try:
        run(main())
    finally:
        trace.close()
