"""The web server, all mechanisms together (book pp. 301, 304, 318): ``python -m aiolsp.websrv`` serves a directory."""

from __future__ import annotations

from aiolsp.websrv.server import WebServer

__all__ = ["WebServer"]
