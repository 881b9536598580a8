"""The web server, all mechanisms together (book pp. 301, 304, 318): ``python -m aiolsp.websrv`` serves a directory."""

from __future__ import annotations

__all__ = ["WebServer"]

TYPE_CHECKING = False
"""As in `typing`, which the program loads when the garbage collector no longer looks at all of it."""

if TYPE_CHECKING:
    from aiolsp.websrv.server import WebServer
else:

    def __getattr__(name: str) -> object:
        # When it is asked for (PEP 562), so that the program has a say in how its modules are loaded: see __main__.py.
        if name == "WebServer":
            from aiolsp.websrv.server import WebServer

            return WebServer
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
