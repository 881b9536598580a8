"""What is run and what is not, and what a program is told of the request."""

from __future__ import annotations

import http.client
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from cgiprograms import environment, variables
from harness import DEADLINE, Process, Server, Shell
from webclient import ask, exchange, read_reply, request


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
