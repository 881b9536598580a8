"""What parent and child say to each other: in order, with descriptors, never waiting, and to the last word."""

from __future__ import annotations

import os

from aiolsp.linux.channel import BUDGET, CONNECTION, READY, TAKEN, UNANSWERED, Channel


def test_words_come_in_order_with_their_descriptors() -> None:
    parent, child = Channel.pair()
    read, write = os.pipe()
    assert parent.send(CONNECTION, [write]) and parent.send(CONNECTION)
    (first, (received,)), second = child.receive()
    assert first == CONNECTION and second == (CONNECTION, [])
    assert os.write(received, b"x") and os.read(read, 1) == b"x" and not os.get_inheritable(received)
    for fd in (read, write, received):
        os.close(fd)
    assert child.receive() == [] and not child.ended
    parent.close()
    child.close()


def test_the_end_of_the_other_side_is_told_after_its_last_word() -> None:
    parent, child = Channel.pair()
    assert child.send(READY) and child.send(TAKEN)
    child.close()
    child.close()
    assert parent.receive(1) == [(READY, [])] and not parent.ended
    assert parent.receive() == [(TAKEN, [])] and parent.ended
    assert not parent.send(CONNECTION)
    parent.close()


def test_what_a_side_said_that_died_with_words_unread_is_heard() -> None:
    parent, child = Channel.pair()
    assert parent.send(CONNECTION) and child.send(TAKEN)
    child.close()
    assert parent.receive() == [(TAKEN, [])] and parent.ended
    parent.close()


def test_a_full_socket_is_told_and_holds_more_than_may_be_unanswered() -> None:
    parent, child = Channel.pair()
    said = 0
    while parent.send(CONNECTION):
        said += 1
    assert said > UNANSWERED
    heard = 0
    while words := child.receive():
        assert len(words) <= BUDGET
        heard += len(words)
    assert heard == said
    parent.close()
    child.close()
