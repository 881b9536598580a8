"""What can be sent, and what tells one file from another: what `resource` finds and `answer` answers with."""

import os
import time
from typing import NamedTuple, Self

from aiolsp.http1.conditions import Validators
from aiolsp.http1.dates import format_date
from aiolsp.http1.response import Field, HeadTemplate, ResponseHead
from aiolsp.http1.target import RequestTarget

HTML = b"text/html; charset=utf-8"


class Identity(NamedTuple):
    """What tells a file from another, and from itself at another time; and the coding it is served in.

    The time of change tells whether it may still be read: who may, and by which names, does not change without it.
    """

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int
    coding: bytes

    @classmethod
    def of(cls, status: os.stat_result, coding: bytes) -> Self:
        """The identity of the file that stat(2) describes so."""
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns, coding)

    def is_of(self, status: os.stat_result) -> bool:
        """Whether stat(2) still says the same."""
        said = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns, self.coding)
        return self == said


class Outline:
    """What is known of something that can be sent, without its bytes: a file, or a page made here.

    Its *common* fields are those that others have as well: all but Content-Length, those of ranges, and its own. Only a
    file has an *identity* and *validators*. One that can be looked at again by its name alone has a *path*, from the
    root down; it is the one to send as long as none of its *rivals* is there, compressed siblings that were missing, by
    their suffixes. *alone_in* is a state of the directory in which they were (linux/directories.py).
    """

    __slots__ = (
        "_whole",
        "alone_in",
        "common",
        "content_type",
        "identity",
        "path",
        "rivals",
        "size",
        "status",
        "validators",
    )

    def __init__(
        self,
        status: int,
        common: tuple[Field, ...],
        size: int,
        identity: Identity | None = None,
        validators: Validators | None = None,
        content_type: bytes = HTML,
    ) -> None:
        self.status = status
        self.common = common
        self.size = size
        self.identity = identity
        self.validators = validators
        self.content_type = content_type
        self.path = b""
        self.rivals: tuple[bytes, ...] = ()
        self.alone_in: int | None = None
        self._whole: HeadTemplate | None = None

    @property
    def own(self) -> tuple[Field, ...]:
        """The fields that no other has. They are made when they are asked for, and take no memory."""
        if self.validators is None:
            return ()
        tag = (b"ETag", self.validators.etag)
        if self.validators.last_modified > time.time():
            # RFC 9110 8.8.2.1: a time in the future would make every copy look older than it is.
            return (tag,)
        return (tag, (b"Last-Modified", format_date(self.validators.last_modified)))

    @property
    def fields(self) -> tuple[Field, ...]:
        """What an answer says of it, whichever part of it is sent."""
        return self.common + self.own

    @property
    def whole(self) -> HeadTemplate:
        """The head of an answer that sends all of it, made when first needed."""
        if self._whole is None:
            length = (b"Content-Length", b"%d" % self.size)
            self._whole = HeadTemplate(ResponseHead(self.status, self.common), *self.own, length)
        return self._whole


class Resource:
    """Something that can be sent: what is known of it, and its bytes, in memory (*body*) or in an open file (*fd*).

    What is *keepable*, a file with a body, may be sent to others. A *repeatable* page depends on nothing but the
    target: it may be sent again to who asks for the same a moment later. Whoever holds it calls ``close``; who is to
    hold it too asks by ``hold``.
    """

    __slots__ = ("body", "fd", "holders", "keepable", "outline", "repeatable")

    def __init__(self, outline: Outline, body: bytes | None = None, fd: int = -1) -> None:
        self.outline = outline
        self.body = body
        self.fd = fd
        self.holders = 1
        self.keepable = self.repeatable = False

    def hold(self) -> None:
        """Keep the file open for one more holder."""
        self.holders += 1

    @property
    def unchanged(self) -> bool:
        """Whether the open file still is what it was, and where: if it is removed or replaced, its ctime tells."""
        identity = self.outline.identity
        return identity is not None and identity.is_of(os.fstat(self.fd))

    def close(self) -> None:
        """Close the file, if one is open and nobody else holds it."""
        if self.fd >= 0:
            self.holders -= 1
            if not self.holders:
                os.close(self.fd)
                self.fd = -1


class Wanted(NamedTuple):
    """What a request says of the representation it wants; *accept* matters to an application's page only."""

    target: RequestTarget
    accept_encoding: bytes | None = None
    accept: bytes | None = None
