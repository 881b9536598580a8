"""Places that several processes share, and what becomes of those of a process that was killed."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

from aiolsp.linux.places import Places


def in_child(job: Callable[[], int]) -> int:
    """The exit status of a forked child that does *job*."""
    pid = os.fork()
    if pid == 0:
        os._exit(job())
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def take_all(places: Places) -> int:
    count = 0
    while places.take() is not None:
        count += 1
    return count


def test_there_are_as_many_places_as_were_asked_for() -> None:
    with Places(3) as places:
        assert [places.take() for _ in range(4)] == [0, 1, 2, None]
        assert places.taken == 3


def test_a_place_that_was_given_back_can_be_taken_again() -> None:
    with Places(2) as places:
        places.take()
        second = places.take()
        assert second is not None
        places.give(second)
        assert places.take() == second and places.take() is None


def test_what_one_process_has_no_other_gets() -> None:
    with Places(3) as places:
        places.take()
        assert in_child(lambda: take_all(places)) == 2


def test_a_child_does_not_have_its_parents_places() -> None:
    def give_the_parents() -> int:
        places.take()
        try:
            places.give(0)
        except KeyError:
            return 7
        return 0

    with Places(2) as places:
        assert places.take() == 0
        assert in_child(give_the_parents) == 7


def test_a_process_that_is_killed_gives_its_places_back() -> None:
    with Places(3) as places:
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.write(write, bytes([take_all(places)]))
            signal.pause()
        try:
            assert os.read(read, 1) == b"\x03"
            assert places.take() is None
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            os.close(read)
            os.close(write)
        assert take_all(places) == 3


def test_closing_gives_all_back_and_may_be_repeated() -> None:
    places = Places(1)
    places.take()
    places.close()
    places.close()
    assert places.taken == 0
