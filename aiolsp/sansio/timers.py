"""Keep timers in the order of their deadlines: the sorted timer list, without a clock.

Book p. 196, listing 11-2 (sort_timer_lst); p. 200, listing 11-3 drives it.

Facts
    - A server gives most timers one constant timeout, so a new deadline is nearly always the latest of all.
    - Most timers never fire: the connection speaks, or closes, before. What must be cheap is adding, cancelling and
      postponing, not firing.
    - A request postpones its connection's timer: an attribute store costs 0.1 us, moving a list node 0.5 us, and
      asyncio's ``call_later`` with ``cancel`` 0.7-1.6 us.
Consequence
    Of the book's three structures, the heap (p. 213) pays O(log n) for the constant case as well, and cannot cancel
    from the middle without a search or a dead entry. The wheel (p. 206) is O(1) but rounds deadlines to its slots. The
    ascending list is exact, cancels in O(1), and adds in O(1) where it searches from the end at which the place is.
    But whoever can choose among timeouts chooses the other end: one byte on each of 8,000 idle connections, the latest
    first, made their deadlines 10 s out of 75, and kept a web server's loop for 0.6 s.
Decision
    A doubly linked list, searched from the tail, or, where that would pass timers of other slots, from the last timer
    of the same slot, a 1/SLOTS of a second, or of the next one before that has any: an index has the last of each, and
    the slots in order, as a wheel has them (but the list decides). Equal deadlines keep the order in which they were
    added.
    Activity postpones lazily: a connection stores ``last_activity = now`` and does not touch the list. When its
    `IdleTimer` comes due, `tick` asks for the real deadline, and puts the timer back there instead of reporting it.
    (Storing lazily and also moving the node to the tail would break the order: the head would no longer be the first.)
Price
    The index, 0.2 us for each timer that comes or goes, or ten times that where each has a slot to itself, as with 50 a
    second. Timers of mixed timeouts cost a bisection of the slots, and a search among those of one: as many as are set
    in a slot's time. `tick` puts back all it finds in one merge, so that n of them at once cost O(n log n).

The C++ original searches from the head, so that the constant timeout is its worst case, O(n) for each connection; and
on activity it calls add_timer for a timer already in the list (p. 203) instead of adjust_timer, which leaves the list
with a node linked twice. Here a second `add` raises.

Calling sequence of a timer: ``new -> add [-> adjust*] -> cancel | returned by tick -> [add again]``.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterator
from operator import attrgetter

MOST = 32
"""Timers that a driver calls at a time before it has others go on; if each tells a client why it is closed, 3 ms."""

ASKED = 16
"""Timers that are put back, in 1.5 to 3 us each, in the time that one takes to be called."""

LATE = 0.25
"""Seconds by which a wake-up may be late before it is the whole process that was held up; a busy loop has 10 ms."""

SLOTS = 64
"""Slots of a second: among 8,000 timers of one second a search passes 60, and 4,000 if the second were the slot."""


class Timer:
    """A deadline (seconds, on any one clock) and what its driver calls once it has passed."""

    __slots__ = ("_list", "_next", "_previous", "callback", "cancelled", "deadline")

    def __init__(self, deadline: float, callback: Callable[[], object]) -> None:
        self.deadline = deadline
        self.callback = callback
        self.cancelled = False
        self._list: SortedTimerList | None = None
        self._previous: Timer | None = None
        self._next: Timer | None = None

    @property
    def active(self) -> bool:
        """Whether it is in a list, so that it will expire."""
        return self._list is not None

    def due(self) -> float:
        """The deadline that counts when this timer's turn has come."""
        return self.deadline


class IdleTimer(Timer):
    """A timer whose owner may have been active since: *deadline_of* then names a later deadline.

    ``IdleTimer(now + 75, self.close, lambda: self.last_activity + 75)``: the owner only stores ``last_activity``.
    *deadline_of* is asked once each time the timer comes due, and only answers: it must not raise or touch the list. A
    deadline earlier than the one in the list needs `adjust`.
    """

    __slots__ = ("deadline_of",)

    def __init__(self, deadline: float, callback: Callable[[], object], deadline_of: Callable[[], float]) -> None:
        # One is made for each connection: by way of Timer's, it would take half as long again.
        self.deadline = deadline
        self.callback = callback
        self.deadline_of = deadline_of
        self.cancelled = False
        self._list = self._previous = self._next = None

    def due(self) -> float:
        """What the owner says now."""
        return self.deadline_of()


