"""A process whose only work is to fork: it has no loop, no thread and no connection that a child could inherit.

Book p. 289, listing 15-1 forks its pool before the server does anything else; this one can go on forking later.

Facts (fork(2), prctl(2), unix(7), tried on this kernel)
    - A child of fork has a copy of every descriptor. One forked inside a running event loop shares the loop's epoll:
      what it removes there is removed for its parent too. One forked beside threads holds the locks that they held.
    - A descriptor can be sent over a unix socket (SCM_RIGHTS). On SOCK_SEQPACKET one receive is one message.
    - A process that is killed tidies up nothing. PR_SET_PDEATHSIG takes its children along, but not *their* children; a
      PR_SET_CHILD_SUBREAPER inherits those. The end of a unix socket's other side is seen whatever ended it.
Consequence
    Whoever wants children later forks one helper first, while there is nothing to inherit, and asks it for each.
Decision
    `Zygote` is asked over a SEQPACKET socket with a payload and descriptors. The child runs *target* with these and
    exits with what that returns. The zygote tells when a child has started, with a pidfd for it, when fork has failed,
    and when a child has ended. It reaps all its children: nobody else's can be among them. When its parent is gone, it
    kills what is left, and so it does with the programs that a dead child of its own had started.
    Ctrl-C, SIGHUP and SIGTERM are the parent's to act on: nothing comes of them here, and of SIGTERM alone in a child.
Price
    A process more, and two messages for each child. What *target* needs is imported before the fork, or in each child.
    If the zygote itself is killed, its children die with it, but the programs that they had started go on.

Calling sequence: new (forks) -> (spawn | receive)* -> close. `fileno` is readable when `receive` has something to tell.
"""

from __future__ import annotations

import array
import gc
import os
import select
import signal
import socket
import struct
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import NamedTuple, NoReturn, TypeAlias

from aiolsp.linux.pidfd import PidFd
from aiolsp.linux.process_control import Orphans, die_with_parent, no_action

Target: TypeAlias = "Callable[[bytes, list[int]], int | None]"
"""What a child runs: the payload and the descriptors that it was sent, its own to close; its exit status."""

PAYLOAD = 64 * 1024
"""Bytes of a payload at most."""

DESCRIPTORS = 250
"""Descriptors of a message at most; the kernel's SCM_MAX_FD is 253."""

_REPLY = struct.Struct("=cQqq")
_TOKEN = struct.Struct("=Q")


class Started(NamedTuple):
    """A child runs; *process* is its pidfd, the receiver's to close. Not told when no descriptor is left for it."""

    token: int
    process: PidFd


class Failed(NamedTuple):
    """The child could not be forked: EAGAIN or ENOMEM, usually."""

    token: int
    errno: int


class Exited(NamedTuple):
    """A child has ended and was reaped; -N is an end by signal N."""

    token: int
    pid: int
    status: int


class ZygoteDied(Exception):
    """The zygote was killed: nothing can be forked any more, and its children are being killed."""


class Zygote:
    """Forks now; the zygote does not keep the descriptors *but*, such as listeners.

    Raises RuntimeError if this process has threads: a child would inherit the locks that they hold.
    """

    def __init__(self, target: Target, but: Sequence[int] = ()) -> None:
        if len(os.listdir("/proc/self/task")) > 1:
            raise RuntimeError("a zygote is forked before any thread is started")
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        sys.stdout.flush()
        sys.stderr.flush()
        with _signals_blocked():
            self.pid = os.fork()
            if self.pid == 0:
                ours.close()
                for descriptor in but:
                    os.close(descriptor)
                _Forker(theirs, target).run()
        theirs.close()
        ours.setblocking(False)
        self._control = ours
        self._tokens = 0

    def fileno(self) -> int:
        """A descriptor that is readable when `receive` has something to tell; -1 once closed."""
        return self._control.fileno()

    def spawn(self, payload: bytes = b"", descriptors: Sequence[int] = ()) -> int:
        """Ask for a child; the token of what `receive` will tell of it. *descriptors* stay the caller's.

        Raises BlockingIOError when as many requests as the socket holds wait already, ZygoteDied.
        """
        self._tokens += 1
        try:
            send(self._control, _TOKEN.pack(self._tokens) + payload, descriptors)
        except ConnectionError:
            raise ZygoteDied from None
        return self._tokens

    def receive(self) -> list[Started | Failed | Exited]:
        """What has happened since the last call, in order. Never waits. Raises ZygoteDied after the last."""
        news: list[Started | Failed | Exited] = []
        while True:
            try:
                message, descriptors = receive(self._control, _REPLY.size, 1)
            except BlockingIOError:
                return news
            except ConnectionError:
                message = b""
            if not message:
                if news:
                    return news
                raise ZygoteDied
            kind, token, pid, value = _REPLY.unpack(message)
            if kind == b"s":
                if descriptors:  # else this process had none left for the pidfd; the end is told all the same
                    news.append(Started(token, PidFd(pid, descriptors[0])))
            elif kind == b"f":
                news.append(Failed(token, value))
            else:
                news.append(Exited(token, pid, value))

    def close(self) -> None:
        """End the zygote, which kills what children it still has, and wait for it. May be called again."""
        if self._control.fileno() >= 0:
            self._control.close()
            os.waitpid(self.pid, 0)


