"""Slots in shared memory: no line is torn, lost unnoticed or counted wrong, whoever is interrupted where."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiolsp.linux.shm import SharedMemory
from aiolsp.sansio.slots import BATCH, CELL, LONGEST, MINIMUM, SharedSlots, SlotReader, SlotWriter, memory_size

CELLS = 4


class Interrupted:
    """A view of the memory that lets somebody else run before each store, and in the middle of a long one."""

    def __init__(self, view: memoryview, between: Callable[[], object]) -> None:
        self._view = view
        self._between = between

    def __getitem__(self, key: Any) -> Any:
        self._between()
        return self._view[key]

    def __setitem__(self, key: Any, value: Any) -> None:
        self._between()
        if isinstance(key, slice) and len(value) > 1:
            half = len(value) // 2
            self._view[key.start : key.start + half] = value[:half]
            self._between()
            self._view[key.start + half : key.stop] = value[half:]
        else:
            self._view[key] = value


def interrupt(shared: SharedSlots, between: Callable[[], object]) -> SharedSlots:
    """Another process's look at the same memory, with *between* called at each of its loads and stores."""
    other = SharedSlots.__new__(SharedSlots)
    other.__dict__.update(shared.__dict__)
    other.__dict__["_words"] = Interrupted(shared._words, between)
    other.__dict__["_bytes"] = Interrupted(shared._bytes, between)
    return other


def memory(slots: int = 2, cells: int = CELLS) -> SharedSlots:
    """Fresh memory with all slots taken."""
    shared = SharedSlots(memoryview(bytearray(memory_size(slots, cells * CELL))), slots, cells * CELL)
    for slot in range(slots):
        assert shared.take() == slot
    return shared


def line(number: int) -> bytes:
    """A line that tells its number in each of its bytes, and is as long as no other near it."""
    return b"%c" % (number % 251) * (1 + number * 37 % LONGEST)


class Listener:
    """Reads slot 0 and checks that each line is the one that was written, and that none is unaccounted for."""

    def __init__(self, shared: SharedSlots, slot: int = 1) -> None:
        self.reader = SlotReader(shared, slot)
        self.next = 0
        self.lines = 0
        self.missed = 0

    def read(self) -> bool:
        for news in self.reader.read():
            self.missed += news.missed
            self.next += news.missed
            for heard in news.lines:
                assert heard == line(self.next)
                self.next += 1
                self.lines += 1
        return True

    def read_all(self) -> None:
        while self.reader.waiting:
            self.read()


def test_lines_come_in_order_to_all_others_and_not_to_their_writer() -> None:
    shared = memory(3)
    listeners = [SlotReader(shared, slot) for slot in range(3)]
    writer = SlotWriter(shared, 0)
    for text in (b"one\n", b"", b"x" * LONGEST):
        writer.write(text)
    assert list(listeners[0].read()) == []
    for listener in listeners[1:]:
        assert [(news.slot, news.lines, news.missed) for news in listener.read()] == [
            (0, [b"one\n", b"", b"x" * LONGEST], 0)
        ]
        assert list(listener.read()) == []


def test_a_reader_hears_from_the_moment_its_slot_was_taken() -> None:
    shared = memory()
    writer = SlotWriter(shared, 0)
    writer.write(b"before")
    shared.release(1)
    writer.write(b"still before")
    assert shared.take() == 1
    writer.write(b"after")
    assert [news.lines for news in SlotReader(shared, 1).read()] == [[b"after"]]


def test_counts_go_on_when_a_slot_changes_hands() -> None:
    shared = memory()
    reader = SlotReader(shared, 1)
    SlotWriter(shared, 0).write(b"first owner")
    shared.release(0)
    assert shared.take() == 0
    SlotWriter(shared, 0).write(b"second owner")
    assert [(news.lines, news.missed) for news in reader.read()] == [([b"first owner", b"second owner"], 0)]
    assert shared.published() == [2, 0]


