"""The request machine as tables (book p. 137, listing 8-3: CHECK_STATE_REQUESTLINE, _HEADER, _CONTENT).

House rules:
1. A state changes by one of these tables and in no other way: ``state = TRANSITIONS[state][seen]``.
2. What is not in a table cannot happen, whatever a peer sends: a KeyError is a fault of ours. What a peer does wrong is
   the input BAD, which leads to FAILED, where no further input is looked at.
3. The tables know what was seen and nothing else: no bytes, no limits, no time.

The line machine (LineStatus, in sansio.lines) is below this one; the chunked machine runs within CONTENT.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import TypeVar


class ParseState(enum.StrEnum):
    """Where in a message the parser stands."""

    REQUEST_LINE = enum.auto()
    HEADERS = enum.auto()
    CONTENT = enum.auto()
    FAILED = enum.auto()


class ChunkState(enum.StrEnum):
    """Where in a chunked body the reader stands (RFC 9112 7.1)."""

    CHUNK_SIZE = enum.auto()
    CHUNK_DATA = enum.auto()
    CHUNK_END = enum.auto()
    TRAILERS = enum.auto()
    COMPLETE = enum.auto()


_State = TypeVar("_State", ParseState, ChunkState)


class Seen(enum.StrEnum):
    """The inputs of both machines."""

    EMPTY_LINE = enum.auto()
    REQUEST_LINE = enum.auto()
    FIELD_LINE = enum.auto()
    CHUNK_LINE = enum.auto()
    LAST_CHUNK = enum.auto()
    DATA = enum.auto()
    END_OF_DATA = enum.auto()
    END_OF_MESSAGE = enum.auto()
    BAD = enum.auto()


TRANSITIONS: dict[ParseState, dict[Seen, ParseState]] = {
    ParseState.REQUEST_LINE: {
        Seen.EMPTY_LINE: ParseState.REQUEST_LINE,
        Seen.REQUEST_LINE: ParseState.HEADERS,
        Seen.BAD: ParseState.FAILED,
    },
    ParseState.HEADERS: {
        Seen.FIELD_LINE: ParseState.HEADERS,
        Seen.EMPTY_LINE: ParseState.CONTENT,
        Seen.BAD: ParseState.FAILED,
    },
    ParseState.CONTENT: {
        Seen.DATA: ParseState.CONTENT,
        Seen.END_OF_MESSAGE: ParseState.REQUEST_LINE,
        Seen.BAD: ParseState.FAILED,
    },
    ParseState.FAILED: {},
}

CHUNKED_TRANSITIONS: dict[ChunkState, dict[Seen, ChunkState]] = {
    ChunkState.CHUNK_SIZE: {
        Seen.CHUNK_LINE: ChunkState.CHUNK_DATA,
        Seen.LAST_CHUNK: ChunkState.TRAILERS,
    },
    ChunkState.CHUNK_DATA: {
        Seen.DATA: ChunkState.CHUNK_DATA,
        Seen.END_OF_DATA: ChunkState.CHUNK_END,
    },
    ChunkState.CHUNK_END: {
        Seen.EMPTY_LINE: ChunkState.CHUNK_SIZE,
    },
    ChunkState.TRAILERS: {
        Seen.FIELD_LINE: ChunkState.TRAILERS,
        Seen.EMPTY_LINE: ChunkState.COMPLETE,
    },
    ChunkState.COMPLETE: {},
}


def walk(state: ParseState, *inputs: Seen) -> ParseState:
    """Where *inputs* lead from *state*."""
    for seen in inputs:
        state = TRANSITIONS[state][seen]
    return state


def diagram() -> str:
    """Both tables as one Mermaid state diagram, as the README shows it."""
    return "\n".join(
        [
            "stateDiagram-v2",
            f"    [*] --> {ParseState.REQUEST_LINE.name}",
            *_arrows(TRANSITIONS, "    "),
            f"    state {ParseState.CONTENT.name} {{",
            f"        [*] --> {ChunkState.CHUNK_SIZE.name}",
            *_arrows(CHUNKED_TRANSITIONS, "        "),
            "    }",
        ]
    )


def _arrows(table: Mapping[_State, Mapping[Seen, _State]], indent: str) -> list[str]:
    arrows = []
    for state, row in table.items():
        arrows += [f"{indent}{state.name} --> {after.name}: {seen.value}" for seen, after in row.items()]
        if not row:
            arrows.append(f"{indent}{state.name} --> [*]")
    return arrows
