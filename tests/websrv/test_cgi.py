"""Programs that answer: real ones in sh, Python and Perl, asked over sockets, and all that they may do instead."""

from __future__ import annotations

import http.client
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from aiolsp.linux.pidfd import PidFd
from faults import open_descriptors, reset, wait_until
from harness import DEADLINE, SHELLS, Process, Server, Shell, receive_to_end, receive_until
from webclient import Reply, ask, exchange, read_chunks, read_reply, request, send_raw


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
    "daemon.sh": sh("setsid sleep 600 & printf $!"),
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


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("cgi")
    (root / "cgi-bin").mkdir()
    for name, text in SCRIPTS.items():
        (root / "cgi-bin" / name).write_text(text + "\n")
        (root / "cgi-bin" / name).chmod(0o755)
    (root / "cgi-bin/data.txt").write_text("not a program")
    (root / "cgi-bin/sub").mkdir()
    (root / "cgi-bin/link").symlink_to("env.sh")
    (root / "file.txt").write_text("a file")
    return root


@pytest.fixture(scope="module", params=SHELLS, ids=lambda shell: shell.name)
def server(request: pytest.FixtureRequest, site: Path) -> Iterator[Server]:
    """A server with the default limits; it must be as it was after each test."""
    with request.param.server("websrv", site, "--cgi", role="") as running:
        ask(running, "/cgi-bin/env.sh")
        before = open_descriptors(running)
        yield running
        wait_until(lambda: open_descriptors(running) <= before, "no descriptor was left open")
        assert children(running) == [], "no program was left"


@pytest.fixture(params=SHELLS, ids=lambda shell: shell.name)
def hasty(request: pytest.FixtureRequest, site: Path) -> Iterator[Server]:
    """A server that gives programs half a second, and runs two at a time."""
    options = ("--cgi", "--cgi-timeout", 0.5, "--max-children", 2)
    with request.param.server("websrv", site, *options, role="") as running:
        yield running


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


@pytest.mark.parametrize("name", ["env.sh", "env.py", "env.pl"])
def test_a_program_in_any_language_is_told_of_the_request(server: Server, site: Path, name: str) -> None:
    target = f"/cgi-bin/{name}/a%20b/%C3%BC?x=1&y=%20"
    told = environment(ask(server, target, "X-Own: 1", "Proxy: http://evil/", "X_Own: 2", "Authorization: Basic eA=="))
    assert told["PATH_INFO"] == "/a b/ü" and told["PATH_TRANSLATED"] == f"{site}/a b/ü"
    assert (told["SCRIPT_NAME"], told["QUERY_STRING"]) == (f"/cgi-bin/{name}", "x=1&y=%20")
    assert (told["REQUEST_METHOD"], told["SERVER_PROTOCOL"]) == ("GET", "HTTP/1.1")
    assert (told["REMOTE_ADDR"], told["SERVER_NAME"], told["SERVER_PORT"]) == (
        "127.0.0.1",
        "localhost",
        str(server.port),
    )
    assert told["HTTP_X_OWN"] == "1" and told["PATH"] == os.environ["PATH"]
    assert not {"HTTP_PROXY", "HTTP_AUTHORIZATION", "CONTENT_LENGTH", "HOME", "PYTHONPATH"} & told.keys()


@pytest.fixture
def pythons_own(site: Path) -> Iterator[int]:
    """The port of ``python -m http.server --cgi`` over the same programs, where a nobody can read them."""
    with tempfile.TemporaryDirectory() as copy:
        shutil.copytree(site, copy, symlinks=True, dirs_exist_ok=True)
        os.chmod(copy, 0o755)
        command = [sys.executable, "-W", "ignore", "-m", "http.server", "--cgi", "-b", "127.0.0.1", "-d", copy, "0"]
        process = Process(command, cwd=copy)
        yield int(process.stdout.wait_for(r"port (\d+)")[1])
        process.kill()


