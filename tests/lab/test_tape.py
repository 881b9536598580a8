"""Records of a trace, read as they are written."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from aiolsp.lab.model import Record
from aiolsp.lab.tape import RecordReader, Tape
from aiolsp.tracing import Trace

RECORDS = [{"name": "= one", "ph": "i"}, {"name": "two", "args": {"why": 'a "}" and a }\n,'}}, {"name": "three"}]
DOCUMENT = b"[\n" + b",\n".join(json.dumps(record).encode() for record in RECORDS) + b"\n]\n"


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, len(DOCUMENT)), max_size=6).map(sorted))
def test_any_split_of_a_document_gives_the_same_records(cuts: list[int]) -> None:
    reader, found = RecordReader(), []
    for begin, end in zip([0, *cuts], [*cuts, len(DOCUMENT)], strict=True):
        found += reader.feed(DOCUMENT[begin:end])
    assert found == RECORDS


def test_a_record_is_given_before_the_comma_that_follows_it() -> None:
    reader = RecordReader()
    assert reader.feed(b'[\n{"name": "one"}') == [{"name": "one"}]
    assert reader.feed(b',\n{"name": "tw') == []
    assert reader.feed(b'o"}') == [{"name": "two"}]


def test_what_is_no_record_is_dropped() -> None:
    assert RecordReader().feed(b'[\n{"name": \n17,\n{"name": "one"},\n]\n') == [{"name": "one"}]


def test_a_trace_written_to_a_tape_arrives_whole(tmp_path: Path) -> None:
    taken: list[Record] = []
    tape, trace = Tape(str(tmp_path / "tape"), taken.append), Trace()
    trace.open(None, tape.path)
    for number in range(2000):
        trace.event("=", "count", number=number)
    trace.close()
    tape.close()
    numbers = [record["args"]["number"] for record in taken if record["ph"] == "i"]
    assert numbers == list(range(2000))


def test_a_tape_that_nobody_wrote_to_ends(tmp_path: Path) -> None:
    before, threads = len(os.listdir("/proc/self/fd")), threading.active_count()
    Tape(str(tmp_path / "tape"), print).close()
    assert len(os.listdir("/proc/self/fd")) == before
    assert threading.active_count() == threads
