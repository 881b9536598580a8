"""The sieve and the request machine are of one opinion: what it drops changes no request, and hides no wrong one."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from aiolsp.http1.limits import Limits
from aiolsp.http1.messages import END_OF_MESSAGE, Fields, ProtocolError, Request
from aiolsp.http1.parser import RequestParser
from aiolsp.http1.sieve import END, FRAMING, Sieve

DECIDING = (*FRAMING, b"range", b"if-match")
SIEVE = Sieve(DECIDING)
LIMITS = Limits(max_fields=8)

HEAD = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


def heads(data: bytes) -> list[tuple[object, ...]]:
    """What the machine makes of *data*, but for what the sieve drops: each request's parts, the status of a fault."""
    told: list[tuple[object, ...]] = []
    for event in RequestParser(LIMITS).feed(data):
        if isinstance(event, Request):
            fields = [pair for pair in event.fields if pair[0] in DECIDING]
            told.append((*event[:3], fields, *event[4:7]))
        elif isinstance(event, ProtocolError):
            told.append((event.status,))
        else:
            told.append((event,))
    return told


@pytest.mark.parametrize(
    "line",
    [
        b"User-Agent: Mozilla/5.0 (X11; Linux x86_64)",
        b"X:",
        b"x:y",
        b"X:  \t a\tb \xff ",
        b"Hosts: b",
        b"X-Host: b",
        b"Content-Length2: 5",
        b"!#$%&'*+-.^_`|~: odd",
    ],
)
def test_a_right_line_that_decides_nothing_is_dropped(line: bytes) -> None:
    head = b"GET / HTTP/1.1\r\n%b\r\nHost: a\r\n%b\r\n%b\r\n\r\n" % (line, line, line)
    assert SIEVE.rest(head) == HEAD


@pytest.mark.parametrize(
    "line",
    [
        b"HOST: b",
        b"host:b",
        b"cOntent-leNgth: 5",
        b"Transfer-Encoding: chunked",
        b"Range: bytes=0-1",
        b"If-Match: *",
        b" folded",
        b"\tfolded",
        b"X : y",
        b": y",
        b"X",
        b"X\0: y",
        b"X: a\0b",
        b"X: a\x7fb",
        b"X: a\rb",
        b"X: a\nb",
        b"(X): y",
        b"X\xe9: y",
    ],
)
def test_a_line_that_decides_or_is_wrong_stays_as_it_came(line: bytes) -> None:
    head = b"GET / HTTP/1.1\r\nHost: a\r\n%b\r\nX: y\r\n\r\n" % line
    assert SIEVE.rest(head) == head.replace(b"X: y\r\n", b"")


@pytest.mark.parametrize(
    "data",
    [
        HEAD + HEAD,
        HEAD + b"X: y\r\n\r\n",
        HEAD + b"X: y\r\n",
        b"\r\n" + HEAD,
        b"\r\nX: y\r\n" + HEAD,
        b"X: y\r\n" + HEAD,
    ],
)
def test_no_empty_line_is_dropped_and_no_first_line(data: bytes) -> None:
    rest = SIEVE.rest(data)
    assert rest != HEAD or not data.endswith(END)
    assert rest.split(b"\r\n").count(b"") == data.split(b"\r\n").count(b"")
    assert rest.split(b"\r\n")[0] == data.split(b"\r\n")[0]


LINES = st.sampled_from(
    [
        b"GET / HTTP/1.1",
        b"X: y",
        b"X: y",
        b"Accept: */*",
        b"Host: a",
        b"Host: a",
        b"HOST: b",
        b"Content-Length: 2",
        b"Range: bytes=0-1",
        b"Connection: close",
        b"",
        b" folded",
        b"X : y",
        b"X: \0",
        b"ab",
    ]
)


@st.composite
def mutated_heads(draw: st.DrawFn) -> bytes:
    """Lines of a head, most of them right, in any order, with some bytes changed, lost or added."""
    lines = [b"GET / HTTP/1.1", *draw(st.lists(LINES, max_size=9)), b"", b""]
    data = bytearray(b"\r\n".join(lines))
    for place, byte, what in draw(
        st.lists(st.tuples(st.integers(0, 200), st.sampled_from(b"\r\n :X\0aH"), st.integers(0, 2)), max_size=2)
    ):
        place %= len(data)
        data[place : place + min(what, 1)] = bytes([byte]) if what != 1 else b""
    return bytes(data)


@settings(max_examples=800, deadline=None)
@given(mutated_heads())
@example(HEAD + b"X: y\r\n\r\n")
@example(b"\r\nX: y\r\n" + HEAD)
def test_equal_rests_of_single_heads_are_equal_requests(data: bytes) -> None:
    rest = SIEVE.rest(data)
    # What ready.py asks of both: one head, which ends them; the machine has read the rest, and took it.
    alone = data.endswith(END) and rest.find(END) == len(rest) - len(END) and not rest.startswith(b"\r\n")
    understood = heads(rest)
    if alone and understood[-1:] == [(END_OF_MESSAGE,)]:
        if data.count(b"\n") - 2 <= LIMITS.max_fields:
            assert heads(data) == understood
        else:
            assert heads(data) == [(431,)]


@settings(max_examples=300, deadline=None)
@given(mutated_heads())
def test_what_is_left_has_nothing_more_to_drop(data: bytes) -> None:
    rest = SIEVE.rest(data)
    assert SIEVE.rest(rest) == rest


def test_framing_names_every_field_that_the_machine_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: set[bytes] = set()

    class Watched(dict[bytes, bytes]):
        def get(self, name: bytes, default: object = None) -> object:  # type: ignore[override]
            asked.add(name)
            return super().get(name, default)

        def __contains__(self, name: object) -> bool:
            assert isinstance(name, bytes)
            asked.add(name)
            return super().__contains__(name)

    def watch(self: Fields, pairs: list[tuple[bytes, bytes]]) -> None:
        self._pairs, self._first, self.repeated = pairs, Watched(pairs), False
        self.get = self._first.get  # type: ignore[assignment]

    monkeypatch.setattr(Fields, "__init__", watch)
    for fields in (b"", b"Content-Length: 1\r\n", b"Transfer-Encoding: chunked\r\n", b"Expect: 100-continue\r\n"):
        for line in (b"GET / HTTP/1.1", b"POST http://b/ HTTP/1.0"):
            # A host of its own: what was read before would not be looked at again (sections.py).
            RequestParser(LIMITS).feed(line + b"\r\nHost: watched\r\nConnection: close\r\n" + fields + b"\r\n")
    assert asked == set(FRAMING)


def test_what_is_long_is_not_searched_again_and_again() -> None:
    for fields in (b"X" * 1_000_000, b"X:" + b" " * 1_000_000 + b"\0", b"X:\0\r\n" * 200_000 + b"X"):
        head = b"GET / HTTP/1.1\r\n" + fields + b"\r\n\r\n"
        assert SIEVE.rest(head) == head
    assert SIEVE.rest(HEAD[:-2] + b"X: y\r\n" * 200_000 + b"\r\n") == HEAD