def test_the_same_url_works_on_pythons_own_server(server: Server, pythons_own: int) -> None:
    theirs = http.client.HTTPConnection("127.0.0.1", pythons_own, timeout=DEADLINE)
    theirs.request("GET", "/cgi-bin/env.sh/more/path?q=1", headers={"Host": "localhost"})
    told = variables(theirs.getresponse().read())
    theirs.close()
    ours = environment(ask(server, "/cgi-bin/env.sh/more/path?q=1"))
    for name in ("GATEWAY_INTERFACE", "REQUEST_METHOD", "SCRIPT_NAME", "PATH_INFO", "QUERY_STRING", "REMOTE_ADDR"):
        assert ours[name] == told[name], name


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/cgi-bin", 404),
        ("/cgi-bin/", 404),
        ("/cgi-bin/missing", 404),
        ("/cgi-bin/sub", 404),
        ("/cgi-bin/sub/", 404),
        ("/cgi-bin/link", 404),
        ("/cgi-bin/data.txt", 403),
        ("/%63gi-bin/data%2etxt", 403),
        ("/cgi-bin/nph-x", 403),
        ("/cgi-bin/no-program", 500),
        ("/cgi-bin/env.sh/%0d%0aX-Evil:%201", 404),
        ("/htbin/env.sh", 404),
    ],
)
def test_what_is_no_program_is_neither_run_nor_shown(server: Server, target: str, status: int) -> None:
    for method in ("GET", "POST", "HEAD"):
        with server.connect() as peer:
            peer.sendall(request(target, method=method))
            reply = read_reply(peer, head=method == "HEAD")
        assert reply.status == status and b"not a program" not in reply.body and b"bin/sh" not in reply.body
    assert b"cgi-bin" not in ask(server, "/").body


def test_no_target_leads_out_of_the_directory(server: Server) -> None:
    for target, status in (("/cgi-bin/../../bin/sh", 404), ("/cgi-bin/..%2F..%2Fbin/sh", 404), ("/cgi-bin/%00", 400)):
        assert ask(server, target).status == status


@pytest.mark.parametrize(
    "name",
    ["says-nothing", "no-head.sh", "half-head.sh", "huge-head.sh", "nul-head.sh", "two-lengths.sh", "chunks-itself.sh"],
)
def test_a_program_without_a_right_head_is_a_bad_gateway(server: Server, name: str) -> None:
    with server.connect() as peer:
        assert exchange(peer, f"/cgi-bin/{name}").status == 502
        assert exchange(peer, "/file.txt").body == b"a file"
    server.stderr.wait_for(rf"/cgi-bin/{name}: .*the program's")


def test_a_status_and_fields_of_the_programs_own_are_passed_on(server: Server) -> None:
    reply = ask(server, "/cgi-bin/teapot.pl")
    assert (reply.status, reply.fields["x-own"], reply.fields["server"], reply.body) == (418, "1", "aiolsp", b"tea")
    assert ask(server, "/cgi-bin/empty.sh").status == 204


def test_redirects_go_to_the_client_or_are_followed_here(server: Server) -> None:
    other = ask(server, "/cgi-bin/to-other.sh")
    assert (other.status, other.fields["location"], other.body) == (302, "http://other.example/", b"there")
    with server.connect() as peer:
        for _ in range(2):
            assert exchange(peer, "/cgi-bin/to-file.pl").body == b"a file"
            assert exchange(peer, "/cgi-bin/to-file.pl", method="HEAD").fields["content-length"] == "6"
        told = environment(exchange(peer, "/cgi-bin/to-env.sh?y=2"))
        assert (told["PATH_INFO"], told["QUERY_STRING"]) == ("/moved", "x=1")
        assert exchange(peer, "/cgi-bin/to-itself.sh").status == 502
        assert exchange(peer, "/cgi-bin/to-nowhere.sh").status == 403
    reply = post(server, "/cgi-bin/to-env.sh", b"x" * 100_000)
    assert environment(reply)["REQUEST_METHOD"] == "GET" and "CONTENT_LENGTH" not in environment(reply)


def test_a_file_that_a_program_redirects_to_is_never_kept_as_the_programs_answer(server: Server) -> None:
    before = server.stderr.text.count("to-file.sh: ran")
    with server.connect() as peer:
        for _ in range(5):
            assert exchange(peer, "/file.txt").body == b"a file"
            assert exchange(peer, "/cgi-bin/to-file.sh").body == b"a file"
    server.stderr.wait_for("to-file.sh: ran", count=before + 5)


def test_answers_keep_their_order_and_the_connection_whatever_made_them(server: Server) -> None:
    with server.connect() as peer:
        targets = ["/cgi-bin/deaf.sh", "/file.txt", "/cgi-bin/sized.sh", "/cgi-bin/longer.sh", "/cgi-bin/missing"] * 3
        peer.sendall(b"".join(map(request, targets)))
        bodies = [read_reply(peer).body for _ in targets]
        assert bodies[:4] * 3 == [b"deaf", b"a file", b"hello", b"hel"] * 3
        peer.sendall(request("/cgi-bin/echo", "Content-Length: 3", method="POST") + b"abc" + request("/file.txt"))
        assert [read_reply(peer).body, read_reply(peer).body] == [b"abc", b"a file"]


