"""The blocking twin of the web server (book pp. 301, 304, 318): ``python -m aiolsp.blocking.websrv``."""

from __future__ import annotations

from aiolsp.blocking.websrv.server import WebServer

__all__ = ["WebServer"]
