"""The loop's thread never waits for a disk: seen from the kernel by strace, and from inside by calls that refuse it."""

from __future__ import annotations

import builtins
import errno
import os
import re
import shutil
import signal
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

from aiolsp.websettings import Settings
from faults import reset
from harness import DEADLINE, Server, Shell, receive_exactly, receive_to_end, receive_until
from webclient import read_reply, request
from webhost import hosted

SMALL = b"small" * 100
LARGE = b"large" * 200_000

DISK = ("open", "stat", "lstat", "fstat", "pread", "read", "scandir", "listdir", "sendfile", "readlink", "access")
"""Functions of ``os`` that wait for a disk, as far as a server of files has any use for them."""

NEVER_WAIT = (
    r"openat2\(.*RESOLVE_CACHED",
    r"openat\(AT_FDCWD<.*>, \"/proc/self/fd/\d+\"",
    r"newfstatat\(\d+<.*>, \"\"",
    r"fstat\(",
    r"statx\(\d+<.*>, \"\", AT_STATX_DONT_SYNC",
    r"preadv2\(.*RWF_NOWAIT\)",
    r"mmap\(NULL, \d+, PROT_READ, MAP_SHARED, \d+<.*>, ",
    r"mincore\(",
    r"sendfile\(",
)
"""What the loop's thread may ask, of a file system that keeps an open file's inode in memory (linux/cached.py).

A sendfile it may not but after a look (linux/resident.py).
"""

UNFINISHED = " <unfinished ...>"

CALLS = (
    "open,openat,openat2,stat,lstat,newfstatat,statx,fstat,access,faccessat,faccessat2,getdents64,pread64,preadv,"
    "preadv2,readlink,readlinkat,sendfile,splice,copy_file_range,mmap,mincore,fsync"
)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    root = tmp_path / "site"
    (root / "sub").mkdir(parents=True)
    (root / "small.txt").write_bytes(SMALL)
    (root / "small.txt.gz").write_bytes(b"smaller")
    (root / "large.bin").write_bytes(LARGE)
    (root / "link").symlink_to("small.txt")
    (root / ".hidden").write_bytes(b"")
    return root


def visit(connect: Callable[[], socket.socket]) -> None:
    """A zoo of requests: every kind of answer, from memory and from the disk, kept and broken off."""
    fields = ((), ("Accept-Encoding: gzip",), ("Range: bytes=0-0",), ("Range: bytes=0-9,20-29",), ("If-None-Match: *",))
    targets = ("/small.txt", "/large.bin", "/", "/sub", "/sub/", "/missing", "/link", "/.hidden", "/%00", "/../x")
    for target in targets:
        with connect() as peer:
            for extra in fields:
                for method in ("GET", "HEAD", "OPTIONS"):
                    if target == "/%00" and (extra or method != "GET"):
                        continue
                    peer.sendall(request(target, *extra, method=method))
                    read_reply(peer, head=method == "HEAD")
    for _ in range(3):
        peer = connect()
        peer.sendall(request("/large.bin") * 3)
        receive_until(peer, b"\r\n\r\n")
        receive_exactly(peer, 1000)
        reset(peer)
    for data in (b"GET / HTTP/1.1\r\n\r\n", b"bad\r\n\r\n", request("/small.txt", method="PUT", version="1.0")):
        with connect() as peer:
            peer.sendall(data)
            assert receive_to_end(peer).startswith(b"HTTP/1.1 4")
    with connect() as peer:
        peer.sendall(request("/small.txt") + request("/large.bin"))
        peer.shutdown(socket.SHUT_WR)
        assert read_reply(peer).body == SMALL
        assert read_reply(peer).body == LARGE
        assert receive_to_end(peer) == b""