def test_an_answer_to_head_has_no_body(server: Server) -> None:
    with server.connect() as peer:
        assert exchange(peer, "/cgi-bin/sized.sh", method="HEAD").fields["content-length"] == "5"
        fields = exchange(peer, "/cgi-bin/deaf.sh", method="HEAD").fields
        assert "content-length" not in fields and "transfer-encoding" not in fields
        assert exchange(peer, "/file.txt").body == b"a file"


def test_an_http_1_0_client_reads_to_the_end_of_the_connection(server: Server) -> None:
    with server.connect() as peer:
        peer.sendall(request("/cgi-bin/deaf.sh", "Connection: keep-alive", version="1.0"))
        head, _, body = receive_to_end(peer).partition(b"\r\n\r\n")
    assert b"Connection: close" in head and b"Transfer" not in head and body == b"deaf"
    with server.connect() as peer:
        for _ in range(2):
            peer.sendall(request("/cgi-bin/sized.sh", "Connection: keep-alive", version="1.0"))
            assert read_reply(peer).body == b"hello"


@pytest.mark.parametrize("name", ["shorter.sh", "dies.sh"])
def test_a_body_that_is_not_whole_is_cut_and_not_passed_off_as_whole(server: Server, name: str) -> None:
    with server.connect() as peer:
        peer.sendall(request(f"/cgi-bin/{name}"))
        answer = receive_to_end(peer)
    assert answer.startswith(b"HTTP/1.1 200") and not answer.endswith(b"0\r\n\r\n")


def test_bodies_reach_the_program_whole(server: Server) -> None:
    large = os.urandom(1 << 20)
    assert post(server, "/cgi-bin/echo", b"").body == b""
    assert post(server, "/cgi-bin/echo", large).body == large
    assert post(server, "/cgi-bin/cat.sh", large).body == large
    with server.connect() as peer:
        peer.sendall(request("/cgi-bin/echo", "Transfer-Encoding: chunked", method="PUT"))
        for start in range(0, len(large), 100_000):
            piece = large[start : start + 100_000]
            peer.sendall(b"%x\r\n%b\r\n" % (len(piece), piece))
        peer.sendall(b"0\r\n\r\n" + request("/cgi-bin/echo", "Transfer-Encoding: chunked", method="PUT") + b"0\r\n\r\n")
        assert read_reply(peer).body == large
        assert read_reply(peer).body == b""


def test_a_body_that_comes_slowly_is_passed_on_as_it_comes(server: Server) -> None:
    with server.connect() as peer:
        peer.sendall(request("/cgi-bin/cat.sh", "Content-Length: 6", method="POST"))
        head = receive_until(peer, b"\r\n\r\n")
        chunks = read_chunks(peer)
        for piece in (b"ab", b"cd", b"ef"):
            peer.sendall(piece)
            assert next(chunks) == piece
        assert b"chunked" in head and list(chunks) == []
        assert exchange(peer, "/file.txt").body == b"a file"


@pytest.mark.parametrize("name", ["deaf", "shut"])
def test_a_program_that_does_not_read_its_body_answers_all_the_same(server: Server, name: str) -> None:
    with server.connect() as peer:
        for framing in (f"Content-Length: {1 << 20}", "Transfer-Encoding: chunked"):
            peer.sendall(request(f"/cgi-bin/{name}.sh", framing, method="POST"))
            chunked = framing.startswith("T")
            peer.sendall(b"100000\r\n" * chunked + bytes(1 << 20) + b"\r\n0\r\n\r\n" * chunked)
            assert read_reply(peer).body == name.encode()
        assert exchange(peer, "/file.txt").body == b"a file"


def test_a_client_that_waits_for_a_100_gets_it_when_the_program_is_there(server: Server) -> None:
    for framing, body in (("Content-Length: 3", b"abc"), ("Transfer-Encoding: chunked", b"3\r\nabc\r\n0\r\n\r\n")):
        with server.connect() as peer:
            peer.sendall(request("/cgi-bin/echo", framing, "Expect: 100-continue", method="POST"))
            assert read_reply(peer).status == 100
            peer.sendall(body)
            assert read_reply(peer).body == b"abc"
            assert exchange(peer, "/file.txt").body == b"a file"


