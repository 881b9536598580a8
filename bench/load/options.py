"""The command line of ``stress.py``: every option, and the plan that they make."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryFile
from typing import TypeVar

from aiolsp.cli import Parser, UsageError
from load.plan import Plan, parse_paths, parse_url
from load.plot import check_plot_name
from load.record import GOOD_STATUSES
from load.schedule import ClosedLoop, ConstantRate, PoissonRate, Schedule
from load.slow import KINDS
from load.stop import StopRule
from load.thresholds import parse_condition, parse_goal
from load.units import SECOND, parse_count, parse_duration, parse_rate
from load.usage import is_local

T = TypeVar("T")

DEFAULT_DURATION = 5 * SECOND

STEP_DURATION = 2 * SECOND
"""For each run of a search: there are two dozen of them."""

ROUND_DURATION = SECOND // 2
"""For each of the four runs of a round."""

ROUNDS = 8
"""Sixteen seconds with runs of ROUND_DURATION; the interval shrinks with the square root."""

SLOW_DURATION = 30 * SECOND
"""Servers wait for a head for 10 to 60 s, and a slow client shows nothing before that is over."""

FIRST_RATE = 250.0
"""Where a search begins: low enough for any server, and six doublings below 16,000."""

EPILOG = (
    "'stress.py compare A.json B.json' compares two results of --json. "
    "Exit status: 0 for a run with good answers, 1 for a failed one or a --fail-if that came true, 2 for bad use."
)

COMPARE_EPILOG = "Exit status: 0 whatever the verdict, 2 for bad use. Runs in turn, by --against, are surer."


def _typed(parse: Callable[[str], T]) -> Callable[[str], T]:
    def parsed(text: str) -> T:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return parsed


def _positive(parse: Callable[[str], T]) -> Callable[[str], T]:
    def parsed(text: str) -> T:
        value = parse(text)
        if not value:
            raise ValueError(f"{text!r} must be more than nothing")
        return value

    return _typed(parsed)


def _field(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip() or any(not " " <= character <= "~" for character in text.replace("\t", " ")):
        raise ValueError(f"{text!r} is not a field (NAME: VALUE)")
    return name.strip(), value.strip()


def _statuses(text: str) -> frozenset[int]:
    found: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        if not (first.isdigit() and (last or first).isdigit() and 100 <= int(first) <= int(last or first) <= 599):
            raise ValueError(f"{text!r} is not a list of statuses (200-299,304)")
        found.update(range(int(first), int(last or first) + 1))
    return frozenset(found)


positive_count = _positive(parse_count)

positive_duration = _positive(parse_duration)


def stress_parser() -> Parser:
    """The parser of all options."""
    parser = Parser(prog="stress.py", description="Load an HTTP server and say honestly how it did.", epilog=EPILOG)
    parser.add_argument("url", nargs="?", metavar="URL", help="what to load (default: aiolsp.websrv, started for it)")
    _add_load(parser)
    _add_mode(parser)
    _add_client(parser)
    _add_request(parser)
    _add_output(parser)
    return parser


def compare_parser() -> Parser:
    """The parser of ``stress.py compare``."""
    parser = Parser(
        prog="stress.py compare",
        description="Compare two results of --json: is A faster than B?",
        epilog=COMPARE_EPILOG,
    )
    parser.add_argument("first", metavar="A.json", help="the result of a run")
    parser.add_argument("second", metavar="B.json", help="the result that it is compared with")
    parser.add_argument("--json", metavar="FILE", help="write the comparison to FILE (- is stdout, not the report)")
    return parser


def _add_load(parser: Parser) -> None:
    load = parser.add_argument_group("load")
    load.add_argument(
        "-c", "--connections", type=positive_count, default=64, metavar="N", help="connections (default 64)"
    )
    load.add_argument("-d", "--duration", type=positive_duration, metavar="TIME", help="how long (default 5s, or -n)")
    load.add_argument("-n", "--requests", type=positive_count, metavar="N", help="how many requests")
    load.add_argument(
        "--rate",
        type=_positive(parse_rate),
        metavar="R",
        help="open loop: R requests per second, whatever the server does",
    )
    load.add_argument(
        "--arrival", choices=("constant", "poisson"), help="how the requests of --rate arrive (default constant)"
    )
    load.add_argument(
        "--warmup",
        type=_typed(parse_duration),
        default=0,
        metavar="TIME",
        help="load before the figures begin (default none)",
    )
    load.add_argument(
        "--timeout",
        type=positive_duration,
        default=10 * SECOND,
        metavar="TIME",
        help="for one answer (default 10s)",
    )


def _add_mode(parser: Parser) -> None:
    group = parser.add_argument_group("instead of one run")
    mode = group.add_mutually_exclusive_group()
    mode.add_argument(
        "--find-max",
        type=_typed(parse_goal),
        metavar="GOAL",
        help="the highest rate that keeps 'p99<10ms', 'errors<1%%' ...; runs of -d (2s), from --rate (250) up",
    )
    mode.add_argument(
        "--against", metavar="URL2", help="URL (A) beside URL2 (B): who is faster? runs of -d (500ms) in turn"
    )
    mode.add_argument(
        "--slow",
        choices=KINDS,
        help="hold connections by slow clients for -d (30s), with ordinary requests beside; loopback only",
    )
    group.add_argument("--rounds", type=positive_count, metavar="N", help=f"rounds of --against (default {ROUNDS})")


def _add_client(parser: Parser) -> None:
    client = parser.add_argument_group("client")
    client.add_argument(
        "--client",
        choices=("aiohttp", "wire"),
        default="aiohttp",
        help="a real HTTP client, or ready bytes on the wire (default %(default)s)",
    )
    client.add_argument("--churn", action="store_true", help="a new connection for each request")
    client.add_argument(
        "--pipeline",
        type=positive_count,
        default=1,
        metavar="K",
        help="requests in flight on each connection (wire)",
    )
    client.add_argument(
        "--workers",
        type=positive_count,
        default=1,
        metavar="N",
        help="processes that share the connections and the rate (default 1)",
    )
    client.add_argument(
        "--loop",
        choices=("auto", "uvloop", "asyncio"),
        default="auto",
        help="the generator's event loop (default %(default)s)",
    )


def _add_request(parser: Parser) -> None:
    request = parser.add_argument_group("request")
    request.add_argument("--method", help="request method (default GET, POST with --body)")
    request.add_argument(
        "--header",
        type=_typed(_field),
        action="append",
        default=[],
        metavar="'NAME: VALUE'",
        help="a field; repeatable",
    )
    request.add_argument("--body", metavar="TEXT", help="content to send; @FILE sends a file")
    request.add_argument(
        "--urls", metavar="FILE", help="load these URLs or paths in turn, one a line, all of one server"
    )
    request.add_argument("--unix", metavar="SOCKET", help="connect to this unix socket")
    request.add_argument("--insecure", action="store_true", help="do not verify the certificate of an https server")
    request.add_argument(
        "--good-status", type=_typed(_statuses), default=GOOD_STATUSES, metavar="LIST", help="default 200-299,304"
    )
    request.add_argument("--expect", metavar="FILE", help="the content of every answer must be that of FILE")
    request.add_argument("--no-probe", action="store_true", help="load without asking once first")


def _add_output(parser: Parser) -> None:
    output = parser.add_argument_group("output")
    output.add_argument(
        "--fail-if",
        type=_typed(parse_condition),
        action="append",
        default=[],
        metavar="CONDITION",
        help="exit with status 1 if 'p99>10ms', 'errors>0', 'errors>1%%', 'rate<1000' ... (of A); repeatable",
    )
    output.add_argument(
        "--json",
        metavar="FILE",
        help="write everything, with the machine, to FILE (- is stdout, not the report); see stress.schema.json",
    )
    output.add_argument(
        "--plot",
        type=_typed(check_plot_name),
        metavar="FILE",
        help="draw latency by percentile and the rate over time into FILE (.png or .svg)",
    )
    output.add_argument("-q", "--quiet", action="store_true", help="nothing but the report")


def make_plan(options: argparse.Namespace, url: str) -> Plan:
    """The plan for *url* that the options ask for. Raises UsageError for what does not go together."""
    _check(options)
    target, path = parse_url(url, options.unix)
    if options.slow is not None and (target.scheme != "http" or not (target.unix or is_local(target.host))):
        raise UsageError(f"--slow is for servers on this machine, by plain http, not for {target.origin}")
    if target.unix and target.scheme == "https" and options.client == "aiohttp":
        raise UsageError("aiohttp speaks no https by a unix socket: use --client wire")
    paths: tuple[str, ...] = (path,)
    if options.urls is not None:
        lines = read_file(options.urls).decode("utf-8", "replace").splitlines()
        paths = parse_paths(lines, target, options.urls)
    body = _body(options.body)
    return Plan(
        target=target,
        paths=paths,
        method=options.method or ("POST" if body else "GET"),
        fields=tuple(options.header),
        body=body,
        schedule=_schedule(options),
        stop=StopRule(options.duration or (None if options.requests else _default_duration(options)), options.requests),
        warmup=options.warmup,
        connections=options.connections,
        timeout=options.timeout,
        client=options.client,
        churn=options.churn,
        pipeline=options.pipeline,
        good_statuses=options.good_status,
        expect=None if options.expect is None else read_file(options.expect),
        verify_tls=not options.insecure,
    )


def _check(options: argparse.Namespace) -> None:
    if options.arrival and options.rate is None and not options.find_max:
        raise UsageError("--arrival says how the requests of --rate arrive: give a --rate")
    if options.pipeline > 1 and (options.client != "wire" or options.churn):
        raise UsageError("--pipeline needs --client wire and kept connections")
    if options.workers > options.connections:
        raise UsageError(f"{options.workers} workers cannot share {options.connections} connections: give more -c")
    if options.expect is not None and options.urls is not None:
        raise UsageError("--expect is for one URL, not for --urls")
    if options.rounds is not None and options.against is None:
        raise UsageError("--rounds are those of --against: give a second URL")
    if options.against is not None and (options.unix is not None or options.urls is not None):
        raise UsageError("--against is for two URLs, not for --unix or --urls")
    if options.plot is not None and (options.find_max or options.against or options.slow):
        raise UsageError("--plot draws one run, not a search or a comparison")
    for name in (options.json, options.plot):
        if name not in {None, "-"}:
            check_writable(name)
    if options.plot is not None and find_spec("matplotlib") is None:
        raise UsageError("matplotlib is not installed, and --plot needs it: pip install 'aiolsp[bench]'")
    if options.slow is not None and (options.requests or options.rate or options.workers > 1):
        raise UsageError("--slow holds connections (-c) for a time (-d): no -n, --rate or --workers")
    if options.method is not None and not (options.method.isascii() and options.method.isalpha()):
        raise UsageError(f"{options.method!r} is not a request method")
    if options.unix is not None and not os.path.exists(options.unix):
        raise UsageError(f"{options.unix} is not there: no such socket")


def _default_duration(options: argparse.Namespace) -> int:
    if options.find_max is not None:
        return STEP_DURATION
    if options.slow is not None:
        return SLOW_DURATION
    return DEFAULT_DURATION if options.against is None else ROUND_DURATION


def _schedule(options: argparse.Namespace) -> Schedule:
    rate = options.rate or (FIRST_RATE if options.find_max else None)
    if rate is None:
        return ClosedLoop()
    return PoissonRate(rate) if options.arrival == "poisson" else ConstantRate(rate)


def _body(text: str | None) -> bytes:
    if text is None:
        return b""
    return read_file(text[1:]) if text.startswith("@") else text.encode()


def read_file(name: str) -> bytes:
    """A file that the command line names. Raises UsageError."""
    try:
        return Path(name).read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {name}: {(error.strerror or '').lower()}") from None


def check_installed(package: str) -> None:
    """Whether a package that a long run needs is there, before it. Raises UsageError."""
    if find_spec(package) is None:
        raise UsageError(f"{package} is not installed: pip install 'aiolsp[bench]'")


def check_writable(name: str) -> None:
    """Whether a file can be written, before a long run and not after it. Raises UsageError."""
    path = Path(name)
    try:
        new = not path.exists()
        if new or path.is_file() or path.is_dir():
            path.open("ab").close()
        if new:
            os.unlink(os.path.realpath(name))  # not the link, if it is one
    except OSError as error:
        raise UsageError(f"cannot write {name}: {(error.strerror or '').lower()}") from None


def make_directory(path: Path) -> None:
    """Make a directory for the files of a long run, and see that it takes them, before the run. Raises UsageError."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        TemporaryFile(dir=path).close()
    except OSError as error:
        raise UsageError(f"cannot write into {path}: {(error.strerror or '').lower()}") from None
