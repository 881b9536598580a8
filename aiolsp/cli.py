"""What every program's command line shares: options, the ready line, exit statuses, errors for people.

Calling sequence: ``parser = program_parser("chat")``, then ``return execute(parser, argv, run)``, where *run* takes the
parsed options. Both shells of a program use it, so it knows no event loop.
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import logging
import os
import select
import signal
import socket
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

from aiolsp import __version__
from aiolsp.linux import lifetime
from aiolsp.linux.listener import Address, ListenError, format_address
from aiolsp.tracing import trace

if TYPE_CHECKING:
    from aiolsp.catalog import Option, Program

EXIT_OK = 0
EXIT_FAILURE = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130
"""128 + SIGINT, what a shell reports for a program ended by Ctrl-C; a server counts Ctrl-C as a clean stop instead."""


_unwritten: list[OSError] = []
"""Why `say` could not write, until `execute` has told it."""


class UsageError(Exception):
    """The command line asks for something that cannot be had; the message is one line for a person."""


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Print *message* as one line on stderr and exit with status 2."""
        self.exit(EXIT_USAGE, f"{self.prog}: {message} (--help lists the options)\n")

    def _get_values(self, action: argparse.Action, arg_strings: list[str]) -> Any:
        if action.option_strings and action.nargs is None and arg_strings == ["--"]:
            # Up to Python 3.12 argparse takes the value of --name=-- for the end of the options, and gives [] instead.
            value = self._get_value(action, "--")
            self._check_value(action, value)
            return value
        return super()._get_values(action, arg_strings)


def program_parser(name: str, *, blocking: bool = False) -> Parser:
    """The command line of a program of the book, ``server`` and ``client``; the twin has all but ``--loop``."""
    # Here, for the web server is not in that table, and starts sooner without.
    from aiolsp.catalog import PROGRAMS

    program = PROGRAMS[name]
    module = f"aiolsp.blocking.{name}" if blocking else f"aiolsp.{name}"
    twin = " (the blocking twin)" if blocking else ""
    parser = Parser(prog=f"python -m {module}", description=f"{program.summary}{twin}. Book p. {program.pages}.")
    roles = parser.add_subparsers(dest="role", required=True, metavar="ROLE")
    for role, options in program.roles.items():
        sub = roles.add_parser(role, help=f"run the {role}", description=program.summary + ".")
        add_host_option(sub)
        if role in ("server", "client"):  # the matrix takes a free port for each of its servers
            add_port_option(sub, program)
        add_options(sub, options)
        if not blocking:
            add_loop_option(sub)
        add_trace_options(sub)
    return parser


def add_host_option(parser: argparse.ArgumentParser) -> None:
    """``--host``."""
    parser.add_argument("--host", type=host_name, default="127.0.0.1", help="address or name (default %(default)s)")


def add_port_option(parser: argparse.ArgumentParser, program: Program) -> None:
    """``--port``."""
    parser.add_argument(
        "--port",
        type=port_number,
        default=program.port,
        help="port; a server takes 0 for a free one (default %(default)s)",
    )


def add_loop_option(parser: argparse.ArgumentParser) -> None:
    """``--loop``, for the asyncio shells only."""
    parser.add_argument(
        "--loop",
        type=loop_name,
        choices=("auto", "uvloop", "asyncio"),
        default="auto",
        help="event loop (default auto: uvloop where installed)",
    )


def add_trace_options(parser: argparse.ArgumentParser) -> None:
    """``-v`` and ``--trace``."""
    parser.add_argument("-v", "--verbose", action="store_true", help="trace each event on stderr, with its reason")
    parser.add_argument("--trace", metavar="FILE", help="write the events as Chrome trace-event JSON (for Perfetto)")


def add_options(parser: argparse.ArgumentParser, options: Iterable[Option]) -> None:
    """The options that a program's entry in the catalog lists."""
    for option in options:
        parser.add_argument(*option.names, **option.settings)


def port_number(text: str) -> int:
    """A port from a command line, 0 to 65535. Raises argparse.ArgumentTypeError."""
    if text.isascii() and text.isdigit() and len(text) <= 5 and int(text) <= 65535:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a port (0 to 65535)")


def host_name(text: str) -> str:
    """A host name or address from a command line, whose labels the resolver can take. Raises ArgumentTypeError."""
    if text.isascii() and all(0 < len(label) < 64 for label in text.split(".")):
        return text  # which is all that the codec asks of a plain name, but it loads its tables for a millisecond
    try:
        text.encode("idna")
    except UnicodeError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a host name") from None
    return text


def loop_name(text: str) -> str:
    """The name of an event loop from a command line. Raises ArgumentTypeError for uvloop where it is not installed."""
    if text == "uvloop" and importlib.util.find_spec("uvloop") is None:
        raise argparse.ArgumentTypeError("uvloop is not installed: use asyncio, or pip install uvloop")
    return text


def ready(addresses: Iterable[Address]) -> None:
    """Print the line that says a server can be connected to."""
    print("listening on", ", ".join(format_address(address) for address in addresses), flush=True)


