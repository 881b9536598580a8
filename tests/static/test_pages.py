"""Who may see what the server tells of itself, at which paths, and in which format."""

from __future__ import annotations

import json
from typing import Any

import pytest

from aiolsp.http1.messages import Fields, Request
from aiolsp.sansio.metrics import Metrics
from aiolsp.static.pages import FORWARDED, Pages, is_local
from aiolsp.static.policy import Policy
from prometheus import read_exposition

LOCAL = ("127.0.0.1", 1)
WORKERS = {0: Metrics(requests_total=3, pid=1)}


def asked(target: bytes, *fields: tuple[bytes, bytes]) -> Request:
    return Request(b"GET", target, (1, 1), Fields(fields), True, False, False)


@pytest.mark.parametrize(
    ("peer", "local"),
    [
        (("127.0.0.1", 1), True),
        (("127.1.2.3", 1), True),
        (("::1", 1, 0, 0), True),
        (("::ffff:127.0.0.1", 1, 0, 0), True),
        ("", True),
        (b"\0abstract", True),
        (("192.0.2.1", 1), False),
        (("0.0.0.0", 1), False),
        (("::", 1, 0, 0), False),
        (("::ffff:192.0.2.1", 1, 0, 0), False),
        (("fe80::1%eth0", 1, 0, 2), False),
    ],
)
def test_loopback_and_unix_clients_are_on_this_machine(peer: Any, local: bool) -> None:
    assert is_local(peer) == local
    assert Pages("/status", None, Policy()).is_status(asked(b"/status"), peer) == local


@pytest.mark.parametrize("field", FORWARDED)
def test_what_a_proxy_passes_on_is_not_from_this_machine(field: bytes) -> None:
    assert not Pages("/status", None, Policy()).is_status(asked(b"/status", (field, b"x")), LOCAL)


@pytest.mark.parametrize(
    ("target", "status", "health"),
    [
        (b"/status", True, False),
        (b"/status?format=json", True, False),
        (b"/healthz", False, True),
        (b"/healthz?", False, True),
        (b"/status/", False, False),
        (b"/Status", False, False),
        (b"/", False, False),
        (b"*", False, False),
    ],
)
def test_a_page_has_one_path(target: bytes, status: bool, health: bool) -> None:
    pages, none = Pages("/status", "/healthz", Policy()), Pages(None, None, Policy())
    request = asked(target)
    assert (pages.is_status(request, LOCAL), pages.is_health(request)) == (status, health)
    assert pages.own(request, LOCAL) == (status or health)
    assert not none.own(request, LOCAL)


@pytest.mark.parametrize(
    ("target", "accept", "is_json"),
    [
        (b"/status", None, False),
        (b"/status", b"*/*", False),
        (b"/status", b"text/plain;version=0.0.4;q=0.5,*/*;q=0.1", False),
        (b"/status", b"application/json", True),
        (b"/status", b"application/json;q=0", False),
        (b"/status?format=json", None, True),
        (b"/status?a=b&format=json", b"text/plain", True),
        (b"/status?format=jsonx", None, False),
    ],
)
def test_the_format_is_text_unless_json_is_asked_for(target: bytes, accept: bytes | None, is_json: bool) -> None:
    fields = () if accept is None else ((b"accept", accept),)
    answer = Pages("/status", None, Policy()).status(asked(target, *fields), WORKERS)
    body = answer.ready.decode()
    count = json.loads(body)["all"]["requests_total"] if is_json else read_exposition(body)[NAMED]
    assert (answer.status, count, answer.size) == (200, 3, len(body))
    kind = b"application/json" if is_json else b"text/plain; version=0.0.4; charset=utf-8"
    assert b"Content-Type: " + kind + b"\r\n" in answer.head.render(b"")


NAMED = ("aiolsp_requests_total", frozenset[tuple[str, str]]())


def test_no_page_is_stored_or_read_by_scripts_of_other_origins() -> None:
    pages = Pages("/s", "/h", Policy(cors=True, headers=((b"Cache-Control", b"max-age=1"), (b"X-A", b"b"))))
    for answer in (pages.status(asked(b"/s"), WORKERS), pages.health(draining=False)):
        head = answer.head.render(b"")
        assert head.count(b"Cache-Control: no-store\r\n") == 1 and b"max-age" not in head
        assert b"X-A: b" in head and b"Access-Control" not in head


def test_the_health_is_200_until_the_server_is_to_stop() -> None:
    pages = Pages(None, "/h", Policy())
    assert (pages.health(draining=False).status, pages.health(draining=False).ready) == (200, b"ok\n")
    assert pages.health(draining=True).status == 503


def test_an_answer_that_depends_on_who_asks_is_told_apart() -> None:
    pages = Pages("/status", "/healthz", Policy())
    for target in (b"/status", b"/status?x", b"/healthz"):
        assert pages.disputed(asked(target))
    assert not pages.disputed(asked(b"/"))
    assert not Pages(None, None, Policy()).disputed(asked(b"/status"))
