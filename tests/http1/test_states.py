"""The tables: every pair of a state and an input, and the diagram that is printed from them."""

from __future__ import annotations

from itertools import product

import pytest

from aiolsp.http1.states import CHUNKED_TRANSITIONS, TRANSITIONS, ChunkState, ParseState, Seen, diagram, walk

ALLOWED = {
    (ParseState.REQUEST_LINE, Seen.EMPTY_LINE): ParseState.REQUEST_LINE,
    (ParseState.REQUEST_LINE, Seen.REQUEST_LINE): ParseState.HEADERS,
    (ParseState.REQUEST_LINE, Seen.BAD): ParseState.FAILED,
    (ParseState.HEADERS, Seen.FIELD_LINE): ParseState.HEADERS,
    (ParseState.HEADERS, Seen.EMPTY_LINE): ParseState.CONTENT,
    (ParseState.HEADERS, Seen.BAD): ParseState.FAILED,
    (ParseState.CONTENT, Seen.DATA): ParseState.CONTENT,
    (ParseState.CONTENT, Seen.END_OF_MESSAGE): ParseState.REQUEST_LINE,
    (ParseState.CONTENT, Seen.BAD): ParseState.FAILED,
}


@pytest.mark.parametrize(("state", "seen"), list(product(ParseState, Seen)))
def test_each_input_leads_where_the_book_says_or_is_impossible(state: ParseState, seen: Seen) -> None:
    if (state, seen) in ALLOWED:
        assert walk(state, seen) is ALLOWED[state, seen]
    else:
        with pytest.raises(KeyError):
            walk(state, seen)


@pytest.mark.parametrize("state", ChunkState)
def test_every_state_of_the_chunked_machine_is_reached_and_can_reach_the_end(state: ChunkState) -> None:
    assert set(CHUNKED_TRANSITIONS) == set(ChunkState)
    reached, ends = {ChunkState.CHUNK_SIZE}, {state}
    for _ in ChunkState:
        reached |= {after for before in reached for after in CHUNKED_TRANSITIONS[before].values()}
        ends |= {after for before in ends for after in CHUNKED_TRANSITIONS[before].values()}
    assert state in reached
    assert ChunkState.COMPLETE in ends


def test_a_failed_parser_takes_no_input() -> None:
    assert TRANSITIONS[ParseState.FAILED] == {}
    assert set(TRANSITIONS) == set(ParseState)


def test_a_message_walks_back_to_the_first_state() -> None:
    message = (Seen.REQUEST_LINE, Seen.FIELD_LINE, Seen.EMPTY_LINE, Seen.DATA, Seen.END_OF_MESSAGE)
    assert walk(ParseState.REQUEST_LINE, *message) is ParseState.REQUEST_LINE


def test_the_diagram_shows_each_transition_once() -> None:
    shown = diagram()
    lines = shown.splitlines()
    assert lines[:2] == ["stateDiagram-v2", "    [*] --> REQUEST_LINE"]
    for table in (TRANSITIONS, CHUNKED_TRANSITIONS):
        for state, row in table.items():
            for seen, after in row.items():
                arrow = f"{state.name} --> {after.name}: {seen.value}"
                assert [line.strip() for line in lines].count(arrow) == 1
    assert "FAILED --> [*]" in shown
    assert shown.count("{") == shown.count("}") == 1
