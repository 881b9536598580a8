"""Answers that are ready: found for what they answer, and for nothing else; in a server, the same as the long way's."""

from __future__ import annotations

import os
import tracemalloc
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from aiolsp.http1.limits import Limits
from aiolsp.http1.whole import HeadReader
from aiolsp.linux.pages import Place
from aiolsp.static.access_log import LogRecord
from aiolsp.websettings import Settings
from aiolsp.websrv import ready
from aiolsp.websrv.connection import NO_EVENTS, NO_INPUT, NO_PARSER
from aiolsp.websrv.ready import LENT, ReadyAnswer, ReadyAnswers
from harness import receive_exactly, receive_to_end, receive_until
from webclient import exchange, read_reply, request
from webhost import Host, hosted, ready_hits

LARGE = os.urandom(60_000)

HEAD = b"GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n"
OTHER = b"GET / HTTP/1.1\r\nHost: a\r\nAccept: */*\r\nUser-Agent: b\r\n\r\n"
UNKNOWN = b"GET /b HTTP/1.1\r\nHost: a\r\n\r\n"
LAST = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


@pytest.fixture
def answers() -> ReadyAnswers:
    kept = ReadyAnswers(HeadReader(Limits(max_fields=3, max_head=200, max_target=100)))
    kept.keep(HEAD, 200, b"answer", None)
    return kept


def find(answers: ReadyAnswers, packet: bytes) -> ReadyAnswer | None:
    """As a connection asks for it."""
    ready = answers.table.get(packet) or answers.table.get(answers.heads.rest(packet) or b"")
    if ready is not None and packet not in answers.table:
        answers.note(packet, ready)
    return ready


def found(answers: ReadyAnswers, data: bytes, start: int = 0, most: int = 1000) -> list[bytes]:
    if find(answers, data) is not None:
        return [data]
    runs = answers.find_first(data, start, most)
    return [head for head, known, times in runs if known.payload == b"answer" for _ in range(times)]


def test_a_head_that_differs_in_what_decides_nothing_has_the_same_answer(answers: ReadyAnswers) -> None:
    assert found(answers, OTHER) == [OTHER]
    assert OTHER in answers.table, "the next one needs no sieve"
    assert found(answers, UNKNOWN) == []


def test_heads_are_answered_from_the_first_to_the_first_that_is_unknown(answers: ReadyAnswers) -> None:
    data = HEAD + OTHER + UNKNOWN + HEAD
    assert found(answers, data) == [HEAD, OTHER]
    assert found(answers, data, len(HEAD)) == [OTHER]
    assert found(answers, HEAD + OTHER[:-1]) == [HEAD]
    assert found(answers, HEAD + b"X: y\r\n\r\n") == [HEAD]
    assert found(answers, b"\r\nX: y\r\n" + HEAD) == []
    assert found(answers, HEAD * 9, most=13) == [HEAD] * 3


@given(st.lists(st.sampled_from([HEAD, OTHER, UNKNOWN, LAST]), max_size=12), st.integers(0, 200), st.integers(0, 60))
@example([HEAD, HEAD], 0, 6)
def test_runs_are_what_one_look_up_after_the_other_finds(heads: list[bytes], lost: int, most: int) -> None:
    """For any heads, wherever the packet ends, and however much may be answered."""
    answers = ReadyAnswers(HeadReader(Limits()))
    answers.keep(HEAD, 200, b"answer")
    answers.keep(LAST, 200, b"last", closes=True)
    data = b"".join(heads)
    data = data[: len(data) - lost]
    expected: list[bytes] = []
    left = most
    for head in heads:
        ready = find(answers, head)
        if left <= 0 or ready is None or not data.startswith(b"".join(expected) + head) or data == head:
            break
        expected.append(head)
        left -= len(ready.payload)
        if ready.closes:
            break
    runs = answers.find_first(data, 0, most)
    assert [head for head, _, times in runs for _ in range(times)] == expected
    assert all(ready is find(answers, head) for head, ready, _ in runs)


def test_an_answer_that_is_kept_again_is_the_newer_one_and_counts_on(answers: ReadyAnswers) -> None:
    ready = find(answers, OTHER)
    assert ready is not None
    ready.hits = 5
    ready.told["host"] = LogRecord.of("host", None, 200, 6)
    answers.keep(HEAD, 200, b"newer")
    assert not ready.told, "the log is told of the newer one"
    assert find(answers, OTHER) is ready and answers.table[OTHER] is ready
    assert ready.payload == b"newer" and ready.hits == 5


def test_a_head_past_the_limits_is_none_of_ours(answers: ReadyAnswers) -> None:
    assert found(answers, HEAD.replace(b"X: y", b"X: y\r\nY: z\r\nZ: y")) == []
    assert found(answers, HEAD.replace(b"X: y", b"X: " + b"y" * 200)) == []


def test_what_clients_write_to_ask_for_a_part_is_not_kept(answers: ReadyAnswers) -> None:
    parts = [b"bytes=%d-%b" % (number, b" " * 10_000) for number in range(100)]
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for part in parts:
            assert not answers.asked_again((b"/file", part + b"9"))
        assert tracemalloc.get_traced_memory()[0] - before < 100_000
    finally:
        tracemalloc.stop()
    assert all(answers.asked_again((b"/file", part + b"9")) for part in parts)
    answers.forget()
    assert not answers.asked_again((b"/file", parts[0] + b"9"))


