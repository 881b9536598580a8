"""HTTP dates: written in one form, read in three (RFC 9110 section 5.6.7).

Dates are seconds since 1970-01-01 UTC, as stat(2) and time(2) count them; the current time comes in as an argument.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache

from aiolsp.http1.expressions import expression

LATEST = 253_402_300_799
"""9999-12-31 23:59:59, the last second that a year of four digits can name."""

_MONTHS = (b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec")
_MONTH = b"(?P<month>" + b"|".join(_MONTHS) + b")"
_DAYS = (b"Mon", b"Tue", b"Wed", b"Thu", b"Fri", b"Sat", b"Sun")
_DAY_NAME = b"(?:" + b"|".join(_DAYS) + b")"
_DAY_NAME_L = rb"(?:Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday)"
_DAY = rb"(?P<day>[0-9]{2})"
_TIME = rb"(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2}):(?P<second>[0-9]{2})"
_YEAR = rb"(?P<year>[0-9]{4})"

_FORMS = (
    expression(_DAY_NAME + rb", " + _DAY + rb" " + _MONTH + rb" " + _YEAR + rb" " + _TIME + rb" GMT"),
    expression(_DAY_NAME_L + rb", " + _DAY + rb"-" + _MONTH + rb"-(?P<year>[0-9]{2}) " + _TIME + rb" GMT"),
    expression(_DAY_NAME + rb" " + _MONTH + rb" (?P<day>[0-9]{2}| [0-9]) " + _TIME + rb" " + _YEAR),
)
"""IMF-fixdate, rfc850-date, asctime-date. That the day has its right name is not checked: it adds nothing."""


def clamp(seconds: float) -> int:
    """The whole second of the years 1970 to 9999 that HTTP names *seconds* by: the one begun, or the nearest."""
    return int(min(max(seconds, 0), LATEST))


def format_date(seconds: float) -> bytes:
    """*seconds* as IMF-fixdate, ``Sun, 06 Nov 1994 08:49:37 GMT``, clamped to the years 1970 to 9999."""
    days, second = divmod(clamp(seconds), 86_400)
    return b"%b %02d:%02d:%02d GMT" % (_format_day(days), second // 3600, second // 60 % 60, second % 60)


@lru_cache(maxsize=128)
def _format_day(days: int) -> bytes:
    """The day that comes *days* after 1970-01-01; the files of a site have many times, but few days."""
    # Not strftime, which names days and months in the language of the process.
    day = date(1970, 1, 1) + timedelta(days)
    return b"%b, %02d %b %04d" % (_DAYS[day.weekday()], day.day, _MONTHS[day.month - 1], day.year)


def parse_date(value: bytes, now: float) -> int | None:
    """The second that *value* names in any of the three forms, or None if it is no HTTP date.

    *now* gives a year of two digits its century: a date that appears to be more than 50 years ahead is in the past.
    """
    for form in _FORMS:
        match = form.fullmatch(value)
        if match is not None:
            return _seconds(match, now)
    return None


def _seconds(match: re.Match[bytes], now: float) -> int | None:
    month = _MONTHS.index(match["month"]) + 1
    day, hour, minute, second = (int(match[name]) for name in ("day", "hour", "minute", "second"))
    year = int(match["year"])
    if len(match["year"]) == 2:
        year = _full_year(year, (month, day, hour, minute, second), now)
    # The grammar allows the leap second 60, which POSIX time counts as the first second of the next minute.
    leap = second == 60
    try:
        moment = datetime(year, month, day, hour, minute, second - leap, tzinfo=UTC)
    except ValueError:
        return None
    return int(moment.timestamp()) + leap


def _full_year(two_digits: int, rest: tuple[int, ...], now: float) -> int:
    today = datetime.fromtimestamp(clamp(now), UTC)
    year = today.year - today.year % 100 + 100 + two_digits
    while (year - 50, *rest) > tuple(today.utctimetuple()[:6]):
        year -= 100
    return year
