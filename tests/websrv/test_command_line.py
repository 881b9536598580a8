"""The command line as a person meets it: words, addresses, limits that count, the log, errors of one line."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

import aiolsp
from harness import DEADLINE, SHELLS, Process, Server, Shell, receive_to_end, unused_port
from webclient import ask, exchange, read_reply, request, send_raw

ASYNCIO = SHELLS[0]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("command_line")
    (root / "file.txt").write_bytes(b"0123456789" * 10)
    return root


def command(shell: Shell, *words: object) -> list[str]:
    """The command line of a server on *shell* with *words* and no others."""
    return shell.command("websrv", "", *words)


# Where


def test_the_words_of_http_server_serve_the_current_directory(shell: Shell, site: Path) -> None:
    port = unused_port()
    # Started elsewhere, it must still find the package, installed or not.
    env = {**os.environ, "PYTHONPATH": str(Path(aiolsp.__file__).parents[1])}
    for words, cwd in (([port], site), (["0", "-d", site, "-b", "127.0.0.1"], "/"), ([site, 0, "-p", "HTTP/1.1"], "/")):
        server = Server(command(shell, *words), cwd=cwd, env=env)
        try:
            assert words != [port] or server.port == port
            assert ask(server, "/file.txt").status == 200
            found = server.stdout.wait_for(r"(?m)^http://127\.0\.0\.1:(\d+)/ serves (.+); Ctrl-C stops it$")
            assert (int(found[1]), found[2]) == (server.port, str(site))
            server.stop(signal.SIGINT)
        finally:
            server.kill()


def test_an_ipv6_address_stands_in_brackets(shell: Shell, site: Path) -> None:
    with shell.server("websrv", site, "-b", "::1", role="") as server:
        server.stdout.wait_for(rf"listening on \[::1\]:{server.port}\n")
        server.stdout.wait_for(rf"http://\[::1\]:{server.port}/ serves")
        reply = ask(server, "/file.txt")
        assert reply.status == 200
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", server.port), 10)


def test_two_colons_serve_both_families(shell: Shell, site: Path) -> None:
    with shell.server("websrv", site, "-b", "::", "--log", "common", role="") as server:
        for host in ("127.0.0.1", "::1"):
            with socket.create_connection((host, server.port), 10) as peer:
                assert exchange(peer, "/file.txt").status == 200
        server.stderr.wait_for("(?m)^::1 - - ")


def test_a_stale_unix_socket_is_replaced_and_anything_else_left_alone(shell: Shell, site: Path, tmp_path: Path) -> None:
    path = tmp_path / "web.sock"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    server = Process(command(shell, site, "--unix", path, "--log", "common"))
    try:
        server.stdout.wait_for(re.escape(f"listening on {path}\n"))
        with socket.socket(socket.AF_UNIX) as peer:
            peer.settimeout(10)
            peer.connect(str(path))
            assert exchange(peer, "/file.txt").status == 200
        second = Process(command(shell, site, "--unix", path))
        assert second.wait() == 2 and "address already in use" in second.stderr.whole()
        server.stderr.wait_for('(?m)^- - - .*"GET /file.txt HTTP/1.1" 200 100$')
        server.send_signal(signal.SIGTERM)
        assert server.wait() == 0 and not path.exists()
    finally:
        server.kill()
    path.write_text("a file of mine")
    third = Process(command(shell, site, "--unix", path))
    assert third.wait() == 2 and path.read_text() == "a file of mine"


def test_one_thread_is_enough(shell: Shell, site: Path) -> None:
    options = ("--threads", 1, "--cache-size", 0, "--cache-file", 0)
    with shell.server("websrv", site, *options, role="") as server, server.connect() as peer:
        for _ in range(5):
            assert exchange(peer, "/file.txt").body == b"0123456789" * 10
            assert exchange(peer, "/").status == 200


# Limits


def chunked(content: bytes) -> bytes:
    """A request with *content* in the framing of a chunked body."""
    return request("/file.txt", "Transfer-Encoding: chunked") + content


LIMITED = {
    ("--max-target", 20): (request("/file.txt?" + "q" * 10), request("/file.txt?" + "q" * 11), 414),
    ("--max-head", 100): (request("/file.txt", "X:" + "a" * 53), request("/file.txt", "X:" + "a" * 54), 431),
    ("--max-fields", 3): (request("/file.txt", "A:", "B:"), request("/file.txt", "A:", "B:", "C:"), 431),
    ("--max-body", 5): (chunked(b"5\r\n12345\r\n0\r\n\r\n"), chunked(b"6\r\n"), 413),
    ("--max-trailers", 4): (chunked(b"0\r\nX: 1\r\n\r\n"), chunked(b"0\r\nX: 12\r\n\r\n"), 431),
    ("--max-extensions", 4): (chunked(b"0;a=b\r\n\r\n"), chunked(b"0;a=bc" + b"d" * 32), 413),
}
"""Limits, each with a request that just keeps it and one that does not, and what the latter is told."""


def test_a_limit_is_where_the_operator_put_it(shell: Shell, site: Path) -> None:
    options = [word for option in (*LIMITED, ("--max-ranges", 2)) for word in option]
    with shell.server("websrv", site, *options, role="") as server, server.connect() as peer:
        for below, above, status in LIMITED.values():
            for _ in range(2):
                peer.sendall(below)
                assert read_reply(peer).status == 200
            assert send_raw(server, above).status == status
        assert exchange(peer, "/file.txt", "Range: bytes=0-1,4-5").status == 206
        assert exchange(peer, "/file.txt", "Range: bytes=0-1,4-5,8-9").status == 200


# Fields


def test_a_field_of_the_operators_own_takes_the_place_of_ours(shell: Shell, site: Path) -> None:
    options = ("--header", "Server: mine", "--header", "access-control-allow-origin: https://a.example", "--cors")
    with shell.server("websrv", site, *options, role="") as server:
        for data in (request("/file.txt"), request("/missing"), request("/", method="OPTIONS"), b"bad\r\n\r\n"):
            with server.connect() as peer:
                peer.sendall(data)
                peer.shutdown(socket.SHUT_WR)
                head = receive_to_end(peer).partition(b"\r\n\r\n")[0].lower()
            assert head.count(b"\r\nserver: mine") == head.count(b"\r\nserver:") == 1
            assert head.count(b"\r\naccess-control-allow-origin: https://a.example") == 1
            assert head.count(b"access-control-allow-origin") == 1


def test_fields_of_ones_own_go_out_with_every_answer(shell: Shell, site: Path) -> None:
    options = ["--header", "X-Frame-Options: DENY", "--cache-control", "max-age=60", "--cors"]
    with shell.server("websrv", site, *options, role="") as server:
        for target in ("/file.txt", "/missing", "/"):
            fields = ask(server, target).fields
            assert fields["x-frame-options"] == "DENY" and fields["access-control-allow-origin"] == "*"
        assert ask(server, "/file.txt").fields["cache-control"] == "max-age=60"
        preflight = ask(server, "/file.txt", "Access-Control-Request-Method: GET", method="OPTIONS")
        assert "Range" in preflight.fields["access-control-allow-headers"]


# Log


AGENT = 'x" 200 1\\ \t\x9b31m \xe9'


@pytest.mark.parametrize("form", ["common", "combined", "json", "off"])
def test_no_client_can_write_a_line_or_a_field_of_the_log(shell: Shell, site: Path, form: str) -> None:
    with shell.server("websrv", site, "--log", form, role="") as server:
        with server.connect() as peer:
            target = '/%0d%0a::1"\\|forged"?%1b[31m'
            assert exchange(peer, target, f"User-Agent: {AGENT}", f"Referer: {AGENT}").status == 404
            assert exchange(peer, "/file.txt", f"User-Agent: {AGENT}", method="HEAD").status == 200
        # What cannot be read is logged as well, and nothing of it.
        for data in (b"GET /\x1b[31m HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nUser-Agent: \x1b[31m\r\n\r\n"):
            assert send_raw(server, data).status == 400
    lines = server.stderr.whole().splitlines()
    assert len(lines) == (0 if form == "off" else 4)
    for line in lines:
        assert line.isascii() and line.isprintable() and '\\|forged"?' not in line
    if form == "json":
        facts = [json.loads(line) for line in lines]
        assert [fact["status"] for fact in facts] == [404, 200, 400, 400]
        assert facts[0]["target"] == "/%0d%0a::1\\x22\\x5c|forged\\x22?%1b[31m" and facts[1]["bytes"] == 0
        assert facts[0]["agent"] == facts[0]["referer"] and '"' not in facts[0]["agent"]
    elif form != "off":
        quoted = r'"(?:[^"\\]|\\x[0-9a-f]{2})*"'
        tail = f" {quoted} {quoted}" if form == "combined" else ""
        shape = re.compile(rf"127\.0\.0\.1 - - \[[^]]+\] {quoted} \d{{3}} (?:\d+|-)" + tail)
        assert all(shape.fullmatch(line) for line in lines)
        assert '"HEAD /file.txt HTTP/1.1" 200 -' in lines[1] and '"-" 400 ' in lines[2]


def test_each_request_of_a_pipeline_has_its_line(shell: Shell, site: Path) -> None:
    agents = ["a", "a", "a", "b", "a", "c", "c"] * 20
    packet = b"".join(request("/file.txt", f"User-Agent: {agent}") for agent in agents)
    with shell.server("websrv", site, "--log", "json", role="") as server:
        with server.connect() as peer:
            for _ in range(5):
                peer.sendall(packet)
                for _ in agents:
                    assert read_reply(peer).status == 200
    lines = [json.loads(line) for line in server.stderr.whole().splitlines()]
    assert [line["agent"] for line in lines] == agents * 5


def test_each_of_many_equal_answers_has_its_line_with_its_client_and_its_second(shell: Shell, site: Path) -> None:
    clients, asked = ("127.0.0.1", "127.0.0.2"), list[tuple[str, str]]()
    with shell.server("websrv", site, "--log", "common", role="") as server, ExitStack() as stack:
        address = server.host, server.port
        peers = {
            client: stack.enter_context(socket.create_connection(address, DEADLINE, (client, 0))) for client in clients
        }
        begun, seconds = time.time(), 0
        while seconds < 2:
            seconds = int(time.time()) - int(begun)
            for client, peer in peers.items():
                for target in ("/file.txt", "/file.txt?x"):
                    assert exchange(peer, target, f"User-Agent: {len(asked)}").status == 200
                    asked.append((client, target))
    lines = [line.split() for line in server.stderr.whole().splitlines()]
    assert [(line[0], line[6]) for line in lines] == asked
    stamps = [time.mktime(time.strptime(line[3], "[%d/%b/%Y:%H:%M:%S")) for line in lines]
    assert stamps == sorted(stamps) and len(set(stamps)) >= 3
    assert int(begun) <= stamps[0] and stamps[-1] <= time.time()


def test_a_person_at_a_terminal_sees_the_requests(shell: Shell, site: Path) -> None:
    master, slave = pty.openpty()
    arguments = [*command(shell, site, "--port", "0")]
    script = "import os, sys; os.dup2(int(sys.argv[1]), 2); os.execv(sys.argv[2], sys.argv[2:])"
    server = Server([sys.executable, "-c", script, str(slave), *arguments], pass_fds=(slave,))
    os.close(slave)
    try:
        assert ask(server, "/file.txt").status == 200
        seen = b""
        while b"\n" not in seen:
            seen += os.read(master, 4096)
        assert b'"GET /file.txt HTTP/1.1" 200 100' in seen
        server.stop()
    finally:
        server.kill()
        os.close(master)


def test_a_directory_is_served_whose_name_the_locale_cannot_write(shell: Shell, tmp_path: Path) -> None:
    site = tmp_path / os.fsdecode("文".encode() + b"\xff")
    site.mkdir()
    server = Server(command(shell, site, "--port", "0"), env={**os.environ, "PYTHONIOENCODING": "ascii"})
    try:
        assert ask(server, "/").status == 200
        server.stdout.wait_for(r"/\\u6587\\udcff; Ctrl-C stops it")
        server.stop()
    finally:
        server.kill()


def test_a_server_whose_log_nobody_reads_serves_on_and_ends(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "file.txt").write_text("file")
    reader, writer = os.pipe()
    with shell.server_writing_to(writer, "websrv", tmp_path, "--log", "combined") as (server, address):
        with socket.create_connection(address, DEADLINE) as peer:
            packet = request("/file.txt", "User-Agent: " + "x" * 1000) * 50
            for _ in range(10):
                peer.sendall(packet)
                for _ in range(50):
                    assert read_reply(peer).body == b"file"
        server.send_signal(signal.SIGTERM)
        assert server.wait(DEADLINE) == 0
    os.close(reader)


# Containers


def can_be_first() -> bool:
    """Whether processes may be started here that are the first of a namespace of their own, as in a container."""
    unshare = shutil.which("unshare")
    return (
        unshare is not None and subprocess.run([unshare, "-p", "-f", "true"], stderr=subprocess.DEVNULL).returncode == 0
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_as_process_1_it_stops_on_the_signals_that_stop_it_elsewhere(shell: Shell, site: Path, number: int) -> None:
    if not can_be_first():
        pytest.skip("no namespaces")
    # The kernel drops what the first process has no handler for, so that the usual end of a process is no help there.
    server = Server(["unshare", "-p", "-f", "--kill-child", *command(shell, site, "--port", 0)])
    try:
        assert ask(server, "/file.txt").status == 200
        os.kill(int(Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text()), number)
        assert server.wait() == 0
    finally:
        server.kill()


# Errors, help, version


def test_every_shell_says_in_one_line_what_it_cannot_have(shell: Shell, site: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        for words in ([site, "--port", busy.getsockname()[1]], ["/nonexistent"], [site, "--header", "nothing"]):
            process = Process(command(shell, *words))
            assert process.wait() == 2
            line = process.stderr.whole()
            assert line.count("\n") == 1 and re.match(r"python -m aiolsp(\.blocking)?\.websrv: ", line)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["{site}", "--port", "{busy}"], "address already in use"),
        (["{busy}"], "address already in use"),
        (["/nonexistent"], "no such file or directory"),
        (["{site}/file.txt"], "not a directory"),
        (["-d", "/nonexistent"], "no such file or directory"),
        (["/nonexistent", "--unix", "{site}/unused.sock"], "no such file or directory"),
        (["--unix", "/nonexistent/web.sock"], "no such file or directory"),
        (["--unix", "/tmp/" + "n" * 200], "too long"),
        (["-b", "192.0.2.1"], "cannot assign requested address"),
        (["-b", "no.such.host.invalid"], "no.such.host.invalid"),
        (["70000"], "70000"),
        (["{site}", "{site}"], "more than one directory"),
        (["--header", "nothing"], "Name: value"),
        (["--header", "X: a\r\nY: b"], "X"),
        (["--max-connections", "many"], "max-connections"),
        (["--trace", "/nonexistent/trace.json"], "no such file or directory"),
        (["--unheard-of"], "--unheard-of"),
        (["{site}", "--unheard-of", "8000"], "--unheard-of 8000"),
        (["--unix", ""], "--unix: '' is not a path"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_what_cannot_be_had_is_one_line_and_status_2(site: Path, words: list[str], reason: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = str(busy.getsockname()[1])
        arguments = [word.replace("{site}", str(site)).replace("{busy}", port) for word in words]
        process = Process(command(ASYNCIO, *arguments))
        assert process.wait() == 2
    line = process.stderr.whole()
    assert line.count("\n") == 1 and line.startswith("python -m aiolsp.websrv: ") and reason in line
    assert process.stdout.whole() == "" and not list(site.glob("*.sock"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can run a server as somebody else")
def test_a_directory_that_may_not_be_read_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o700)
    for parent in list(tmp_path.parents)[:2]:
        parent.chmod(parent.stat().st_mode | stat.S_IXOTH)
    script = (
        "import os, sys, aiolsp.websrv.__main__ as web\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534); sys.exit(web.main(sys.argv[1:]))"
    )
    process = Process([sys.executable, "-c", script, str(tmp_path / "closed"), "--loop", "asyncio"])
    assert process.wait() == 2
    line = process.stderr.whole()
    assert line.count("\n") == 1 and "permission denied" in line


def test_version_and_help_are_for_stdout(shell: Shell) -> None:
    for option, pattern in (("--version", r"aiolsp \d+\.\d+\.\d+\n"), ("--help", r"(?s)usage: .*--max-ranges 16\n")):
        process = Process(command(shell, option))
        assert process.wait() == 0
        assert re.fullmatch(pattern, process.stdout.whole()) and process.stderr.whole() == ""
