"""A seat of the shared-memory chat: lines out, lines in, who waits for whom, and who is told that he missed some."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from aiolsp.sansio.chat import LINE_LIMIT, PATIENCE, TURN_LIMIT
from aiolsp.sansio.shmchat import Seat
from aiolsp.sansio.slots import BATCH, CELL, SharedSlots, memory_size

CELLS = 4


def memory(slots: int, cells: int = CELLS) -> SharedSlots:
    shared = SharedSlots(memoryview(bytearray(memory_size(slots, cells * CELL))), slots, cells * CELL)
    for slot in range(slots):
        assert shared.take() == slot
    return shared


def seats(count: int, cells: int = CELLS) -> list[Seat]:
    shared = memory(count, cells)
    return [Seat(shared, slot) for slot in range(count)]


def lines(count: int) -> bytes:
    return b"".join(b"line %d\n" % number for number in range(count))


def test_what_one_says_the_others_hear_and_their_doorbells_are_rung() -> None:
    first, second, third = seats(3)
    assert first.said(b"hello\nwor", 0) == [1, 2]
    assert first.said(b"l", 0) == []
    assert second.hear().data == third.hear().data == b"hello\n"
    assert first.said(b"d\r\n", 0) == [1, 2]
    assert second.hear().data == b"world\n"
    assert first.hear() == (b"", 0, [])


def test_one_who_leaves_says_its_last_line_and_hears_no_more() -> None:
    first, second = seats(2)
    assert first.said(b"bye", 0) == []
    assert set(first.leave(0)) == {1}
    assert second.hear().data == b"bye\n"
    second.said(b"are you there?\n", 0)
    assert first.hear() == (b"", 0, [])


def test_a_flood_waits_for_one_that_was_not_scheduled_yet_and_goes_on_when_rung() -> None:
    first, second = seats(2)
    first.said(lines(CELLS + 2), 0)
    assert first.held_up and first.next_deadline() == PATIENCE
    heard = second.hear()
    assert heard == (lines(CELLS), 0, [0])
    assert first.write(0.5) == [1]
    assert not first.held_up and first.next_deadline() is None
    assert second.hear().data == lines(CELLS + 2)[len(lines(CELLS)) :]


def test_a_flood_waits_for_one_that_is_stopped_only_as_long_as_its_patience() -> None:
    first, second = seats(2)
    first.said(lines(3 * CELLS), 0)
    assert first.tick(PATIENCE / 2) == [] and first.held_up
    assert first.tick(PATIENCE) == [1] and not first.held_up
    assert second.hear().data == b"* 8 lines missed\n" + lines(12)[len(lines(8)) :]


def test_nobody_waits_for_one_whose_client_lags_and_it_is_told_what_it_missed() -> None:
    first, second = seats(2)
    assert second.lag() == [0]
    first.said(lines(CELLS + 1), 0)
    assert not first.held_up
    assert second.hear() == (b"", 0, [])
    second.catch_up()
    heard = second.hear()
    assert heard.missed == 1 and heard.data == b"* 1 line missed\n" + lines(CELLS + 1)[len(lines(1)) :]


def test_one_who_begins_to_lag_rings_those_who_wait_for_it() -> None:
    first, second = seats(2)
    first.said(lines(CELLS + 1), 0)
    assert second.lag() == [0]
    assert first.write(0) == [1] and not first.held_up


def test_the_end_of_one_who_is_waited_for_makes_room() -> None:
    shared = memory(2)
    first = Seat(shared, 0)
    first.said(lines(CELLS + 1), 0)
    shared.release(1)
    assert first.write(0) == [] and not first.held_up


def test_one_turn_hears_several_speakers_up_to_a_bound_and_rings_itself_for_the_rest() -> None:
    first, second, third = seats(3, cells=2 * BATCH)
    first.said(b"short\n", 0)
    second.said(b"too\n", 0)
    assert third.hear() == (b"short\ntoo\n", 0, [])
    longest = b"x" * LINE_LIMIT + b"\n"
    first.said(longest * (BATCH + 1), 0)
    second.said(b"after it\n", 0)
    hearing = third.hear()
    assert len(hearing.data) >= TURN_LIMIT and hearing.data == longest * BATCH and 2 in hearing.ring
    hearing = third.hear()
    assert hearing.data == b"after it\n" + longest and 2 not in hearing.ring


@given(st.integers(2, 4), st.lists(st.integers(1, 3 * CELLS), max_size=8), st.integers(0, 1 << 30))
@settings(max_examples=150, deadline=None)
def test_nothing_is_lost_and_nobody_waits_for_ever_in_whatever_order_they_run(
    count: int, bursts: list[int], seed: int
) -> None:
    room = seats(count)
    said: list[list[bytes]] = [[] for _ in room]
    heard = [b"" for _ in room]
    rung: set[int] = set()
    chance = random.Random(seed)
    todo = list(bursts)
    while todo or rung:
        if todo and (not rung or chance.random() < 0.5):
            speaker = chance.randrange(count)
            burst = [b"%d says %d" % (speaker, len(said[speaker]) + number) for number in range(todo.pop())]
            said[speaker] += burst
            rung.update(room[speaker].said(b"\n".join(burst) + b"\n", 0))
        else:
            slot = chance.choice(sorted(rung))
            rung.discard(slot)
            hearing = room[slot].hear()
            assert hearing.missed == 0
            heard[slot] += hearing.data
            rung.update(hearing.ring, room[slot].write(0))
    for slot, text in enumerate(heard):
        assert not room[slot].held_up
        for speaker, own in enumerate(said):
            found = [line for line in text.splitlines() if line.startswith(b"%d says" % speaker)]
            assert found == ([] if speaker == slot else own)
