"""``lab web``: the page in a real browser, its bounds, and its end."""

from __future__ import annotations

import http.client
import os
import re
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest

from aiolsp.lab.scenarios import LABS
from aiolsp.lab.web import LABS_AT_ONCE
from chromium import Tab
from faults import wait_until
from harness import DEADLINE, Process, Server


class LabWeb(Server):
    """A running ``lab web``."""

    def __init__(self) -> None:
        super().__init__([sys.executable, "-m", "aiolsp", "lab", "web", "--port", "0"])
        self.home = Path(self.stdout.wait_for(r"serves (.+)/site;")[1])
        """Its temporary directory."""

    @contextmanager
    def asked(self, body: str, **fields: str) -> Iterator[http.client.HTTPResponse]:
        """The answer to a request for a lab, as its page makes it, once its head has come; dropped with the block."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=DEADLINE)
        address = f"{self.host}:{self.port}"
        headers = {"Host": address, "Origin": f"http://{address}", **fields}
        with closing(connection):
            connection.request("POST", "/cgi-bin/lab", body, headers)
            with closing(connection.getresponse()) as answer:
                yield answer

    def labs(self) -> list[str]:
        """The processes of its labs: those that keep their temporary files in its directory."""
        found = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            try:
                if b"\0TMPDIR=" + os.fsencode(self.home) in b"\0" + path.read_bytes():
                    found.append(path.parent.name)
            except OSError:
                continue
        return found


@contextmanager
def lab_web() -> Iterator[LabWeb]:
    """A running ``lab web``, which must end at SIGINT with all that it started."""
    web = LabWeb()
    try:
        yield web
        web.stop(signal.SIGINT)
        wait_until(lambda: not web.labs(), "no lab was left")
        assert not web.home.exists()
    finally:
        web.kill()


@pytest.fixture(scope="module")
def running() -> Iterator[LabWeb]:
    """One for all tests of this file."""
    with lab_web() as web:
        yield web


@pytest.fixture
def web(running: LabWeb) -> Iterator[LabWeb]:
    """The same, and it must end what a test has left."""
    yield running
    wait_until(lambda: not running.labs(), "no lab was left")


def test_a_click_runs_a_lab_and_its_lanes_appear(web: LabWeb, tab: Tab) -> None:
    tab.show(f"http://{web.host}:{web.port}/")
    names = tab.evaluate("[...document.querySelectorAll('.lab h2')].map((name) => name.firstChild.textContent)")
    assert names == list(LABS)
    tab.click("[data-lab=trigger][data-broken=false]")
    tab.wait_for("document.querySelectorAll('#lanes [data-mark]').length")
    assert tab.evaluate("state.runs.at(-1).finding === ''"), "the lanes came while the lab ran"
    tab.wait_for("document.getElementById('status').textContent === 'trigger has ended'")
    assert tab.evaluate("state.runs.map((run) => run.shell)") == ["asyncio", "blocking"] * len(LABS["trigger"].shown)
    assert tab.evaluate("state.runs.every((run) => run.finding && run.counts)")
    tab.wait_for("document.querySelector('#counts:not([hidden]) td') !== null")
    tab.click("#lanes .mark:not(.cluster)")
    assert tab.wait_for("document.querySelector('#panel:not([hidden])')?.textContent")


def test_another_click_ends_the_lab_before(web: LabWeb, tab: Tab) -> None:
    tab.show(f"http://{web.host}:{web.port}/", width=400, dark=True)
    tab.click("[data-lab=trigger][data-broken=true]")
    tab.wait_for("document.querySelectorAll('#lanes [data-mark]').length")
    tab.click("[data-lab=echo][data-broken=false]")
    tab.wait_for("document.getElementById('status').textContent === 'echo has ended'")
    assert tab.evaluate("state.runs.every((run) => run.lab === 'echo')")


def test_a_reader_who_leaves_ends_the_lab(web: LabWeb) -> None:
    with web.asked("lab=trigger&broken=") as answer:
        assert answer.status == 200 and answer.readline().startswith(b"data: ")
        wait_until(lambda: bool(web.labs()), "the lab runs")
    wait_until(lambda: not web.labs(), "it has ended")


def test_more_labs_than_may_run_are_refused(web: LabWeb) -> None:
    with ExitStack() as stack:
        running = [stack.enter_context(web.asked("lab=trigger&broken=")) for _ in range(LABS_AT_ONCE)]
        assert [answer.status for answer in running] == [200] * LABS_AT_ONCE
        assert stack.enter_context(web.asked("lab=trigger")).status == 503


@pytest.mark.parametrize("fields", [{"Origin": "http://evil.example"}, {"Host": "evil.example"}])
def test_a_page_of_another_site_runs_nothing(web: LabWeb, fields: dict[str, str]) -> None:
    with web.asked("lab=trigger", **fields) as answer:
        assert answer.status == 403


def test_the_end_of_the_server_is_the_end_of_its_labs() -> None:
    with lab_web() as web, web.asked("lab=trigger&broken=") as answer:
        assert answer.status == 200
        wait_until(lambda: bool(web.labs()), "the lab runs")
        web.stop(signal.SIGTERM)


def test_a_taken_port_is_one_line(web: LabWeb) -> None:
    second = Process([sys.executable, "-m", "aiolsp", "lab", "web", "--port", str(web.port)])
    try:
        assert second.wait() == 2
        assert re.fullmatch(r"[^\n]*address already in use[^\n]*\n", second.stderr.whole().lower())
    finally:
        second.kill()
