"""The answers that need no file: to OPTIONS, to methods that a site of files does not know, and to what goes wrong."""

from __future__ import annotations

from aiolsp.http1.messages import Request
from aiolsp.http1.response import Field
from aiolsp.static.answer import Answer
from aiolsp.static.options import METHODS, options_answer
from aiolsp.static.resource import DocumentRoot

ALLOW: Field = (b"Allow", METHODS)

RETRY_AFTER: Field = (b"Retry-After", b"1")
"""Seconds; a queue of the default length empties in less on any disk."""

_KNOWN = frozenset(b"CONNECT DELETE GET HEAD OPTIONS PATCH POST PUT TRACE".split())


def asks_for_file(request: Request) -> bool:
    """Whether only the disk can tell what to answer."""
    return request.method in (b"GET", b"HEAD")


def reads_body(request: Request) -> bool:
    """Whether the answer to *request* comes after its body."""
    return asks_for_file(request) or request.method == b"OPTIONS"


def answer_without_file(root: DocumentRoot, request: Request) -> Answer:
    """The answer to a *request* that does not ask for a file."""
    if request.method == b"OPTIONS":
        return options_answer(root.policy, request.fields)
    return error_answer(root, 405, "", ALLOW) if request.method in _KNOWN else error_answer(root, 501)


def error_answer(root: DocumentRoot, status: int, detail: str = "", *extra: Field) -> Answer:
    """An answer that says what is wrong, and no more."""
    if status == 503:
        extra = (*extra, RETRY_AFTER)
    page = root.error(status, detail, *extra)
    return Answer(status, page.outline.whole, (page.body or b"",), page.outline.size)
