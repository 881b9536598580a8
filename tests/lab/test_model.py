"""Records become events on lanes: whose process, which thread, which connection."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from aiolsp.lab.model import NONE, Assembly, Event, Record, Role, Run, Usage, assemble, document

PEER = "127.0.0.1:5000"


def happened(name: str, ts: float = 0.0, *, pid: int = 1, tid: int = 0, client: str = "", **args: Any) -> Record:
    """A record of an event."""
    record = {"name": name, "ph": "i", "ts": ts, "pid": pid, "tid": tid or pid, "args": args, "source": "a.py:1"}
    return {**record, "client": client} if client else record


def named(kind: str, *, pid: int = 1, tid: int = 1, **args: Any) -> Record:
    """A record that gives a name."""
    return {"name": kind, "ph": "M", "pid": pid, "tid": tid, "args": args}


def assembled(*records: Record) -> Assembly:
    """All of a server's *records*, in this order."""
    assembly = Assembly()
    for record in records:
        assembly.record(record, "server")
    return assembly


def lanes(assembly: Assembly) -> list[tuple[str, str, int]]:
    """Kind, name and parent of each lane."""
    return [(lane.kind, lane.name, lane.parent) for lane in assembly.lanes]


def test_a_record_becomes_an_event_with_all_its_facts() -> None:
    record = happened("< recv", 5.5, fd=7, flags="EPOLLIN", bytes=10, why="drain", left=3)
    [event] = assembled(record).events
    assert event == Event(
        t_us=5.5, pid=1, tid=1, lane=0, connection=NONE, sign="<", call="recv", fd=7, flags="EPOLLIN", size=10,
        why="drain", args={"left": 3}, source="a.py:1", duration_us=0.0,
    )  # fmt: skip


def test_a_span_has_a_duration_and_no_sign() -> None:
    [event] = assembled({**happened("held by one"), "ph": "X", "dur": 40.0}).events
    assert (event.sign, event.call, event.duration_us) == ("", "held by one", 40.0)


def test_threads_have_lanes_below_their_process() -> None:
    assembly = assembled(
        named("thread_name", tid=2, name="worker-0"), happened("= a", tid=2), happened("= b"), happened("= c", pid=9)
    )
    assert lanes(assembly) == [
        ("process", "server", NONE),
        ("thread", "worker-0", 0),
        ("process", "server process 2", NONE),
    ]
    assert [event.lane for event in assembly.events] == [1, 0, 2]


def test_a_connection_is_called_after_its_client_and_ends_with_its_descriptor() -> None:
    assembly = assembled(
        named("client", pid=0, address=PEER, name="alice"),
        happened("= connect", client="alice"),
        happened("< accept", fd=5, peer=PEER),
        happened("< recv", fd=5),
        happened("x close", fd=5),
        happened("< recv", fd=5),
        happened("< accept", fd=5, peer="127.0.0.1:6000"),
        happened("< recv", fd=5),
    )
    assert ("connection", "connection of alice", 1) in lanes(assembly)
    names = {lane.id: lane.name for lane in assembly.lanes} | {NONE: ""}
    assert [names[event.connection] for event in assembly.events][1:] == [
        *["connection of alice"] * 3,
        "",
        *["connection of 127.0.0.1:6000"] * 2,
    ]


def test_a_connection_that_is_sent_to_another_process_stays_the_same() -> None:
    assembly = assembled(
        happened("< accept", fd=5, peer=PEER),
        happened("> sendmsg", fd=5, flags="SCM_RIGHTS"),
        happened("< recvmsg", pid=2, fd=9, flags="SCM_RIGHTS"),
        happened("< taken", fd=5),
        happened("= other", fd=5),
        happened("< recv", pid=2, fd=9),
    )
    assert [event.connection >= 0 for event in assembly.events] == [True, True, True, True, False, True]
    assert len({event.connection for event in assembly.events if event.connection != NONE}) == 1


def test_all_that_a_process_for_one_connection_does_belongs_to_it() -> None:
    forked = {**happened("= fork", fd=5), "args": {"fd": 5, "pid": 8}}
    assembly = assembled(happened("< accept", fd=5, peer=PEER), forked, happened("< eventfd_read", pid=8, fd=3))
    assert assembly.events[0].connection == assembly.events[2].connection != NONE


def test_records_of_several_files_are_put_in_the_order_of_time() -> None:
    records: list[tuple[Role, Record]] = [
        ("server", happened("= third", 30)),
        ("client", happened("= first", 10, pid=2)),
        ("server", happened("= second", 20)),
        ("server", named("thread_name", name="MainThread")),
    ]
    assembly = assemble(records, 10.0)
    assert [(event.call, event.t_us) for event in assembly.events] == [
        ("first", 0.0),
        ("second", 10.0),
        ("third", 20.0),
    ]
    assert [lane.role for lane in assembly.lanes] == ["client", "server"]


def test_counts_are_of_the_server_and_tell_copies_from_moves() -> None:
    assembly = assembled(
        happened("= connect", client="alice"),
        happened("< accept", fd=5, peer=PEER),
        happened("< epoll_wait", fd=5, flags="EPOLLIN"),
        happened("< recv", fd=5, bytes=10),
        happened("= recv EAGAIN", fd=5),
        happened("> send", fd=5, bytes=4),
        happened("> sendfile", fd=5, bytes=1000),
    )
    counts = assembly.count(Usage(3, 2, 1))
    assert (counts.wake_ups, counts.eagain, counts.connections) == (2, 1, 1)
    assert (counts.bytes_in, counts.bytes_out, counts.bytes_copied) == (10, 1004, 14)
    assert counts.usage == Usage(3, 2, 1) and counts.calls["recv"] == 1 and "connect" not in counts.calls


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.builds(
            happened,
            st.sampled_from(["< accept", "< recvmsg", "> sendmsg", "= fork", "x close", "< taken", "! odd"]),
            pid=st.integers(1, 3),
            tid=st.integers(1, 4),
            fd=st.integers(-1, 4),
            flags=st.sampled_from(["", "SCM_RIGHTS"]),
            peer=st.sampled_from([PEER, "x"]),
        )
    )
)
def test_whatever_is_recorded_each_event_has_a_lane_and_it_all_is_json(records: list[Record]) -> None:
    assembly = assembled(*records)
    known = {lane.id for lane in assembly.lanes}
    assert all(lane.id == place and lane.parent < place for place, lane in enumerate(assembly.lanes))
    assert all(event.lane in known and event.connection in known | {NONE} for event in assembly.events)
    run = Run("trigger", "asyncio", "", "title", "154", "python", "look", lanes=assembly.lanes, events=assembly.events)
    run.counts = assembly.count(Usage())
    whole = json.loads(json.dumps(document([run])))
    assert whole["version"] == 1 and len(whole["runs"][0]["events"]) == len(records)