@pytest.mark.parametrize(("name", "status"), [("missing", 404), ("nph-x", 403)])
def test_a_client_that_waits_for_a_100_in_vain_is_told_why(server: Server, name: str, status: int) -> None:
    data = request(f"/cgi-bin/{name}", "Content-Length: 3", "Expect: 100-continue", method="POST")
    assert send_raw(server, data).status == status


def test_a_body_over_the_limit_starts_no_program(server: Server) -> None:
    assert send_raw(server, request("/cgi-bin/echo", "Content-Length: 1048577", method="POST")).status == 413
    with server.connect() as peer:
        peer.sendall(request("/cgi-bin/echo", "Transfer-Encoding: chunked", method="POST") + b"100001\r\n")
        assert read_reply(peer).status == 413


def test_a_bad_body_ends_the_program_that_reads_it(server: Server) -> None:
    before = server.stderr.text.count("waits.sh: ")
    with server.connect() as peer:
        peer.sendall(request("/cgi-bin/waits.sh", "Transfer-Encoding: chunked", method="POST") + b"nonsense\r\n")
        assert read_reply(peer).status == 400
    with server.connect() as peer:
        peer.sendall(request("/cgi-bin/waits.sh", "Content-Length: 9", method="POST") + b"half")
        server.stderr.wait_for(r"waits.sh: \d+", count=before + 1)
    await_end(server, "waits.sh", count=before + 1)


def test_what_a_program_leaves_in_its_group_ends_with_it(server: Server) -> None:
    pid = int(ask(server, "/cgi-bin/stray.sh").body)
    wait_until(lambda: not Path(f"/proc/{pid}").exists(), "the stray's end")


def test_a_daemon_that_holds_the_pipe_does_not_hold_the_answer(server: Server) -> None:
    with server.connect() as peer:
        pid = int(exchange(peer, "/cgi-bin/daemon.sh").body)
        os.kill(pid, signal.SIGKILL)
        assert exchange(peer, "/file.txt").body == b"a file"


def test_complaints_are_logged_line_by_line_and_cannot_forge_the_log(server: Server) -> None:
    assert ask(server, "/cgi-bin/complains.py").status == 200
    text = server.stderr
    text.wait_for(r'/cgi-bin/complains.py: one "1"\n')
    text.wait_for(r"/cgi-bin/complains.py: \\x1b\[31mtwo\n")
    text.wait_for(r"/cgi-bin/complains.py: x{1000}\n", count=2)
    text.wait_for(r"/cgi-bin/complains.py: last ü\n")
    assert ask(server, "/cgi-bin/floods.py").status == 200
    text.wait_for(r"/cgi-bin/floods.py: \(more than 65536 bytes: the rest is not logged\)\n")
    assert text.text.count("floods.py: yyy") <= 656


def test_an_exit_status_is_logged_and_the_answer_sent(server: Server) -> None:
    assert ask(server, "/cgi-bin/fails.sh").body == b"so far"
    server.stderr.wait_for("/cgi-bin/fails.sh: exit status 3\n")
    with server.connect() as peer:
        peer.sendall(request("/cgi-bin/dies.sh"))
        receive_to_end(peer)
    server.stderr.wait_for("/cgi-bin/dies.sh: ended by signal 9\n")


def test_a_client_that_does_not_read_stops_the_program_and_not_the_server(server: Server) -> None:
    size = 256 << 20
    before = server.rss()
    with server.connect(receive_buffer=4096) as peer:
        peer.sendall(request(f"/cgi-bin/zeros.sh?{size}"))
        receive_until(peer, b"\r\n\r\n")
        assert ask(server, "/file.txt").body == b"a file"
        assert server.rss() - before < 16 << 20
        reset(peer)
    with server.connect() as peer:
        peer.sendall(request(f"/cgi-bin/zeros.sh?{size}"))
        receive_until(peer, b"\r\n\r\n")
        assert sum(len(chunk) for chunk in read_chunks(peer)) == size
    assert server.rss() - before < 16 << 20


def test_a_client_that_never_reads_is_cut_and_its_program_killed(site: Path, shell: Shell) -> None:
    options = ("--cgi", "--response-grace", 0.3, "--response-rate", 1 << 40)
    with shell.server("websrv", site, *options, role="") as server:
        with server.connect(receive_buffer=4096) as peer:
            peer.sendall(request(f"/cgi-bin/zeros.sh?{1 << 30}"))
            await_end(server, "zeros.sh")
            receive_to_end(peer)


