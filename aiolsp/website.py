"""What a web server opens before it serves and closes after it, on either shell: directories and listeners."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

from aiolsp.linux import unsent
from aiolsp.linux.listener import (
    Address,
    format_address,
    listen,
    listen_unix,
    remove_stale_socket,
)
from aiolsp.static.resource import DocumentRoot
from aiolsp.websettings import Settings

if TYPE_CHECKING:
    from aiolsp.static.access_log import AccessLog
    from aiolsp.static.pages import Pages


def open_root(root: str | os.PathLike[str], settings: Settings, *, small: int = 0) -> DocumentRoot:
    """The directory *root*, open, and that of its programs; a file of at most *small* bytes is read in one go.

    Raises OSError if one is no directory, ScriptDirectoryError.
    """
    path = os.fspath(root)
    scripts = None
    if settings.cgi or settings.cgi_dir is not None:
        # Here, because most servers run no programs, and start sooner without what it takes to.
        from aiolsp.static.scripts import Scripts

        scripts = Scripts(path, settings.cgi_dir)
    try:
        return DocumentRoot(path, settings.policy, small=small, scripts=scripts, look_always=settings.cache_valid < 1)
    except BaseException:
        if scripts is not None:
            scripts.close()
        raise


def open_log(settings: Settings) -> AccessLog | None:
    """The access log on stderr; None if nothing is logged."""
    if settings.log == "off":
        return None
    # Here, as the pages below, for who starts without.
    from aiolsp.static.access_log import AccessLog

    return AccessLog(sys.stderr.fileno(), settings.log)


def pages_of(settings: Settings) -> Pages | None:
    """The pages on which the server tells of itself; None if there are none."""
    if settings.status is None and settings.health is None:
        return None
    from aiolsp.static.pages import Pages

    return Pages(settings.status, settings.health, settings.policy)


def close_root(root: DocumentRoot) -> None:
    """Close what `open_root` opened."""
    root.close()
    if root.scripts is not None:
        root.scripts.close()


def listen_at(host: str, port: int, unix: str | None, *, reuse_port: bool = False) -> list[socket.socket]:
    """Listeners on the socket at *unix*, or else on *host* and *port*. Raises ListenError."""
    if unix is not None:
        return [listen_unix(unix)]
    listeners = listen(host, port, reuse_port=reuse_port)
    for listener in listeners:
        unsent.bound(listener)
    return listeners


def leave(listeners: Iterable[socket.socket], unix: str | None) -> None:
    """Close *listeners*, if they are not yet, and remove what is left at *unix*. May be called again.

    What another server has put there by now is that one's: it may have been started while this one was finishing.
    """
    for listener in listeners:
        listener.close()
    if unix is not None:
        with contextlib.suppress(OSError):
            remove_stale_socket(unix)


def url_of(address: Address) -> str:
    """Where the root is, for a client on this machine."""
    return f"http://{format_address(address)}/" if isinstance(address, tuple) else f"unix:{format_address(address)}"
