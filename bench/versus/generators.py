"""The load generator itself: its clients beside wrk, and beside each other at a rate that both can hold."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from load import wrk
from load.schedule import ConstantRate
from load.server_process import ServerTrouble
from versus.peers import NGINX, free_port
from versus.results import About, Goal
from versus.rounds import Case, Entrant, Load
from versus.servers import Server
from versus.site import SMALL
from versus.web import WebCases, plan_for
from versus.web_loads import PlanLoad, WrkLoad

PROGRAM = "generators"

WIRE, AIOHTTP, WRK = "wire", "aiohttp", "wrk -t1"

RATE = 500.0
"""Requests per second of the open loop: half of what the aiohttp client can do on a slow machine."""

LATE_SERVER = Path(__file__).parent / "late_server.py"


def generator_cases(web: WebCases, *, processors: frozenset[int] | None) -> list[Case]:
    """How fast each can ask nginx, and what each finds of a server whose latencies are known."""
    fast = tuple(Entrant(name, partial(_open_fast, web, name)) for name in (WIRE, AIOHTTP, WRK))
    even = tuple(Entrant(name, partial(_open_even, name, processors)) for name in (WIRE, AIOHTTP))
    asking = About(
        PROGRAM,
        PROGRAM,
        "asking",
        "a hot file of 1 KiB of nginx, asked for over 64 connections",
        "an answer",
        "from sent to answered",
        WRK,
        (Goal("rate", WIRE, 0.75, WRK), Goal("rate", AIOHTTP, 0.10, WRK)),
    )
    finding = About(
        PROGRAM,
        PROGRAM,
        "finding",
        f"a server that answers after 20 ms, and 2 % after 100 ms, at {RATE:g}/s",
        "an answer",
        "from due to answered",
        WIRE,
        tuple(
            Goal(figure, AIOHTTP, bound, WIRE, least=bound < 1) for figure in ("p50", "p99") for bound in (0.95, 1.05)
        ),
        open_loop=True,
    )
    return [Case(asking, fast), Case(finding, even)]


@contextmanager
def _open_fast(web: WebCases, name: str) -> Iterator[Load]:
    if name == WRK and not wrk.installed():
        raise ServerTrouble("not installed: apt-get install wrk")
    with web.server(NGINX) as server:
        plan = plan_for(server, [f"/{SMALL}"], client=AIOHTTP if name == AIOHTTP else WIRE)
        with WrkLoad(server, plan) if name == WRK else PlanLoad(server, plan) as load:
            yield load


@contextmanager
def _open_even(name: str, processors: frozenset[int] | None) -> Iterator[Load]:
    port = free_port()
    with Server(
        [sys.executable, str(LATE_SERVER), str(port)], "late_server", port=port, processors=processors
    ) as server:
        plan = plan_for(server, ["/"], client=name, schedule=ConstantRate(RATE))
        with PlanLoad(server, plan) as load:
            yield load
