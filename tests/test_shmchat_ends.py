"""How the shared-memory chat ends, asked to or killed, on each shell: real processes, and what is left of them."""

from __future__ import annotations

import os
import re
import signal
import threading
from pathlib import Path

import pytest

import faults
from aiolsp.linux.shm import KINDS
from chatting import members, processes, send_to_the_end
from harness import SHELLS, Server, Shell, receive_to_end, receive_until


def nothing_is_left(pids: list[int], before: set[str]) -> bool:
    """None of *pids* runs, and there is no more shared memory than *before*."""
    return not any(map(runs, pids)) and faults.shared_memory() <= before


def runs(pid: int) -> bool:
    """Whether the process has not ended; whether init has reaped it is init's affair."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("all_at_once", [False, True], ids=["parent", "all"])
def test_kill_9_of_the_parent_or_of_all_leaves_nothing(shell: Shell, kind: str, all_at_once: bool) -> None:
    before = faults.shared_memory()
    command = shell.command("shmchat", "server", "--port", 0, "--shm", kind)
    running = Server(command, start_new_session=True)
    try:
        with members(running, 3) as peers:
            pids = processes(running)
            assert len(pids) >= 4
            if all_at_once:
                os.killpg(running.pid, signal.SIGKILL)
            else:
                running.send_signal(signal.SIGKILL)
            for peer in peers:
                receive_to_end(peer)
        running.wait()
        faults.wait_until(lambda: nothing_is_left(pids, before), "the end of all")
    finally:
        running.kill()


@pytest.mark.parametrize("shell", SHELLS[:2], ids=lambda shell: shell.name)
def test_kill_9_of_the_zygote_ends_the_server_with_one_line_and_status_1(shell: Shell) -> None:
    running = Server(shell.command("shmchat", "server", "--port", 0))
    try:
        with members(running, 2) as peers:
            pids = processes(running)
            os.kill(pids[1], signal.SIGKILL)
            for peer in peers:
                receive_to_end(peer)
        assert running.wait() == 1
        assert re.fullmatch(r"[^\n]*the zygote has ended[^\n]*\n", running.stderr.whole())
        faults.wait_until(lambda: nothing_is_left(pids, faults.shared_memory()), "the end of all")
    finally:
        running.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_all_processes_with_status_0_and_what_was_said_is_heard(shell: Shell, number: int) -> None:
    before = faults.shared_memory()
    with shell.server("shmchat") as running, members(running, 3) as peers:
        pids = processes(running)
        peers[0].sendall(b"the last word\n")
        assert receive_until(peers[1], b"\n") == b"the last word\n"
        running.stop(number)
        assert receive_to_end(peers[2]) == b"the last word\n"
        assert receive_to_end(peers[0]) == receive_to_end(peers[1]) == b""
        assert nothing_is_left(pids, before)


def test_ctrl_c_at_a_terminal_reaches_all_processes_and_ends_them_as_cleanly(shell: Shell) -> None:
    running = Server(shell.command("shmchat", "server", "--port", 0), start_new_session=True)
    try:
        with members(running, 2) as peers:
            pids = processes(running)
            os.killpg(running.pid, signal.SIGINT)
            assert [receive_to_end(peer) for peer in peers] == [b"", b""]
        assert running.wait() == 0 and running.stderr.whole() == ""
        assert nothing_is_left(pids, faults.shared_memory())
    finally:
        running.kill()


def test_it_stops_while_a_member_does_not_read(shell: Shell) -> None:
    with shell.server("shmchat", "-v") as running, members(running, 2, receive_buffer=4096) as (stuck, speaker):
        flood = threading.Thread(target=send_to_the_end, args=(speaker,), daemon=True)
        flood.start()
        running.stderr.wait_for("its client does not read: it may be overtaken")
        running.stop()
        flood.join()