def test_few_parts_are_remembered(answers: ReadyAnswers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ready, "PARTS", 2)
    for part in ("first", "second", "third"):
        assert not answers.asked_again(part)
    assert [answers.asked_again(part) for part in ("first", "second", "third")] == [True, True, False]


def test_each_second_has_room_for_as_many_answers(answers: ReadyAnswers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ready, "SIZE", 2000)
    for _ in range(2):
        answers.forget()
        for number in range(3):
            answers.keep(request(f"/{number}"), 200, b"x" * 900)
        kept = [find(answers, request(f"/{number}")) for number in range(3)]
        assert [answer is not None for answer in kept] == [True, True, False]


def test_what_never_repeats_is_not_kept_without_bound(answers: ReadyAnswers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ready, "PACKETS", 1000)
    for number in range(100):
        assert found(answers, HEAD.replace(b"y", b"%d" % number))
    assert sum(map(len, answers.table)) < 1100
    answers.forget()
    assert found(answers, HEAD) == []


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("ready")
    (root / "file.txt").write_bytes(b"file" * 100)
    (root / "large.bin").write_bytes(LARGE)
    (root / "status").write_bytes(b"a file")
    (root / "directory").mkdir()
    return root


@pytest.fixture
def host(loop_name: str, site: Path) -> Iterator[Host]:
    with hosted(loop_name, site, Settings(threads=1, cache_valid=1000, status="/status")) as running:
        yield running


VARIANTS = [
    (),
    ("Range: bytes=1-3",),
    ("Range: bytes=0-1,3-4",),
    ("range: bytes=9000-",),
    ("If-None-Match: *",),
    ("If-Modified-Since: Fri, 31 Dec 2100 23:59:59 GMT",),
    ("If-Match: *",),
    ("Connection: keep-alive",),
]


def test_many_heads_in_any_packets_have_the_answers_of_the_long_way(host: Host) -> None:
    """Each question with ever other fields, again and again, alone, together, and cut: the second may end anywhere."""
    questions = [(method, variant) for method in ("GET", "HEAD") for variant in VARIANTS]
    expected: dict[tuple[str, tuple[str, ...]], tuple[object, ...]] = {}
    peer, served = host.connect()
    with peer:
        turn = 0
        while turn < 6 or not ready_hits(host):
            data = b""
            for number, (method, variant) in enumerate(questions):
                data += request("/file.txt", f"User-Agent: {turn}-{number}", *variant, "Cookie: a=b", method=method)
            cut = len(data) * (turn % 6) // 6
            for piece in (data[:cut], data[cut:]):
                peer.sendall(piece)
            for question in questions:
                reply = read_reply(peer, head=question[0] == "HEAD")
                told = (reply.status, reply.fields.get("content-length"), reply.fields.get("content-range"))
                body = reply.body if not reply.fields.get("content-type", "").startswith("multipart") else b""
                assert expected.setdefault(question, (*told, body)) == (*told, body)
            turn += 1


def test_a_packet_that_ends_anywhere_in_a_run_has_the_same_answers(host: Host) -> None:
    questions = [("/file.txt", 200)] * 5 + [("/missing", 404)] * 3 + [("/file.txt", 200)]
    heads = [request(target) for target, _ in questions]
    edges = [len(b"".join(heads[:count])) for count in range(len(heads) + 1)]
    data = b"".join(heads)
    peer, served = host.connect()
    with peer:
        for end in (edge + near for edge in edges for near in range(-2, 3)):
            for piece in (data[: max(end, 0)], data[max(end, 0) :]):
                host.call(partial(served.data_received, piece))
            for _, status in questions:
                assert read_reply(peer).status == status
        assert ready_hits(host)
        assert host.service.metrics.requests_total == len(questions) * len(edges) * 5


def test_one_request_after_several_is_still_looked_up_by_its_rest(host: Host) -> None:
    peer, _ = host.connect()
    with peer:
        for turn in range(50):  # in most of them, no second ends
            before = ready_hits(host)
            peer.sendall(request("/file.txt") * 2)
            assert read_reply(peer).status == read_reply(peer).status == 200
            assert exchange(peer, "/file.txt", f"X: {turn}").status == 200
            if ready_hits(host) - before == 3:
                return
    pytest.fail("never")


def test_a_connection_gets_a_parser_for_the_first_request_that_is_more_than_a_usual_head(host: Host) -> None:
    peer, connection = host.connect()
    with peer:
        for path in ("/file.txt", "/", "/file.txt", "/none"):
            exchange(peer, path)
        assert connection._parser is NO_PARSER
        assert exchange(peer, "/file.txt", "Content-Length: 0").status == 200
        assert connection._parser is not NO_PARSER
    assert not NO_INPUT and not NO_EVENTS and NO_PARSER.between_messages


