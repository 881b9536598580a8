"""The web servers of a comparison: how each is started, and what it needs.

One worker each, no access log unless the case is about it, keep-alive for longer than a comparison takes.
"""

from __future__ import annotations

import os
import shutil
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from load.server_process import ServerTrouble
from versus.programs import TWIN, command

INSTALL_PEERS = "pip install 'aiolsp[peers]'"

HERE = Path(__file__).parent

IDLE_TIME = 600
"""Seconds that a server lets a connection be silent: longer than its turn takes to come again."""


CONNECTIONS = 16_384
"""Most at once; websrv's own default in all, and here from one address as well."""


@dataclass(frozen=True)
class Setup:
    """What a server is to be started with."""

    site: Path
    scratch: Path
    """A directory for its configuration and its log."""
    variant: str = "hot"
    """``hot``; ``cold``, without a cache of open files; ``unknown``, without any; ``log``, with an access log."""
    port: int = 0
    """A free one, for those that do not choose and tell one themselves."""


@dataclass(frozen=True)
class WebServer:
    """One kind of web server."""

    name: str
    command: Callable[[Setup], list[str]]
    needs: Callable[[], bool]
    install: str
    """How to install what it needs."""
    tells: bool = False
    """Whether it takes port 0 and prints a ready line."""

    def check(self) -> None:
        """Raises ServerTrouble if it is not installed."""
        if not self.needs():
            raise ServerTrouble(f"not installed: {self.install}")


def _modules(*names: str) -> Callable[[], bool]:
    return lambda: all(find_spec(name) is not None for name in names)


def _websrv(shell: str) -> Callable[[Setup], list[str]]:
    limits = ("--idle-timeout", str(IDLE_TIME), "--max-per-address", str(CONNECTIONS))

    def words(setup: Setup) -> list[str]:
        log = "common" if setup.variant == "log" else "off"
        kept = ("--cache-size", "0") if setup.variant == "unknown" else ()
        return command("websrv", shell, str(setup.site), "--log", log, *limits, *kept)

    return words


def _nginx(setup: Setup) -> list[str]:
    path = setup.scratch / "nginx.conf"
    path.write_text(nginx_configuration(setup))
    return ["nginx", "-c", str(path), "-p", str(setup.scratch), "-e", "stderr"]


def nginx_configuration(setup: Setup) -> str:
    """Debian's defaults (sendfile, tcp_nopush), one worker, and the cases' own settings."""
    # As root, nginx would change to a user who may not enter the temporary directory.
    user = "user root;" if os.geteuid() == 0 else ""
    cached = "open_file_cache max=1000 inactive=600s; open_file_cache_valid 60s;"
    temporary = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    return f"""{user}
daemon off; worker_processes 1; error_log stderr crit; pid {setup.scratch}/pid;
events {{ worker_connections {CONNECTIONS}; }}
http {{
    access_log {f"{setup.scratch}/access.log" if setup.variant == "log" else "off"};
    sendfile on; tcp_nopush on; types_hash_max_size 2048; include /etc/nginx/mime[.]types;
    keepalive_timeout {IDLE_TIME}s; keepalive_requests 1000000000;
    {"" if setup.variant in ("cold", "unknown") else cached}
    {" ".join(f"{name}_temp_path {setup.scratch}/{name};" for name in temporary)}
    server {{ listen 127.0.0.1:{setup.port} backlog=1024; root {setup.site}; }}
}}
"""


def _http_server(setup: Setup) -> list[str]:
    place = ("--bind", "127.0.0.1", "--directory", str(setup.site))
    return [sys.executable, "-m", "http.server", str(setup.port), *place]


def _aiohttp(setup: Setup) -> list[str]:
    return [sys.executable, str(HERE / "aiohttp_static.py"), str(setup.site), str(setup.port)]


def _uvicorn(setup: Setup) -> list[str]:
    options = ("--port", str(setup.port), "--no-access-log", "--timeout-keep-alive", str(IDLE_TIME))
    application = ("--app-dir", str(HERE), "starlette_static:app")
    environment = ("env", f"COMPARE_SITE={setup.site}")
    return [*environment, sys.executable, "-m", "uvicorn", "--loop", "uvloop", *options, *application]


def _granian(setup: Setup) -> list[str]:
    options = ("--interface", "asgi", "--port", str(setup.port), "--workers", "1", "--loop", "uvloop")
    static = ("--static-path-route", "", "--static-path-mount", str(setup.site))
    application = ("--working-dir", str(HERE), "starlette_static:app")
    return [sys.executable, "-m", "granian", *options, *static, *application]


NGINX, OURS, STOCK, OUR_TWIN = "nginx", "websrv", "websrv, stock loop", "websrv, blocking twin"
HTTP_SERVER, AIOHTTP, STARLETTE, GRANIAN = "http.server", "aiohttp", "starlette, uvicorn", "granian"

SERVERS = {
    server.name: server
    for server in (
        WebServer(OURS, _websrv("uvloop"), _modules("uvloop"), "pip install uvloop", tells=True),
        WebServer(STOCK, _websrv("asyncio"), _modules(), "", tells=True),
        WebServer(OUR_TWIN, _websrv(TWIN), _modules(), "", tells=True),
        WebServer(NGINX, _nginx, lambda: shutil.which("nginx") is not None, "apt-get install nginx-light"),
        WebServer(HTTP_SERVER, _http_server, _modules(), ""),
        WebServer(AIOHTTP, _aiohttp, _modules("aiohttp", "uvloop"), INSTALL_PEERS),
        WebServer(STARLETTE, _uvicorn, _modules("starlette", "uvicorn", "uvloop", "httptools"), INSTALL_PEERS),
        WebServer(GRANIAN, _granian, _modules("granian", "starlette", "uvloop"), INSTALL_PEERS),
    )
}
"""By name, ours first."""


def free_port() -> int:
    """A port of 127.0.0.1 that is free at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
