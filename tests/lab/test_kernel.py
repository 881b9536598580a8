"""What /proc says of a family of processes."""

from __future__ import annotations

import os
import select
import subprocess
import sys

from aiolsp.lab.kernel import family, read, since, state
from aiolsp.lab.model import Usage

SLEEPER = "import sys, time, threading; threading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n"
SLEEPER += "print('ready', flush=True); sys.stdin.read()"


def test_threads_and_sleeps_of_a_process_are_counted() -> None:
    with subprocess.Popen([sys.executable, "-c", SLEEPER], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as sleeper:
        assert sleeper.stdout is not None and sleeper.stdin is not None
        sleeper.stdout.readline()
        usage = read(sleeper.pid)
        assert (usage.threads, usage.processes) == (2, 1) and usage.sleeps > 0
        assert sleeper.pid in family(os.getpid())
        sleeper.stdin.close()
    assert read(sleeper.pid) == Usage(0, 0, 1)
    assert state(sleeper.pid) == ""


def test_a_child_that_nobody_has_reaped_is_a_zombie() -> None:
    pid = os.posix_spawn("/bin/true", ["true"], os.environ)
    with open(os.pidfd_open(pid), "rb", buffering=0) as process:
        select.select([process], [], [])
    assert state(pid) == "Z" and pid in family(os.getpid())
    os.waitpid(pid, 0)


def test_sleeps_are_counted_from_the_first_reading() -> None:
    assert since(Usage(10, 1, 1), Usage(14, 3, 2)) == Usage(4, 3, 2)
    assert since(Usage(10, 1, 1), Usage(8, 1, 1)) == Usage(0, 1, 1)


def test_the_name_of_a_process_is_bytes_of_any_kind() -> None:
    code = r"open('/proc/self/comm', 'wb').write(b'\xff) \xfe'); print(flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None and child.stdout.readline()
        assert state(child.pid) in "RS"
        assert read(child.pid).threads == 1
        child.communicate(b"\n")
