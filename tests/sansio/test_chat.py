"""The rules of the chat room: who hears what, who is turned away, who is dropped and who must wait."""

from __future__ import annotations

from collections import defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiolsp.sansio.chat import (
    FLOOD,
    LINE_LIMIT,
    OVERRUN,
    PATIENCE,
    TOO_MANY,
    TURN_LIMIT,
    ChatRoom,
    Decision,
    Deliver,
    Drop,
    Pause,
    Reject,
    Resume,
)
from aiolsp.sansio.lines import LineSplitter

HIGH = 1000


@pytest.fixture
def room() -> ChatRoom[str]:
    made = ChatRoom[str](max_members=5, high_water=HIGH)
    for member in "abc":
        assert made.join(member) == []
    return made


def heard(decisions: list[Decision[str]]) -> dict[str, bytes]:
    """What each member gets by *decisions*, which deliver and do nothing else."""
    by_member: dict[str, bytes] = defaultdict(bytes)
    for decision in decisions:
        assert isinstance(decision, Deliver)
        by_member[decision.member] += decision.data
    return dict(by_member)


def test_a_line_goes_to_all_but_its_sender(room: ChatRoom[str]) -> None:
    assert room.said("a", b"hello\n") == []
    assert room.pending
    assert heard(room.turn()) == {"b": b"hello\n", "c": b"hello\n"}
    assert room.turn() == []


def test_what_is_said_in_one_turn_is_one_delivery_per_member_in_one_order(room: ChatRoom[str]) -> None:
    room.said("a", b"1\n2\n")
    room.said("b", b"3\n")
    room.said("a", b"4\n")
    assert room.turn() == [Deliver("a", b"3\n"), Deliver("b", b"1\n2\n4\n"), Deliver("c", b"1\n2\n3\n4\n")]


def test_members_that_said_nothing_share_one_object(room: ChatRoom[str]) -> None:
    room.said("a", b"1\n")
    room.said("a", b"2\n")
    first, second = room.turn()
    assert isinstance(first, Deliver) and isinstance(second, Deliver)
    assert first.data is second.data


def test_an_unfinished_line_waits_for_its_end(room: ChatRoom[str]) -> None:
    room.said("a", b"hel")
    assert not room.pending
    room.said("a", b"lo\r\n")
    assert heard(room.turn())["b"] == b"hello\n"


def test_a_line_of_1023_bytes_is_one_line_and_a_longer_one_comes_in_pieces(room: ChatRoom[str]) -> None:
    room.said("a", b"x" * LINE_LIMIT + b"\n")
    assert heard(room.turn())["b"] == b"x" * 1023 + b"\n"
    room.said("a", b"y" * 2500 + b"\n")
    assert heard(room.turn())["b"].split(b"\n") == [b"y" * 1023, b"y" * 1023, b"y" * 454, b""]


def test_the_last_line_without_its_newline_is_delivered_when_its_sender_leaves(room: ChatRoom[str]) -> None:
    room.said("a", b"good\nbye")
    room.leave("a")
    assert heard(room.turn()) == {"b": b"good\nbye\n", "c": b"good\nbye\n"}
    assert "a" not in room and len(room) == 2


def test_one_who_joins_hears_nothing_of_what_was_said_before(room: ChatRoom[str]) -> None:
    room.said("a", b"secret\n")
    assert heard(room.join("d")) == {"b": b"secret\n", "c": b"secret\n"}
    assert room.turn() == []


def test_one_too_many_is_rejected_and_a_place_left_is_free_again(room: ChatRoom[str]) -> None:
    room.join("d")
    room.join("e")
    assert room.join("f") == [Reject("f", TOO_MANY)]
    assert room.said("f", b"hello\n") == [] and not room.pending
    assert room.leave("f") == []
    room.leave("a")
    assert room.join("f") == []


def test_leaving_twice_does_no_harm(room: ChatRoom[str]) -> None:
    room.said("a", b"bye")
    room.leave("a")
    room.turn()
    assert room.leave("a") == [] and not room.pending


def test_a_turn_that_grows_too_large_is_delivered_at_once(room: ChatRoom[str]) -> None:
    line = b"x" * 1000 + b"\n"
    decisions: list[Decision[str]] = []
    while not decisions:
        decisions = room.said("a", line)
    assert TURN_LIMIT <= len(heard(decisions)["b"]) < TURN_LIMIT + len(line)


