"""Listening sockets on real addresses."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from aiolsp.linux import listener as module
from aiolsp.linux import unsent
from aiolsp.linux.listener import (
    ListenError,
    accept_ready,
    format_address,
    listen,
    listen_again,
    listen_unix,
)
from listening import DEADLINE, accept_once_ready, close_all, connect, listening, open_descriptors


def has_ipv6() -> bool:
    """Whether this machine can listen on ::1."""
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="no IPv6 on this machine")


def resolve_to(*hosts: str) -> Callable[..., list[module.Found]]:
    """A getaddrinfo that knows one host with these IPv4 addresses."""

    def getaddrinfo(_: str, port: int, **__: object) -> list[module.Found]:
        return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port)) for host in hosts]

    return getaddrinfo


# Listening


def test_a_free_port_is_found_and_can_be_connected_to() -> None:
    with listening("127.0.0.1") as [listener]:
        with connect(listener.getsockname()) as peer:
            [(connection, address)], _ = accept_once_ready(listener)
            with connection:
                assert address == peer.getsockname()


def test_a_listener_is_not_blocking_and_not_inherited() -> None:
    with listening("127.0.0.1") as [listener]:
        assert listener.getblocking() is False
        assert os.get_blocking(listener.fileno()) is False
        assert listener.get_inheritable() is False


def test_a_listener_names_its_protocol_so_that_the_stock_loop_sets_nodelay() -> None:
    with listening("127.0.0.1") as [listener]:
        assert listener.proto == socket.IPPROTO_TCP


@needs_ipv6
def test_the_ipv6_wildcard_takes_ipv4_too() -> None:
    with listening("::") as [listener]:
        with connect(("127.0.0.1", listener.getsockname()[1])):
            [(connection, address)], _ = accept_once_ready(listener)
            with connection:
                assert address[0] == "::ffff:127.0.0.1"


@needs_ipv6
def test_one_ipv6_address_does_not_take_ipv4() -> None:
    with listening("::1") as [listener], pytest.raises(ConnectionRefusedError):
        connect(("127.0.0.1", listener.getsockname()[1]))


@needs_ipv6
def test_no_host_means_every_address_of_both_families_on_one_port() -> None:
    with listening("") as listeners:
        assert {listener.family for listener in listeners} == {socket.AF_INET, socket.AF_INET6}
        [port] = {listener.getsockname()[1] for listener in listeners}
        with connect(("127.0.0.1", port)), connect(("::1", port)):
            for listener in listeners:
                assert close_all(accept_once_ready(listener)) == 1


def test_a_host_of_several_addresses_gets_one_free_port_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", resolve_to("127.0.0.1", "127.0.0.2", "127.0.0.3"))
    with listening("several") as listeners:
        assert [listener.getsockname()[0] for listener in listeners] == ["127.0.0.1", "127.0.0.2", "127.0.0.3"]
        assert len({listener.getsockname()[1] for listener in listeners}) == 1


def test_a_free_port_that_is_taken_on_the_second_address_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    bind, refusals = module._bind, [OSError(errno.EADDRINUSE, "taken")] * 3

    def bind_unluckily(family: int, kind: int, protocol: int, address: tuple[str, int], **settings: bool) -> object:
        if address[0] == "127.0.0.2" and refusals:
            raise refusals.pop()
        return bind(family, kind, protocol, address, **settings)

    monkeypatch.setattr(socket, "getaddrinfo", resolve_to("127.0.0.1", "127.0.0.2"))
    monkeypatch.setattr(module, "_bind", bind_unluckily)
    before = open_descriptors()
    with listening("several") as listeners:
        assert len(listeners) == 2
    assert not refusals
    assert open_descriptors() == before


def test_an_address_that_the_machine_lacks_is_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", resolve_to("203.0.113.1", "127.0.0.1"))
    with listening("half here") as [listener]:
        assert listener.getsockname()[0] == "127.0.0.1"


def test_a_host_with_no_address_of_this_machine_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", resolve_to("203.0.113.1", "203.0.113.2"))
    with pytest.raises(ListenError, match="cannot assign requested address"):
        listen("elsewhere", 0)


def test_a_busy_port_is_told_in_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        before = open_descriptors()
        with pytest.raises(ListenError) as caught:
            listen("127.0.0.1", port)
        assert str(caught.value) == f"cannot listen on 127.0.0.1:{port}: address already in use"
        assert caught.value.errno == errno.EADDRINUSE
        assert open_descriptors() == before


@pytest.mark.parametrize("host", ["nohost.invalid", "a..b", "x" * 70])
def test_a_host_that_is_none_is_told_in_one_line(host: str) -> None:
    with pytest.raises(ListenError) as caught:
        listen(host, 8080)
    assert str(caught.value).startswith(f"cannot listen on {host}:8080: ")


def test_reuse_port_lets_two_listeners_share_a_port() -> None:
    [first] = listen("127.0.0.1", 0, reuse_port=True)
    with first:
        [second] = listen("127.0.0.1", first.getsockname()[1], reuse_port=True)
        second.close()


def test_a_port_just_closed_with_connections_can_be_listened_on_at_once() -> None:
    with listening("127.0.0.1") as [listener]:
        address = listener.getsockname()
        peer = connect(address)
        close_all(accept_once_ready(listener))
    with peer, listening(*address) as [again]:
        assert again.getsockname() == address


@pytest.mark.parametrize("host", ["a..example", "x" * 64 + ".example", "b\xfc..example"])
def test_what_is_no_host_name_is_one_line(host: str) -> None:
    with pytest.raises(ListenError, match=r"^cannot listen on .*:0: "):
        listen(host, 0)


@pytest.mark.parametrize("port", [-1, 65536, 70000])
def test_a_port_that_is_none_is_not_taken_for_another(port: int) -> None:
    with pytest.raises(ListenError, match=rf"^cannot listen on 127.0.0.1:{port}: a port is a number from 0 to 65535$"):
        listen("127.0.0.1", port)


def test_the_last_port_is_one() -> None:
    with pytest.raises(ListenError, match=r"^cannot listen on 192.0.2.1:65535: cannot assign requested address$"):
        listen("192.0.2.1", 65535)


# Unix sockets


def test_a_unix_listener_can_be_connected_to(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with listen_unix(path) as listener, socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(DEADLINE)
        peer.connect(path)
        assert close_all(accept_once_ready(listener)) == 1


def test_a_socket_left_by_a_dead_server_is_replaced(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    listen_unix(path).close()
    with listen_unix(path) as listener:
        assert listener.getsockname() == path


def test_a_live_server_keeps_its_socket(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with listen_unix(path), pytest.raises(ListenError, match=r"cannot listen on .*/s: address already in use"):
        listen_unix(path)


def test_a_live_server_with_a_full_backlog_keeps_its_socket(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with listen_unix(path, backlog=0), ExitStack() as peers:
        while True:
            peer = peers.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK))
            if peer.connect_ex(path) == errno.EAGAIN:
                break
        with pytest.raises(ListenError, match="address already in use"):
            listen_unix(path)


def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("data")
    with pytest.raises(ListenError, match="a file that is not a socket is there"):
        listen_unix(str(path))
    assert path.read_text() == "data"


def test_a_path_that_is_too_long_is_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ListenError, match=r"^cannot listen on .*: af_unix path too long$"):
        listen_unix(str(tmp_path / ("x" * 200)))


@pytest.mark.parametrize(
    ("address", "text"),
    [
        (("127.0.0.1", 80), "127.0.0.1:80"),
        (("::1", 80, 0, 0), "[::1]:80"),
        (("host", 80), "host:80"),
        ("/run/s", "/run/s"),
        ("", ""),
        (b"\0abstract", "\0abstract"),
    ],
)
def test_an_address_reads_as_people_write_it(address: module.Address, text: str) -> None:
    assert format_address(address) == text


def test_other_listeners_on_the_same_addresses_share_the_connections() -> None:
    listeners = listen("127.0.0.1", 0, reuse_port=True)
    listeners += listen_again(listeners)
    assert len({listener.getsockname() for listener in listeners}) == 1
    peers = [socket.create_connection(listeners[0].getsockname()) for _ in range(50)]
    shares = [[connection for connection, _ in accept_ready(listener)[0]] for listener in listeners]
    assert all(shares)
    for each in (*listeners, *peers, *shares[0], *shares[1]):
        each.close()


def test_connections_and_other_listeners_inherit_what_the_kernel_may_keep_unsent() -> None:
    listeners = listen("127.0.0.1", 0, reuse_port=True)
    for listener in listeners:
        unsent.bound(listener)
    listeners += listen_again(listeners)
    peers = [socket.create_connection(listeners[0].getsockname()) for _ in range(20)]
    accepted = [connection for listener in listeners for connection, _ in accept_ready(listener)[0]]
    for each in (*listeners, *accepted):
        assert each.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT) == unsent.UNSENT
    assert len(accepted) == len(peers)
    for each in (*listeners, *peers, *accepted):
        each.close()


def test_there_are_no_others_beside_a_listener_that_is_not_shared(tmp_path: Path) -> None:
    for listeners in (listen("127.0.0.1", 0), [listen_unix(str(tmp_path / "socket"))]):
        with pytest.raises(ValueError, match="reuse_port"):
            listen_again(listeners)
        for listener in listeners:
            listener.close()
