"""The blocking twin of the web server (book pp. 301, 304, 318): ``python -m aiolsp.blocking.websrv``."""

from __future__ import annotations

__all__ = ["WebServer"]

TYPE_CHECKING = False
"""As in `typing`, which is not to be looked for before __main__.py has said where."""

if TYPE_CHECKING:
    from aiolsp.blocking.websrv.server import WebServer
else:

    def __getattr__(name: str) -> object:
        # When it is asked for (PEP 562), as in the other shell: what __main__.py does first comes before all imports.
        if name == "WebServer":
            from aiolsp.blocking.websrv.server import WebServer

            return WebServer
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
