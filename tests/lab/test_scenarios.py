"""Every lab, before both shells: it runs, it ends, and what it is there to show happened, in this order."""

from __future__ import annotations

import pytest

from aiolsp.catalog import PROGRAMS
from aiolsp.lab.model import Event, Run, Shell
from aiolsp.lab.runner import SHELLS, perform
from aiolsp.lab.scenario import Scenario
from aiolsp.lab.scenarios import LABS

RUNS = [
    pytest.param(name, scenario, shell, id=f"{name}-{scenario.title}-{shell}".replace(" ", "_"))
    for name, lab in LABS.items()
    for scenario in (*lab.shown, *lab.broken)
    for shell in SHELLS
]

SHOWS: dict[str, list[str]] = {
    "level triggered": ["accept", "report EPOLLIN", "recv", "report EPOLLIN", "recv", "report EPOLLIN", "recv"],
    "edge triggered": ["accept", "report EPOLLIN", "recv", "recv", "recv EAGAIN", "report EPOLLIN", "close"],
    "edge triggered, and not drained": ["report EPOLLIN", "recv", "send", "report EPOLLIN", "recv"],
    "told by EPOLLPRI": ["recv", "send MSG_OOB", "recv MSG_OOB", "recv"],
    "EAGAIN taken for an error": ["accept", "recv", "send", "send EAGAIN", "close"],
    "EAGAIN understood": ["send", "send EAGAIN", "epoll_ctl MOD", "send", "close"],
    "without EPOLLONESHOT": ["recv", "recv EAGAIN", "send", "report EPOLLIN", "recv EAGAIN"],
    "never armed again": ["report EPOLLIN", "recv", "send", "send"],
    "armed again": ["recv", "epoll_ctl MOD", "report EPOLLIN", "recv", "close", "close"],
    "a timer inserted twice": ["set", "recv", "set", "idle", "close"],
    "a timer moved": ["set", "recv", "set", "idle"],
    "a child that nobody reaps": ["started", "signal", "SIGCHLD", "zombies"],
    "a signal lost to a busy handler": ["signal", "a busy handler", "waitid", "signal", "waitid", "zombies"],
    "a blocking call on the loop": ["recv", "a call that blocks", "send", "lag", "recv"],
    "a blocking call in a thread": ["recv", "submit", "recv", "send"],
    "one thread at a time": ["recv", "recv EAGAIN", "recv", "recv EAGAIN", "epoll_ctl MOD", "recv"],
    "a silent and an active connection": ["set", "set", "moved", "fired", "idle", "fired", "idle"],
    "signals among the socket events": ["accept", "signal", "signal", "waitid", "waitid", "waitid"],
    "three members, one by splice": ["accept", "accept", "splice", "splice", "end"],
    "three members in three processes": ["accept", "fork", "eventfd_read", "eventfd_read"],
    "a pool of two processes": ["fork", "fork", "accept", "sendmsg", "started", "waitid"],
    "a small file twice, a large one, a thief": ["accept", "send", "recv", "accept", "sendfile"],
}
"""Calls that follow each other, with others between them."""


def called(event: Event) -> str:
    """The call; for a report of readiness, whatever call gave it, what was reported."""
    return f"report {event.flags}" if event.call in ("epoll_wait", "add_reader") else event.call


def assert_in_order(run: Run, expected: list[str]) -> None:
    """That the calls of *run* have *expected* among them, in order."""
    calls = iter([called(event) for event in run.events])
    for call in expected:
        assert any(found == call for found in calls), f"{call} does not follow in {[called(e) for e in run.events]}"


def test_there_is_a_lab_for_every_program() -> None:
    assert set(LABS) == {*PROGRAMS, "websrv"}


@pytest.mark.parametrize(("name", "scenario", "shell"), RUNS)
def test_a_lab_shows_what_it_promises(name: str, scenario: Scenario, shell: Shell) -> None:
    run = perform(LABS[name], scenario, shell)
    assert run.finding and run.events and run.counts is not None
    assert (run.lab, run.shell, run.variant) == (name, shell, scenario.variant)
    assert_in_order(run, SHOWS.get(scenario.title, []))
    assert run.counts.usage.processes >= 1 and run.counts.wake_ups > 0
    assert all(event.source.startswith("aiolsp/") for event in run.server())
    assert "SIGTERM" in [event.flags for event in run.server("signal")], "it did not live to be stopped"


@pytest.mark.parametrize("name", LABS)
def test_a_mistake_comes_with_its_mend_and_with_the_run_that_has_it(name: str) -> None:
    for broken, mended in zip(LABS[name].broken[::2], LABS[name].broken[1::2], strict=True):
        assert (broken.variant, mended.variant) == ("broken", "mended")
        assert broken.mend
