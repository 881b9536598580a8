"""Whatever clients send and programs write, a request is one line of the log, and an answer is one head."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness import Server, Shell, receive_to_end
from webclient import request

# The log

EVIL = st.sampled_from(
    [
        *(b"\x1b[31m", b"\x9b31m", b"\r", b"\n", b"\r\n", b"\0", b"\x07", b"\x7f", b"\t", b"\x85", b"\xe2\x80\xa8"),
        *(b'"', b"\\", b"\\x22", b"%0d%0a", b" ", b"'", b"-", b"\xc3\xbc", b"\xff", b'" 200 5 "', b"{}", b'","a":"'),
        *(b"127.0.0.1 - - [01/Jan/2000:00:00:00 +0000] ", b"/file.txt", b"HTTP/1.1", b"GET "),
    ]
)
TEXT = st.lists(EVIL, max_size=6).map(b"".join)
VISITS = st.lists(st.tuples(st.sampled_from([b"/file.txt", b"/"]) | TEXT, TEXT, TEXT), min_size=1, max_size=20)

_COMBINED = re.compile(r'127\.0\.0\.1 - - \[[^]"]+\] "([^"]*)" (\d{3}) (\d+|-) "([^"]*)" "([^"]*)"')


def read_combined(line: str) -> tuple[str, ...]:
    """Status, Referer and User-Agent of a line."""
    found = _COMBINED.fullmatch(line)
    assert found is not None, line
    return found[2], found[4], found[5]


def read_json(line: str) -> tuple[str, ...]:
    """The same of a line of JSON."""
    told = json.loads(line)
    assert told.keys() - {"referer", "agent"} == {"time", "peer", "method", "target", "version", "status", "bytes"}
    return str(told["status"]), told.get("referer") or "-", told.get("agent") or "-"


def as_told(value: bytes) -> str:
    """How the log tells of a field's value."""
    return re.sub(r'[^ -~]|["\\]', lambda byte: f"\\x{ord(byte[0]):02x}", value.strip(b" \t").decode("latin-1")) or "-"


@pytest.mark.parametrize(("form", "read"), [("combined", read_combined), ("json", read_json)])
def test_a_request_is_one_line_of_the_log_whatever_it_holds(
    shell: Shell, tmp_path: Path, form: str, read: Callable[[str], tuple[str, ...]]
) -> None:
    (tmp_path / "file.txt").write_text("file")
    statuses: list[str] = []
    whole: dict[int, tuple[str, ...]] = {}

    @settings(max_examples=15)
    @given(VISITS)
    def visit(visits: list[tuple[bytes, bytes, bytes]]) -> None:
        for target, referer, agent in visits:
            fields = b"Host: a\r\nReferer: %b\r\nUser-Agent: %b\r\nConnection: close\r\n\r\n" % (referer, agent)
            with server.connect() as peer:
                peer.sendall(b"GET %b HTTP/1.1\r\n" % target + fields)
                answered = re.findall(rb"HTTP/1\.1 (\d+) ", receive_to_end(peer))
            if answered == [b"200"]:  # else it was no request, or an empty line has made two of it
                whole[len(statuses)] = "200", as_told(referer), as_told(agent)
            statuses.extend(map(bytes.decode, answered))

    with shell.server("websrv", tmp_path, "--log", form, role="") as server:
        visit()
    lines = server.stderr.whole().split("\n")
    assert lines.pop() == "" and all(line.isascii() and line.isprintable() for line in lines)
    told = list(map(read, lines))
    assert [status for status, *_ in told] == statuses and {"200", "400"} <= set(statuses)
    assert {number: told[number] for number in whole} == whole


# Answers of programs