def test_the_trace_shows_a_program_from_its_start_to_its_end(site: Path, shell: Shell) -> None:
    with shell.server("websrv", site, "--cgi", "-v", role="") as server:
        assert post(server, "/cgi-bin/echo", b"abc").body == b"abc"
        assert ask(server, "/cgi-bin/fails.sh").body == b"so far"
        for line in (
            r"= execve .*run b'fails.sh'",
            r"< read fd=\d+ \d+ B",
            r"> write .*3 B +to the program",
            r"= waitid .*status=3",
        ):
            server.stderr.wait_for(line)


def test_curl_is_served_as_any_client(server: Server) -> None:
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("curl is not installed")
    url = f"http://127.0.0.1:{server.port}"
    command = [curl, "-sS", "--data-binary", "a=1&b=2", f"{url}/cgi-bin/echo", "--next", f"{url}/file.txt"]
    run = subprocess.run(command, capture_output=True, timeout=DEADLINE)
    assert (run.stdout, run.stderr) == (b"a=1&b=2a file", b"")
    command = [curl, "-sS", "-T", "-", f"{url}/cgi-bin/echo"]
    run = subprocess.run(command, input=b"x" * 99_999, capture_output=True, timeout=DEADLINE)
    assert (run.stdout, run.stderr) == (b"x" * 99_999, b"")


def test_a_program_that_does_not_answer_in_time_is_killed_with_all_it_started(hasty: Server) -> None:
    with hasty.connect() as peer:
        reply = exchange(peer, "/cgi-bin/hangs.sh")
        assert reply.status == 504
        await_end(hasty, "hangs.sh")
        assert exchange(peer, "/file.txt").body == b"a file"
    hasty.stderr.wait_for("/cgi-bin/hangs.sh: the program was silent for 0.5 s\n")


def test_a_program_that_stops_in_the_middle_is_killed_and_its_answer_cut(hasty: Server) -> None:
    with hasty.connect() as peer:
        peer.sendall(request("/cgi-bin/halts.sh"))
        assert not receive_to_end(peer).endswith(b"0\r\n\r\n")
    await_end(hasty, "halts.sh")


def test_a_program_that_closes_its_output_and_goes_on_has_answered(hasty: Server) -> None:
    assert ask(hasty, "/cgi-bin/closes.sh").body == b"all"
    await_end(hasty, "closes.sh")


def test_a_program_that_goes_on_after_its_answer_holds_up_nothing_for_ever(hasty: Server) -> None:
    with hasty.connect() as peer:
        assert exchange(peer, "/cgi-bin/endless.sh").body == b"y\ny"
        assert exchange(peer, "/cgi-bin/endless.sh", method="HEAD").fields["content-length"] == "3"
        assert exchange(peer, "/cgi-bin/endless-redirect.sh").body == b"a file"
    hasty.stderr.wait_for("killed: it answered, and did not end\n", count=3)


def test_a_program_that_lets_its_body_wait_is_late_as_well(hasty: Server) -> None:
    with hasty.connect() as peer:
        peer.sendall(request("/cgi-bin/hangs.sh", "Content-Length: 1048576", method="POST") + bytes(1 << 20))
        assert read_reply(peer).status == 504
        assert exchange(peer, "/file.txt").body == b"a file"


def test_a_client_that_is_slow_to_send_has_time_that_a_program_has_not(hasty: Server) -> None:
    with hasty.connect() as peer:
        peer.sendall(request("/cgi-bin/waits.sh", "Content-Length: 3", method="POST"))
        assert select.select([peer], [], [], 1.0)[0] == []
        peer.sendall(b"ab\n")
        assert read_reply(peer).body == b"ab"


def test_more_programs_than_may_run_are_refused_at_once(hasty: Server) -> None:
    waiting = [hasty.connect() for _ in range(2)]
    for peer in waiting:
        peer.sendall(request("/cgi-bin/waits.sh", "Content-Length: 3", method="POST"))
    hasty.stderr.wait_for(r"waits.sh: \d+", count=2)
    reply = post(hasty, "/cgi-bin/echo", b"abc")
    assert (reply.status, reply.fields["retry-after"]) == (503, "1")
    assert ask(hasty, "/file.txt").body == b"a file"
    for peer in waiting:
        peer.sendall(b"ab\n")
        assert read_reply(peer).body == b"ab"
        peer.close()
    assert post(hasty, "/cgi-bin/deaf.sh", b"abc").body == b"deaf"


