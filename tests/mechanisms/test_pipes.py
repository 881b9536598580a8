"""The read end of a pipe on both loops: what comes, back-pressure, and an end that need not come."""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import Awaitable, Callable

import pytest

from aiolsp.mechanisms.pipes import PipeReader

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


def run(test: Callable[[], Awaitable[None]], loop_factory: LoopFactory) -> None:
    async def main() -> None:
        async with asyncio.timeout(20):
            await test()

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())


class Reader:
    """A pipe whose output is collected, and waited for."""

    def __init__(self) -> None:
        fd, self.write_end = os.pipe()
        self.data = b""
        self.pieces = 0
        self._came = asyncio.Event()
        self.pipe = PipeReader(fd, self._add)

    def _add(self, data: bytes) -> None:
        self.data += data
        self.pieces += 1
        self._came.set()

    async def until(self, size: int) -> None:
        while len(self.data) < size:
            self._came.clear()
            await self._came.wait()


def test_what_is_written_comes(loop_factory: LoopFactory) -> None:
    async def test() -> None:
        reader = Reader()
        os.write(reader.write_end, b"hello")
        await reader.until(5)
        os.write(reader.write_end, b" again")
        await reader.until(11)
        assert reader.data == b"hello again"
        reader.pipe.close()
        reader.pipe.close()
        with pytest.raises(BrokenPipeError):
            os.write(reader.write_end, b"x")
        os.close(reader.write_end)

    run(test, loop_factory)


def test_while_it_pauses_the_pipe_fills_up_and_nothing_is_lost(loop_factory: LoopFactory) -> None:
    async def test() -> None:
        reader = Reader()
        reader.pipe.pause()
        reader.pipe.pause()
        os.set_blocking(reader.write_end, False)
        size = os.write(reader.write_end, bytes(1 << 20))
        with pytest.raises(BlockingIOError):
            os.write(reader.write_end, b"x")
        await asyncio.sleep(0)
        assert not reader.data and size == fcntl.fcntl(reader.write_end, fcntl.F_GETPIPE_SZ)
        reader.pipe.resume()
        await reader.until(size)
        assert reader.pieces == 1
        reader.pipe.close()
        os.close(reader.write_end)

    run(test, loop_factory)


@pytest.mark.parametrize("paused", [False, True])
def test_finishing_gives_what_is_there_though_somebody_could_still_write(
    loop_factory: LoopFactory, paused: bool
) -> None:
    async def test() -> None:
        reader = Reader()
        if paused:
            reader.pipe.pause()
        os.write(reader.write_end, b"the rest")
        reader.pipe.finish()
        assert reader.data == b"the rest"
        with pytest.raises(BrokenPipeError):
            os.write(reader.write_end, b"too late")
        reader.pipe.finish()
        reader.pipe.resume()
        os.close(reader.write_end)

    run(test, loop_factory)


def test_finishing_closes_though_who_gets_the_rest_raises(loop_factory: LoopFactory) -> None:
    def fail(data: bytes) -> None:
        raise ZeroDivisionError

    async def test() -> None:
        mine, theirs = os.pipe()
        reader = PipeReader(mine, fail)
        os.write(theirs, b"the rest")
        with pytest.raises(ZeroDivisionError):
            reader.finish()
        with pytest.raises(BrokenPipeError):
            os.write(theirs, b"nobody reads")
        os.close(theirs)

    run(test, loop_factory)


def test_the_end_of_the_pipe_is_no_data_and_does_not_spin(loop_factory: LoopFactory) -> None:
    async def test() -> None:
        reader = Reader()
        os.close(reader.write_end)
        await asyncio.sleep(0)
        while reader.pipe._reading:  # noqa: ASYNC110 - the end is told to nobody
            await asyncio.sleep(0.001)
        reader.pipe.resume()
        assert not reader.pipe._reading and not reader.pieces
        reader.pipe.finish()

    run(test, loop_factory)
