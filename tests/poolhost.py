"""A tiny server on the process pool, for the tests: says who it is, then echoes. ``python poolhost.py SHELL ...``

A connection is greeted with ``INDEX GENERATION PID``. While the file of ``--fault`` exists, a child exits with status 3
instead of getting ready. The parent prints its zygote, if it has one, and the ready line at once: connections
wait until a child serves.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import select
import signal
import socket
import sys
import time
from typing import Any, cast

from aiolsp import cli
from aiolsp.blocking.mechanisms import intake as twin_intake
from aiolsp.blocking.mechanisms import processes as twin_processes
from aiolsp.blocking.mechanisms.signals import SelfPipe
from aiolsp.linux.listener import Address, listen
from aiolsp.mechanisms.intake import Intake
from aiolsp.mechanisms.loop import loop_factory, run
from aiolsp.mechanisms.processes import ProcessPool
from aiolsp.mechanisms.server import StreamServer
from aiolsp.mechanisms.signals import SignalReceiver

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def greeting(index: int, generation: int) -> bytes:
    return f"{index} {generation} {os.getpid()}\n".encode()


def fail_at(fault: str) -> None:
    if os.path.exists(fault):
        sys.exit(3)


class Echo(asyncio.Protocol):
    def __init__(self, server: StreamServer[Echo], hello: bytes) -> None:
        self._server = server
        self._hello = hello

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._server.add(self)
        self._transport.write(self._hello)

    def data_received(self, data: bytes) -> None:
        self._transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.discard(self)

    def abort(self) -> None:
        self._transport.abort()


def main_on_loop(options: argparse.Namespace, listeners: list[socket.socket]) -> None:
    async def serve(intake: Intake) -> None:
        fail_at(options.fault)
        hello = greeting(intake.index, intake.generation)
        server = StreamServer[Echo](lambda: Echo(server, hello))
        await intake.run(lambda *_: Echo(server, hello))
        await server.empty()

    pool = ProcessPool(listeners, serve, loop=options.shell, **how(options))
    cli.say(f"zygote {pool.zygote.pid}")

    async def parent() -> None:
        async with SignalReceiver(*SIGNALS) as signals, pool:
            cli.ready(pool.addresses)
            await pool.run(signals)

    run(parent(), loop=options.shell)


def main_blocking(options: argparse.Namespace, listeners: list[socket.socket]) -> None:
    def serve(intake: twin_intake.Intake) -> None:
        fail_at(options.fault)
        connections: dict[int, socket.socket] = {}
        hello = greeting(intake.index, intake.generation)

        def add(connection: socket.socket, peer: Address) -> None:
            connection.send(hello)
            connections[connection.fileno()] = connection
            poller.register(connection.fileno(), select.EPOLLIN)

        with select.epoll() as poller:
            intake.start(poller, add)
            while not intake.draining or connections:
                deadline = intake.next_deadline()
                for fd, _ in poller.poll(None if deadline is None else max(0.0, deadline - time.monotonic())):
                    if fd in intake:
                        intake.accept(fd)
                    elif fd in connections and not echo(connections[fd]):
                        poller.unregister(fd)
                        connections.pop(fd).close()
                intake.tick(time.monotonic())

    with SelfPipe(*SIGNALS) as signals, twin_processes.ProcessPool(listeners, serve, **how(options)) as pool:
        cli.ready(pool.addresses)
        pool.run(signals)


def echo(connection: socket.socket) -> bool:
    """Whether there may be more to echo."""
    try:
        data = connection.recv(4096)
        connection.sendall(data)
    except OSError:
        return False
    return bool(data)


def how(options: argparse.Namespace) -> dict[str, Any]:
    names = ("processes", "max_processes", "accept", "grace")
    return {name: getattr(options, name) for name in names}


def serve_pool(options: argparse.Namespace) -> None:
    listeners = listen("127.0.0.1", 0, reuse_port=options.accept == "reuseport")
    if options.user:
        loop_factory("auto")  # imported while it may be read
        os.setgid(options.user)
        os.setuid(options.user)
    main = main_blocking if options.shell == "blocking" else main_on_loop
    main(options, listeners)


def main() -> int:
    parser = cli.Parser(prog="poolhost")
    parser.add_argument("shell")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--max-processes", type=int, default=8)
    parser.add_argument("--accept", default="parent")
    parser.add_argument("--grace", type=float, default=10.0)
    parser.add_argument("--fault", default="")
    parser.add_argument("--user", type=int, default=0)
    cli.add_trace_options(parser)
    logging.captureWarnings(True)
    return cli.execute(parser, None, serve_pool)


if __name__ == "__main__":
    sys.exit(main())
