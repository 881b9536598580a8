"""A process that forks others on request, and takes them along when it ends, however it ends.

Each test runs a parent of its own in a new interpreter: pytest's own process may have threads.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys

import pytest

from aiolsp.linux.pidfd import PidFd
from faults import await_end
from harness import Process

PARENT = r"""
import os, select, signal, socket, subprocess, sys, time
from aiolsp.linux.zygote import *

kept = []

def await_news(zygote, kind):
    while True:
        for news in kept:
            if isinstance(news, kind):
                kept.remove(news)
                return news
        assert select.select([zygote], [], [], 20)[0], "nothing came"
        kept.extend(zygote.receive())

def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\n").encode())  # one write: several processes speak
"""


def run(script: str, **settings: object) -> str:
    """What *script* prints, in an interpreter of its own; it must end with status 0."""
    done = subprocess.run(
        [sys.executable, "-c", PARENT + script],
        capture_output=True,
        text=True,
        timeout=30,
        **settings,  # type: ignore[call-overload]
    )
    assert done.returncode == 0, done.stderr
    return str(done.stdout)


def started(script: str) -> Process:
    return Process([sys.executable, "-c", PARENT + script])


def test_a_child_gets_the_payload_and_the_descriptors_and_its_status_comes_back() -> None:
    script = """
def target(payload, descriptors):
    os.write(descriptors[0], payload + str(len(descriptors)).encode())
    return 7

zygote = Zygote(target)
read, write = os.pipe()
token = zygote.spawn(b"hello", [write, read])
os.close(write)
begun = await_news(zygote, Started)
assert begun.token == token and os.read(read, 100) == b"hello2"
ended = await_news(zygote, Exited)
assert (ended.token, ended.pid, ended.status) == (token, begun.process.pid, 7)
assert select.select([begun.process], [], [], 0)[0]
begun.process.close()
zygote.close()
zygote.close()
"""
    run(script)


def test_a_child_has_three_descriptors_and_its_own_and_the_default_signals() -> None:
    script = """
def target(payload, descriptors):
    opened = {int(fd) for fd in os.listdir("/proc/self/fd")} - {0, 1, 2, *descriptors}
    assert len(opened) == 1, opened  # the descriptor of the listing itself
    assert not any(os.get_inheritable(fd) for fd in descriptors)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL and signal.set_wakeup_fd(-1) == -1
    return 3

zygote = Zygote(target)
left, right = socket.socketpair()
for _ in range(3):
    zygote.spawn(b"", [left.fileno()])
    assert await_news(zygote, Exited).status == 3
zygote.close()
"""
    run(script)


def test_an_error_in_a_child_is_told_and_is_its_own() -> None:
    script = """