@pytest.mark.parametrize("rest", [b"X: y\r\n\r\n", b" folded\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n"])
def test_nothing_wrong_hides_behind_a_known_head(host: Host, rest: bytes) -> None:
    peer, _ = host.connect()
    with peer:
        for _ in range(2):
            peer.sendall(request("/file.txt"))
            assert read_reply(peer).status == 200
        peer.sendall(request("/file.txt", "X: y") + rest)
        assert read_reply(peer).status == 200
        assert read_reply(peer).status == 400


def test_ready_answers_stop_when_the_client_does_not_read(host: Host) -> None:
    peer, served = host.connect(receive_buffer=4096, send_buffer=4096)
    data = request("/file.txt")
    with peer:
        peer.sendall(data)
        head, _, _ = receive_until(peer, b"file" * 100).partition(b"\r\n\r\n")
        count = 5000
        peer.sendall(data * count)
        host.wait_until(lambda: served._full, "a full buffer")
        assert host.call(lambda: served.transport.get_write_buffer_size()) < 1 << 20
        for _ in range(count):
            assert receive_exactly(peer, len(head) + 4 + 400).endswith(b"file" * 100)


@pytest.mark.parametrize("buffer", [4096, 1 << 20])
def test_a_large_answer_is_lent_and_comes_whole_however_slowly_it_is_read(
    host: Host, monkeypatch: pytest.MonkeyPatch, buffer: int
) -> None:
    lent: list[int] = []

    def noted(place: Place, out_fd: int) -> int:
        lent.append(send(place, out_fd))
        return lent[-1]

    send = Place.send
    monkeypatch.setattr(Place, "send", noted)
    peer, _ = host.connect(receive_buffer=buffer, send_buffer=4096)
    with peer:
        for number in range(60):  # of which the first two in each second are not from memory
            assert exchange(peer, "/large.bin", f"X: {number}").body == LARGE
    assert len(lent) > 10
    assert all(sent > len(LARGE) for sent in lent) if buffer > len(LARGE) else any(sent < len(LARGE) for sent in lent)


def test_a_large_answer_that_is_the_last_is_followed_by_the_end(host: Host) -> None:
    while not ready_hits(host):
        peer, _ = host.connect()
        with peer:
            peer.sendall(request("/large.bin", "Connection: close"))
            assert read_reply(peer).body == LARGE
            assert receive_to_end(peer) == b""


def test_who_is_answered_by_what_is_ready_is_not_silent(host: Host) -> None:
    peer, served = host.connect()
    with peer:
        for _ in range(50):  # in most of them, no second ends
            before = ready_hits(host)
            host.call(lambda: setattr(served._patience, "last_activity", 0.0))
            exchange(peer, "/file.txt")
            if ready_hits(host) > before:
                assert host.call(lambda: served._patience.last_activity) > 0.0
                return
    pytest.fail("never")


def test_what_is_lent_is_counted_twice_and_what_takes_its_place_is_not_lent(answers: ReadyAnswers) -> None:
    answers.keep(UNKNOWN, 200, bytes(LENT))
    assert 2 * LENT < answers._size < 2 * LENT + 500
    lent = find(answers, UNKNOWN)
    assert lent is not None and lent.place is not None and lent.place.length == LENT
    answers.keep(UNKNOWN, 200, bytes(LENT + 1))
    assert lent.place is None and len(lent.payload) == LENT + 1
    answers.keep(LAST, 200, bytes(LENT - 1), closes=True)
    small = find(answers, LAST)
    assert small is not None and small.place is None
    answers.forget()


def test_an_answer_that_differs_by_client_is_not_kept(host: Host) -> None:
    peer, _ = host.connect()
    with peer:
        peer.sendall(request("/status", "Forwarded: for=192.0.2.1"))
        assert read_reply(peer).body == b"a file"
        peer.sendall(request("/status", "Forwarded: for=192.0.2.1"))
        assert read_reply(peer).body == b"a file"
        peer.sendall(request("/status"))
        assert b"aiolsp_requests_total" in read_reply(peer).body


def test_what_is_not_there_is_looked_for_once_a_second_and_takes_no_place_in_the_cache(host: Host) -> None:
    metrics = host.service.metrics
    peer, _ = host.connect()
    with peer:
        for target, status in (("/missing", 404), ("/directory", 308)):
            before = metrics.cache_misses_total
            asked = 0
            while not any(f" {target} ".encode() in head for head in host.call(lambda: list(host.service.ready.table))):
                asked += 1
                assert exchange(peer, target).status == status
            assert metrics.cache_misses_total - before == asked, "the second ended in between, each time"
            reply = exchange(peer, target, "User-Agent: other")
            assert reply.status == status and (reply.fields.get("location") == "/directory/") == (status == 308)
    assert len(host.service.files.cache) == 0


def test_answers_that_were_given_once_cost_nothing_at_the_end_of_the_second(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[int] = []
    peer, _ = host.connect()
    with peer:
        for number in range(20):
            assert exchange(peer, f"/missing-{number}").status == 404
        monkeypatch.setattr(type(host.service.metrics), "responded", lambda _, status, times: counted.append(times))
        host.call(host.service.publish)
    assert counted == []