@pytest.mark.parametrize("cache_valid", [0, 1])
def test_where_no_call_is_known_not_to_wait_none_is_made_on_the_loops_thread(
    loop_name: str, site: Path, monkeypatch: pytest.MonkeyPatch, cache_valid: float
) -> None:
    def refuse(*_: object) -> NoReturn:
        """As NFS and FUSE do."""
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr("os.preadv", refuse)
    seen: set[str] = set()
    blocked: list[str] = []

    def guarded(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            thread = threading.current_thread()
            if thread is loop_thread:
                blocked.append(name)
                raise AssertionError(f"{name} was called on the loop's thread")
            if thread.name.startswith("aiolsp-disk"):
                seen.add(name)
            return original(*args, **kwargs)

        return call

    with hosted(loop_name, site, Settings(threads=2, cache_valid=cache_valid)) as host:
        loop_thread = host.call(threading.current_thread)
        with monkeypatch.context() as patched:
            for name in DISK:
                patched.setattr(os, name, guarded(name, getattr(os, name)))
            patched.setattr(builtins, "open", guarded("open()", open))
            visit(lambda: socket.create_connection(host.server.addresses[0][:2], DEADLINE))
            host.wait_until(lambda: not host.service.connections, "all gone")
    assert not blocked
    assert {"open", "fstat", "pread", "scandir", "sendfile"} <= seen, "the guard saw the threads at work"


@pytest.fixture
def traced(loop_name: str, site: Path, tmp_path: Path) -> Iterator[tuple[Server, int, Path]]:
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    log = tmp_path / "strace.log"
    command = Shell(loop_name).command("websrv", "", site, "--port", 0)
    # -y names the file of each descriptor. A client that has gone is a signal as well, which nobody takes.
    what = ("-e", f"trace={CALLS},accept4", "-e", "signal=none")
    server = Server(["strace", "-f", "-y", "-o", str(log), *what, *command])
    child = int(Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()[0])
    try:
        yield server, child, log
        os.kill(child, signal.SIGTERM)
        assert server.wait() == 0
    except BaseException:
        os.kill(child, signal.SIGKILL)
        raise
    finally:
        server.kill()


def whole_calls(lines: Iterable[str]) -> list[tuple[str, str]]:
    """Each thread's calls in strace's *lines*, those in one piece which another thread's call cut in two."""
    calls, begun = [], {}
    for line in lines:
        thread, call = line.split(maxsplit=1)
        if call.endswith(UNFINISHED):
            begun[thread] = call.removesuffix(UNFINISHED)
            continue
        if resumed := re.match(r"<\.\.\. \w+ resumed>", call):
            call = begun.pop(thread, "") + call[resumed.end() :]
        calls.append((thread, call))
    return calls


def test_the_kernel_sees_no_call_of_the_main_thread_that_may_wait(traced: tuple[Server, int, Path], site: Path) -> None:
    server, main_thread, log = traced
    visit(server.connect)
    text = log.read_text()
    served = text[text.index("accept4(") :].splitlines()
    calls = whole_calls(line for line in served if "accept4" not in line)
    of_files = [call for thread, call in calls if thread == str(main_thread)]
    # libuv holds /dev/null in reserve for want of descriptors; an allocator maps memory of no file.
    known = ("/dev/null", "MAP_ANONYMOUS")
    waits = [call for call in of_files if not any(re.match(pattern, call) for pattern in NEVER_WAIT)]
    assert [call for call in waits if not any(word in call for word in known)] == []
    looked_at: set[str] = set()
    for call in of_files:
        if look := re.match(r"mmap\(.*, \d+<(.*)>, ", call):
            looked_at.add(look[1])
        elif sent := re.match(r"sendfile\(\d+<.*>, \d+<(.*)>, ", call):
            assert sent[1] in looked_at
    assert str(site / "large.bin") in looked_at, "the guard saw the loop at work"
    of_threads = " ".join(call for thread, call in calls if thread != str(main_thread))
    for name in ("openat(", "fstat(", "pread64(", "getdents64("):
        assert name in of_threads or (name == "fstat(" and "newfstatat(" in of_threads)
