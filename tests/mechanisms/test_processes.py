"""A pool of processes on every shell: who gets connections, and what is lost when processes die or are replaced."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import ExitStack, suppress
from itertools import pairwise
from pathlib import Path

import pytest

from aiolsp.sansio.stopping import ECHO
from faults import wait_until
from harness import DEADLINE, Server, Shell, receive_to_end
from pooling import HOST, Load, all_workers, await_end, echoes, hello, pool, request

CLOSED = """
import asyncio, sys
from aiolsp.linux.listener import listen
from aiolsp.mechanisms.loop import run
from aiolsp.mechanisms.processes import ProcessPool

async def serve(intake):
    raise SystemExit(3)  # is never ready

async def main():
    async with pool:
        waiting = asyncio.create_task(pool.serving())
        await asyncio.sleep(0)
    for late in waiting, pool.serving():
        try:
            await late
        except RuntimeError as error:
            print(error)

pool = ProcessPool(listen("127.0.0.1", 0), serve, processes=1, grace=1)
run(main(), loop=sys.argv[1])
"""
"""Who waits for processes of a pool that closes, and of one that is closed."""

NOBODY = 54321
"""A user who has no processes, hence can be at his limit."""

accept_modes = pytest.mark.parametrize("accept", ["parent", "child", "reuseport"])


def limit_processes(pid: int, most: int) -> None:
    """Set RLIMIT_NPROC of a process of user NOBODY, as that user may, and root may not everywhere."""
    subprocess.run(["prlimit", f"--pid={pid}", f"--nproc={most}:"], user=NOBODY, group=NOBODY, check=True)


@accept_modes
def test_every_connection_is_served_by_a_child(shell: Shell, accept: str) -> None:
    with pool(shell, "--accept", accept, "--processes", 3) as server:
        served = [request(server) for _ in range(20)]
        assert {who.slot for who in served} <= {0, 1, 2} and server.pid not in {who.pid for who in served}


def test_the_parent_hands_out_connections_in_turn(shell: Shell) -> None:
    with pool(shell, "--processes", 3) as server, ExitStack() as peers:
        all_workers(server, 3)
        opened = [peers.enter_context(server.connect()) for _ in range(12)]
        slots = [hello(peer).slot for peer in opened]
        assert all(after == (before + 1) % 3 for before, after in pairwise(slots))


@accept_modes
def test_a_killed_child_takes_only_its_own_connections_along_and_is_replaced(shell: Shell, accept: str) -> None:
    with pool(shell, "--accept", accept) as server, ExitStack() as peers:
        before = all_workers(server)
        opened = [peers.enter_context(server.connect()) for _ in range(8)]
        of = {peer: hello(peer).pid for peer in opened}
        victim = of[opened[0]]
        with Load(server) as load:
            load.await_more(20)
            os.kill(victim, signal.SIGKILL)
            server.stderr.wait_for(rf"pid {victim} was killed by SIGKILL")
            load.await_more(50)
        assert len(load.failed) <= 3, load.failed  # one for each client, if it was served there just then
        for peer in opened:
            if of[peer] == victim:
                assert receive_to_end(peer) == b""
            else:
                assert echoes(peer)
        after = all_workers(server)
        index = next(who.slot for who in before.values() if who.pid == victim)
        assert after[index].pid not in {who.pid for who in before.values()}


@accept_modes
def test_what_a_stuck_child_was_not_quick_enough_to_take_goes_to_another_when_it_is_killed(
    shell: Shell, accept: str
) -> None:
    with pool(shell, "--accept", accept) as server, ExitStack() as peers:
        victim = all_workers(server)[0].pid
        os.kill(victim, signal.SIGSTOP)
        opened = [peers.enter_context(server.connect()) for _ in range(10)]
        os.kill(victim, signal.SIGKILL)
        greeted = [hello(peer) for peer in opened]
        assert victim not in {who.pid for who in greeted} and all(map(echoes, opened))


def test_when_all_children_are_stuck_connections_wait_and_are_served_later(shell: Shell) -> None:
    with pool(shell) as server, ExitStack() as peers:
        pids = [who.pid for who in all_workers(server).values()]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        opened = [peers.enter_context(server.connect()) for _ in range(300)]
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
        counts = Counter(hello(peer).pid for peer in opened)
        assert set(counts) == set(pids)


@pytest.mark.parametrize(("accept", "reloads"), [("parent", 10), ("child", 3), ("reuseport", 3)])
def test_reloads_under_load_lose_no_request(shell: Shell, accept: str, reloads: int) -> None:
    with pool(shell, "--accept", accept) as server:
        with Load(server) as load:
            for generation in range(1, reloads + 1):
                server.send_signal(signal.SIGHUP)
                load.await_generation(generation)
                # A child may serve before its parent knows: at the next SIGHUP the other slot could skip a generation.
                server.stderr.wait_for("exited 0", count=2 * generation)
        assert not load.failed, load.failed
        assert "was killed" not in server.stderr.text


@pytest.mark.parametrize("most", [2, 3])
def test_a_reload_keeps_to_the_most_processes_and_loses_no_request(shell: Shell, most: int) -> None:
    with pool(shell, "--max-processes", most) as server:
        with Load(server) as load:
            for generation in range(1, 4):
                server.send_signal(signal.SIGHUP)
                load.await_generation(generation)
        assert not load.failed, load.failed


def test_an_old_child_finishes_its_connections_while_its_successor_serves(shell: Shell) -> None:
    with pool(shell) as server, server.connect() as peer:
        old = hello(peer)
        server.send_signal(signal.SIGHUP)
        wait_until(lambda: request(server).generation == 1, "the next generation")
        assert echoes(peer)
        peer.close()
        server.stderr.wait_for(rf"pid {old.pid} exited 0")


def test_a_successor_that_cannot_start_leaves_the_old_one_serving(shell: Shell, tmp_path: Path) -> None:
    fault = tmp_path / "fault"
    with pool(shell, "--fault", fault) as server:
        before = all_workers(server)
        fault.touch()
        server.send_signal(signal.SIGHUP)
        server.stderr.wait_for("exited 3", count=2)
        assert all_workers(server) == before
        fault.unlink()
        wait_until(lambda: all(who.generation == 1 for who in all_workers(server).values()), "the next generation")


def test_a_child_that_dies_at_once_is_tried_again_after_pauses_that_grow(shell: Shell, tmp_path: Path) -> None:
    fault = tmp_path / "fault"
    with pool(shell, "--fault", fault) as server:
        victim = all_workers(server)[0]
        fault.touch()
        os.kill(victim.pid, signal.SIGKILL)
        began = time.monotonic()
        server.stderr.wait_for("exited 3", count=4)
        assert time.monotonic() - began >= 0.1 + 0.2 + 0.4
        assert request(server).slot == 1
        fault.unlink()
        assert all_workers(server)[0].pid != victim.pid


def test_a_pool_whose_children_cannot_start_ends_when_it_is_told(shell: Shell, tmp_path: Path) -> None:
    fault = tmp_path / "fault"
    fault.touch()
    with pool(shell, "--fault", fault) as server:
        server.stderr.wait_for("exited 3", count=3)


@accept_modes
def test_a_connection_that_comes_before_the_first_child_is_served_later(
    shell: Shell, accept: str, tmp_path: Path
) -> None:
    fault = tmp_path / "fault"
    fault.touch()
    with pool(shell, "--accept", accept, "--fault", fault) as server, server.connect() as peer:
        server.stderr.wait_for("exited 3")
        fault.unlink()
        hello(peer)
        assert echoes(peer)


def test_the_trace_shows_the_life_of_a_child_and_a_connection(shell: Shell) -> None:
    with pool(shell, "-v", "--processes", 1) as server:
        pid = request(server).pid
        server.send_signal(signal.SIGHUP)
        wait_until(lambda: request(server).generation == 1, "the next generation")
        server.stderr.wait_for(f"pid {pid} exited 0")
    seen = server.stderr.whole()
    parts = ("= fork", "< ready", "> sendmsg", "SCM_RIGHTS", "< recvmsg", "< taken", "= reload", "= drain", "< pidfd")
    assert [part for part in parts if part not in seen] == []
    assert seen.index("= reload") < seen.index("generation=1") < seen.index("= drain")


@pytest.mark.skipif(os.geteuid() != 0, reason="RLIMIT_NPROC can be met for sure only as somebody who has no process")
def test_a_fork_that_fails_is_told_and_tried_again(shell: Shell) -> None:
    with pool(shell, "--user", NOBODY) as server:
        workers = all_workers(server)
        forker = server.pid
        if shell.name != "blocking":
            forker = int(server.stdout.wait_for(r"zygote (\d+)")[1])
        limit_processes(forker, 1)
        os.kill(workers[0].pid, signal.SIGKILL)
        server.stderr.wait_for("worker 0 was not forked: resource temporarily unavailable", count=2)
        assert request(server).pid == workers[1].pid
        limit_processes(forker, 1000)
        assert all_workers(server)[0].pid != workers[0].pid


def test_a_child_without_descriptors_leaves_connections_to_others(shell: Shell) -> None:
    with pool(shell) as server, ExitStack() as peers:
        workers = all_workers(server)
        victim = workers[0].pid
        soft, hard = resource.prlimit(victim, resource.RLIMIT_NOFILE)
        resource.prlimit(victim, resource.RLIMIT_NOFILE, (3, hard))
        opened = [peers.enter_context(server.connect()) for _ in range(6)]
        assert {hello(peer).pid for peer in opened} == {workers[1].pid}
        resource.prlimit(victim, resource.RLIMIT_NOFILE, (soft, hard))
        assert all_workers(server) == workers


@pytest.mark.parametrize(
    ("accept", "number"), [("parent", signal.SIGINT), ("child", signal.SIGTERM), ("reuseport", signal.SIGTERM)]
)
def test_at_the_end_a_connection_may_finish(shell: Shell, accept: str, number: signal.Signals) -> None:
    with pool(shell, "--accept", accept) as server, server.connect() as peer:
        hello(peer)
        server.send_signal(number)
        wait_until(server.refuses, "nobody listens")
        assert echoes(peer)
        peer.close()
        assert server.wait() == 0


def test_what_lasts_longer_than_the_grace_is_killed(shell: Shell) -> None:
    with pool(shell, "--grace", 0.3) as server, server.connect() as peer:
        who = hello(peer)
        server.send_signal(signal.SIGTERM)
        assert server.wait() == 0
        server.stderr.wait_for(rf"pid {who.pid}\) had not ended: killed")
        assert receive_to_end(peer) == b""


def test_a_second_signal_kills_what_still_drains(shell: Shell) -> None:
    with pool(shell, "--grace", 1000) as server, server.connect() as peer:
        who = hello(peer)
        others = [worker.pid for worker in all_workers(server).values() if worker.pid != who.pid]
        server.send_signal(signal.SIGTERM)
        await_end(*others)
        time.sleep(2 * ECHO)
        server.send_signal(signal.SIGHUP)
        assert echoes(peer)
        server.send_signal(signal.SIGTERM)
        assert server.wait() == 0 and receive_to_end(peer) == b""


def test_a_child_that_is_asked_to_end_finishes_and_is_replaced(shell: Shell) -> None:
    with pool(shell) as server, server.connect() as peer:
        who = hello(peer)
        os.kill(who.pid, signal.SIGTERM)
        wait_until(lambda: all_workers(server)[who.slot].pid != who.pid, "another in its place")
        assert echoes(peer)
        peer.close()
        server.stderr.wait_for(rf"pid {who.pid} exited 0")


def test_signals_of_a_terminal_leave_children_alone(shell: Shell) -> None:
    with pool(shell) as server:
        workers = all_workers(server)
        for who in workers.values():
            os.kill(who.pid, signal.SIGINT)
            os.kill(who.pid, signal.SIGHUP)
        assert all_workers(server) == workers


@pytest.mark.parametrize("also_children", [False, True], ids=["alone", "with its children"])
def test_a_killed_parent_leaves_no_process(shell: Shell, *, also_children: bool) -> None:
    server = Server([sys.executable, str(HOST), shell.name, "--processes", "3"])
    try:
        pids = [who.pid for who in all_workers(server, 3).values()]
        if shell.name != "blocking":
            pids.append(int(server.stdout.wait_for(r"zygote (\d+)")[1]))
        server.send_signal(signal.SIGKILL)
        for pid in pids if also_children else []:
            with suppress(ProcessLookupError):  # it has seen that its parent is gone
                os.kill(pid, signal.SIGKILL)
        await_end(*pids)
    finally:
        server.kill()


def test_without_its_zygote_a_pool_ends_with_one_line(loop_name: str) -> None:
    server = Server([sys.executable, str(HOST), loop_name])
    try:
        pids = [who.pid for who in all_workers(server).values()]
        os.kill(int(server.stdout.wait_for(r"zygote (\d+)")[1]), signal.SIGKILL)
        assert server.wait() == 1
        assert "Traceback" not in server.stderr.whole() and "forks" in server.stderr.text
        await_end(*pids)
    finally:
        server.kill()


def test_nobody_waits_for_the_processes_of_a_pool_that_was_closed(loop_name: str) -> None:
    command = [sys.executable, "-c", CLOSED, loop_name]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=DEADLINE)
    assert (done.returncode, done.stdout) == (0, "the pool is closed\n" * 2)
