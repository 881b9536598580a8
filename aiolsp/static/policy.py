"""What the operator decided about a site: the options of the command line that shape an answer."""

from typing import Any, NamedTuple, Self

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


class _Policy(NamedTuple):
    """The options; a named tuple, as the limits are."""

    follow_symlinks: bool = False
    dotfiles: bool = False
    listing: bool = True
    spa: bool = False
    cors: bool = False
    cache_control: bytes | None = None
    headers: tuple[Field, ...] = ()
    index_page: bytes = b"index.html"
    not_found_page: bytes = b"404.html"


class Policy(_Policy):
    """How a directory is served; *headers* go out with every answer, *cache_control* with files and their 304.

    One of the *headers* takes the place of what the server says of itself (Server, Access-Control-Allow-Origin).
    Raises ValueError for a field that cannot be sent or is not the operator's to set, and for an *index_page* or a
    *not_found_page* that is not a plain name.
    """

    __slots__ = ()

    def __new__(cls, *values: Any, **named: Any) -> Self:
        """As a named tuple is made, but checked."""
        made = super().__new__(cls, *values, **named)
        for name, value in made.headers:
            check_field(name, value)
            if name.lower() in _OURS:
                raise ValueError(f"the server sets {name.decode('ascii')} itself")
        if made.cache_control is not None:
            check_field(b"Cache-Control", made.cache_control)
            if any(name.lower() == b"cache-control" for name, _ in made.headers):
                raise ValueError("Cache-Control is given twice: for files, and for all answers")
        for name in (made.index_page, made.not_found_page):
            if name in (b"", b".", b"..") or b"/" in name or b"\0" in name:
                raise ValueError(f"not the name of a file: {name!r}")
        return made


def common_fields(policy: Policy) -> tuple[Field, ...]:
    """What every answer says; what the operator says takes the place of ours."""
    ours = [(b"Server", b"aiolsp"), (b"X-Content-Type-Options", b"nosniff")]
    if policy.cors:
        ours += [
            (b"Access-Control-Allow-Origin", b"*"),
            (b"Access-Control-Expose-Headers", b"Accept-Ranges, Content-Length, Content-Range, ETag"),
        ]
    replaced = {name.lower() for name, _ in policy.headers}
    return (*(pair for pair in ours if pair[0].lower() not in replaced), *policy.headers)
