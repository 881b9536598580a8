"""Programs that a client asks for by name, and how it asks."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness import Server, receive_to_end, receive_until

PROGRAMS = {
    "hello": "#!/bin/sh\necho hello\n",
    "env": "#!/bin/sh\npwd; env | sort\n",
    "python": f"#!{sys.executable} -I\nimport sys\nprint('args', sys.argv[1:], 'input', sys.stdin.read())\n",
    "perl": "#!/usr/bin/perl\nprint 6 * 7, qq(\\n);\n",
    "status": "#!/bin/sh\necho half; echo complaint >&2; exit 3\n",
    "silent": "#!/bin/sh\n",
    "large": f"#!{sys.executable} -I\nimport os\nfor _ in range(24): os.write(1, bytes(1 << 20))\n",
    "pipeful": "#!/bin/sh\nexec head -c 65536 /dev/zero\n",
    "endless": "#!/bin/sh\nsleep 1000 &\necho $$ $!\nwait\n",
    "stubborn": "#!/bin/sh\ntrap '' TERM INT HUP\nsleep 1000 &\necho $$ $!\nwait; wait\n",
    "daemon": "#!/bin/sh\nsetsid sleep 1000 &\nwhile ! kill -0 -$! 2>/dev/null; do :; done\necho $!\n",
    "stray": "#!/bin/sh\nsleep 1000 &\necho $!\n",
    "orphans": (
        "#!/bin/sh\n"
        "first=$(sleep 1000 >/dev/null & echo $!); second=$(sleep 1000 >/dev/null & echo $!); echo $first $second\n"
        "while kill -0 $first; do sleep 0.01; done 2>/dev/null; echo end\n"
    ),
    "slow": "#!/bin/sh\necho begin; sleep 0.5; echo end\n",
    "parent": "#!/bin/sh\necho $PPID\n",
    "noise": "just text",
    "lost": "#!/no/such/interpreter\n",
}


def write_programs(folder: Path) -> None:
    """Put `PROGRAMS` into *folder*, as what may run."""
    for name, text in PROGRAMS.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)


def ask(server: Server, request: bytes) -> bytes:
    """What the server says to *request*, until it closes."""
    with server.connect() as peer:
        peer.sendall(request)
        return receive_to_end(peer)


def check(server: Server) -> None:
    """A program runs and its output comes."""
    assert ask(server, b"hello\r\n") == b"hello\n"


@contextmanager
def asking(server: Server, request: bytes) -> Iterator[tuple[socket.socket, list[int]]]:
    """A client that has asked for a program whose first line is process ids, and these."""
    with server.connect() as peer:
        peer.sendall(request)
        yield peer, [int(word) for word in receive_until(peer, b"\n").split()]