def send(control: socket.socket, message: bytes, descriptors: Sequence[int] = ()) -> None:
    """Send *message* and *descriptors* over a unix socket. Raises OSError as sendmsg(2) does."""
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
    control.sendmsg([message], rights)


def receive(control: socket.socket, size: int, most: int = DESCRIPTORS) -> tuple[bytes, list[int]]:
    """A message of at most *size* bytes and its descriptors, close-on-exec; b"" at the end. Raises OSError."""
    room = socket.CMSG_SPACE(most * 4)
    message, rights, _, _ = control.recvmsg(size, room, socket.MSG_CMSG_CLOEXEC)
    descriptors = array.array("i")
    for level, kind, data in rights:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
    return message, descriptors.tolist()


class _Forker:
    """The zygote's own side."""

    def __init__(self, control: socket.socket, target: Target) -> None:
        self._control = control
        self._target = target
        self._tokens: dict[int, int] = {}
        self._killed: set[int] = set()

    def run(self) -> NoReturn:
        """Fork on request until the parent is gone."""
        status = 1
        try:
            gc.freeze()  # else each child's first collection copies every page that holds an object
            self._orphans = Orphans()
            self._wakeup, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
            self._signal_pipe = writer
            signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD):
                signal.signal(number, no_action)  # not SIG_IGN: programs would inherit that through exec
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            self._serve()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            try:
                self._end()
            finally:
                os._exit(status)

    def _serve(self) -> None:
        poller = select.poll()
        poller.register(self._control, select.POLLIN)
        poller.register(self._wakeup, select.POLLIN)
        while True:
            ready = {fd for fd, _ in poller.poll()}
            if self._wakeup in ready:
                os.read(self._wakeup, 4096)
                self._reap()
            if self._control.fileno() in ready:
                try:
                    message, descriptors = receive(self._control, _TOKEN.size + PAYLOAD)
                except ConnectionError:
                    return
                if not message:
                    return
                self._fork(message, descriptors)

    def _fork(self, message: bytes, descriptors: list[int]) -> None:
        (token,) = _TOKEN.unpack_from(message)
        zygote = os.getpid()
        try:
            with _signals_blocked():
                pid = os.fork()
                if pid == 0:
                    self._be_child(zygote, message[_TOKEN.size :], descriptors)
        except OSError as error:
            self._tell(b"f", token, 0, error.errno or 0)
        else:
            self._tokens[pid] = token
            with suppress(OSError), PidFd(pid) as process:
                self._tell(b"s", token, pid, 0, [process.fileno()])
        for descriptor in descriptors:
            os.close(descriptor)

    def _be_child(self, zygote: int, payload: bytes, descriptors: list[int]) -> NoReturn:
        status: int | None = 1
        try:
            die_with_parent(zygote)
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGTERM, signal.SIGCHLD):
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            self._control.close()
            os.close(self._wakeup)
            os.close(self._signal_pipe)
            self._orphans.close()
            status = self._target(payload, descriptors) or 0
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 1
        except BaseException:
            traceback.print_exc()
        finally:
            with suppress(OSError, ValueError):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(status if status is not None else 1)

    def _reap(self) -> None:
        while self._tokens or self._orphans.children():
            try:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG)
            except ChildProcessError:
                return
            if ended is None:
                return
            token = self._tokens.pop(ended.si_pid, None)
            # Of a child of ours, and of what it had started, nothing may be left; other orphans have just ended.
            if token is not None or ended.si_pid in self._killed:
                self._killed.discard(ended.si_pid)
                self._killed.update(self._orphans.kill(self._tokens))
            if token is not None:
                status = ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status
                self._tell(b"x", token, ended.si_pid, status)

    def _tell(self, kind: bytes, token: int, pid: int, value: int, descriptors: Sequence[int] = ()) -> None:
        with suppress(ConnectionError):  # the parent is gone: the next receive says so
            send(self._control, _REPLY.pack(kind, token, pid, value), descriptors)

    def _end(self) -> None:
        """Kill and reap all that is left; what the dead had started falls to us and is killed in the next round."""
        while self._orphans.kill(()):
            os.waitid(os.P_ALL, 0, os.WEXITED)


@contextmanager
def _signals_blocked() -> Iterator[None]:
    """A signal that comes between a fork and the child's own handlers would meet those of its parent."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
