"""The private epoll on both loops: each fact of its essay."""

from __future__ import annotations

import asyncio
import select
import socket
import threading

import pytest

from aiolsp.mechanisms.epoll import BATCH, EpollWatcher
from harness import DEADLINE
from watching import ET, IN, ONESHOT, OUT, PRI, RDHUP, Run, Seen, connection, turns


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