class SortedTimerList:
    """An ascending doubly linked list of timers; one thread only."""

    def __init__(self) -> None:
        self._head: Timer | None = None
        self._tail: Timer | None = None
        self._last_of: dict[int, Timer] = {}
        """The last timer of each slot that has any."""
        self._slots: list[int] = []
        """Those slots, in order."""
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Timer]:
        timer = self._head
        while timer is not None:
            yield timer
            timer = timer._next

    def add(self, timer: Timer) -> None:
        """Add *timer* at its deadline: O(1) if that is the latest. Raises ValueError if it is in a list already."""
        if timer._list is not None:
            raise ValueError("this timer is in a list already: adjust it instead")
        _check(timer.deadline)
        timer.cancelled = False
        self._insert(timer, self._tail)

    def adjust(self, timer: Timer, deadline: float) -> None:
        """Give *timer* another *deadline*, later or earlier. Raises ValueError if it is not in this list."""
        if timer._list is not self:
            raise ValueError("this timer is not in this list: add it first")
        _check(deadline)
        search_from = self._tail if deadline >= timer.deadline else timer._previous
        if search_from is timer:
            search_from = timer._previous
        self._unlink(timer)
        timer.deadline = deadline
        self._insert(timer, search_from)

    def cancel(self, timer: Timer) -> bool:
        """Take *timer* out and mark it cancelled: O(1). False if it was in no list: never added, expired, cancelled.

        Marked also means: a driver that already holds it among the expired ones does not call it any more. Raises
        ValueError if it is in another list.
        """
        if timer._list is not None and timer._list is not self:
            raise ValueError("this timer is in another list")
        timer.cancelled = True
        if timer._list is None:
            return False
        self._unlink(timer)
        return True

    def tick(self, now: float, most: float = math.inf) -> list[Timer]:
        """Take out and return the timers whose deadline is *now* or before, earliest first; the caller calls them.

        No more than *most* of them: the others stay, and are due. A timer whose owner was active since is put back at
        its later deadline and not returned; so are no more than ASKED for each of *most*.
        """
        asked = ASKED * most
        expired: list[Timer] = []
        postponed: list[Timer] = []
        while (timer := self._head) is not None and timer.deadline <= now and len(expired) < most:
            if len(postponed) >= asked:
                break
            due = timer.due()
            self._unlink(timer)
            if due > now:
                timer.deadline = due
                postponed.append(timer)
            else:
                expired.append(timer)
        postponed.sort(key=attrgetter("deadline"))
        place = self._tail
        for timer in reversed(postponed):
            place = self._insert(timer, place)
        return expired

    def next_deadline(self) -> float | None:
        """When the first timer comes due; None if there is none."""
        return None if self._head is None else self._head.deadline

    def _insert(self, timer: Timer, place: Timer | None) -> Timer | None:
        """Link *timer* behind the first node, from *place* towards the head, that is not later; return that node."""
        slot = int(timer.deadline * SLOTS)
        if place is not None and int(place.deadline * SLOTS) > slot:
            place = self._near(slot)
        while place is not None and place.deadline > timer.deadline:
            place = place._previous
        following = self._head if place is None else place._next
        timer._previous, timer._next, timer._list = place, following, self
        if place is None:
            self._head = timer
        else:
            place._next = timer
        if following is None:
            self._tail = timer
        else:
            following._previous = timer
        if following is None or int(following.deadline * SLOTS) > slot:
            if slot not in self._last_of:
                insort(self._slots, slot)
            self._last_of[slot] = timer
        self._length += 1
        return place

    def _near(self, slot: int) -> Timer | None:
        """The last node of *slot*, or of the next one before that has any; None if there is none."""
        number = bisect_right(self._slots, slot)
        return self._last_of[self._slots[number - 1]] if number else None

    def _unlink(self, timer: Timer) -> None:
        previous, following = timer._previous, timer._next
        slot = int(timer.deadline * SLOTS)
        if self._last_of[slot] is timer:
            if previous is not None and int(previous.deadline * SLOTS) == slot:
                self._last_of[slot] = previous
            else:
                del self._last_of[slot], self._slots[bisect_left(self._slots, slot)]
        if previous is None:
            self._head = following
        else:
            previous._next = following
        if following is None:
            self._tail = previous
        else:
            following._previous = previous
        timer._previous = timer._next = timer._list = None
        self._length -= 1


def _check(deadline: float) -> None:
    # A deadline that compares with nothing, or that no clock reaches, would stop every timer behind it.
    if not math.isfinite(deadline * SLOTS):
        raise ValueError(f"{deadline} is no deadline")
