"""Event flags by name, as the man pages write them, so that a trace shows what the kernel said.

epoll_ctl(2) and poll(2). Book p. 150 and 153, the tables of poll's and epoll's events.
"""

from __future__ import annotations

from functools import lru_cache

_NAMES = {
    0x001: "IN",
    0x002: "PRI",
    0x004: "OUT",
    0x008: "ERR",
    0x010: "HUP",
    0x020: "NVAL",
    0x040: "RDNORM",
    0x080: "RDBAND",
    0x100: "WRNORM",
    0x200: "WRBAND",
    0x400: "MSG",
    0x2000: "RDHUP",
    1 << 28: "EXCLUSIVE",
    1 << 29: "WAKEUP",
    1 << 30: "ONESHOT",
    1 << 31: "ET",
}
"""Bits common to poll and epoll (linux/eventpoll.h); NVAL is poll's alone, from 1 << 28 on they are epoll's alone."""


@lru_cache(maxsize=256)
def flag_names(events: int, prefix: str = "EPOLL") -> str:
    """``EPOLLIN|EPOLLET`` for a mask of epoll; *prefix* ``POLL`` for one of poll(2).

    No event is ``0``; bits without a name are shown together in hexadecimal.
    """
    words = [prefix + name for bit, name in _NAMES.items() if events & bit]
    if unnamed := events & ~sum(_NAMES):
        words.append(hex(unnamed))
    return "|".join(words) or "0"
