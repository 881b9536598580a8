"""Programs that answer by CGI, in sh, Python and Perl, those that do something else instead, and how they are asked."""

from __future__ import annotations

import sys
from pathlib import Path

from faults import wait_until
from harness import Server
from webclient import Reply, read_reply, request


def sh(*lines: str, head: str = r"Content-Type: a/b\n\n") -> str:
    """A script that prints *head* as by printf(1), and goes on with *lines*."""
    return "\n".join(("#!/bin/sh", f"printf '{head}'" if head else "", *lines))


def perl(output: str) -> str:
    return f"#!/usr/bin/perl\nprint qq({output});"


def python(*lines: str) -> str:
    """A script that prints a head and goes on with *lines*."""
    return "\n".join((f"#!{sys.executable} -IS", "import os, sys", r"print('Content-Type: a/b\n', flush=True)", *lines))


PIDS = "echo $$ $! >&2"

SCRIPTS = {
    "env.sh": sh("env"),
    "env.py": python("for pair in os.environ.items(): print(*pair, sep='=')"),
    "env.pl": perl(r"Content-Type: a/b\r\n\r\n") + r"print qq($_=$ENV{$_}\n) for keys %ENV;",
    "echo": python(
        "left = int(os.environ.get('CONTENT_LENGTH', 0))",
        "while left:",
        "    data = os.read(0, min(left, 9999))",
        "    left -= len(data)",
        "    sys.stdout.buffer.write(data)",
        "assert not os.read(0, 1)",
    ),
    "cat.sh": sh("exec cat"),
    "deaf.sh": sh("printf deaf"),
    "shut.sh": sh("exec <&-", "sleep 0.05", r"printf 'Content-Type: a/b\n\nshut'", head=""),
    "sized.sh": sh(head=r"Content-Type: a/b\nContent-Length: 5\n\nhello"),
    "longer.sh": sh(head=r"Content-Type: a/b\nContent-Length: 3\n\nhello"),
    "shorter.sh": sh(head=r"Content-Type: a/b\nContent-Length: 9\n\nhello"),
    "teapot.pl": perl(r"Status: 418 short and stout\nContent-Type: a/b\nServer: me\nX-Own: 1\n\ntea"),
    "empty.sh": sh(head=r"Status: 204\n\nignored"),
    "to-file.pl": perl(r"Location: /file.txt\n\n"),
    "to-file.sh": sh("echo ran >&2", head=r"Location: /file.txt\n\n"),
    "to-env.sh": sh(head=r"Location: /cgi-bin/env.sh/moved?x=1\n\n"),
    "to-other.sh": sh(head=r"Location: http://other.example/\nContent-Type: a/b\n\nthere"),
    "to-itself.sh": sh(head=r"Location: /cgi-bin/to-itself.sh\n\n"),
    "to-nowhere.sh": sh(head=r"Location: /cgi-bin/nph-x\n\n"),
    "stray.sh": sh("sleep 600 & printf $!"),
    "daemon.sh": sh("setsid sleep 600 &", "while ! kill -0 -$! 2>/dev/null; do :; done", "printf $!"),
    "fails.sh": sh("printf 'so far'", "exit 3"),
    "dies.sh": sh("printf 'so far'", "kill -9 $$"),
    "complains.py": python(r"""sys.stderr.write('one "1"\n\x1b[31mtwo\r\n' + 'x' * 2500 + '\nlast ü')"""),
    "floods.py": python(r"for _ in range(4000): sys.stderr.write('y' * 99 + '\n')"),
    "zeros.sh": sh("echo $$ $$ >&2", "exec head -c $QUERY_STRING /dev/zero"),
    "hangs.sh": sh("trap '' TERM", "sleep 600 &", PIDS, "wait", head=""),
    "halts.sh": sh("sleep 600 &", PIDS, "wait", head=r"Content-Type: a/b\n\nbegun"),
    "closes.sh": sh("sleep 600 >&- &", PIDS, "exec >&-", "wait", head=r"Content-Type: a/b\n\nall"),
    "endless.sh": sh("exec yes", head=r"Content-Type: a/b\nContent-Length: 3\n\n"),
    "endless-redirect.sh": sh("exec yes", head=r"Location: /file.txt\n\n"),
    "waits.sh": sh("echo $$ $$ >&2", "read line", r"""printf 'Content-Type: a/b\n\n%s' "$line" """, head=""),
    "nph-x": sh("echo never"),
    "says-nothing": sh(head=""),
    "no-head.sh": sh("echo 'Hello, world'", head=""),
    "half-head.sh": sh(head=r"Content-Type: a/b\n"),
    "huge-head.sh": sh("exec head -c 1000000 /dev/zero | tr '\\0' x", head=r"Content-Type: a/b\nX: "),
    "nul-head.sh": sh(head=r"Content-Type: a\000b\n\n"),
    "two-lengths.sh": sh(head=r"Status: 200\nContent-Length: 1\nContent-Length: 2\n\nab"),
    "chunks-itself.sh": sh(head=r"Status: 200\nTransfer-Encoding: chunked\n\n0\r\n\r\n"),
    "no-program": "#!/no/such/interpreter",
}


def children(server: Server) -> list[str]:
    return Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()


def environment(reply: Reply) -> dict[str, str]:
    """The environment that a program printed."""
    assert reply.status == 200, reply
    return variables(reply.body)


def variables(output: bytes) -> dict[str, str]:
    return dict(line.split("=", 1) for line in output.decode().splitlines() if "=" in line)


def post(server: Server, target: str, body: bytes, *fields: str) -> Reply:
    """An answer to a POST with its length."""
    with server.connect() as peer:
        peer.sendall(request(target, f"Content-Length: {len(body)}", *fields, method="POST") + body)
        return read_reply(peer)


def await_end(server: Server, script: str, *, count: int = 1) -> None:
    """Wait until both processes are gone whose numbers *script* wrote to its stderr."""
    for pid in map(int, server.stderr.wait_for(rf"{script}: (\d+) (\d+)", count=count).groups()):
        wait_until(lambda pid=pid: not Path(f"/proc/{pid}").exists(), f"the end of {script}")  # type: ignore[misc]
