"""Durations, counts, rates and sizes as people write and read them: parsed and printed in this one file."""

from __future__ import annotations

import re

SECOND = 1_000_000_000
"""Nanoseconds in a second; every instant and latency of the generator is an integer of nanoseconds."""

MOST = 1e15
"""The highest number that is read: what follows it is not told apart from it by a float for long."""

_DURATION_UNITS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "ms": 1_000_000,
    "s": SECOND,
    "m": 60 * SECOND,
    "h": 3600 * SECOND,
}
_COUNT_UNITS = {"": 1, "k": 1_000, "M": 1_000_000}
_NUMBER_AND_UNIT = re.compile(r"(?P<number>\d+(?:\.\d+)?|\.\d+)\s*(?P<unit>[a-zµ]*)", re.IGNORECASE)


def parse_duration(text: str) -> int:
    """Nanoseconds from ``5``, ``5s``, ``200ms``, ``1.5m``; a bare number is seconds. Raises ValueError."""
    number, unit = _split(text, "duration (5s, 200ms, 1m)")
    factor = _DURATION_UNITS.get(unit or "s")
    if factor is None:
        raise ValueError(f"{text!r} is not a duration (5s, 200ms, 1m)")
    return round(number * factor)


def parse_count(text: str) -> int:
    """A whole number from ``500``, ``10k``, ``2M``. Raises ValueError."""
    number, unit = _split(text, "count (500, 10k, 2M)")
    factor = _COUNT_UNITS.get(unit)
    if factor is None or number * factor != int(number * factor):
        raise ValueError(f"{text!r} is not a count (500, 10k, 2M)")
    return int(number * factor)


def parse_rate(text: str) -> float:
    """Requests per second from ``500``, ``0.5``, ``10k``. Raises ValueError."""
    number, unit = _split(text.removesuffix("/s"), "rate (500, 10k)")
    factor = _COUNT_UNITS.get(unit)
    if factor is None:
        raise ValueError(f"{text!r} is not a rate (500, 10k)")
    return number * factor


def _split(text: str, what: str) -> tuple[float, str]:
    found = _NUMBER_AND_UNIT.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{text!r} is not a {what}")
    number = float(found["number"])
    if number > MOST:
        raise ValueError(f"{text!r} is too much")
    return number, found["unit"]


def format_duration(nanoseconds: float) -> str:
    """Three significant digits with the unit that fits: ``12.3 µs``, ``4.56 ms``, ``1.23 s``."""
    for unit, factor in (("s", SECOND), ("ms", 1_000_000), ("µs", 1_000)):
        if nanoseconds >= factor * 0.9995:
            return f"{three_digits(nanoseconds / factor)} {unit}"
    return f"{nanoseconds:.0f} ns"


def three_digits(number: float) -> str:
    """*number* with three significant digits and no exponent, thousands separated."""
    if number >= 99.95:
        return f"{number:,.0f}"
    return f"{number:.1f}" if number >= 9.995 else f"{number:.2f}"


def format_rate(per_second: float) -> str:
    """A rate with as many digits as it deserves: ``12,345/s``, ``9.87/s``."""
    return f"{three_digits(per_second)}/s"


def format_size(octets: float) -> str:
    """Bytes with the binary unit that fits: ``512 B``, ``1.50 MiB``."""
    for unit, factor in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if octets >= factor:
            return f"{three_digits(octets / factor)} {unit}"
    return f"{octets:.0f} B"
