"""Answers without a file: which methods there are, and what an error says."""

from __future__ import annotations

from collections.abc import Iterator
from http import HTTPMethod
from pathlib import Path

import pytest

from aiolsp.http1.messages import HTTP_1_1, NO_FIELDS, Request
from aiolsp.static.methods import answer_without_file, asks_for_file, error_answer, reads_body
from aiolsp.static.policy import Policy
from aiolsp.static.resource import DocumentRoot


@pytest.fixture
def root(tmp_path: Path) -> Iterator[DocumentRoot]:
    root = DocumentRoot(str(tmp_path), Policy(headers=((b"X-Own", b"1"),)))
    yield root
    root.close()


def request(method: bytes) -> Request:
    return Request(method, b"/", HTTP_1_1, NO_FIELDS, True, False, False)


def test_only_the_disk_knows_the_answer_to_get_and_head() -> None:
    asked = {method: (asks_for_file(request(method)), reads_body(request(method))) for method in (b"GET", b"HEAD")}
    assert asked == {b"GET": (True, True), b"HEAD": (True, True)}
    assert (asks_for_file(request(b"OPTIONS")), reads_body(request(b"OPTIONS"))) == (False, True)
    assert (asks_for_file(request(b"POST")), reads_body(request(b"POST"))) == (False, False)


@pytest.mark.parametrize(
    ("method", "status", "allows"), [(b"OPTIONS", 204, 1), (b"POST", 405, 1), (b"BREW", 501, 0), (b"get", 501, 0)]
)
def test_a_method_is_known_allowed_or_neither(root: DocumentRoot, method: bytes, status: int, allows: int) -> None:
    answer = answer_without_file(root, request(method))
    head = answer.head.render(b"now")
    assert answer.status == status and head.count(b"Allow: GET, HEAD, OPTIONS") == allows and b"X-Own: 1" in head


@pytest.mark.parametrize("method", sorted(set(HTTPMethod) - {"GET", "HEAD", "OPTIONS"}))
def test_a_method_that_http_has_is_known(root: DocumentRoot, method: str) -> None:
    assert answer_without_file(root, request(method.encode())).status == 405


def test_only_a_503_may_be_tried_again(root: DocumentRoot) -> None:
    busy, broken = error_answer(root, 503, "busy <b>"), error_answer(root, 500)
    assert b"Retry-After: 1\r\n" in busy.head.render(b"now") and b"Retry-After" not in broken.head.render(b"now")
    assert b"busy &lt;b&gt;" in busy.ready and len(busy.ready) == busy.size
