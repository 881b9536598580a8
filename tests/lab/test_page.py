"""The page of lanes, as text and in a real browser."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from aiolsp.lab import page as module
from aiolsp.lab.model import Assembly, Record, Run, Shell, Usage
from aiolsp.lab.page import AROUND, add_sources, page
from chromium import Tab

HOSTILE = "</script><script>document.title = 'owned'</script><!-- <b onclick=x>'\"&\u2028\0"

SOURCE = "aiolsp/tracing.py:60"


def record(
    name: str, ts: float, pid: int = 7, tid: int = 0, *, client: str = "", dur: float = 0, **args: Any
) -> Record:
    """A record of a trace: an event, or a span if it has a duration."""
    fields: dict[str, Any] = {"name": name, "ph": "X" if dur else "i", "ts": ts, "pid": pid, "tid": tid or pid}
    if dur:
        fields["dur"] = dur
    if client:
        fields["client"] = client
    return {**fields, "args": args, "source": "" if client else SOURCE}


def run_of(shell: Shell, records: list[Record]) -> Run:
    """A run in which *records* came."""
    assembly = Assembly()
    for each in records:
        assembly.record(each, "server")
    run = Run("demo", shell, "", "a title", "154", f"python -m aiolsp.{shell}", "Look here.", "Seen.")
    run.lanes, run.events = assembly.lanes, assembly.events
    run.counts = assembly.count(Usage(3, 2, 1))
    return run


RECORDS = [
    record("= connect", 100, client="client one"),
    record("< accept", 220, fd=5, peer="127.0.0.1:40000"),
    record("> send", 230, client="client one", bytes=12, why="a line"),
    record("< recv", 400, fd=5, bytes=12, flags="EPOLLIN", why="drain until EAGAIN"),
    record("= recv EAGAIN", 402, fd=5, why="read later"),
    record("a job", 420, tid=8, dur=90_000, job="stat"),
    record("! read", 700, tid=8, why=HOSTILE),
    record("% call_at", 90_800, why="in 3 s"),
    record("> send", 91_000, fd=5, bytes=12),
    record("- idle", 3_091_000, fd=5, why="nothing came"),
    record("x close", 3_092_000, fd=5),
]


@pytest.fixture
def runs() -> list[Run]:
    """The same events in both shells."""
    return [run_of("asyncio", RECORDS), run_of("blocking", RECORDS)]


@pytest.fixture
def file(runs: list[Run], tmp_path: Path) -> str:
    """The address of their page."""
    path = tmp_path / "lanes.html"
    path.write_text(page(runs))
    return path.as_uri()


# As text


def test_what_a_client_sent_cannot_end_the_data(runs: list[Run]) -> None:
    text = page(runs)
    (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert json.loads(data)["runs"][0]["events"][6]["why"] == HOSTILE
    assert "<" not in data and text.count("<script") == 2


def test_a_hostile_title_stays_text(runs: list[Run]) -> None:
    assert "<title>&lt;/title&gt;" in page(runs, title="</title><script>")


def test_the_page_asks_for_nothing(runs: list[Run]) -> None:
    text = page(runs)
    assert "default-src 'none'" in text and "connect-src 'none'" in text
    assert not re.search(r"""(?:src|href)=["'](?!data:)""", text) and "@import" not in text


def test_lines_around_each_event_are_there_once() -> None:
    (event,) = run_of("asyncio", [record("< recv", 1)]).events
    sources: module.Sources = {}
    added = add_sources(sources, [event, event])
    lines = (module.PROJECT / "aiolsp/tracing.py").read_text().splitlines()
    assert added["aiolsp/tracing.py"] == {at: lines[at - 1] for at in range(60 - AROUND, 60 + AROUND + 1)}
    near = replace(event, source="aiolsp/tracing.py:61")
    assert add_sources(sources, [near]) == {"aiolsp/tracing.py": {61 + AROUND: lines[60 + AROUND]}}
    assert add_sources(sources, [near]) == {}


@pytest.mark.parametrize("place", ["", "aiolsp/nowhere.py:3", "/nowhere/else.py:3", "<string>:1", "<frozen x>:0"])
def test_an_event_without_a_file_has_no_lines(place: str) -> None:
    (event,) = run_of("asyncio", [record("< recv", 1)]).events
    assert add_sources({}, [replace(event, source=place)]) == {}