zygote = Zygote(lambda payload, descriptors: 1 // 0 if payload == b"bad" else sys.exit(5))
zygote.spawn(b"bad")
assert await_news(zygote, Exited).status == 1
zygote.spawn(b"exit")
assert await_news(zygote, Exited).status == 5
zygote.close()
"""
    done = subprocess.run([sys.executable, "-c", PARENT + script], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0 and done.stderr.count("ZeroDivisionError") == 1


def test_a_signal_that_ends_a_child_is_told_as_a_negative_status() -> None:
    script = """
zygote = Zygote(lambda payload, descriptors: signal.pause())
zygote.spawn()
begun = await_news(zygote, Started)
begun.process.send(signal.SIGKILL)
assert await_news(zygote, Exited).status == -9
zygote.close()
"""
    run(script)


@pytest.mark.skipif(os.geteuid() != 0, reason="RLIMIT_NPROC can be met for sure only as somebody who has no process")
def test_a_fork_that_fails_is_told_and_the_next_one_works() -> None:
    script = """
import resource
os.setgid(54321); os.setuid(54321)
zygote = Zygote(lambda payload, descriptors: 0)
resource.prlimit(zygote.pid, resource.RLIMIT_NPROC, (1, 1000))
token = zygote.spawn()
failed = await_news(zygote, Failed)
assert failed.token == token and failed.errno == 11, failed
resource.prlimit(zygote.pid, resource.RLIMIT_NPROC, (1000, 1000))
zygote.spawn()
assert await_news(zygote, Exited).status == 0
zygote.close()
"""
    run(script)


def test_it_is_not_forked_beside_threads() -> None:
    script = """
import threading
done = threading.Event()
thread = threading.Thread(target=done.wait); thread.start()
try:
    Zygote(lambda payload, descriptors: 0)
except RuntimeError as error:
    say(error)
done.set()
"""
    assert "before any thread" in run(script)


FAMILY = """
def target(payload, descriptors):
    program = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    say("child", os.getpid(), program.pid)
    signal.pause()

zygote = Zygote(target)
zygote.spawn(); zygote.spawn()
say("zygote", zygote.pid)
"""


def family(parent: Process) -> tuple[int, list[tuple[int, int]]]:
    """The zygote, and each child with its program."""
    parent.stdout.wait_for(r"child \d+ \d+\n(.*\n)*child \d+ \d+\n")
    parent.stdout.wait_for(r"zygote \d+\n")
    words = [line.split() for line in parent.stdout.text.splitlines()]
    zygote = next(int(line[1]) for line in words if line[0] == "zygote")
    return zygote, [(int(line[1]), int(line[2])) for line in words if line[0] == "child"]


@pytest.mark.parametrize("end", ["kill the parent", "close", "kill all"])
def test_nothing_is_left_of_children_and_their_programs(end: str) -> None:
    rest = (
        "import signal; signal.pause()" if end.startswith("kill") else "sys.stdin.read(); zygote.close(); say('closed')"
    )
    with_input = {"stdin": subprocess.PIPE}
    parent = Process([sys.executable, "-c", PARENT + FAMILY + rest], **with_input)
    try:
        zygote, members = family(parent)
        if end == "kill the parent":
            parent.send_signal(signal.SIGKILL)
        elif end == "close":
            assert parent.popen.stdin is not None
            parent.popen.stdin.close()
            assert parent.wait() == 0
        else:
            for pid in (parent.pid, *(child for child, _ in members)):
                os.kill(pid, signal.SIGKILL)
        for pid in (zygote, *(pid for member in members for pid in member)):
            await_end(pid)
    finally:
        parent.kill()


def test_a_killed_child_takes_its_program_along_and_no_other() -> None:
    parent = started(FAMILY + "say(await_news(zygote, Exited).status); signal.pause()")
    try:
        _, ((victim, its_program), (other, its_other)) = family(parent)
        os.kill(victim, signal.SIGKILL)
        await_end(its_program)
        parent.stdout.wait_for("-9\n")
        for pid in (other, its_other):
            with PidFd(pid) as process:
                assert not select.select([process], [], [], 0)[0]
    finally:
        parent.kill()
    for pid in (other, its_other):
        await_end(pid)


def test_a_killed_child_takes_along_what_its_program_had_put_into_a_session_of_its_own() -> None:
    parent = started(
        """
def target(payload, descriptors):
    script = "setsid sleep 1000 & until kill -0 -$! 2>&-; do :; done; echo daemon $!; wait"
    shell = subprocess.Popen(["sh", "-c", script], start_new_session=True)
    say("child", os.getpid())
    signal.pause()

zygote = Zygote(target)
zygote.spawn()
signal.pause()
"""
    )
    try:
        daemon = int(parent.stdout.wait_for(r"daemon (\d+)\n")[1])
        os.kill(int(parent.stdout.wait_for(r"child (\d+)\n")[1]), signal.SIGKILL)
        await_end(daemon)
    finally:
        parent.kill()


@pytest.mark.skipif(os.geteuid() != 0, reason="to have programs of another user")
def test_what_has_become_another_users_is_left_alone_and_does_no_harm() -> None:
    script = """
os.setresuid(54321, 54321, 0)

def target(payload, descriptors):
    os.setresuid(0, 0, 0)
    null = subprocess.DEVNULL
    say(subprocess.Popen(["sleep", "1000"], start_new_session=True, stdout=null, stderr=null).pid)

zygote = Zygote(target)
for _ in range(2):
    zygote.spawn()
    assert await_news(zygote, Exited).status == 0
zygote.close()
"""
    programs = [int(pid) for pid in run(script).split()]
    assert len(programs) == 2
    for pid in programs:
        os.kill(pid, signal.SIGKILL)


def test_children_die_with_a_zygote_that_is_killed_and_the_parent_is_told() -> None:
    parent = started(
        """
zygote = Zygote(lambda payload, descriptors: (say("child", os.getpid()), signal.pause()))
zygote.spawn()
await_news(zygote, Started)
say("zygote", zygote.pid)
try:
    await_news(zygote, Exited)
except ZygoteDied:
    say("told")
try:
    zygote.spawn()
except ZygoteDied:
    say("refused")
zygote.close()
"""
    )
    try:
        child = int(parent.stdout.wait_for(r"child (\d+)\n")[1])
        zygote = int(parent.stdout.wait_for(r"zygote (\d+)\n")[1])
        os.kill(zygote, signal.SIGKILL)
        await_end(child)
        parent.stdout.wait_for("told\nrefused\n")
    finally:
        parent.kill()


def test_signals_of_a_terminal_do_not_end_it() -> None:
    script = """
zygote = Zygote(lambda payload, descriptors: 0)
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    os.kill(zygote.pid, number)
zygote.spawn()
assert await_news(zygote, Exited).status == 0
zygote.close()
"""
    run(script)


def test_more_requests_than_the_socket_holds_are_refused_not_waited_for() -> None:
    script = """
zygote = Zygote(lambda payload, descriptors: 0)
os.kill(zygote.pid, signal.SIGSTOP)
asked = 0
try:
    while asked < 100_000:
        zygote.spawn(); asked += 1
except BlockingIOError:
    os.kill(zygote.pid, signal.SIGCONT)
ended = 0
while ended < asked:
    assert select.select([zygote], [], [], 20)[0]
    ended += sum(isinstance(news, Exited) for news in zygote.receive())
zygote.close()
"""
    run(script)
