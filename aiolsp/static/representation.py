"""What can be sent, and what tells one file from another: what `resource` finds and `answer` answers with."""

import os
from typing import NamedTuple, Self

from aiolsp.http1.conditions import Validators
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
        return (
            status.st_ino == self.inode
            and status.st_mtime_ns == self.mtime_ns
            and status.st_ctime_ns == self.ctime_ns
            and status.st_size == self.size
            and status.st_dev == self.device
        )


class Resource:
    """Something that can be sent: a file, open (*fd*) or read (*body*), or a page made here.

    Its *fields* are all but Content-Length and those of ranges: the *common* ones, that others have as well, and its
    *own*. Only a file has an *identity* and *validators*; one with a body too may be kept and sent again. A
    *repeatable* page depends on nothing but the target: it may be sent again to who asks for the same a moment later.
    A file that can be looked at again by its name alone has a *path*, from the root down; it is the one to send as long
    as none of its *rivals* is there, compressed siblings that were missing. Whoever holds it calls ``close``; who is to
    hold it too asks by ``hold``.
    """

    __slots__ = (
        "_whole",
        "body",
        "common",
        "content_type",
        "fd",
        "holders",
        "identity",
        "keepable",
        "own",
        "path",
        "repeatable",
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
        body: bytes | None = None,
        fd: int = -1,
        identity: Identity | None = None,
        validators: Validators | None = None,
        own: tuple[Field, ...] = (),
        content_type: bytes = HTML,
    ) -> None:
        self.status = status
        self.common = common
        self.size = size
        self.body = body
        self.fd = fd
        self.holders = 1
        self.identity = identity
        self.validators = validators
        self.own = own
        self.content_type = content_type
        self.keepable = self.repeatable = False
        self.path = b""
        self.rivals: tuple[bytes, ...] = ()
        self._whole: HeadTemplate | None = None

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

    def again(self, body: bytes | None = None, fd: int = -1) -> "Resource":
        """The same file, read or open anew; without either, what is known of it, which cannot be sent."""
        found = Resource(
            self.status,
            self.common,
            self.size,
            body,
            fd,
            self.identity,
            self.validators,
            self.own,
            self.content_type,
        )
        found.keepable = body is not None
        found.path, found.rivals = self.path, self.rivals
        found._whole = self.whole
        return found

    def hold(self) -> None:
        """Keep the file open for one more holder."""
        self.holders += 1

    @property
    def unchanged(self) -> bool:
        """Whether the open file still is what it was, and where: if it is removed or replaced, its ctime tells."""
        return self.identity is not None and self.identity.is_of(os.fstat(self.fd))

    def close(self) -> None:
        """Close the file, if one is open and nobody else holds it."""
        if self.fd >= 0:
            self.holders -= 1
            if not self.holders:
                os.close(self.fd)
                self.fd = -1


class Wanted(NamedTuple):
    """What a request says of the representation it wants."""

    target: RequestTarget
    accept_encoding: bytes | None = None
    accept: bytes | None = None