# In a browser

LANES = "[...document.querySelectorAll('#lanes [data-lane]')].map((lane) => lane.querySelector('title').textContent)"
MARKS = "document.querySelectorAll('#lanes [data-mark]').length"


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [400, 1400])
def test_every_lane_of_both_shells_is_there_and_nothing_is_wider_than_the_window(
    tab: Tab, file: str, width: int, dark: bool
) -> None:
    tab.show(file, width=width, dark=dark)
    lanes = ["client one", "server, process 7", "connection of 127.0.0.1:40000, process 7", "thread 8, process 7"]
    assert tab.wait_for(LANES) == lanes * 2
    assert tab.evaluate(MARKS) > 16
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert tab.evaluate("document.title") == "lab demo"
    paper, ink = tab.evaluate(
        "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
    )
    assert (_luminance(paper) < _luminance(ink)) is dark


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_signs_and_text_stand_out_from_what_is_behind_them(tab: Tab, file: str, dark: bool) -> None:
    tab.show(file, dark=dark)
    tab.wait_for(MARKS)
    pairs = tab.evaluate(
        "[...document.querySelectorAll('.glyph, .small, #help, #runs p, #runs code, #lanes .name')].map((node) => {"
        "const style = getComputedStyle(node), own = style.backgroundColor;"
        "const card = getComputedStyle(document.querySelector('.run')).backgroundColor;"
        "return [node.namespaceURI.endsWith('svg') ? style.fill : style.color,"
        "  own === 'rgba(0, 0, 0, 0)' ? card : own]; })"
    )
    assert len(pairs) > 10 and min(_contrast(*pair) for pair in pairs) >= 4.5  # WCAG 2.1, 1.4.3


def test_a_click_shows_the_reason_and_the_line_that_wrote_it(tab: Tab, file: str) -> None:
    tab.show(file)
    tab.wait_for(MARKS)
    tab.click("#lanes .mark.error")
    panel = tab.wait_for("document.querySelector('#panel:not([hidden])')?.textContent")
    assert "</script><script>" in panel and "aiolsp/tracing.py, line 60" in panel
    expected = (module.PROJECT / "aiolsp/tracing.py").read_text().splitlines()[59].strip()
    assert tab.evaluate("document.querySelector('#panel .here').lastChild.textContent").strip() == expected
    assert tab.evaluate("document.title") == "lab demo"


def test_the_keyboard_goes_through_the_events_and_each_is_spoken(tab: Tab, file: str) -> None:
    tab.show(file)
    tab.wait_for(MARKS)
    tab.press("Tab")
    tab.evaluate("document.getElementById('lanes').focus()")
    spoken = "document.getElementById('spoken').textContent"
    tab.press("Home")
    assert "connect" in tab.evaluate(spoken)
    tab.press("ArrowRight")
    assert "a line" in tab.evaluate(spoken) and "a line" in tab.evaluate("document.getElementById('tip').textContent")
    tab.press("ArrowDown")
    assert "accept" in tab.evaluate(spoken)
    tab.press("End")
    assert "close" in tab.evaluate(spoken)
    tab.press("Escape")
    assert tab.evaluate("document.getElementById('panel').hidden")


def test_hovering_shows_what_a_mark_stands_for(tab: Tab, file: str) -> None:
    tab.show(file)
    tab.wait_for(MARKS)
    x, y = tab.evaluate(
        "(() => { const box = document.querySelector('#lanes .mark.timeout').getBoundingClientRect();"
        "return [box.x + box.width / 2, box.y + box.height / 2]; })()"
    )
    tab.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
    tip = tab.wait_for("document.querySelector('#tip:not([hidden])')?.textContent")
    assert "idle" in tip and "nothing came" in tip and "3.09 s" in tip


def test_zooming_spreads_what_stood_for_several_and_fit_takes_it_back(tab: Tab, file: str) -> None:
    tab.show(file, width=500)
    before = tab.wait_for(MARKS)
    clusters = "document.querySelectorAll('#lanes .cluster').length"
    assert tab.evaluate(clusters)
    tab.click("#lanes .cluster")
    tab.wait_for(f"{MARKS} !== {before}")
    tab.click("#fit")
    tab.wait_for(f"{MARKS} === {before}")
    tab.click("#squeeze")
    tab.wait_for(f"{MARKS} < {before}")  # an even axis: pauses of seconds leave the rest no room