@given(st.lists(st.integers(0, 3 * CELLS), max_size=20))
@settings(max_examples=200, deadline=None)
def test_what_is_missed_and_what_is_heard_is_together_what_was_written(bursts: list[int]) -> None:
    shared = memory()
    listener, writer, written = Listener(shared), SlotWriter(shared, 0), 0
    for burst in bursts:
        for _ in range(burst):
            writer.write(line(written))
            written += 1
        before = listener.missed
        listener.read_all()
        assert listener.missed - before == max(0, burst - CELLS)
        assert listener.next == written


@given(st.integers(0, 300), st.data())
@settings(max_examples=300, deadline=None)
def test_a_reader_that_runs_between_any_two_stores_hears_no_torn_line(seed: int, data: st.DataObject) -> None:
    shared = memory()
    listener = Listener(shared)
    choices = data.draw(st.lists(st.booleans(), min_size=1, max_size=60))
    steps: Iterator[bool] = iter(choices)
    writer = SlotWriter(interrupt(shared, lambda: next(steps, True) and listener.read()), 0)
    for number in range(3 * CELLS):
        writer.write(line(number))
    listener.read_all()
    assert listener.next == 3 * CELLS


@given(st.lists(st.integers(0, 2 * CELLS), max_size=200))
@settings(max_examples=300, deadline=None)
def test_a_writer_that_runs_between_any_two_loads_tears_no_line(bursts: list[int]) -> None:
    shared = memory()
    writer, written, burst = SlotWriter(shared, 0), 0, iter(bursts)

    def write() -> None:
        nonlocal written
        for _ in range(next(burst, 0)):
            writer.write(line(written))
            written += 1

    listener = Listener(interrupt(shared, write))
    for _ in range(20):
        listener.read()
    listener.read_all()
    assert listener.next == written


@pytest.mark.parametrize("last", range(6))
@pytest.mark.parametrize("before", [0, 1, CELLS, CELLS + 1])
def test_a_writer_killed_at_any_store_confuses_nobody(last: int, before: int) -> None:
    class Killed(Exception):
        pass

    shared = memory()
    listener = Listener(shared)
    writer = SlotWriter(shared, 0)
    for number in range(before):
        writer.write(line(number))
    steps = iter(range(last))

    def die() -> None:
        if next(steps, None) is None:
            raise Killed

    doomed = SlotWriter(shared, 0)
    doomed._shared = interrupt(shared, die)
    try:
        doomed.write(line(before))
    except Killed:
        pass
    listener.read_all()
    written = shared.published()[0]
    assert written in (before, before + 1) and listener.next == written
    shared.release(0)
    assert shared.take() == 0
    successor = SlotWriter(shared, 0)
    for number in range(written, written + 2):
        successor.write(line(number))
    listener.read_all()
    assert listener.next == written + 2


def test_a_line_whose_bytes_are_not_here_yet_waits_and_is_then_whole() -> None:
    shared = memory()
    reader, writer = SlotReader(shared, 1), SlotWriter(shared, 0)
    writer.write(b"first")
    writer.write(b"second")
    cell = shared._cell(0, 1) // 8
    head = shared._words[cell]
    shared._words[cell] = 0  # a machine that does not keep the order of stores shows the count before the line
    assert [(news.lines, news.missed) for news in reader.read()] == [([b"first"], 0)]
    assert [(news.lines, news.missed) for news in reader.read()] == [([], 0)]
    shared._words[cell] = head
    assert [(news.lines, news.missed) for news in reader.read()] == [([b"second"], 0)]


def test_a_writer_has_room_until_the_slowest_listener_would_be_overtaken() -> None:
    shared = memory(3)
    slow, fast = SlotReader(shared, 1), SlotReader(shared, 2)
    writer = SlotWriter(shared, 0)
    assert writer.room() == CELLS
    for number in range(CELLS):
        writer.write(line(number))
        list(fast.read())
        assert writer.room() == CELLS - 1 - number
    assert [news.missed for news in slow.read()] == [0]
    assert writer.room() == CELLS


def test_nobody_waits_for_one_who_pauses_ends_or_was_given_up() -> None:
    shared = memory(3)
    first, second = SlotReader(shared, 1), SlotReader(shared, 2)
    writer = SlotWriter(shared, 0)
    for number in range(CELLS):
        writer.write(line(number))
    assert writer.room() == 0
    first.pause()
    assert writer.room() == 0
    shared.release(2)
    assert writer.room() == CELLS
    first.resume()
    assert writer.room() == 0
    writer.give_up()
    assert writer.room() == CELLS
    writer.write(line(CELLS))
    assert [news.missed for news in first.read()] == [1]
    assert writer.room() == CELLS and second is not None


