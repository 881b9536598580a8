"""Children of fork: what they hold, which signals they have, and that they die with their parent."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import faults
from aiolsp.linux.forking import fork
from aiolsp.linux.pidfd import PidFd
from harness import Process

SCRIPT = """
import os, signal, subprocess, sys
from aiolsp.linux.forking import fork
from aiolsp.tracing import trace
trace.open(None, sys.argv[1])
signal.signal(signal.SIGTERM, lambda *_: print("the handler of the parent", flush=True))
kept, other = os.pipe(), os.pipe()
child = fork([kept[1]])
if child == 0:
    trace.event("=", "born")
    held = [fd for fd in range(3, 100) if os.path.exists(f"/proc/self/fd/{fd}")]
    names = [os.path.basename(os.readlink(f"/proc/self/fd/{fd}")).partition(":")[0] for fd in held]
    print(f"child {os.getpid()} holds", *names, kept[1] in held, flush=True)
    print("SIGTERM:", signal.getsignal(signal.SIGTERM).name, flush=True)
    os.kill(os.getpid(), signal.SIGINT)
    subprocess.run(["grep", "SigIgn", "/proc/self/status"])
    while True:
        signal.pause()
print("status", os.waitpid(child, 0)[1], flush=True)
"""


def test_a_child_holds_what_was_named_and_has_no_handler_of_its_parents(tmp_path: Path) -> None:
    parent = Process([sys.executable, "-c", SCRIPT, str(tmp_path / "trace")])
    try:
        found = parent.stdout.wait_for(r"child (\d+) holds trace pipe True\n")
        parent.stdout.wait_for("SIGTERM: SIG_DFL\n")
        ignored = int(parent.stdout.wait_for(r"SigIgn:\t(\w+)\n")[1], 16)
        assert not ignored & 1 << signal.SIGINT - 1, "a program would not notice Ctrl-C"
        child = int(found[1])
        os.kill(child, signal.SIGINT)
        os.kill(child, signal.SIGTERM)
        assert parent.stdout.wait_for(r"status (\d+)\n")[1] == str(int(signal.SIGTERM))
        assert parent.wait() == 0
        assert "the handler" not in parent.stdout.whole()
        assert '"= born"' in (tmp_path / "trace").read_text()
    finally:
        parent.kill()


def test_a_child_dies_with_its_parent_also_by_kill_9(tmp_path: Path) -> None:
    parent = Process([sys.executable, "-c", SCRIPT, str(tmp_path / "trace")])
    try:
        with PidFd(int(parent.stdout.wait_for(r"child (\d+) holds")[1])) as child:
            parent.send_signal(signal.SIGKILL)
            faults.wait_until(lambda: not Path(f"/proc/{child.pid}").exists(), "the end of the child")
    finally:
        parent.kill()


def test_the_parent_keeps_its_signals_and_descriptors() -> None:
    before, descriptors = signal.pthread_sigmask(signal.SIG_BLOCK, ()), set(os.listdir("/proc/self/fd"))
    child = fork([])
    if child == 0:
        os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before
    assert set(os.listdir("/proc/self/fd")) == descriptors
