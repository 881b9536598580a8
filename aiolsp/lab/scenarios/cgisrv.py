"""The process pool and the CGI server, book p. 289 and 298: the parent accepts, children run the programs."""

from __future__ import annotations

from pathlib import Path

from aiolsp.catalog import PROGRAMS
from aiolsp.lab.model import Run
from aiolsp.lab.scenario import Lab, Scenario
from aiolsp.lab.stage import Stage


def prepare(home: Path) -> None:
    """A directory with one program."""
    programs = home / "cgi-bin"
    programs.mkdir()
    hello = programs / "hello"
    hello.write_text('#!/bin/sh\necho "hello from process $$"\n')
    hello.chmod(0o755)


def script(stage: Stage) -> None:
    """Two requests for a program, and one for what lies outside."""
    for name in ("one", "two"):
        client = stage.client(name)
        client.send(b"hello\r\n")
        client.receive_to_end()
    thief = stage.client("thief")
    thief.send(b"../../../bin/sh\r\n", why="a path out of the directory")
    thief.receive_to_end()


def finding(run: Run) -> str:
    """Who ran what."""
    started = run.server("started")
    handed = run.server("sendmsg")
    if len(started) != 2 or len(handed) != 3:
        return ""
    children = len({event.pid for event in started})
    return (
        f"{len(handed)} connections were handed to children in turn (SCM_RIGHTS), {children} of them ran the"
        f" {len(started)} programs; what lies outside the directory did not run"
    )


LAB = Lab(
    PROGRAMS["cgisrv"],
    shown=(
        Scenario(
            "cgisrv",
            "a pool of two processes",
            "The parent accepts and sends the descriptor to a child in turn; the child's program writes to a pipe.",
            script,
            finding,
            options=("--cgi-dir", "{home}/cgi-bin", "--processes", "2"),
            prepare=prepare,
        ),
    ),
)