HEADS = st.lists(
    st.sampled_from(
        [
            *(b"Status: 200", b"Status: 404 x", b"Status: 302", b"Content-Type: a/b", b"Content-Length: 3", b"X-Own: "),
            *(b"Location: /file.txt", b"Location: http://a/", b"Location: /cgi-bin/", b"Set-Cookie: a=b", b"X", b":"),
            *(b"Transfer-Encoding: chunked", b"Connection: keep-alive", b"Server: x", b"Date: x", b"HTTP/1.1 200 OK"),
            *(
                b"\r",
                b"\n",
                b"\n",
                b"\n",
                b"\r\n",
                b"\r\n",
                b"\n\n",
                b"\n\n",
                b"\r\n\r\n",
                b"\0",
                b"\x1b",
                b"\x7f",
                b" ",
            ),
            *(b"\t", b"\xff", b"\x85", b"0\r\n\r\n", b"Content-Length: 0"),
        ]
    ),
    max_size=12,
).map(b"".join)

_FIELD = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+: (?:[!-~\x80-\xff](?:[ \t!-~\x80-\xff]*[!-~\x80-\xff])?)?")


@contextmanager
def serving_programs(shell: Shell, base: Path) -> Iterator[Server]:
    """A server of programs that say what the client tells them to say, to their output or to their stderr."""
    site, programs = base / "site", base / "programs"
    for folder in (site, programs):
        folder.mkdir()
    (site / "file.txt").write_text("file")
    for name, text in {"says": "exec cat", "complains": "cat >&2\necho Status: 204; echo"}.items():
        (programs / name).write_text(f"#!/bin/sh\n{text}\n")
        (programs / name).chmod(0o755)
    with shell.server("websrv", site, "--cgi-dir", programs, "--log", "combined", role="") as running:
        yield running


def exchange_raw(server: Server, name: str, body: bytes) -> bytes:
    """All that comes back when *body* is sent to the program, and a request for the file after it."""
    with server.connect() as peer:
        peer.sendall(request(f"/cgi-bin/{name}", f"Content-Length: {len(body)}", method="POST") + body)
        peer.sendall(request("/file.txt", "Connection: close"))
        return receive_to_end(peer)


def test_a_program_cannot_end_a_field_or_a_head_or_answer_for_another(shell: Shell, tmp_path: Path) -> None:
    @settings(max_examples=100)
    @given(head=HEADS, rest=st.sampled_from([b"", b"\n\nabc", b"\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"]))
    def check(head: bytes, rest: bytes) -> None:
        _, following = split_answer(exchange_raw(server, "says", head + rest))
        if following:  # else its body was not whole, and the connection was cut
            assert split_answer(following) == (b"file", b"")

    with serving_programs(shell, tmp_path) as server:
        check()


def split_answer(data: bytes) -> tuple[bytes, bytes]:
    """The body of the answer that *data* begins with, and what follows it; AssertionError if a head is not right."""
    head, end, rest = data.partition(b"\r\n\r\n")
    line, *lines = head.split(b"\r\n")
    assert end and re.fullmatch(rb"HTTP/1\.1 [2-5]\d\d [ -~]*", line), head
    assert all(map(_FIELD.fullmatch, lines)), head
    fields = dict(each.lower().split(b": ", 1) for each in lines)
    names = [each.lower().partition(b":")[0] for each in lines]
    for name in (b"content-length", b"transfer-encoding", b"server", b"date", b"location", b"connection"):
        assert names.count(name) <= 1, head
    if b"transfer-encoding" in fields:
        body, size = b"", 1
        while size and rest:
            digits, _, rest = rest.partition(b"\r\n")
            size = int(digits, 16)
            body, rest = body + rest[:size], rest[size + 2 :]
        return body, rest
    size = 0 if line[9:12] in (b"204", b"304") else int(fields[b"content-length"])
    return rest[:size], rest[size:]


def test_what_a_program_complains_of_is_never_a_line_of_another_form(shell: Shell, tmp_path: Path) -> None:
    runs: list[bytes] = []

    @settings(max_examples=30)
    @given(TEXT)
    def complain(text: bytes) -> None:
        runs.append(exchange_raw(server, "complains", text))

    with serving_programs(shell, tmp_path) as server:
        complain()
    lines = server.stderr.whole().split("\n")
    assert lines.pop() == "" and all(map(str.isprintable, lines))
    assert sum(not line.startswith("/cgi-bin/complains: ") for line in lines) == 2 * len(runs)