def say(line: str) -> None:
    """Print a line of a program's output at once, from any thread.

    When it cannot be written, the program ends as Ctrl-C ends it: a server stops cleanly. That nobody reads it any more
    (``| head``) is no failure; for anything else, as a full disk, `execute` then gives the reason and EXIT_FAILURE.
    """
    try:
        print(line, flush=True)
    except OSError as error:
        # Not raised: in a callback it would end nothing, and be told again for each line.
        _discard_stdout()
        if not isinstance(error, BrokenPipeError):
            _unwritten.append(error)
        os.kill(os.getpid(), signal.SIGINT)


class _StderrHandler(logging.StreamHandler[TextIO]):
    """Logs to stderr what it takes at once, and counts the rest: a reader who is stuck must not stop who serves.

    poll(2) calls a pipe writable when it has room for PIPE_BUF bytes (pipe(7)). A longer record, as a traceback may be,
    still waits for the rest of its room.
    """

    _lost = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Write *record*, or count it if that would wait."""
        try:
            poller = select.poll()
            poller.register(self.stream, select.POLLOUT)
            waits = not poller.poll(0)
        except (OSError, ValueError):  # it is not a file
            waits = False
        if waits:
            self._lost += 1
            return
        if self._lost:
            told = f"{self._lost} lines were not logged: stderr is not read fast enough"
            self._lost = 0
            super().emit(logging.makeLogRecord({"msg": told}))
        super().emit(record)


def execute(
    parser: argparse.ArgumentParser,
    argv: Sequence[str] | None,
    run: Callable[[argparse.Namespace], int | None],
) -> int:
    """Parse *argv*, run the program, and turn what stops it into an exit status and at most one line on stderr."""
    try:
        try:
            lifetime.hear()
            return _execute(parser, argv, run)
        finally:
            lifetime.end()
    except KeyboardInterrupt:
        lifetime.end()
        return EXIT_INTERRUPTED


def _execute(
    parser: argparse.ArgumentParser,
    argv: Sequence[str] | None,
    run: Callable[[argparse.Namespace], int | None],
) -> int:
    fill_standard_streams()
    options = argparse.Namespace()
    try:
        parser.parse_args(argv, options)
        form = f"{parser.prog.rpartition(' ')[2]}: %(message)s"
        logging.basicConfig(level=logging.INFO, format=form, handlers=[_StderrHandler()])
        _open_trace(options)
        return _status(run, options)
    except (UsageError, ListenError) as error:
        return _fail(parser, str(error), EXIT_USAGE)
    except socket.gaierror as error:
        return _fail(parser, f"unknown host {_where(options)}: {_reason(error)}", EXIT_USAGE)
    except ConnectionError as error:
        if isinstance(error, BrokenPipeError) and _reader_left():
            return EXIT_FAILURE
        return _fail(parser, f"{_where(options)}: {_reason(error)}", EXIT_FAILURE)
    except OSError as error:
        return _fail(parser, _reason(error), EXIT_FAILURE)
    finally:
        trace.close()
        flush_stdout()


def _status(run: Callable[[argparse.Namespace], int | None], options: argparse.Namespace) -> int:
    try:
        status = run(options) or EXIT_OK
    except KeyboardInterrupt:
        status = EXIT_INTERRUPTED
    if _unwritten:
        reason = _unwritten[0]
        _unwritten.clear()
        raise reason
    return status


def flush_stdout() -> None:
    """Write out what was printed; what cannot be written is dropped, or Python would complain of it again at exit."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        _discard_stdout()


def fill_standard_streams() -> None:
    """Open /dev/null where a shell closed a standard stream (``>&-``): a socket in its place would be taken for it.

    uvloop aborts the process when it closes such a socket. And what the locale cannot write, as the name of a directory
    in another's, is escaped, as on stderr: it must not end who only says that he serves it.
    """
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")


def _open_trace(options: argparse.Namespace) -> None:
    try:
        trace.open(sys.stderr if options.verbose else None, options.trace)
    except OSError as error:
        raise UsageError(f"cannot write the trace {options.trace}: {(error.strerror or '').lower()}") from None


def _fail(parser: argparse.ArgumentParser, message: str, status: int) -> int:
    print(f"{parser.prog}: {message}", file=sys.stderr)
    return status


def _where(options: argparse.Namespace) -> str:
    if "host" not in options or "port" not in options:
        return "network"
    return format_address((options.host, options.port))


def _reason(error: OSError) -> str:
    # strerror(3) rather than the text, where both loops put words of their own; getaddrinfo(3) has its own numbers.
    known = error.errno is not None and not isinstance(error, socket.gaierror)
    reason = os.strerror(error.errno or 0) if known else error.strerror or str(error) or "timed out"
    return f"{error.filename}: {reason.lower()}" if error.filename else reason.lower()


def _reader_left() -> bool:
    """Whether the reader of our output has left (``| head``): poll(2) says so of the writing end of a pipe."""
    try:
        poller = select.poll()
        poller.register(sys.stdout.fileno(), 0)
        return bool(poller.poll(0))
    except (OSError, AttributeError):  # stdout is not a file, or was closed from the start
        return False


def _discard_stdout() -> None:
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)


VERSION = f"aiolsp {__version__}"
