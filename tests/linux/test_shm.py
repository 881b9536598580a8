"""Shared memory: seen by children, gone with its users, and had as a whole or refused at the start."""

from __future__ import annotations

import errno
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from aiolsp.linux.shm import FOLDER, KINDS, SharedMemory
from harness import Process

SIZE = 100_000


def segments() -> set[str]:
    """What outlives its users: names in /dev/shm and ids of System V segments."""
    table = Path("/proc/sysvipc/shm").read_text().splitlines()[1:]
    return {*os.listdir(FOLDER), *(row.split()[1] for row in table if not int(row.split()[2], 8) & 0o1000)}


@pytest.mark.parametrize("kind", KINDS)
def test_a_child_of_fork_shares_it_and_its_death_takes_nothing_along(kind: str) -> None:
    with SharedMemory(kind, SIZE) as memory:
        assert len(memory.buffer) == SIZE and not any(memory.buffer)
        memory.buffer[0] = 1
        child = os.fork()
        if child == 0:
            memory.buffer[-1] = memory.buffer[0] + 1
            os.kill(os.getpid(), signal.SIGKILL)
        os.waitpid(child, 0)
        assert memory.buffer[-1] == 2


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_left_in_use_or_after_kill_9_of_all_its_users(kind: str) -> None:
    script = (
        "import os, signal\n"
        "from aiolsp.linux.shm import SharedMemory\n"
        f"memory = SharedMemory({kind!r}, {SIZE})\n"
        "os.fork()\n"
        "os.write(1, b'sharing %d\\n' % os.getpid())  # one write: two processes speak\n"
        "signal.pause()\n"
    )
    before = segments()
    users = Process([sys.executable, "-c", script], start_new_session=True)
    try:
        pids = {int(users.stdout.wait_for(r"sharing (\d+)\n", count=count)[1]) for count in (1, 2)}
        maps = [Path(f"/proc/{pid}/maps").read_text() for pid in pids]
        assert all(re.search(r"/memfd:aiolsp|/dev/shm/aiolsp-|/SYSV", text) for text in maps)
        assert segments() <= before
    finally:
        os.killpg(users.pid, signal.SIGKILL)
        users.kill()
    users.stdout.whole()
    assert segments() <= before


def test_a_memfd_can_be_made_neither_smaller_nor_larger() -> None:
    with SharedMemory("memfd", SIZE), open("/proc/self/maps") as maps:
        line = next(line for line in maps if "memfd:aiolsp" in line)
        address = line.split()[0]
        fd = os.open(f"/proc/self/map_files/{address}", os.O_RDWR)
        try:
            for size in (0, 2 * SIZE):
                with pytest.raises(PermissionError):
                    os.ftruncate(fd, size)
        finally:
            os.close(fd)


@pytest.mark.parametrize("kind", KINDS)
def test_memory_that_cannot_be_had_is_an_error_at_the_start(kind: str) -> None:
    before, open_before = segments(), len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError, match="bytes") as refusal:
        SharedMemory(kind, 1 << 50)
    assert refusal.value.errno in (errno.ENOSPC, errno.ENOMEM, errno.EFBIG, errno.EINVAL)
    assert segments() <= before and len(os.listdir("/proc/self/fd")) == open_before


def test_a_full_dev_shm_is_an_error_and_not_a_bus_error_later(tmp_path: Path) -> None:
    small = "mount -t tmpfs -o size=64k none /dev/shm"
    script = f"from aiolsp.linux.shm import SharedMemory; SharedMemory('posix', {SIZE})"
    command = ["unshare", "--mount", "--map-root-user", "sh", "-c", f'{small} && exec "$0" -c "$1"', sys.executable]
    if subprocess.run([*command[:5], small], capture_output=True).returncode:
        pytest.skip("no mount namespace here")
    ended = subprocess.run([*command, script], capture_output=True, text=True)
    assert ended.returncode == 1
    assert f"No space left on device: '{SIZE} bytes of /dev/shm'" in ended.stderr


def test_a_limit_on_file_sizes_is_met_at_the_start_as_well() -> None:
    script = (
        "import resource, signal\n"
        "from aiolsp.linux.shm import SharedMemory\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({SIZE // 2}, {SIZE // 2}))\n"
        f"SharedMemory('memfd', {SIZE})\n"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert f"File too large: '{SIZE} bytes of memfd'" in ended.stderr


def test_a_view_that_is_in_use_keeps_it_mapped() -> None:
    memory = SharedMemory("memfd", SIZE)
    view = memory.buffer[:8]
    with pytest.raises(BufferError):
        memory.close()
    view.release()
    memory.close()


def test_system_v_memory_is_detached_when_it_is_closed() -> None:
    with SharedMemory("sysv", SIZE):
        assert "/SYSV" in Path("/proc/self/maps").read_text()
    assert "/SYSV" not in Path("/proc/self/maps").read_text()
