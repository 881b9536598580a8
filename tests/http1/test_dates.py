"""HTTP dates in three forms, with email.utils as the oracle."""

from __future__ import annotations

import email.utils
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiolsp.http1.dates import LATEST, clamp, format_date, parse_date

NOW = 1_795_530_000  # in November 2026
EXAMPLE = 784_111_777
"""The date of RFC 9110 section 5.6.7's examples."""

SECONDS = st.integers(0, LATEST)


def at(year: int, month: int = 1, day: int = 1, hour: int = 0) -> int:
    return int(datetime(year, month, day, hour, tzinfo=UTC).timestamp())


def test_the_example_of_the_rfc_is_written() -> None:
    assert format_date(EXAMPLE) == b"Sun, 06 Nov 1994 08:49:37 GMT"


@pytest.mark.parametrize(
    "value",
    [b"Sun, 06 Nov 1994 08:49:37 GMT", b"Sunday, 06-Nov-94 08:49:37 GMT", b"Sun Nov  6 08:49:37 1994"],
)
def test_the_three_examples_of_the_rfc_are_read(value: bytes) -> None:
    assert parse_date(value, NOW) == EXAMPLE


@pytest.mark.parametrize(
    ("seconds", "written"),
    [
        (0, b"Thu, 01 Jan 1970 00:00:00 GMT"),
        (-1, b"Thu, 01 Jan 1970 00:00:00 GMT"),
        (-(2**63), b"Thu, 01 Jan 1970 00:00:00 GMT"),
        (0.999, b"Thu, 01 Jan 1970 00:00:00 GMT"),
        (2**31, b"Tue, 19 Jan 2038 03:14:08 GMT"),
        (LATEST, b"Fri, 31 Dec 9999 23:59:59 GMT"),
        (LATEST + 0.5, b"Fri, 31 Dec 9999 23:59:59 GMT"),
        (2**63, b"Fri, 31 Dec 9999 23:59:59 GMT"),
        (float("inf"), b"Fri, 31 Dec 9999 23:59:59 GMT"),
    ],
)
def test_any_time_of_a_file_can_be_written(seconds: float, written: bytes) -> None:
    """sigoden/dufs#559: an absent modification time crashed the server."""
    assert format_date(seconds) == written
    assert parse_date(written, NOW) == clamp(seconds)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"0",
        b"784111777",
        b"sun, 06 nov 1994 08:49:37 gmt",  # dates are case-sensitive
        b"Sun, 06 Nov 1994 08:49:37",
        b"Sun, 06 Nov 1994 08:49:37 UTC",
        b"Sun, 06 Nov 1994 08:49:37 +0000",
        b"Sun, 6 Nov 1994 08:49:37 GMT",
        b"Sun,  06 Nov 1994 08:49:37 GMT",
        b" Sun, 06 Nov 1994 08:49:37 GMT",
        b"Sun, 06 Nov 1994 08:49:37 GMT\n",
        b"Sun, 06 Nov 94 08:49:37 GMT",
        b"Sun, 31 Feb 1994 08:49:37 GMT",
        b"Sun, 29 Feb 1900 08:49:37 GMT",
        b"Sun, 00 Nov 1994 08:49:37 GMT",
        b"Sun, 06 Nov 1994 24:00:00 GMT",
        b"Sun, 06 Nov 1994 08:60:37 GMT",
        b"Sun, 06 Nov 1994 08:49:61 GMT",
        b"Sun, 06 Nov 0000 08:49:37 GMT",
        b"Sun, 06 Foo 1994 08:49:37 GMT",
        "Sun, ٠٦ Nov 1994 08:49:37 GMT".encode(),
        b"Sun, 06-Nov-94 08:49:37 GMT",
        b"Sun Nov 06 08:49:37 94",
        b"Sun, 06 Nov 1994 08:49:37 GMT, Sun, 06 Nov 1994 08:49:37 GMT",
    ],
)
def test_what_is_no_http_date_is_none(value: bytes) -> None:
    assert parse_date(value, NOW) is None


def test_a_leap_second_is_the_next_minute() -> None:
    assert parse_date(b"Sat, 31 Dec 2016 23:59:60 GMT", NOW) == at(2017)
    assert parse_date(b"Fri, 31 Dec 9999 23:59:60 GMT", NOW) == LATEST + 1


def test_dates_before_the_epoch_are_read() -> None:
    assert parse_date(b"Mon, 01 Jan 0001 00:00:00 GMT", NOW) == at(1)


@pytest.mark.parametrize(
    ("value", "now", "date"),
    [
        (b"Sunday, 06-Nov-94 08:00:00 GMT", at(2026), at(1994, 11, 6, 8)),
        (b"Sunday, 01-Jan-76 00:00:00 GMT", at(2026), at(2076)),
        (b"Sunday, 01-Jan-76 01:00:00 GMT", at(2026), at(1976, 1, 1, 1)),
        (b"Sunday, 01-Jan-77 00:00:00 GMT", at(2026), at(1977)),
        (b"Sunday, 01-Jan-10 00:00:00 GMT", at(1999), at(2010)),
        (b"Sunday, 01-Jan-00 00:00:00 GMT", at(2049), at(2000)),
        (b"Sunday, 01-Jan-00 00:00:00 GMT", at(2050), at(2100)),
        (b"Sunday, 29-Feb-00 00:00:00 GMT", at(2026), at(2000, 2, 29)),
        (b"Sunday, 29-Feb-00 00:00:00 GMT", at(2060), None),  # there is none in 2100
    ],
)
def test_two_digits_of_a_year_are_at_most_50_years_ahead(value: bytes, now: int, date: int | None) -> None:
    assert parse_date(value, now) == date


@settings(max_examples=300, deadline=None)
@given(SECONDS)
def test_dates_round_trip_and_agree_with_email_utils(seconds: int) -> None:
    written = format_date(seconds)
    assert parse_date(written, NOW) == seconds
    assert email.utils.parsedate_to_datetime(written.decode("ascii")).timestamp() == seconds


@settings(max_examples=200, deadline=None)
@given(SECONDS)
def test_asctime_round_trips(seconds: int) -> None:
    assert parse_date(datetime.fromtimestamp(seconds, UTC).ctime().encode("ascii"), NOW) == seconds


@settings(max_examples=200, deadline=None)
@given(st.integers(at(1970), at(2200)), st.integers(-49 * 365, 49 * 365))
def test_rfc_850_round_trips_within_49_years(now: int, days: int) -> None:
    seconds = max(0, now + days * 86_400)
    value = datetime.fromtimestamp(seconds, UTC).strftime("%A, %d-%b-%y %H:%M:%S GMT")
    assert parse_date(value.encode("ascii"), now) == seconds


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=40) | st.from_regex(rb"[A-Z][a-z]{2,8}, \d\d[ -]...[ -]\d{2,4} \d\d:\d\d:\d\d GMT"))
def test_any_bytes_are_a_date_or_none(value: bytes) -> None:
    assert isinstance(parse_date(value, NOW), int | None)
