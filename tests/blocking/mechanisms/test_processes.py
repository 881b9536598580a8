"""The pool of the blocking shell as an object; the rest is in tests/mechanisms/test_processes.py, for every shell."""

from __future__ import annotations

import subprocess
import sys

import pytest

from aiolsp.blocking.mechanisms.processes import ProcessPool
from aiolsp.linux.listener import listen

SCRIPT = """
import os, select, signal, socket, sys
from aiolsp.blocking.mechanisms.processes import ProcessPool
from aiolsp.linux.listener import listen
from aiolsp.linux.pidfd import PidFd

def pool(serve, **options):
    return ProcessPool(listen("127.0.0.1", 0), serve, **options)

def accept_until_drained(intake, begun=lambda: None):
    with select.epoll() as poller:
        intake.start(poller, print)
        begun()
        while not intake.draining:
            for fd, _ in poller.poll():
                intake.accept(fd)
"""


def run(script: str) -> str:
    """What *script* prints, in an interpreter without threads; it must end with status 0."""
    done = subprocess.run([sys.executable, "-c", SCRIPT + script], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize(
    "options", [{"processes": 0}, {"processes": 3, "max_processes": 2}, {"accept": "whoever"}], ids=str
)
def test_what_cannot_be_is_refused(options: dict[str, object]) -> None:
    listeners = listen("127.0.0.1", 0)
    with pytest.raises(ValueError):
        ProcessPool(listeners, lambda intake: None, **options)  # type: ignore[arg-type]
    for listener in listeners:
        listener.close()


def test_a_child_holds_its_channel_and_what_is_shared_and_no_descriptor_else() -> None:
    script = """
read, write = os.pipe()
other, _ = os.pipe()

def serve(intake):
    held = [fd for fd in range(3, 100) if os.path.exists(f"/proc/self/fd/{fd}")]
    kinds = sorted(os.readlink(f"/proc/self/fd/{fd}").partition(":")[0] for fd in held)
    os.write(write, " ".join(kinds).encode() + b"\\n")
    accept_until_drained(intake)

with pool(serve, processes=2, shared=[write]) as children:
    children.serving()
    assert os.read(read, 100) == b"pipe socket\\n" * 2
    pids = list(children.pids.values())
for pid in pids:
    assert not os.path.exists(f"/proc/{pid}")
"""
    run(script)


def test_what_serve_raises_is_told_and_the_child_is_replaced() -> None:
    script = """
read, write = os.pipe()
os.write(write, b"x")
os.set_blocking(read, False)

def serve(intake):
    with select.epoll() as poller:
        intake.start(poller, print)
        try:
            os.read(read, 1)
        except BlockingIOError:
            while not intake.draining:
                for fd, _ in poller.poll():
                    intake.accept(fd)
        else:
            raise RuntimeError("the first one")

with pool(serve, processes=1, shared=[read]) as children:
    seen = set(children.workers)
    while len(seen) < 2:  # the first one may be ready and gone in one turn
        children._turn()
        seen.update(children.workers)
    children.serving()
"""
    assert run(script).count("RuntimeError: the first one") == 1


def test_a_pool_that_adopts_wants_to_hear_of_the_dead() -> None:
    script = """
from aiolsp.blocking.mechanisms.signals import SelfPipe

with SelfPipe(signal.SIGTERM) as signals, pool(accept_until_drained, processes=1, adopt=True) as children:
    try:
        children.run(signals)
    except ValueError as error:
        print(error)
"""
    assert "SIGCHLD is not among" in run(script)


def test_a_child_leaves_at_sigterm_though_the_kernel_gives_the_signal_to_another_thread() -> None:
    script = """
import threading

def serve(intake):
    def leave_sigterm_to_another():
        threading.Thread(target=threading.Event().wait, daemon=True).start()
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        os.write(write, b"x")

    accept_until_drained(intake, leave_sigterm_to_another)

read, write = os.pipe()
with pool(serve, processes=1, shared=[write]) as children:
    children.serving()
    os.read(read, 1)
    (pid,) = children.pids.values()
    with PidFd(pid) as process:
        process.send(signal.SIGTERM)
        while not select.select([process], [], [], 0)[0]:
            children._turn()
    assert set(children.pids.values()) != {pid}
"""
    assert "SIGKILL" not in run(script)


@pytest.mark.parametrize(("echo", "kills"), [(30.0, 0), (-1.0, 1)])
def test_a_signal_kills_what_still_drains_if_it_is_no_echo_of_the_first(echo: float, kills: int) -> None:
    script = f"""
from aiolsp.blocking.mechanisms import processes
from aiolsp.blocking.mechanisms.signals import SelfPipe

processes.ECHO = {echo}
with SelfPipe(signal.SIGTERM) as signals, pool(lambda intake: None, processes=1) as children:
    children.plan.kill = lambda: print("KILL") or []
    for _ in range(2):
        signal.raise_signal(signal.SIGTERM)
        children._signalled(signals)
"""
    assert run(script).count("KILL") == kills


@pytest.mark.parametrize(("later", "kills"), [("SIGHUP", 0), ("SIGTERM", 1)])
def test_an_echo_is_told_by_when_it_came_and_not_by_what_came_later(later: str, kills: int) -> None:
    script = f"""
import time
from aiolsp.blocking.mechanisms.signals import SelfPipe
from aiolsp.sansio.stopping import ECHO

with SelfPipe(signal.SIGTERM, signal.SIGHUP) as signals, pool(lambda intake: None, processes=1) as children:
    children.plan.kill = lambda: print("KILL") or []
    children.reload = lambda: None
    signal.raise_signal(signal.SIGTERM)
    children._signalled(signals)
    signal.raise_signal(signal.SIGTERM)
    time.sleep(2 * ECHO)
    signal.raise_signal(signal.{later})
    children._signalled(signals)
"""
    assert run(script).count("KILL") == kills
