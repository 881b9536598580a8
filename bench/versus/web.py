"""The web server beside its peers, case by case, with what is asked of each."""

from __future__ import annotations

import http.client
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from load.plan import Plan, Target
from load.schedule import ConstantRate
from load.server_process import ServerTrouble
from load.units import SECOND
from versus import peers, web_loads
from versus.peers import AIOHTTP, GRANIAN, HTTP_SERVER, NGINX, OUR_TWIN, OURS, SERVERS, STARLETTE, STOCK
from versus.programs import KIND as TWINS
from versus.results import About, Goal
from versus.rounds import Case, Entrant, Load, Pace
from versus.servers import Server
from versus.site import HUGE, LARGE, MIDDLE, MISSING, SMALL, make_cold_set, make_names, make_site

KIB, MIB = 1 << 10, 1 << 20

PEERS = "peers"

PROGRAM = "websrv"

PAIR = (OURS, NGINX)

FAMILY = (OURS, STOCK, OUR_TWIN)

BROWSER_FIELDS = (
    ("User-Agent", "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0"),
    ("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
    ("Accept-Language", "en-US,en;q=0.5"),
    ("Accept-Encoding", "gzip, deflate, br, zstd"),
    ("Referer", "http://127.0.0.1/page-{n}.html"),
    ("Cookie", "session={n}; theme=dark"),
    ("Sec-Fetch-Mode", "navigate"),
    ("Upgrade-Insecure-Requests", "1"),
)
"""Eight fields; no two requests have the same, for a browser's cookie and referrer are its own."""

PATIENCE = 2 * SECOND
"""For an answer: http.server lets five connections wait to be accepted, so that some of 64 wait for a second SYN."""

Settings = dict[str, Any]
"""Fields of a Plan."""


@dataclass(frozen=True)
class Spec:
    """A case: what is asked for, of whom, over how many connections."""

    name: str
    title: str
    path: str
    goals: tuple[Goal, ...]
    servers: tuple[str, ...] = PAIR
    settings: Settings = field(default_factory=dict)
    variant: str = "hot"
    least_seconds: float = 0.0
    with_validator: bool = False
    """Whether to ask with If-None-Match, and the validator that the server gave."""
    wire: bool = False
    """Whether it is the wire client's even where there is wrk."""
    twin: bool = False
    """Whether it is a case of websrv beside its twin as well."""
    in_parts: bool = False
    """Whether the file is so large that its head does not count, but the answers that the end of a run cuts off do."""
    many_names: bool = False
    """Whether its file is asked for by many names in turn, so that no answer can be one that was given before."""


def _least(bound: float, of: str = OURS, against: str = NGINX) -> Goal:
    return Goal("rate", of, bound, against)


def _most(figure: str, bound: float, of: str = OURS, against: str = NGINX) -> Goal:
    return Goal(figure, of, bound, against, least=False)


SPECS = (
    Spec(
        "hot",
        "1 KiB hot file, plain request",
        SMALL,
        (
            _least(1.2),
            _least(0.8, STOCK),
            _least(3, against=OUR_TWIN),
            *(_least(20, against=peer) for peer in (AIOHTTP, STARLETTE, GRANIAN, HTTP_SERVER)),
        ),
        tuple(SERVERS),
        twin=True,
    ),
    Spec(
        "fields",
        "1 KiB hot file, 8 browser-like fields that vary",
        SMALL,
        (_least(1.05),),
        settings={"fields": BROWSER_FIELDS, "numbered": True},
        twin=True,
    ),
    Spec("unchanged", "304 by If-None-Match", SMALL, (_least(1.1),), with_validator=True),
    Spec("middle", "16 KiB hot file", MIDDLE, (_least(1.0),), twin=True),
    Spec("pipelined", "1 KiB, pipelined 16 deep", SMALL, (_least(1.5),), settings={"pipeline": 16}, wire=True),
    Spec("missing", "404", MISSING, (_least(1.0),), settings={"good_statuses": frozenset({404})}),
    Spec(
        "large",
        "1 MiB",
        LARGE,
        (_least(0.95), _most("cpu", 1.3)),
        settings={"connections": 16},
        least_seconds=0.5,
        in_parts=True,
        twin=True,
    ),
    Spec(
        "huge",
        "64 MiB",
        HUGE,
        (_least(0.95), _most("cpu", 1.3)),
        settings={"connections": 4},
        least_seconds=3.0,
        in_parts=True,
    ),
    Spec(
        "range",
        "range of 64 KiB in 64 MiB",
        HUGE,
        (_least(0.6),),
        settings={"fields": (("Range", f"bytes={32 * MIB}-{32 * MIB + 64 * KIB - 1}"),)},
    ),
    Spec(
        "ranges",
        "such a range, each of another file",
        HUGE,
        (),
        settings={"fields": (("Range", f"bytes={32 * MIB}-{32 * MIB + 64 * KIB - 1}"),)},
        many_names=True,
    ),
    Spec("churn", "no keep-alive", SMALL, (_most("cpu", 1.5),), settings={"churn": True}, twin=True),
    Spec(
        "cold",
        "20,000 files of 8 KiB, more than the cache holds",
        "",
        (_least(0.3), _least(6, against=AIOHTTP)),
        (OURS, NGINX, AIOHTTP),
        variant="cold",
    ),
    Spec(
        "strange",
        "20,000 files, 8 browser-like fields that vary",
        "",
        (),
        settings={"fields": BROWSER_FIELDS, "numbered": True},
        variant="cold",
    ),
    Spec("unknown", "20,000 files of 8 KiB, nothing kept of any", "", (), variant="unknown"),
    Spec("log", "1 KiB hot file, access log on", SMALL, (_least(0.8),), variant="log"),
)
"""What differs from 64 connections kept alive, and asked for by wrk or the wire client, stands in *settings*."""

MANY_IDLE, FEW_IDLE = 10_000, 2_000
"""Connections; all are held by the generator, whose descriptors would not do for as many of each server."""

KINDS = 50
"""Kinds of requests in the growth case."""


class WebCases:
    """The cases on one directory of files; *scratch* is for it and for configurations."""

    def __init__(self, scratch: Path, pace: Pace, *, wrk: bool, processors: frozenset[int] | None) -> None:
        self._scratch = scratch
        self.pace = pace
        self._wrk = wrk
        self._processors = processors
        self._cold: tuple[str, ...] = ()
        self._half: float | None = None

    def beside_twin(self) -> list[Case]:
        """websrv on both loops beside its blocking twin."""
        return [self._case(TWINS, spec, FAMILY, OUR_TWIN, ()) for spec in SPECS if spec.twin]

    def beside_peers(self) -> list[Case]:
        """Case by case, the table of what is asked for."""
        cases = [self._case(PEERS, spec, spec.servers, NGINX, spec.goals) for spec in SPECS]
        return [*cases, self._idle_case(), self._half_case(), self._start_case(), self._growth_case()]

    def _case(self, kind: str, spec: Spec, servers: Sequence[str], reference: str, goals: tuple[Goal, ...]) -> Case:
        about = _about(spec.name, spec.title, reference, goals, kind=kind)
        return Case(
            about, tuple(Entrant(name, partial(self._open, spec, name)) for name in servers), spec.least_seconds
        )

    def _idle_case(self) -> Case:
        many = FEW_IDLE if self.pace.quick else MANY_IDLE
        counts = {OURS: many, NGINX: FEW_IDLE, AIOHTTP: FEW_IDLE}
        entrants = [Entrant(_idle(name, idle), partial(self._open_beside, name, idle)) for name, idle in counts.items()]
        ours = _idle(OURS, many)
        goals = (Goal("memory", ours, 6 * KIB, least=False), _most("p99", 1.3, ours, OURS))
        about = _about("idle", f"16 connections busy, {many:,} idle", OURS, goals)
        return Case(about, (Entrant(OURS, partial(self._open_beside, OURS, 0)), *entrants))

    def _half_case(self) -> Case:
        title = "half of websrv's own maximum rate, open loop"
        about = _about("half", title, NGINX, (_most("p99", 1.5),), latency="from due to answered", open_loop=True)
        return Case(about, tuple(Entrant(name, partial(self._open_half, name)) for name in PAIR))

    def _start_case(self) -> Case:
        goals = (_most("p50", 1.5, against=HTTP_SERVER),)
        latency = "from the start to the first answer"
        about = _about("start", "start to first answer", HTTP_SERVER, goals, unit="a start", latency=latency)
        return Case(
            about, tuple(Entrant(name, partial(self._open_start, name)) for name in (*FAMILY, NGINX, HTTP_SERVER))
        )

    def _growth_case(self) -> Case:
        first, more = (5_000, 20_000) if self.pace.quick else (100_000, 900_000)
        title = f"memory after {first + more:,} requests of {KINDS} kinds, over that after {first:,}"
        about = _about("growth", title, OURS, (Goal("growth", OURS, MIB, least=False),))
        return Case(about, (Entrant(OURS, partial(self._open_growth, first, more)),), once=True)

    # How each of them is opened

    @contextmanager
    def _open(self, spec: Spec, name: str) -> Iterator[Load]:
        with self.server(name, spec.variant) as server:
            plan = plan_for(server, [f"/{spec.path}"], **spec.settings)
            if not spec.path:
                self._cold = self._cold or make_cold_set(self._site)
                plan = replace(plan, paths=self._cold)
            if spec.many_names:
                plan = replace(plan, paths=make_names(self._site, spec.path))
            if spec.with_validator:
                plan = replace(plan, fields=(*plan.fields, ("If-None-Match", validator(server, spec.path))))
            if self._wrk and not spec.wire:
                load: web_loads.WrkLoad | web_loads.PlanLoad = web_loads.WrkLoad(server, plan, in_parts=spec.in_parts)
            else:
                load = web_loads.PlanLoad(server, plan)
            with load:
                yield load

    @contextmanager
    def _open_beside(self, name: str, idle: int) -> Iterator[Load]:
        with self.server(name) as server:
            plan = plan_for(server, [f"/{SMALL}"], connections=16)
            with web_loads.IdleBeside(server, plan, idle) as load:
                yield load

    @contextmanager
    def _open_half(self, name: str) -> Iterator[Load]:
        with self.server(name) as server:
            plan = plan_for(server, [f"/{SMALL}"], schedule=ConstantRate(self._half_rate()))
            with web_loads.PlanLoad(server, plan) as load:
                yield load

    def _half_rate(self) -> float:
        if self._half is None:
            with self.server(OURS) as server, web_loads.PlanLoad(server, plan_for(server, [f"/{SMALL}"])) as load:
                load.run(self.pace.seconds)
                self._half = load.run(self.pace.seconds).figures()["rate"] / 2
        return self._half

    @contextmanager
    def _open_start(self, name: str) -> Iterator[Load]:
        yield web_loads.Start(self.server(name), f"/{SMALL}")

    @contextmanager
    def _open_growth(self, first: int, more: int) -> Iterator[Load]:
        with self.server(OURS) as server:
            statuses = frozenset({200, 206, 301, 404, 416})
            plan = plan_for(server, kinds_of_paths(), good_statuses=statuses)
            with web_loads.Growth(server, plan, first, more) as load:
                yield load

    @cached_property
    def _site(self) -> Path:
        directory = self._scratch / "site"
        directory.mkdir()
        make_site(directory)
        return directory

    def server(self, name: str, variant: str = "hot") -> Server:
        """The server called *name*, to be entered. Raises ServerTrouble if it is not installed."""
        kind = SERVERS[name]
        kind.check()
        port = 0 if kind.tells else peers.free_port()
        setup = peers.Setup(self._site, Path(mkdtemp(dir=self._scratch)), variant, port)
        return Server(kind.command(setup), name, port=port or None, processors=self._processors)


def _idle(name: str, count: int) -> str:
    return f"{name}, {count:,} idle"


def _about(name: str, title: str, reference: str, goals: tuple[Goal, ...], **settings: Any) -> About:
    usual = {"kind": PEERS, "unit": "an answer", "latency": "from sent to answered"}
    return About(program=PROGRAM, name=name, title=title, reference=reference, goals=goals, **(usual | settings))


def plan_for(server: Server, paths: Sequence[str], **settings: Any) -> Plan:
    """A plan for *server*, of the wire client unless told otherwise."""
    host, port = server.address
    return Plan(Target("http", host, port), paths=tuple(paths), timeout=PATIENCE, **({"client": "wire"} | settings))


def kinds_of_paths() -> list[str]:
    """Fifty kinds of requests: files, directories, names that are not there, queries, escapes, long ones."""
    known = [f"/{SMALL}", f"/{MIDDLE}", "/", "/cold", "/%73mall.html", "/nothing/here", f"/./{SMALL}", f"/x/../{SMALL}"]
    return [*known, *(f"/{SMALL}?q={'x' * number * 8}" for number in range(KINDS - len(known)))]


def validator(server: Server, path: str) -> str:
    """The entity tag that *server* gives for *path*. Raises ServerTrouble if it gives none."""
    connection = http.client.HTTPConnection(*server.address, timeout=10)
    try:
        connection.request("HEAD", f"/{path}")
        tag = connection.getresponse().getheader("ETag")
    except http.client.HTTPException as error:
        raise ServerTrouble(f"no entity tag: {error}") from None
    finally:
        connection.close()
    if not tag:
        raise ServerTrouble("it gives no entity tag")
    return tag
