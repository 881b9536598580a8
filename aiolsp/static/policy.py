"""What the operator decided about a site: the options of the command line that shape an answer."""

from __future__ import annotations

from dataclasses import dataclass

from aiolsp.http1.response import Field, check_field

_OURS = frozenset(
    {
        b"accept-ranges",
        b"connection",
        b"content-encoding",
        b"content-length",
        b"content-range",
        b"content-type",
        b"date",
        b"etag",
        b"last-modified",
        b"location",
        b"transfer-encoding",
    }
)
"""Fields that tell of one answer, its framing or its content; the same one with all answers would be wrong for most."""


class ScriptDirectoryError(Exception):
    """A directory of programs cannot be used; the message is one line for a person."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How a directory is served; *headers* go out with every answer, *cache_control* with files and their 304.

    One of the *headers* takes the place of what the server says of itself (Server, Access-Control-Allow-Origin).
    Raises ValueError for a field that cannot be sent or is not the operator's to set, and for an *index* or a
    *not_found_page* that is not a plain name.
    """

    follow_symlinks: bool = False
    dotfiles: bool = False
    listing: bool = True
    spa: bool = False
    cors: bool = False
    cache_control: bytes | None = None
    headers: tuple[Field, ...] = ()
    index: bytes = b"index.html"
    not_found_page: bytes = b"404.html"

    def __post_init__(self) -> None:
        for name, value in self.headers:
            check_field(name, value)
            if name.lower() in _OURS:
                raise ValueError(f"the server sets {name.decode('ascii')} itself")
        if self.cache_control is not None:
            check_field(b"Cache-Control", self.cache_control)
        for name in (self.index, self.not_found_page):
            if name in (b"", b".", b"..") or b"/" in name or b"\0" in name:
                raise ValueError(f"not the name of a file: {name!r}")