@pytest.mark.parametrize("body", [b"", b"half"])
def test_a_client_that_leaves_takes_its_program_along(server: Server, body: bytes) -> None:
    before = server.stderr.text.count("hangs.sh: ")
    with server.connect() as peer:
        peer.sendall(request("/cgi-bin/hangs.sh", f"Content-Length: {len(body) * 2}", method="POST") + body)
        server.stderr.wait_for(r"hangs.sh: \d+", count=before + 1)
        reset(peer)
    await_end(server, "hangs.sh", count=before + 1)


def test_a_client_that_half_closes_gets_its_answer(server: Server) -> None:
    with server.connect() as peer:
        peer.sendall(request("/cgi-bin/echo", "Content-Length: 3", method="POST") + b"abc")
        peer.shutdown(socket.SHUT_WR)
        assert read_reply(peer).body == b"abc"
        assert receive_to_end(peer) == b""


def test_a_server_that_stops_lets_a_program_finish(site: Path, shell: Shell) -> None:
    with shell.server("websrv", site, "--cgi", role="") as server:
        with server.connect() as peer:
            peer.sendall(request("/cgi-bin/waits.sh", "Content-Length: 3", method="POST"))
            server.stderr.wait_for(r"waits.sh: \d+")
            server.send_signal(signal.SIGTERM)
            wait_until(server.refuses, "no more connections")
            peer.sendall(b"ab\n")
            assert read_reply(peer).body == b"ab"
        # A second signal would end a process whose handlers are gone already.
        assert server.wait() == 0


def test_a_server_that_must_stop_kills_its_programs(site: Path, shell: Shell) -> None:
    with shell.server("websrv", site, "--cgi", "--grace", 0.2, role="") as server, server.connect() as peer:
        peer.sendall(request("/cgi-bin/hangs.sh"))
        pids = server.stderr.wait_for(r"hangs.sh: (\d+) (\d+)").groups()
        held = PidFd(int(pids[0]))
        server.send_signal(signal.SIGTERM)
        assert receive_to_end(peer) == b""
        assert server.wait() == 0 and select.select([held], [], [], DEADLINE)[0]
        held.close()
    for pid in pids:
        wait_until(lambda pid=pid: not Path(f"/proc/{pid}").exists(), "the end of it all")  # type: ignore[misc]


def test_a_directory_of_ones_own_holds_the_programs_and_a_unix_socket_has_no_ends(
    site: Path, tmp_path: Path, shell: Shell
) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    shutil.copy(site / "cgi-bin/env.sh", programs / "mine")
    path = tmp_path / "socket"
    command = [*shell.command("websrv", "", site), "--cgi-dir", str(programs), "--unix", str(path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None and process.stdout.readline().startswith(b"listening")
        with socket.socket(socket.AF_UNIX) as peer:
            peer.settimeout(DEADLINE)
            peer.connect(os.fspath(path))
            told = environment(exchange(peer, "/cgi-bin/mine"))
            assert (told["REMOTE_ADDR"], told["SERVER_PORT"]) == ("unix:", "80")
            assert exchange(peer, "/cgi-bin/env.sh").status == 404
            assert exchange(peer, "/htbin/env.sh").status == 404
        process.terminate()
        assert process.wait(DEADLINE) == 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()  # type: ignore[union-attr]


def test_a_directory_that_is_not_there_is_one_line(site: Path) -> None:
    command = [*Shell("asyncio").command("websrv", "", site), "--port", "0", "--cgi-dir"]
    for directory, words in ((site / "missing", "cannot run programs of"), (site, "holds")):
        run = subprocess.run([*command, str(directory)], capture_output=True, text=True, timeout=DEADLINE)
        assert run.returncode == 2 and run.stderr.count("\n") == 1 and words in run.stderr
    both = subprocess.run([*command, str(site), "--cgi"], capture_output=True, text=True, timeout=DEADLINE)
    assert both.returncode == 2 and both.stderr.count("\n") == 1


def test_without_the_option_nothing_is_run(site: Path) -> None:
    with Shell("asyncio").server("websrv", site, role="") as server:
        reply = ask(server, "/cgi-bin/env.sh")
        assert reply.body.startswith(b"#!/bin/sh"), "served as the file that it is"
