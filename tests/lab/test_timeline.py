"""Runs as text: two columns, two shells, whatever the width."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiolsp.lab.model import Assembly, Record, Run, Shell, Usage
from aiolsp.lab.timeline import LONGEST, counts, paragraph, summary, timeline


def happened(name: str, ts: float = 0.0, *, tid: int = 1, **args: Any) -> Record:
    """A record of an event."""
    return {"name": name, "ph": "i", "ts": ts, "pid": 1, "tid": tid, "args": args}


def run_of(*records: Record, shell: Shell = "asyncio") -> Run:
    """A run with these *records*."""
    assembly = Assembly()
    for record in records:
        assembly.record(record, "server")
    run = Run("trigger", shell, "", "a title", "154", "python -m aiolsp.trigger", "look", "found it", "mend it")
    run.lanes, run.events, run.counts = assembly.lanes, assembly.events, assembly.count(Usage(3, 2, 1))
    return run


def lines(run: Run, width: int = 80) -> list[str]:
    """The rows of *run* below its heading."""
    return [row.plain() for row in timeline([run], width)][3:-1]


@pytest.mark.parametrize(
    ("name", "args", "line"),
    [
        ("< epoll_wait", {"fd": 7, "flags": "EPOLLIN"}, "   1.500  epoll_wait fd=7 EPOLLIN"),
        ("< data_received", {"fd": 7, "bytes": 9, "why": "echo it"}, "   1.500  data_received fd=7 9 B       echo it"),
        ("< recv", {"fd": 7, "flags": "EPOLLIN", "bytes": 9}, "   1.500  EPOLLIN fd=7                 recv 9 B"),
        ("< recv", {"fd": 7, "bytes": 9}, "   1.500                               recv fd=7 9 B"),
        ("= recv EAGAIN", {"fd": 7, "why": "later"}, "   1.500  recv EAGAIN fd=7             later"),
        ("> write", {"bytes": 1234, "left": 5}, "   1.500                               write 1,234 B left=5"),
        ("x close", {"why": "\x1b[2J\n"}, "   1.500                               close - \\x1b[2J\\n"),
    ],
)
def test_a_report_stands_left_and_what_was_done_right(name: str, args: dict[str, Any], line: str) -> None:
    assert lines(run_of(happened(name, 1500.0, **args))) == [line]


def test_a_line_of_another_thread_or_of_a_client_says_whose_it_is() -> None:
    naming = {"name": "thread_name", "ph": "M", "pid": 1, "tid": 2, "args": {"name": "worker-0"}}
    shown = lines(run_of(naming, happened("> send", tid=2), {**happened("> send", bytes=5), "client": "alice"}))
    assert shown == ["   0.000                               [worker-0] send", "   0.000  * alice: send 5 B"]


def test_the_middle_of_a_long_run_is_left_out_and_counted() -> None:
    shown = lines(run_of(*(happened("> send", number) for number in range(LONGEST + 40))))
    assert len(shown) == LONGEST + 1
    assert shown[LONGEST // 2].strip() == "... 40 events more (--json has them)"


def test_two_shells_stand_beside_each_other_where_there_is_room() -> None:
    runs = [run_of(happened("> send"), shell="asyncio"), run_of(shell="blocking")]
    wide, narrow = timeline(runs, 160), timeline(runs, 80)
    assert wide[0].plain().startswith("asyncio: a title") and "| blocking: a title" in wide[0].plain()
    assert [row.plain() for row in narrow].index("blocking: a title") > 3


def test_colours_are_of_the_painted_line_only() -> None:
    [*_, row, _] = timeline([run_of(happened("! drop"))], 80)
    assert row.painted() == f"\x1b[1;31m{row.plain()}\x1b[0m"


def test_counts_have_a_column_for_each_shell() -> None:
    table = counts([run_of(happened("> send", bytes=5)), run_of(shell="blocking")], 80)
    assert table[0].split() == ["asyncio", "blocking"]
    assert "bytes copied from and to the kernel              5           0" in table
    assert "calls, asyncio: 1 send" in table


def test_the_summary_says_what_was_found_and_the_mend_once() -> None:
    said = summary([run_of(), run_of(shell="blocking")], 80)
    assert said.startswith("asyncio: found it\nblocking: found it\nthe mend: mend it\n\n")


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["< recv", "> send", "= recv EAGAIN", "! drop", "< epoll_wait"]),
            st.text(max_size=90),
            st.sampled_from(["", "EPOLLIN|EPOLLONESHOT"]),
        ),
        max_size=12,
    ),
    st.integers(1, 200),
)
def test_no_line_is_wider_than_the_terminal_or_steers_it(events: list[tuple[str, str, str]], width: int) -> None:
    run = run_of(*(happened(name, why=why, flags=flags) for name, why, flags in events))
    text = [row.plain() for row in timeline([run, run], width)]
    text += [paragraph("label: ", why, width) for _, why, _ in events[:1] if why.isprintable()]
    assert all(line.isprintable() and len(line) <= max(width, 60) for whole in text for line in whole.split("\n"))
