"""The private epoll on both loops: each fact of its essay, and what it promises besides."""

from __future__ import annotations

import asyncio
import io
import os
import select
import socket
import tempfile
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from aiolsp.mechanisms.epoll import BATCH, EpollWatcher
from aiolsp.tracing import trace
from harness import DEADLINE

Run = Callable[[Coroutine[Any, Any, None]], None]
Pair = tuple[socket.socket, socket.socket]

IN, OUT, PRI, RDHUP = select.EPOLLIN, select.EPOLLOUT, select.EPOLLPRI, select.EPOLLRDHUP
ET, ONESHOT = select.EPOLLET, select.EPOLLONESHOT


@pytest.fixture
def run(loop_factory: Callable[[], asyncio.AbstractEventLoop]) -> Iterator[Run]:
    """Runs a coroutine on each loop."""
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        yield runner.run


@contextmanager
def connection() -> Iterator[Pair]:
    """Both ends of a TCP connection, the first non-blocking."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        peer = socket.create_connection(listener.getsockname())
        served, _ = listener.accept()
    served.setblocking(False)
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with peer, served:
        yield served, peer


class Seen:
    """Records events, and lets a test wait for the next."""

    def __init__(self) -> None:
        self.events: list[tuple[int, int]] = []
        self._arrived = asyncio.Event()

    def __call__(self, fd: int, events: int) -> None:
        self.events.append((fd, events))
        self._arrived.set()

    async def wait(self, count: int = 1) -> list[int]:
        """The masks seen, once there are *count*."""
        async with asyncio.timeout(DEADLINE):
            while len(self.events) < count:
                self._arrived.clear()
                await self._arrived.wait()
        return [events for _, events in self.events]


async def turns(count: int = 20) -> None:
    """Give the loop turns in which a level-triggered event would come again, and a spinning watch would be seen."""
    loop = asyncio.get_running_loop()
    for _ in range(count):
        reader, writer = os.pipe()
        os.write(writer, b"x")
        ready = asyncio.Event()
        loop.add_reader(reader, ready.set)
        await ready.wait()
        loop.remove_reader(reader)
        os.close(reader)
        os.close(writer)


def test_an_edge_comes_once_and_again_with_the_next_segment(run: Run) -> None:
    async def main() -> None:
        seen = Seen()
        with connection() as (served, peer), EpollWatcher() as watcher:
            watcher.add(served.fileno(), IN | ET, seen)
            peer.send(b"0123456789")
            await seen.wait()
            assert served.recv(1) == b"0"
            await turns()
            assert len(seen.events) == 1, "nine bytes wait, but no edge came"
            peer.send(b"x")
            assert await seen.wait(2) == [IN, IN]
            watcher.remove(served.fileno())

    run(main())


def test_a_level_comes_again_until_it_is_read(run: Run) -> None:
    async def main() -> None:
        seen = Seen()
        with connection() as (served, peer), EpollWatcher() as watcher:
            watcher.add(served.fileno(), IN, seen)
            peer.send(b"x")
            await seen.wait(5)
            served.recv(10)
            count = len(seen.events)
            await turns()
            assert len(seen.events) <= count + 1
            watcher.remove(served.fileno())

    run(main())


def test_no_edge_is_lost_under_many_small_sends(run: Run) -> None:
    async def main() -> None:
        received = 0
        wake_ups = 0
        finished = asyncio.Event()
        with connection() as (served, peer), EpollWatcher() as watcher:

            def ready(fd: int, events: int) -> None:
                nonlocal received, wake_ups
                wake_ups += 1
                try:
                    while data := served.recv(16):
                        received += len(data)
                except BlockingIOError:
                    pass
                if received == 3000:
                    finished.set()

            def send() -> None:
                for _ in range(3000):
                    peer.send(b"x")

            watcher.add(served.fileno(), IN | ET, ready)
            sender = threading.Thread(target=send)
            sender.start()
            async with asyncio.timeout(DEADLINE):
                await finished.wait()
            sender.join()
            before = wake_ups
            await turns()
            assert wake_ups <= before + 1, "an idle watch does not wake the loop"
            watcher.remove(served.fileno())

    run(main())


def test_an_epoll_that_is_not_polled_stays_readable_and_polling_alone_takes_the_edge(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        calls: list[int] = []
        with connection() as (served, peer), select.epoll() as epoll:
            epoll.register(served.fileno(), IN | ET)
            loop.add_reader(epoll.fileno(), calls.append, 1)
            peer.send(b"x")
            await turns()
            assert len(calls) > 5, "it spins"
            assert epoll.poll(0) == [(served.fileno(), IN)]
            await turns(1)
            calls.clear()
            await turns()
            assert calls == [] and epoll.poll(0) == [], "although the byte was not read"
            loop.remove_reader(epoll.fileno())

    run(main())


def test_a_closed_descriptor_goes_on_reporting_while_a_duplicate_is_open() -> None:
    with connection() as (served, peer), select.epoll() as epoll:
        fd = served.fileno()
        epoll.register(fd, IN)
        peer.send(b"x")
        duplicate = served.dup()
        served.close()
        assert epoll.poll(DEADLINE) == [(fd, IN)]
        with pytest.raises(OSError):
            epoll.unregister(fd)
        duplicate.close()
        assert epoll.poll(0) == []


def test_more_ready_descriptors_than_a_batch_are_all_reported_once(run: Run) -> None:
    async def main() -> None:
        count = 3 * BATCH + 1
        seen = Seen()
        pairs = [socket.socketpair() for _ in range(count)]
        with EpollWatcher() as watcher:
            for mine, other in pairs:
                other.send(b"x")
                watcher.add(mine.fileno(), IN | ET, seen)
            await seen.wait(count)
            await turns()
            assert sorted(fd for fd, _ in seen.events) == sorted(mine.fileno() for mine, _ in pairs)
        for pair in pairs:
            for end in pair:
                end.close()

    run(main())


def test_oneshot_is_silent_until_a_worker_rearms_it_and_reports_what_came_meanwhile(run: Run) -> None:
    async def main() -> None:
        seen = Seen()
        with connection() as (served, peer), EpollWatcher() as watcher:
            watcher.add(served.fileno(), IN | ET | ONESHOT, seen)
            peer.send(b"a")
            await seen.wait()
            peer.send(b"b")
            await turns()
            assert len(seen.events) == 1
            asleep = asyncio.create_task(seen.wait(2))
            await asyncio.sleep(0)
            worker = threading.Thread(target=watcher.rearm, args=(served.fileno(), IN | ET | ONESHOT))
            asyncio.get_running_loop().call_later(0.01, worker.start)
            assert await asleep == [IN, IN]
            worker.join()
            watcher.remove(served.fileno())

    run(main())


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


def test_modify_reports_an_edge_again_and_may_change_the_callback(run: Run) -> None:
    async def main() -> None:
        first, second = Seen(), Seen()
        with connection() as (served, peer), EpollWatcher() as watcher:
            watcher.add(served.fileno(), IN | ET, first)
            peer.send(b"x")
            await first.wait()
            watcher.modify(served.fileno(), IN | ET)
            await first.wait(2)
            watcher.modify(served.fileno(), IN | OUT | ET, second)
            assert await second.wait() == [IN | OUT]
            assert len(first.events) == 2
            watcher.remove(served.fileno())
            with pytest.raises(KeyError):
                watcher.modify(served.fileno(), IN)

    run(main())


def test_watching_for_out_under_edge_triggering_is_told_of_it_with_every_segment(run: Run) -> None:
    async def main() -> None:
        seen = Seen()
        with connection() as (served, peer), EpollWatcher() as watcher:
            watcher.add(served.fileno(), IN | OUT | ET, seen)
            assert await seen.wait() == [OUT]
            for count in (2, 3, 4):
                peer.send(b"x")
                assert (await seen.wait(count))[-1] == IN | OUT
                served.recv(10)
            watcher.remove(served.fileno())

    run(main())


def test_urgent_data_comes_once_edge_triggered_and_until_read_level_triggered(run: Run) -> None:
    async def main() -> None:
        for flags, again in ((PRI | ET, False), (PRI, True)):
            seen = Seen()
            with connection() as (served, peer), EpollWatcher() as watcher:
                watcher.add(served.fileno(), flags, seen)
                peer.send(b"normal bytes do not wake it")
                await turns()
                assert seen.events == []
                peer.send(b"abc", socket.MSG_OOB)
                assert await seen.wait() == [PRI]
                await turns()
                assert (len(seen.events) > 1) is again
                assert served.recv(1, socket.MSG_OOB) == b"c"
                await turns(1)
                count = len(seen.events)
                await turns()
                assert len(seen.events) == count
                watcher.remove(served.fileno())

    run(main())


def test_a_half_closed_peer_comes_once_edge_triggered_and_for_ever_level_triggered(run: Run) -> None:
    async def main() -> None:
        for flags, again in ((RDHUP | ET, False), (RDHUP, True)):
            seen = Seen()
            with connection() as (served, peer), EpollWatcher() as watcher:
                watcher.add(served.fileno(), flags, seen)
                peer.shutdown(socket.SHUT_WR)
                assert (await seen.wait())[0] == RDHUP
                await turns()
                assert (len(seen.events) > 1) is again
                watcher.remove(served.fileno())

    run(main())


def test_a_descriptor_of_a_transport_can_be_watched_beside_it(run: Run) -> None:
    async def main() -> None:
        seen = Seen()
        received = asyncio.get_running_loop().create_future()

        class Protocol(asyncio.Protocol):
            def data_received(self, data: bytes) -> None:
                received.set_result(data)

        with connection() as (served, peer), EpollWatcher() as watcher:
            transport, _ = await asyncio.get_running_loop().connect_accepted_socket(Protocol, served)
            fd = transport.get_extra_info("socket").fileno()
            watcher.add(fd, PRI | ET, seen)
            peer.send(b"stream")
            peer.send(b"!", socket.MSG_OOB)
            assert await seen.wait() == [PRI]
            async with asyncio.timeout(DEADLINE):
                assert await received == b"stream"
            watcher.remove(fd)
            transport.abort()

    run(main())


def test_a_callback_that_raises_is_reported_and_the_others_of_its_batch_still_run(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        reported: list[dict[str, Any]] = []
        loop.set_exception_handler(lambda loop, context: reported.append(context))
        seen = Seen()
        pairs = [socket.socketpair() for _ in range(5)]

        def fail(fd: int, events: int) -> None:
            raise ZeroDivisionError

        with EpollWatcher() as watcher:
            for number, (mine, other) in enumerate(pairs):
                other.send(b"x")
                watcher.add(mine.fileno(), IN | ET, fail if number % 2 == 0 else seen)
            await seen.wait(2)
            await turns(1)
        assert [type(context["exception"]) for context in reported] == [ZeroDivisionError] * 3
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
