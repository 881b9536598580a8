"""The health page: 200 while the server serves, 503 from the moment that it is to stop."""

from __future__ import annotations

import signal
from pathlib import Path

from aiolsp.websettings import Settings
from harness import Server, Shell, receive_to_end
from webclient import ask, exchange, read_reply, request
from webhost import hosted

HEALTH = Settings(threads=1, grace=10.0, health="/healthz")


def test_it_says_ok_while_the_server_serves_even_if_no_thread_is_free(loop_name: str, tmp_path: Path) -> None:
    with hosted(loop_name, tmp_path, HEALTH) as host, host.held_threads():
        peer, _ = host.connect()
        with peer:
            for method in ("GET", "HEAD"):
                reply = exchange(peer, "/healthz", method=method)
                assert (reply.status, reply.fields["cache-control"]) == (200, "no-store")
            assert exchange(peer, "/healthz").body == b"ok\n"


def test_it_says_503_while_the_server_drains(shell: Shell, tmp_path: Path) -> None:
    with shell.server("websrv", tmp_path, "--health", "/healthz", "-v", role="") as server:
        assert ask(server, "/healthz").status == 200
        with server.connect() as peer:
            data = request("/healthz")
            peer.sendall(data[:10])
            server.stderr.wait_for(r"< (data_received|recv) .*\b10 B")
            server.send_signal(signal.SIGTERM)
            server.stderr.wait_for("drain")
            peer.sendall(data[10:])
            reply = read_reply(peer)
            assert (reply.status, reply.body, reply.fields["connection"]) == (503, b"draining\n", "close")
            assert receive_to_end(peer) == b""
        assert server.wait() == 0


def test_it_hides_a_file_of_that_name(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "healthz").write_text("a file")
    server = Server(shell.command("websrv", "", tmp_path, "--port", 0, "--health", "/healthz"))
    try:
        assert ask(server, "/healthz").body == b"ok\n"
        assert ask(server, "/./healthz").body == b"a file"
        server.stop()
    finally:
        server.kill()