def test_the_wheel_zooms_where_it_points_and_dragging_moves_what_is_shown(tab: Tab, file: str) -> None:
    tab.show(file)
    tab.wait_for(MARKS)
    left, top = tab.evaluate("(() => { const box = document.getElementById('lanes').getBoundingClientRect();"
                             "return [box.x, box.y]; })()")  # fmt: skip
    x, y = left + 700, top + 40
    tab.call("Input.dispatchMouseEvent", type="mouseWheel", x=x, y=y, deltaX=0, deltaY=-300, modifiers=2)
    zoomed, width = tab.wait_for("view.to - view.from < 0.5 && [view.from, view.to - view.from]")
    tab.call("Input.dispatchMouseEvent", type="mousePressed", x=x, y=y, button="left", buttons=1)
    tab.call("Input.dispatchMouseEvent", type="mouseMoved", x=x + 200, y=y, button="left", buttons=1)
    tab.call("Input.dispatchMouseEvent", type="mouseReleased", x=x + 200, y=y, button="left")
    moved = tab.wait_for(f"view.from < {zoomed} && [view.from, view.to - view.from]")
    assert 0 < moved[0] and moved[1] == pytest.approx(width)
    tab.call("Input.dispatchMouseEvent", type="mouseWheel", x=x, y=y, deltaX=0, deltaY=300, modifiers=8)
    tab.wait_for(f"view.from > {moved[0]}")


def test_the_counts_of_both_shells_stand_side_by_side(tab: Tab, file: str, runs: list[Run]) -> None:
    tab.show(file)
    rows = tab.wait_for("[...document.querySelectorAll('#counts tr')].map((row) => row.innerText.split('\\t'))")
    assert rows[0][1:] == ["asyncio: a title", "blocking: a title"]
    told = {name: figures for name, *figures in rows[1:]}
    counts = runs[0].counts
    assert counts is not None and told["bytes in"] == [str(counts.bytes_in)] * 2 and told["accept"] == ["1", "1"]
    assert told["sleeps: waited in a call to be woken"] == ["3", "3"]


def test_a_call_can_be_hidden(tab: Tab, file: str) -> None:
    tab.show(file)
    before = tab.wait_for(MARKS)
    tab.click("#filter summary")
    tab.evaluate("[...document.querySelectorAll('#chips button')].find((b) => b.textContent.includes('close')).click()")
    tab.wait_for(f"{MARKS} === {before - 4}")  # by the process and on the connection, in both shells


def test_the_lanes_can_be_saved_as_a_picture_that_stands_alone(tab: Tab, file: str, tmp_path: Path) -> None:
    tab.show(file, dark=True)
    marks = tab.wait_for(MARKS)
    path = tmp_path / "lanes.svg"
    path.write_text(tab.evaluate("drawing()"))
    tab.show(path.as_uri())
    assert tab.evaluate("document.querySelectorAll('[data-mark]').length") == marks
    fill = tab.evaluate("getComputedStyle(document.querySelector('.mark.in > rect')).fill")
    assert fill == "rgb(128, 179, 255)"  # the dark page's, whatever the scheme of whoever looks at the picture


def test_thousands_of_events_make_few_marks(tab: Tab, tmp_path: Path) -> None:
    records = [record("< recv", 100.0 * number, fd=5, bytes=number) for number in range(5_000)]
    path = tmp_path / "many.html"
    path.write_text(page([run_of("asyncio", records)]))
    tab.show(path.as_uri())
    assert 10 < tab.wait_for(MARKS) < 200


def _luminance(colour: str) -> float:
    """Relative luminance of ``rgb(r, g, b)`` (WCAG 2.1, section 4)."""
    shares = [int(number) / 255 for number in re.findall(r"\d+", colour)[:3]]
    red, green, blue = (share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _contrast(one: str, other: str) -> float:
    dark, light = sorted((_luminance(one), _luminance(other)))
    return (light + 0.05) / (dark + 0.05)