def test_a_member_over_the_high_water_mark_is_dropped_when_its_patience_ends(room: ChatRoom[str]) -> None:
    assert room.unread("c", HIGH, 10.0) == [] and room.next_deadline() is None
    assert room.unread("c", HIGH + 1, 10.0) == []
    assert room.unread("c", HIGH + 9, 10.5) == []
    assert room.next_deadline() == 10.0 + PATIENCE
    assert room.tick(10.9) == []
    (dropped,) = room.tick(11.0)
    assert isinstance(dropped, Drop) and dropped.member == "c"
    assert "c" not in room and room.next_deadline() is None


def test_a_member_that_comes_down_to_half_the_mark_is_forgiven(room: ChatRoom[str]) -> None:
    room.unread("c", HIGH + 1, 10.0)
    room.unread("c", HIGH // 2 + 1, 10.1)
    assert room.next_deadline() is not None
    room.unread("c", HIGH // 2, 10.2)
    assert room.next_deadline() is None and room.tick(99.0) == [] and "c" in room


def test_a_member_far_over_the_mark_is_dropped_at_once(room: ChatRoom[str]) -> None:
    assert room.unread("c", HIGH * OVERRUN, 10.0) == []
    (dropped,) = room.unread("c", HIGH * OVERRUN + 1, 10.0)
    assert isinstance(dropped, Drop)
    assert room.unread("c", HIGH * 99, 10.0) == []


def test_the_unfinished_line_of_a_dropped_member_is_delivered(room: ChatRoom[str]) -> None:
    room.said("c", b"I was going to")
    room.unread("c", HIGH * 99, 0.0)
    assert heard(room.turn()) == {"a": b"I was going to\n", "b": b"I was going to\n"}


def test_a_line_never_waits_for_one_who_lags_and_a_flood_does(room: ChatRoom[str]) -> None:
    room.unread("c", HIGH + 1, 0.0)
    assert room.said("a", b"x\n" * (FLOOD // 2 - 1)) == []
    assert room.said("b", b"x\n" * (FLOOD // 2)) == [Pause("b")]
    assert room.said("b", b"x\n" * (FLOOD // 2)) == []
    assert room.unread("c", 0, 0.1) == [Resume("b")]


def test_who_floods_when_the_first_falls_behind_is_paused_then(room: ChatRoom[str]) -> None:
    room.said("a", b"x\n" * FLOOD)
    assert room.unread("c", HIGH + 1, 0.0) == [Pause("a")]
    assert room.unread("b", HIGH + 1, 0.0) == []
    assert room.unread("c", 0, 0.1) == []
    assert room.leave("b") == [Resume("a")]


def test_one_who_has_gone_back_to_talking_is_not_paused(room: ChatRoom[str]) -> None:
    room.said("a", b"x\n" * FLOOD)
    room.said("a", b"x\n")
    assert room.unread("c", HIGH + 1, 0.0) == []


def test_floods_resume_when_the_last_who_lags_is_dropped(room: ChatRoom[str]) -> None:
    room.said("a", b"x\n" * FLOOD)
    room.unread("c", HIGH + 1, 0.0)
    dropped, resumed = room.tick(PATIENCE)
    assert isinstance(dropped, Drop) and resumed == Resume("a")


def test_one_who_leaves_has_patience_to_read_what_is_on_its_way(room: ChatRoom[str]) -> None:
    room.leave("a", unread=7, now=5.0)
    assert "a" not in room
    assert room.unread("a", 3, 5.5) == []
    (dropped,) = room.tick(5.0 + PATIENCE)
    assert isinstance(dropped, Drop) and dropped.member == "a"
    room.leave("b", unread=7, now=5.0)
    room.leave("b")
    assert room.next_deadline() is None


def test_a_deadline_a_millisecond_early_counts_as_due(room: ChatRoom[str]) -> None:
    room.unread("c", HIGH + 1, 0.0)
    assert room.tick(PATIENCE - 0.0005)


SPEECH = st.lists(st.tuples(st.sampled_from("abc"), st.binary(max_size=40) | st.just(b"z" * 1500)), max_size=30)


@settings(max_examples=150, deadline=None)
@given(SPEECH, st.data())
def test_all_hear_all_that_others_said_whatever_the_cuts_and_the_turns(
    speech: list[tuple[str, bytes]], data: st.DataObject
) -> None:
    room = ChatRoom[str](3, HIGH)
    for member in "abc":
        room.join(member)
    got: dict[str, bytes] = defaultdict(bytes)
    for member, words in speech:
        decisions = room.said(member, words)
        if data.draw(st.booleans()):
            decisions += room.turn()
        for decision in decisions:
            assert isinstance(decision, Deliver)
            got[decision.member] += decision.data
    for member, lines in heard(room.turn()).items():
        got[member] += lines
    spoken = {
        member: b"".join(words for speaker, words in speech if speaker == member).rpartition(b"\n") for member in "abc"
    }
    for member in "abc":
        others = [spoken[other][0] + spoken[other][1] for other in "abc" if other != member]
        whole_lines = sum(len(lines.replace(b"\r", b"").replace(b"\n", b"")) for lines in others)
        unfinished = sum(len(spoken[other][2]) for other in "abc" if other != member)
        text = got[member].replace(b"\r", b"").replace(b"\n", b"")
        assert whole_lines <= len(text) <= whole_lines + unfinished
        assert all(len(line) <= LINE_LIMIT for line in got[member].split(b"\n"))


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200), st.lists(st.integers(0, 200)))
def test_any_split_of_what_is_said_is_heard_the_same(words: bytes, cuts: list[int]) -> None:
    def listen(pieces: list[bytes]) -> bytes:
        room = ChatRoom[str](2, HIGH)
        room.join("a")
        room.join("b")
        for piece in pieces:
            room.said("a", piece)
        room.leave("a")
        return heard(room.turn()).get("b", b"")

    bounds = sorted({0, *(cut for cut in cuts if cut < len(words)), len(words)})
    assert listen([words[i:j] for i, j in zip(bounds, bounds[1:], strict=False)]) == listen([words])


OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(["join", "said", "flood", "unread", "leave", "tick"]),
        st.sampled_from("abcd"),
        st.sampled_from([0, 1, HIGH, HIGH + 1, HIGH * 99]),
    ),
    max_size=60,
)


@settings(max_examples=200, deadline=None)
@given(OPERATIONS)
def test_nobody_stays_paused_while_nobody_lags_and_only_members_are_served(
    operations: list[tuple[str, str, int]],
) -> None:
    room = ChatRoom[str](3, HIGH)
    members: set[str] = set()
    paused: set[str] = set()
    for now, (verb, member, size) in enumerate(operations):
        if verb == "join" and member not in members:
            decisions = room.join(member)
            if Reject(member, TOO_MANY) not in decisions:
                members.add(member)
        elif verb in ("said", "flood"):
            decisions = room.said(member, b"x\n" * (FLOOD if verb == "flood" else 1))
        elif verb == "unread":
            decisions = room.unread(member, size, now)
        elif verb == "leave":
            decisions = room.leave(member, size, now)
            members.discard(member)
        else:
            decisions = room.tick(now)
        for decision in decisions:
            match decision:
                case Deliver(receiver, data):
                    assert receiver in members and data
                case Drop(dropped):
                    members.discard(dropped)
                case Pause(speaker):
                    assert speaker not in paused
                    paused.add(speaker)
                case Resume(speaker):
                    paused.remove(speaker)
        paused &= members
        assert not paused or room.next_deadline() is not None
        assert {name for name in "abcd" if name in room} == members


class Moment(float):
    """A time that counts how often deadlines reckoned from it are compared."""

    count = 0

    def __add__(self, seconds: float) -> Moment:
        return Moment(super().__add__(seconds))

    def __le__(self, other: float) -> bool:
        Moment.count += 1
        return super().__le__(other)


def test_who_lags_longest_is_found_among_many_without_a_search() -> None:
    room = ChatRoom[int](max_members=1000, high_water=HIGH)
    for member in range(1000):
        room.join(member)
        room.unread(member, 2 * HIGH, Moment(member))
    Moment.count = 0
    for member in range(100):
        assert [drop.member for drop in room.tick(member + PATIENCE) if isinstance(drop, Drop)] == [member]
    assert Moment.count <= 200


def test_a_member_that_says_many_short_lines_costs_no_step_for_each(
    room: ChatRoom[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cut: list[int] = []
    consume = LineSplitter._consume

    def counted(splitter: LineSplitter, end: int) -> None:
        cut.append(end)
        consume(splitter, end)

    monkeypatch.setattr(LineSplitter, "_consume", counted)
    assert heard(room.said("a", b"\n" * 100_000))["b"] == b"\n" * 100_000
    assert len(cut) <= 100
