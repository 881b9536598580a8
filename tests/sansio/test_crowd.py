"""The count of clients: the limits in all and for one address, and that nothing is left when all have gone."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from aiolsp.sansio.crowd import SPARE, Crowd, host_of
from aiolsp.sansio.tally import LocalTally

PEERS = [("192.0.2.1", 1), ("192.0.2.1", 2), ("::1", 1, 0, 0), "", b"\0abstract"]


def test_one_too_many_is_told_so_and_room_is_left_to_tell_it() -> None:
    crowd = Crowd(2, 2)
    assert [crowd.join("192.0.2.1") for _ in range(3)] == [True, True, False]
    assert crowd.has_room
    for number in range(SPARE - 1):
        assert not crowd.join(f"host {number}")
    assert not crowd.has_room
    crowd.leave("192.0.2.1")
    assert crowd.has_room


def test_one_address_cannot_shut_out_the_others_but_a_unix_socket_has_none() -> None:
    crowd = Crowd(100, 1)
    assert crowd.join("192.0.2.1") and not crowd.join("192.0.2.1")
    assert crowd.join("192.0.2.2")
    assert crowd.join("") and crowd.join("")


def test_a_client_is_known_by_its_address_without_the_port() -> None:
    assert [host_of(peer) for peer in PEERS] == ["192.0.2.1", "192.0.2.1", "::1", "", ""]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from(PEERS), max_size=30))
def test_when_all_have_left_nothing_is_left(peers: list[object]) -> None:
    tally = LocalTally()
    crowd = Crowd(10, 3, tally)
    hosts = [host_of(peer) for peer in peers]
    for number, host in enumerate(hosts):
        of_its_address = hosts[: number + 1].count(host)
        assert crowd.join(host) == (number < 10 and (not host or of_its_address <= 3))
    assert crowd.present == tally.in_all == len(peers)
    for host in hosts:
        crowd.leave(host)
    assert crowd.present == 0 and not tally._by_host
