"""The trace as output: lines for people, and a JSON document that a timeline viewer opens."""

from __future__ import annotations

import errno
import io
import json
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from aiolsp.tracing import Trace
from harness import DEADLINE


@pytest.fixture
def trace() -> Iterator[Trace]:
    """A trace of the test's own, closed at the end."""
    trace = Trace()
    yield trace
    trace.close()


@pytest.fixture
def lines(trace: Trace) -> io.StringIO:
    """What *trace* prints."""
    lines = io.StringIO()
    trace.open(lines)
    return lines


def records(path: Path) -> list[dict[str, Any]]:
    """The whole JSON document."""
    return json.loads(path.read_text())  # type: ignore[no-any-return]


def events(path: Path) -> list[dict[str, Any]]:
    """Its records but for the names of processes and threads."""
    return [record for record in records(path) if record["ph"] != "M"]


# Lines


def test_a_line_says_sign_call_descriptor_flags_bytes_and_reason(trace: Trace, lines: io.StringIO) -> None:
    trace.event("<", "recv", fd=7, flags="EPOLLIN|EPOLLET", size=10, why="drain until EAGAIN")
    assert lines.getvalue() == "< recv fd=7 EPOLLIN|EPOLLET 10 B  drain until EAGAIN\n"


@pytest.mark.parametrize(
    ("event", "line"),
    [
        ({}, "= call"),
        ({"fd": 0}, "= call fd=0"),
        ({"flags": "EPOLLRDHUP"}, "= call EPOLLRDHUP"),
        ({"size": 0}, "= call 0 B"),
        ({"why": "read later"}, "= call  read later"),
        ({"late": "+0.30ms", "left": 0}, "= call late=+0.30ms left=0"),
        ({"fd": 3, "status": -1, "text": "", "why": "killed"}, "= call fd=3 status=-1 text=  killed"),
    ],
)
def test_a_line_leaves_out_what_is_not_known(
    trace: Trace, lines: io.StringIO, event: dict[str, Any], line: str
) -> None:
    trace.event("=", "call", **event)
    assert lines.getvalue() == line + "\n"


def test_a_line_of_another_thread_names_it(trace: Trace, lines: io.StringIO) -> None:
    thread = threading.Thread(target=trace.event, args=(">", "send"), name="worker-1")
    thread.start()
    thread.join()
    assert lines.getvalue() == "[worker-1] > send\n"


def test_what_a_peer_sent_neither_ends_the_line_nor_steers_the_terminal(trace: Trace, lines: io.StringIO) -> None:
    trace.event("<", "recv", text="a\nb\x1b[2J\x00\udc80é")
    assert lines.getvalue() == r"< recv text=a\nb\x1b[2J\x00\udc80é" + "\n"


