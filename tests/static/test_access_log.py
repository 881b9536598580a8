"""The access log: its formats, what a client cannot do to them, and readers that are slow, gone, or never come."""

from __future__ import annotations

import fcntl
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from aiolsp.http1.limits import Limits
from aiolsp.http1.messages import Request
from aiolsp.http1.parser import RequestParser
from aiolsp.static import access_log
from aiolsp.static.access_log import (
    AccessLog,
    LogRecord,
    Remark,
    format_combined,
    format_common,
    format_json,
    format_remark,
    printable,
)
from faults import wait_until
from harness import DEADLINE

LONG = b"x" * 10_000

RECORD = LogRecord("192.0.2.1", 0.5, b"GET", b"/a?b", (1, 1), 206, 42, b"http://x/", b'a"b\\c\xff')


@pytest.fixture
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("utc")
def test_the_formats_are_those_that_log_readers_know() -> None:
    common = '192.0.2.1 - - [01/Jan/1970:00:00:00 +0000] "GET /a?b HTTP/1.1" 206 42'
    assert format_common(RECORD) == common
    assert format_combined(RECORD) == common + r' "http://x/" "a\x22b\x5cc\xff"'
    assert json.loads(format_json(RECORD)) == {
        "time": 0.5,
        "peer": "192.0.2.1",
        "method": "GET",
        "target": "/a?b",
        "version": "1.1",
        "status": 206,
        "bytes": 42,
        "referer": "http://x/",
        "agent": r"a\x22b\x5cc\xff",
    }


@pytest.mark.usefixtures("utc")
def test_what_could_not_be_read_is_a_dash() -> None:
    record = LogRecord("-", 0, b"", b"", (1, 1), 400, 0, None, None)
    assert format_combined(record) == '- - - [01/Jan/1970:00:00:00 +0000] "-" 400 - "-" "-"'


def test_the_same_answer_to_another_head_is_told_with_the_fields_of_that_one() -> None:
    head = b"GET /a?b HTTP/1.1\r\nHost: a\r\nUSER-agent:  b c \t\r\nX-Referer: no\r\nUser-Agent: second\r\n\r\n"
    again = RECORD.again("192.0.2.2", head)
    assert again == RECORD._replace(peer="192.0.2.2", seconds=again.seconds, referer=None, agent=b"b c")
    assert RECORD.again("", head).peer == "-", "a unix socket's client has no name"
    assert abs(again.seconds - time.time()) < DEADLINE
    request = RequestParser(Limits()).feed(head)[0]
    assert isinstance(request, Request)
    assert LogRecord.of("192.0.2.2", request, 206, 42)._replace(seconds=0) == again._replace(seconds=0)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=30), st.binary(min_size=1, max_size=30), st.binary(max_size=30))
@example(b'/"', b"GET", b'" "forged')  # nothing else in them is strange
@example(b"/\\x41", b"GET", b"\\x22")
def test_no_client_can_end_a_line_or_a_quoted_field(target: bytes, method: bytes, agent: bytes) -> None:
    record = RECORD._replace(method=method, target=target, agent=agent, referer=agent)
    for form in (format_common, format_combined, format_json):
        line = form(record)
        assert line.isascii() and line.isprintable()
    assert len(re.findall('"', format_combined(record))) == 6
    # What stands in the line is exactly what came.
    assert re.sub(r"\\x(..)", lambda m: chr(int(m[1], 16)), printable(target)).encode("latin-1") == target


def add_all(*records: LogRecord) -> Callable[[AccessLog], None]:
    def add(log: AccessLog) -> None:
        for record in records:
            log.add(record)

    return add


def log_into_pipe(
    use: Callable[[AccessLog], None], *, blocking: bool = True, grace: float = DEADLINE
) -> tuple[int, int]:
    """Both ends of the pipe into which *use* has logged."""
    reader, writer = os.pipe()
    os.set_blocking(writer, blocking)
    log = AccessLog(writer, "combined")
    use(log)
    log.close(grace)
    return reader, writer


def test_a_remark_is_one_line_among_the_records_whatever_it_says() -> None:
    remark = Remark(b"/cgi-bin/x", b'File "x", line 1\n\x1b[31m127.0.0.1 - - \xff\xc3\xbc')
    assert format_remark(remark) == r'/cgi-bin/x: File "x", line 1\n\x1b[31m127.0.0.1 - - \xffü'
    for form in ("combined", "json"):
        reader, writer = os.pipe()
        log = AccessLog(writer, form)
        log.add(RECORD)
        log.remark(remark)
        log.close(DEADLINE)
        os.close(writer)
        with open(reader, "rb") as pipe:
            _, line, end = pipe.read().split(b"\n")
        assert end == b"" and (form != "json" or json.loads(line)["subject"] == "/cgi-bin/x")


