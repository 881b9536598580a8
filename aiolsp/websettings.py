"""The web server's settings and its command line, shared by the asyncio shell and its blocking twin.

The words of ``python -m http.server`` are understood as well: a bare port, ``-b``, ``-d``.
"""

import argparse
import os
import resource
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from aiolsp.cli import VERSION, Parser, UsageError, add_loop_option, add_trace_options, port_number, ready, say
from aiolsp.http1.limits import KIB, MIB, UNITS, Limits
from aiolsp.linux.listener import Address
from aiolsp.static.policy import Policy, ScriptDirectoryError

ACCEPT = ("parent", "child", "reuseport")

LOG_FORMATS = ("common", "combined", "json", "off")


class Settings(NamedTuple):
    """What a web server is told; sizes in bytes, times in seconds."""

    policy: Policy = Policy()
    limits: Limits = Limits()
    threads: int = 8
    max_queue: int = 1000
    cache_size: int = 64 * MIB
    cache_file: int = 256 * KIB
    cache_valid: float = 1.0
    grace: float = 10.0
    log: str = "off"
    status: str | None = None
    health: str | None = None
    cgi: bool = False
    cgi_dir: str | None = None
    cgi_timeout: float = 10.0
    max_children: int = 16


class _WebParser(Parser):
    """A parser that takes a word of DIR | PORT wherever it stands; argparse takes those that stand together."""

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        options, rest = self.parse_known_args(args, namespace)
        if any(word.startswith("-") for word in rest):
            self.error("unrecognized arguments: " + " ".join(rest))
        options.where = [*options.where, *rest]
        return options


def web_parser(*, blocking: bool = False) -> Parser:
    """The command line of the web server; its help fits a screen."""
    package = "aiolsp.blocking" if blocking else "aiolsp"
    parser = _WebParser(
        prog=f"python -m {package}.websrv",
        usage="%(prog)s [DIR | PORT] [options]",
        description="Serve a directory over HTTP/1.1"
        + (" by threads, with no memory of files: --cache-... change nothing." if blocking else "."),
        formatter_class=lambda prog: argparse.HelpFormatter(prog, max_help_position=27, width=110),
    )
    add = parser.add_argument
    add("where", nargs="*", default=[], metavar="DIR | PORT", help="directory (default .), port (default 8080)")
    add("-d", "--directory", metavar="DIR", help=argparse.SUPPRESS)
    told = "address (127.0.0.1); :: is dual stack"
    add("-b", "--bind", "--host", dest="host", default="127.0.0.1", metavar="ADDRESS", help=told)
    # http.server asks which protocol version to speak; here the client's request says it.
    add("-p", "--protocol", type=_protocol, help=argparse.SUPPRESS)
    add("--port", type=port_number, metavar="PORT", help="port; 0 takes a free one (default 8080)")
    add("--unix", type=_socket_path, metavar="PATH", help="listen on a unix socket instead")
    _add_policy(parser)
    _add_machinery(parser)
    _add_programs(parser)
    numbers = {name: default for name, default in Settings._field_defaults.items() if isinstance(default, (int, float))}
    parser.set_defaults(**numbers)
    _add_limits(parser)
    _add_workers(parser)
    if not blocking:
        add_loop_option(parser)
    add_trace_options(parser)
    add("--version", action="version", version=VERSION)
    return parser