def test_lines_of_many_threads_are_never_mixed(trace: Trace, lines: io.StringIO) -> None:
    def write() -> None:
        for _ in range(200):
            trace.event(">", "send", size=64, why="answer")

    threads = [threading.Thread(target=write, name=f"worker-{number}") for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    written = lines.getvalue().splitlines()
    assert sorted(set(written)) == [f"[worker-{number}] > send 64 B  answer" for number in range(4)]
    assert len(written) == 800


# Silence


def test_a_trace_is_silent_until_it_is_opened(trace: Trace) -> None:
    assert trace.on is False
    trace.event("<", "recv")
    trace.open()
    assert trace.on is False


def test_a_closed_trace_is_silent(trace: Trace, lines: io.StringIO) -> None:
    trace.close()
    assert trace.on is False
    trace.event("<", "recv")
    assert lines.getvalue() == ""


def test_a_span_of_a_silent_trace_only_runs_its_block(trace: Trace) -> None:
    with trace.span("work"):
        done = True
    assert done


# JSON


def test_the_json_is_a_document_of_named_lanes_and_events(trace: Trace, tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    trace.open(None, str(path))
    assert trace.on is True
    trace.event("<", "recv", fd=7, flags="EPOLLIN", size=0, why="", status=-1)
    trace.event("x", "close", fd=7)
    trace.close()
    process, thread, *found = records(path)
    assert process["ph"] == "M" and process["name"] == "process_name"
    assert thread["ph"] == "M" and thread["args"] == {"name": "MainThread"}
    assert [event["name"] for event in found] == ["< recv", "x close"]
    assert found[0]["args"] == {"fd": 7, "flags": "EPOLLIN", "bytes": 0, "status": -1}
    assert found[0]["ts"] <= found[1]["ts"]
    assert {(event["pid"], event["tid"]) for event in found} == {(os.getpid(), threading.get_native_id())}


def test_lines_and_json_are_written_together(trace: Trace, tmp_path: Path) -> None:
    lines, path = io.StringIO(), tmp_path / "t.json"
    trace.open(lines, str(path))
    trace.event("%", "armed", due_in="5.000s")
    trace.close()
    assert lines.getvalue() == "% armed due_in=5.000s\n"
    assert [event["args"] for event in events(path)] == [{"due_in": "5.000s"}]


def test_a_value_of_any_type_is_valid_json(trace: Trace, tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    trace.open(None, str(path))
    trace.event("<", "recv", data=b"\xff", text="\udc80\n", error=OSError("x"), number=1.5)
    trace.close()
    [event] = events(path)
    assert event["args"] == {"data": r"b'\xff'", "text": "\udc80\n", "error": "x", "number": 1.5}


def test_each_thread_has_one_lane_with_its_name(trace: Trace, tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    trace.open(None, str(path))
    together = threading.Barrier(3)

    def write() -> None:
        together.wait()
        for _ in range(50):
            trace.event(">", "send")
        together.wait()  # a thread that had ended could lend its id to the next

    threads = [threading.Thread(target=write, name=f"worker-{number}") for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    trace.close()
    lanes = [record for record in records(path) if record["name"] == "thread_name"]
    assert sorted(lane["args"]["name"] for lane in lanes) == ["worker-0", "worker-1", "worker-2"]
    assert len({lane["tid"] for lane in lanes}) == 3
    for lane in lanes:
        assert sum(event["tid"] == lane["tid"] for event in events(path)) == 50


def test_a_span_is_a_bar_as_long_as_its_block(trace: Trace, tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    trace.open(None, str(path))
    with pytest.raises(ZeroDivisionError), trace.span("outer", fd=7):
        with trace.span("inner"):
            pass
        raise ZeroDivisionError
    trace.close()
    inner, outer = events(path)
    assert (inner["name"], outer["name"], outer["ph"], outer["args"]) == ("inner", "outer", "X", {"fd": 7})
    assert outer["ts"] <= inner["ts"]
    assert inner["ts"] + inner["dur"] <= outer["ts"] + outer["dur"]


def test_a_forked_child_writes_to_the_same_file_in_a_lane_of_its_own(trace: Trace, tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    trace.open(None, str(path))
    trace.event("=", "before")
    child = os.fork()
    if child == 0:
        trace.event("=", "in the child")
        trace.close()
        os._exit(0)
    assert os.waitpid(child, 0) == (child, 0)
    trace.event("=", "after")
    trace.close()
    assert [(event["name"], event["pid"]) for event in events(path)] == [
        ("= before", os.getpid()),
        ("= in the child", child),
        ("= after", os.getpid()),
    ]
    assert [record["pid"] for record in records(path) if record["name"] == "thread_name"] == [os.getpid(), child]
    names = {record["pid"]: record["args"]["name"] for record in records(path) if record["name"] == "process_name"}
    assert names == {os.getpid(): names[os.getpid()], child: f"{names[os.getpid()]} (child of {os.getpid()})"}


def test_a_second_trace_replaces_the_file(trace: Trace, tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    for name in ("first", "second"):
        trace.open(None, str(path))
        trace.event("=", name)
    trace.close()
    assert [event["name"] for event in events(path)] == ["= second"]


def test_the_json_says_which_line_wrote_an_event(trace: Trace, tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    trace.open(None, str(path))
    trace.event("=", "here")
    with trace.span("and here"):
        trace.event("=", "inside")
    trace.close()
    lines = Path(__file__).read_text().splitlines()
    for event in events(path):
        file, _, line = event["source"].rpartition(":")
        assert __file__.endswith(file) and event["name"].removeprefix("= ") in lines[int(line) - 1]


# Want of a reader or of room


@pytest.mark.parametrize("path", ["/dev/full", "/nowhere/t.json", "/"])
def test_a_file_that_cannot_be_written_is_told_at_once_and_leaks_nothing(trace: Trace, path: str) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError):
        trace.open(None, path)
    assert trace.on is False
    trace.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_trace_whose_reader_left_ends_without_an_error(trace: Trace) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    pipe = open(writing, "w", buffering=1)
    trace.open(pipe)
    trace.event("<", "recv")
    assert trace.on is False
    trace.event("<", "recv")
    with pytest.raises(BrokenPipeError):
        pipe.close()


def test_a_full_disk_ends_the_json_and_not_the_program(trace: Trace, tmp_path: Path) -> None:
    lines = io.StringIO()
    trace.open(lines, str(tmp_path / "t.json"))
    full = os.open("/dev/full", os.O_WRONLY)
    assert trace._json is not None
    os.dup2(full, trace._json)
    os.close(full)
    before = len(os.listdir("/proc/self/fd"))
    trace.event("<", "recv")
    trace.event("<", "recv")
    assert trace.on is True
    assert lines.getvalue() == "< recv\n" * 2
    trace.close()
    assert len(os.listdir("/proc/self/fd")) == before - 1


def test_threads_may_all_find_at_once_that_nothing_can_be_written(
    trace: Trace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace.open(None, str(tmp_path / "t.json"))
    together = threading.Barrier(4)

    def write(fd: int, data: bytes) -> int:
        together.wait(DEADLINE)
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "write", write)
    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(trace.event, "<", "recv") for _ in range(4)]:
            done.result()
    monkeypatch.undo()
    assert trace.on is False