@pytest.mark.parametrize(("form", "repeats"), [("common", True), ("combined", False), ("json", False)])
def test_only_lines_without_fields_and_milliseconds_are_the_same_for_equal_answers(form: str, repeats: bool) -> None:
    other = RECORD._replace(seconds=0.75, referer=None, agent=b"other")
    with open(os.devnull, "wb") as nowhere:
        log = AccessLog(nowhere.fileno(), form)
        assert log.repeats is repeats is (log._format(RECORD) == log._format(other))
        log.close(DEADLINE)


def test_a_log_that_is_closed_has_written_what_it_took() -> None:
    reader, writer = log_into_pipe(add_all(RECORD, RECORD, RECORD))
    os.close(writer)
    with open(reader, "rb") as pipe:
        assert pipe.read().count(b"\n") == 3


@pytest.mark.parametrize(
    "large", [RECORD._replace(agent=LONG), RECORD._replace(referer=LONG), RECORD._replace(target=LONG)]
)
def test_records_are_bounded_by_their_bytes_and_those_left_out_are_counted(
    monkeypatch: pytest.MonkeyPatch, large: LogRecord
) -> None:
    monkeypatch.setattr(access_log, "MAX_BACKLOG", 40_000)
    held: list[int] = []

    def flood(log: AccessLog) -> None:
        for _ in range(100):
            log.add(large)
        held.append(len(log._waiting))

    reader, writer = log_into_pipe(flood)
    os.close(writer)
    with open(reader, "rb") as pipe:
        lines = pipe.read().splitlines()
    assert held == [4] and len(lines) == 5
    assert lines[-1] == b"96 more lines were not logged: the log is not read fast enough"


def test_a_line_about_those_left_out_is_an_object_in_a_log_of_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_log, "MAX_BACKLOG", 0)
    reader, writer = os.pipe()
    log = AccessLog(writer, "json")
    add_all(RECORD, RECORD, RECORD)(log)
    log.close(DEADLINE)
    os.close(writer)
    with open(reader, "rb") as pipe:
        _, missing = map(json.loads, pipe)
    assert missing == {"subject": "2 more lines were not logged", "remark": "the log is not read fast enough"}


def test_a_pipe_that_somebody_made_non_blocking_loses_nothing() -> None:
    large = RECORD._replace(agent=b"x" * 1000)
    count = 500
    reader, writer = log_into_pipe(add_all(*[large] * count), blocking=False, grace=0.1)
    data = b""
    while data.count(b"\n") < count:
        data += os.read(reader, 1 << 16)
    assert all(len(line) > 1000 and line.endswith(b'xxx"') for line in data.splitlines())
    os.close(writer)
    os.close(reader)


def test_a_reader_that_is_gone_ends_the_log_and_not_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_log, "BATCH_DELAY", 0.0)
    reader, writer = os.pipe()
    os.close(reader)
    log = AccessLog(writer, "json")
    for _ in range(3):
        log.add(RECORD)
        wait_until(lambda: not log._waiting, "the record taken")
    log.close(DEADLINE)
    assert not log._thread.is_alive()
    os.close(writer)


def test_records_of_many_threads_are_all_written() -> None:
    def add_by_threads(log: AccessLog) -> None:
        threads = [threading.Thread(target=add_all(*[RECORD] * 100), args=(log,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(DEADLINE)

    reader, writer = log_into_pipe(add_by_threads)
    os.close(writer)
    with open(reader, "rb") as pipe:
        assert pipe.read().count(b"\n") == 400


WRITER = """
import sys
from aiolsp.static.access_log import AccessLog, LogRecord
log = AccessLog(sys.stdout.fileno(), "common")
for _ in range(1000):
    log.add(LogRecord("127.0.0.1", 0.0, b"GET", b"/" + sys.argv[1].encode() * 6000, (1, 1), 200, 5, None, None))
print("added", file=sys.stderr, flush=True)
log.close(20.0)
"""


def test_lines_of_several_processes_are_never_mixed() -> None:
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)  # less than a line: each is written in pieces
    os.write(writer, b"-" * 4095 + b"\n")  # full: nobody has written before the other can
    with ExitStack() as running:
        for letter in "ab":
            command = [sys.executable, "-c", WRITER, letter]
            started = running.enter_context(subprocess.Popen(command, stdout=writer, stderr=subprocess.PIPE))
            assert started.stderr is not None and started.stderr.readline() == b"added\n"
        os.close(writer)
        with open(reader, "rb") as pipe:
            lines = pipe.read().splitlines()[1:]
    whole = {b'GET /%b HTTP/1.1" 200 5' % (letter * 6000): letter for letter in (b"a", b"b")}
    kinds = Counter(whole.get(line.partition(b'"')[2], b"mixed") for line in lines)
    assert kinds == {b"a": 1000, b"b": 1000}
