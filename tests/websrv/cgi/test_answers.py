"""What a client and the log get of what a program says, does, or fails to say."""

from __future__ import annotations

from pathlib import Path

import pytest

from cgiprograms import environment, post
from harness import Server, Shell, receive_to_end
from webclient import ask, exchange, read_reply, request


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
