"""The loads of compare.py on real servers: all that is sent comes back, is counted once, and has its figures."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from load.server_process import ServerTrouble
from versus import web_loads
from versus.group_loads import Expiry, Fanout
from versus.loads import Datagrams, Exchange, Exchanges, PingPong, SocketLoad
from versus.programs import CORRECT, MESSAGE, REQUEST, TWIN, command
from versus.servers import Server
from versus.web import plan_for

SECONDS = 0.05


@contextmanager
def twin(program: str, *options: str) -> Iterator[Server]:
    """The blocking twin of *program*."""
    with Server(command(program, TWIN, "server", *options), program) as server:
        yield server


LOADS: dict[str, tuple[tuple[str, ...], Callable[[Server], SocketLoad]]] = {
    "echo": ((), lambda server: PingPong(server, connections=4, message=MESSAGE, idle=20)),
    "echo of 32 KiB": ((), lambda server: PingPong(server, connections=2, message=MESSAGE * 512)),
    "echo by UDP": ((), lambda server: Datagrams(server, sockets=4, message=MESSAGE)),
    "chat": ((), lambda server: Fanout(server, members=5, speakers=2)),
    "analyze": ((), lambda server: Exchanges(server, Exchange(REQUEST, CORRECT), lanes=3)),
    "oneshot": (("--wait", "0.01"), lambda server: Exchanges(server, Exchange(MESSAGE, b"", half_close=True), lanes=3)),
}


@pytest.mark.parametrize("name", LOADS)
def test_a_load_does_its_work_again_and_again(name: str) -> None:
    options, make = LOADS[name]
    with twin(name.split()[0], *options) as server, make(server) as load:
        once = load.once()
        assert all(value >= 0 for value in once.values())
        for outcome in (load.run(SECONDS), load.run(SECONDS)):
            assert outcome.units == outcome.done > 0 and not outcome.failed
            assert outcome.latency.count and outcome.elapsed >= SECONDS * 0.9e9
            assert {"rate", "p50", "p99", "cpu", "server busy"} <= set(outcome.figures())


LATE = """
import selectors, socket, time
late = 1.0
waiting, listener = selectors.DefaultSelector(), socket.create_server(("127.0.0.1", 0))
waiting.register(listener, selectors.EVENT_READ)
print("listening on 127.0.0.1:%d" % listener.getsockname()[1], flush=True)
while True:
    for key, _ in waiting.select():
        if key.fileobj is listener:
            waiting.register(listener.accept()[0], selectors.EVENT_READ)
        else:
            time.sleep(late)
            late = 0.0
            waiting.unregister(key.fileobj)
            key.fileobj.close()
"""
"""A server that is late to close its first connection."""


def test_a_connection_that_is_closed_late_is_not_one_of_the_next() -> None:
    with Server([sys.executable, "-c", LATE], "late") as server:
        assert server.memory_per_connection(3) >= 0


def test_timers_are_touched_and_then_expire_each_once() -> None:
    with (
        twin("idle", "--timeslot", "0.7") as server,
        Expiry(server, connections=30, touches=2, idle_timeout=2.1) as load,
    ):
        outcome = load.run(SECONDS)
    assert outcome.done == 60 and outcome.latency.count == 30
    assert "rate" not in outcome.figures()


def test_what_the_end_of_a_run_cuts_off_counts_by_its_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "large.bin").write_bytes(bytes(1000))
    monkeypatch.setattr(web_loads, "run_wrk", lambda *_: "TOTAL 20 23500 1000000 0 0\nLATENCY 100000 20\n")
    with Server(command("websrv", TWIN, str(tmp_path)), "websrv") as server:
        plan = plan_for(server, ["/large.bin"])
        for in_parts, done in ((True, 23.5), (False, 20)):
            with web_loads.WrkLoad(server, plan, in_parts=in_parts) as load:
                outcome = load.run(SECONDS)
            assert outcome.units == outcome.done == done and not outcome.failed
            assert outcome.figures()["rate"] == done


def test_an_answer_that_is_not_the_right_one_is_a_failure() -> None:
    with twin("analyze") as server, Exchanges(server, Exchange(b"nonsense\r\n\r\n", CORRECT), lanes=3) as load:
        outcome = load.run(SECONDS)
    assert outcome.failed == outcome.done > 0 and not outcome.units and "Something wrong" in outcome.example


def test_a_server_that_closes_is_trouble_and_not_a_figure() -> None:
    with twin("analyze") as server, PingPong(server, connections=1, message=REQUEST) as load:
        with pytest.raises(ServerTrouble, match="closed a connection"):
            load.run(SECONDS)


def test_a_server_that_does_not_start_says_why() -> None:
    with pytest.raises(ServerTrouble, match="echo did not start: .*not a port"):
        with Server([*command("echo", TWIN, "server")[:-1], "nowhere"], "echo"):
            pass
    with pytest.raises(ServerTrouble, match="nobody did not start: no such file"):
        with Server(["/no/such/program"], "nobody"):
            pass
