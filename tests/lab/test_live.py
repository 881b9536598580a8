"""The program that runs a lab for a page: whom it answers, and what it sends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from aiolsp.lab import live as module
from aiolsp.lab.actors import Failed
from aiolsp.lab.live import MAX_ASKED, Broadcast, Refused, asked
from aiolsp.lab.page import PROJECT
from aiolsp.lab.scenarios import LABS
from harness import DEADLINE

PAGE = {
    "REQUEST_METHOD": "POST",
    "HTTP_HOST": "127.0.0.1:8301",
    "SERVER_PORT": "8301",
    "HTTP_ORIGIN": "http://127.0.0.1:8301",
}


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
def test_the_page_of_this_machine_may_ask(name: str) -> None:
    own = {**PAGE, "HTTP_HOST": f"{name}:8301", "HTTP_ORIGIN": f"http://{name}:8301"}
    assert asked(own, b"lab=trigger") == (LABS["trigger"], False)
    assert asked(own, b"lab=trigger&broken=") == (LABS["trigger"], True)


@pytest.mark.parametrize(
    ("changed", "body", "status"),
    [
        ({"HTTP_HOST": "evil.example:8301", "HTTP_ORIGIN": "http://evil.example:8301"}, b"lab=trigger", 403),
        ({"HTTP_HOST": "127.0.0.1:8301.evil.example"}, b"lab=trigger", 403),
        ({"HTTP_HOST": "127.0.0.1"}, b"lab=trigger", 403),
        ({"HTTP_HOST": ""}, b"lab=trigger", 403),
        ({"HTTP_ORIGIN": "http://evil.example"}, b"lab=trigger", 403),
        ({"HTTP_ORIGIN": "http://localhost:8301"}, b"lab=trigger", 403),
        ({"HTTP_ORIGIN": "null"}, b"lab=trigger", 403),
        ({"HTTP_ORIGIN": ""}, b"lab=trigger", 403),
        ({"REQUEST_METHOD": "GET"}, b"", 405),
        ({}, b"", 404),
        ({}, b"lab=nothing", 404),
        ({}, b"lab=../trigger", 404),
        ({}, b"lab=trigger%00", 404),
        ({}, b"\xff=\xfe&lab", 404),
    ],
)
def test_nobody_else_may_and_there_is_nothing_else_to_ask_for(
    changed: dict[str, str], body: bytes, status: int
) -> None:
    with pytest.raises(Refused) as refusal:
        asked({**PAGE, **changed}, body)
    assert refusal.value.status.startswith(str(status))


def test_a_run_is_sent_as_it_comes_lanes_and_lines_once() -> None:
    sent: list[Any] = []
    broadcast = Broadcast(sent.append, {})
    lab = LABS["trigger"]
    broadcast.begin(lab, lab.shown[0], "asyncio")
    place = {"pid": 7, "tid": 7}
    broadcast.take("server", {**place, "ph": "M", "name": "thread_name", "args": {"name": "MainThread"}})
    for ts, call in ((500.0, "< accept"), (510.0, "< recv")):
        args = {"fd": 5, "peer": "127.0.0.1:1"}
        record = {**place, "ph": "i", "name": call, "ts": ts, "args": args, "source": "aiolsp/tracing.py:60"}
        broadcast.take("server", record)
    begin, first, second = sent
    assert begin["run"]["title"] == lab.shown[0].title and begin["run"]["events"] == []
    assert [lane["kind"] for lane in first["lanes"]] == ["process", "connection"] and second["lanes"] == []
    assert [event["t_us"] for event in first["events"] + second["events"]] == [0.0, 10.0]
    assert 60 in first["sources"]["aiolsp/tracing.py"] and second["sources"] == {}


def live(body: bytes, **environment: str) -> tuple[str, str]:
    """Run the program as a server does; the head and the body of its output."""
    env = {"PATH": os.environ["PATH"], **PAGE, "CONTENT_LENGTH": str(len(body)), **environment}
    command = [sys.executable, "-m", "aiolsp.lab.live"]
    done = subprocess.run(command, input=body, env=env, cwd=PROJECT, capture_output=True, timeout=DEADLINE * 2)
    assert done.returncode == 0 and not done.stderr, done.stderr
    head, _, rest = done.stdout.decode().partition("\n\n")
    return head, rest


def test_a_lab_is_streamed_run_by_run() -> None:
    head, body = live(b"lab=trigger")
    assert "Content-Type: text/event-stream" in head
    messages = [json.loads(message.removeprefix("data: ")) for message in body.split("\n\n")[:-1]]
    runs = [message["run"] for message in messages if message["type"] == "end"]
    assert [run["shell"] for run in runs] == ["asyncio", "blocking"] * len(LABS["trigger"].shown)
    begun = [at for at, message in enumerate(messages) if message["type"] == "begin"]
    for at, run in zip(begun, runs, strict=True):
        assert run["finding"] and run["counts"]["wake_ups"]
        assert messages[at + 1]["type"] == "more"


@pytest.mark.parametrize(
    ("body", "environment", "status"),
    [(b"lab=trigger", {"HTTP_ORIGIN": "null"}, "403"), (b"x" * (MAX_ASKED + 1), {}, "413")],
)
def test_a_refusal_is_an_answer(body: bytes, environment: dict[str, str], status: str) -> None:
    head, _ = live(body, **environment)
    assert head.startswith(f"Status: {status} ")


def test_a_lab_that_fails_says_so_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise Failed("the server's trace has 'recv' 0 times, not 1")

    monkeypatch.setattr(module, "perform", fail)
    sent: list[Any] = []
    module.play(LABS["trigger"], sent.append, broken=False)
    assert [message["type"] for message in sent] == ["begin", "failed"]
    assert "not 1" in sent[1]["why"]