def _add_policy(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--no-listing", action="store_true", help="404 instead of a listing for a directory without index.html")
    add("--follow-symlinks", action="store_true", help="serve what symbolic links point to, wherever that is")
    add("--dotfiles", action="store_true", help="serve names that begin with a dot")
    add("--spa", action="store_true", help="answer unknown paths that ask for HTML with the root's index.html")
    add("--header", action="append", default=[], metavar="'N: V'", help="add a field to each answer (repeatable)")
    add("--cors", action="store_true", help="let scripts of any origin read the answers")
    add("--cache-control", metavar="VALUE", help="the Cache-Control of files, such as max-age=3600")
    add("--log", choices=LOG_FORMATS, help="access log on stderr (default: common on a terminal, else off)")


def _add_machinery(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    whole, some = _at_least(int, 1), _at_least(float, 0)
    add("--threads", type=whole, metavar="N", help="threads that read files (8)")
    add("--max-queue", type=whole, metavar="N", help="requests that may wait for them; then 503 (1000)")
    add("--cache-size", type=_at_least(int, 0), metavar="BYTES", help="memory for small files (64 MiB)")
    add("--cache-file", type=_at_least(int, 0), metavar="BYTES", help="largest file in it (256 KiB)")
    add("--cache-valid", type=some, metavar="S", help="how long a file counts unchecked, if the disk answers (1)")
    add("--status", type=_page, metavar="PATH", help="metrics at this path, for this machine only; not logged")
    add("--health", type=_page, metavar="PATH", help="200 at this path, 503 while it stops; both hide such a file")
    add(
        "--grace",
        type=some,
        metavar="S",
        help="time to finish what is in flight at SIGTERM or SIGHUP (10); a second SIGTERM cuts",
    )


def _add_programs(parser: argparse.ArgumentParser) -> None:
    add = parser.add_mutually_exclusive_group().add_argument
    add("--cgi", action="store_true", help="run the programs of the root's cgi-bin and htbin for /cgi-bin/NAME ...")
    add("--cgi-dir", metavar="DIR", help="run the programs of DIR for /cgi-bin/NAME[/PATH_INFO]")
    some, whole = _at_least(float, 0.001), _at_least(int, 1)
    parser.add_argument("--cgi-timeout", type=some, metavar="S", help="their time between two outputs; then 504 (10)")
    parser.add_argument("--max-children", type=whole, metavar="N", help="how many at once; then 503 (16)")


def _add_workers(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    help = "processes (1), which SIGHUP replaces one by one; auto: one for each core"
    add("--workers", type=_workers, default=1, metavar="N", help=help)
    add("--accept", choices=ACCEPT, default="parent", help="how they get connections (%(default)s)")


def _add_limits(parser: argparse.ArgumentParser) -> None:
    """An option for each limit on clients; the help lists them in a block, to fit a screen."""
    told = []
    for limit, default in Limits._field_defaults.items():
        name = "--" + limit.replace("_", "-")
        kind = _at_least(int, 1) if isinstance(default, int) else _at_least(float, 0)
        parser.add_argument(name, type=kind, default=default, metavar="N", help=argparse.SUPPRESS)
        told.append(f"{name} {default} {UNITS[limit]}".replace(" connections", "").replace(" ranges", ""))
    parser.epilog = "limits on clients, with their defaults: " + ", ".join(told)


def _at_least(kind: type[int] | type[float], least: float) -> Any:
    def number(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = kind(-1)
        if not least <= value < 1 << 62:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number of at least {least}")
        return value

    return number


def _protocol(text: str) -> str:
    if text.startswith("HTTP/"):
        return text
    raise argparse.ArgumentTypeError(f"{text!r} is not HTTP/1.0 or HTTP/1.1; the option for a port is --port")


def _workers(text: str) -> int:
    """A number of processes; ``auto``: the cores that this one may use. Raises ArgumentTypeError."""
    if text == "auto":
        return len(os.sched_getaffinity(0))
    number: int = _at_least(int, 1)(text)
    return number


def _socket_path(text: str) -> str:
    """Where a socket is to stand. Raises ArgumentTypeError for nothing: the kernel would choose a name (unix(7))."""
    if not text:
        raise argparse.ArgumentTypeError(f"{text!r} is not a path")
    return text


def _page(text: str) -> str:
    """The path of a page as clients will write it. Raises ArgumentTypeError."""
    if not text.startswith("/") or not text.isascii() or not text.isprintable() or set(text) & set(" ?#"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a path such as /status")
    return text


class Listening(NamedTuple):
    """Where to listen, what to serve, and by how many processes, as the command line says."""

    directory: str
    host: str
    port: int
    unix: str | None
    workers: int = 1
    accept: str = "parent"


@contextmanager
def explained(directory: str) -> Iterator[None]:
    """Turn what keeps *directory* from being served into a UsageError, while a server is entered."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError, PermissionError) as error:
        raise UsageError(f"cannot serve {directory}: {(error.strerror or '').lower()}") from None
    except ScriptDirectoryError as error:
        raise UsageError(str(error)) from None


def announce(addresses: Iterable[Address], url: str, root: str, *, processes: int = 1) -> None:
    """Print that the server is ready, and where."""
    ready(addresses)
    by = f" by {processes} processes" if processes > 1 else ""
    say(f"{url} serves {os.path.realpath(root)}{by}; Ctrl-C stops it")


def raise_descriptor_limit() -> None:
    """Let this process have all the descriptors that it may: each connection is one, each file that is sent another."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def listening(options: argparse.Namespace) -> Listening:
    """The directory, the address and the processes that *options* mean.

    Raises UsageError if they name two of either, or a way to accept that the address does not have.
    """
    ports = [word for word in options.where if word.isascii() and word.isdigit() and not os.path.isdir(word)]
    directories = [word for word in options.where if word not in ports]
    if options.directory is not None:
        directories.append(options.directory)
    if options.port is not None:
        ports.append(str(options.port))
    if len(ports) > 1 or len(directories) > 1:
        raise UsageError("more than one " + ("port" if len(ports) > 1 else "directory") + " to serve")
    try:
        port = port_number(ports[0]) if ports else 8080
    except argparse.ArgumentTypeError as error:
        raise UsageError(str(error)) from None
    if options.accept == "reuseport" and options.unix is not None:
        raise UsageError("a unix socket has no --accept reuseport")
    directory = directories[0] if directories else "."
    return Listening(directory, options.host, port, options.unix, options.workers, options.accept)


def settings_of(options: argparse.Namespace) -> Settings:
    """The Settings that *options* mean. Raises UsageError."""
    log = options.log or ("common" if sys.stderr.isatty() else "off")
    return Settings(
        _policy(options),
        _limits(options),
        options.threads,
        options.max_queue,
        options.cache_size,
        options.cache_file,
        options.cache_valid,
        options.grace,
        log,
        options.status,
        options.health,
        options.cgi,
        options.cgi_dir,
        options.cgi_timeout,
        options.max_children,
    )


def _policy(options: argparse.Namespace) -> Policy:
    try:
        return Policy(
            follow_symlinks=options.follow_symlinks,
            dotfiles=options.dotfiles,
            listing=not options.no_listing,
            spa=options.spa,
            cors=options.cors,
            cache_control=None if options.cache_control is None else _field_value(options.cache_control),
            headers=tuple(_field(text) for text in options.header),
        )
    except ValueError as error:
        raise UsageError(str(error)) from None


def _limits(options: argparse.Namespace) -> Limits:
    try:
        return Limits(**{limit: getattr(options, limit) for limit in Limits._fields})
    except ValueError as error:
        raise UsageError(str(error).replace("_", "-")) from None


def _field(text: str) -> tuple[bytes, bytes]:
    name, colon, value = text.partition(":")
    if not colon:
        raise ValueError(f"a field is written 'Name: value', not {text!r}")
    return name.encode("utf-8", "surrogateescape"), _field_value(value)


def _field_value(text: str) -> bytes:
    return text.strip(" \t").encode("utf-8", "surrogateescape")