@given(st.lists(st.integers(1, CELLS), min_size=1, max_size=40))
@settings(max_examples=100, deadline=None)
def test_a_writer_that_waits_for_room_is_told_of_it(steps: list[int]) -> None:
    shared = memory()
    reader, writer = SlotReader(shared, 1), SlotWriter(shared, 0)
    for step in steps:
        for number in range(min(step, writer.room())):
            writer.write(line(number))
        waits = writer.room() == 0
        told = any(news.tell for news in reader.read())
        assert told or not waits
        assert writer.room() == CELLS


def test_slots_take_turns_and_a_reader_stopped_early_goes_on_with_the_next() -> None:
    shared = memory(3, cells=2 * BATCH)
    writers = [SlotWriter(shared, slot) for slot in range(2)]
    for writer in writers:
        for _ in range(BATCH + 1):
            writer.write(b"line\n")
    reader = SlotReader(shared, 2)
    found = [next(reader.read()) for _ in range(4)]
    assert [(news.slot, len(news.lines)) for news in found] == [(0, BATCH), (1, BATCH), (0, 1), (1, 1)]
    assert reader.waiting == []


def test_the_rings_fill_the_memory_and_no_line_touches_what_is_not_its_own() -> None:
    view = memoryview(bytearray(memory_size(3, CELLS * CELL)))
    shared = SharedSlots(view, 3, CELLS * CELL)
    assert [shared.take() for _ in range(3)] == [0, 1, 2]
    heard = [shared.heard(slot) for slot in range(3)]
    places = [(slot, number) for slot in range(3) for number in range(CELLS)]
    lines = {place: b"%c" % (count + 1) * LONGEST for count, place in enumerate(places)}
    for (slot, _), text in lines.items():
        SlotWriter(shared, slot).write(text)
    assert {key: shared.load(*key) for key in lines} == lines
    assert [shared.heard(slot) for slot in range(3)] == heard and not shared.closed
    assert shared.published() == [shared.claimed(slot) for slot in range(3)] == [CELLS] * 3
    assert view[-1] == lines[2, CELLS - 1][-1]


def test_who_paused_is_not_waited_for_again_because_it_reads_on() -> None:
    shared = memory()
    reader, writer = SlotReader(shared, 1), SlotWriter(shared, 0)
    reader.pause()
    writer.write(b"heard in the pause")
    assert [news.lines for news in reader.read()] == [[b"heard in the pause"]]
    for number in range(2 * CELLS):
        writer.write(line(number))
    assert writer.room() == CELLS


def test_slots_are_given_out_until_there_is_none() -> None:
    shared = memory(2)
    assert shared.take() is None
    assert shared.others(0) == [1]
    shared.release(1)
    assert shared.others(0) == []
    assert not shared.closed
    shared.close()
    assert shared.closed


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="less than two lines"):
        memory_size(2, MINIMUM - 1)
    with pytest.raises(ValueError, match="are less than"):
        SharedSlots(memoryview(bytearray(100)), 2, MINIMUM)
    with pytest.raises(ValueError, match="does not fit"):
        SlotWriter(memory(), 0).write(b"x" * (LONGEST + 1))


def test_two_processes_hammer_one_slot_and_no_line_is_torn() -> None:
    total = 100_000
    size = CELLS * CELL
    with SharedMemory("memfd", memory_size(2, size)) as owned:
        shared = SharedSlots(owned.buffer, 2, size)
        assert (shared.take(), shared.take()) == (0, 1)
        listener = Listener(shared)
        child = os.fork()
        if child == 0:
            try:
                writer = SlotWriter(shared, 0)
                for number in range(total):
                    writer.write(line(number))
            finally:
                os.kill(os.getpid(), signal.SIGKILL)
        ended = False
        while not ended:
            ended = os.waitpid(child, os.WNOHANG)[0] == child
            listener.read()
        listener.read_all()
        assert listener.next == total and listener.lines > CELLS
        shared.detach()
