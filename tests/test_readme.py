"""The README tells the truth: each command runs, each file it names is there, each excerpt is the source's own.

A command that stands in it and not in one of the tables below fails a test: so that none is added that nobody runs.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from aiolsp.catalog import PROGRAMS
from aiolsp.http1.states import diagram
from aiolsp.lab.questions.ask import QUESTIONS
from aiolsp.lab.scenarios import LABS
from harness import DEADLINE, Server

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
CHINESE = (ROOT / "aiolsp" / "README.zh.md").read_text()

SERVERS = (
    "python -m aiolsp.websrv",
    "python -m aiolsp.blocking.websrv",
    "python -m aiolsp.websrv ~/site --log common",
    "python -m aiolsp.websrv --cgi",
    "python -m aiolsp.websrv --workers auto",
    "python -m aiolsp.websrv --status /status --health /healthz",
    "python -m aiolsp chat server -v",
    "python -m aiolsp lab web",
)
"""Run here on a free port, until they are ready; then stopped."""

ENDING = (
    "python -m aiolsp",
    "python -m aiolsp trigger matrix",
    "python -m aiolsp lab trigger --broken",
    "python -m aiolsp lab trigger --html lanes.html",
    "python -m aiolsp lab analyze --diagram",
)
"""Run here, to their end."""

ELSEWHERE = {
    "pip install -e '.[bench]'": ".ci/run",
    "pip install -e '.[bench,peers]'": ".ci/run",
    "python -m aiolsp.blocking.chat client": "tests/test_chat.py",
    "python bench/stress.py": "tests/bench/test_stress.py",
    "python bench/stress.py http://127.0.0.1:8080/ --rate 1000 --fail-if 'p99>10ms'": "tests/bench/test_stress.py",
    "python bench/compare.py": "tests/bench/test_compare.py",
    "python bench/compare.py websrv --peers": "tests/bench/test_compare.py",
    "python bench/soak.py": "tests/bench/test_soak.py",
    "python bench/greedy.py": "tests/bench/test_greedy.py",
    "curl http://127.0.0.1:8080/status": "tests/websrv/test_status.py",
    "python -m http.server": "Python's own",
    **{f"python -m aiolsp lab ask {name}": "tests/lab/questions/test_ask.py" for name in QUESTIONS},
}
"""What takes longer, needs another program, or is installed by CI; and what runs it, or the same for a shorter time."""

PATTERNS = {"python -m aiolsp.websrv [DIR | PORT]", "python -m aiolsp lab ...", "python -m pytest FILE -k WORDS"}


def commands(text: str) -> Iterator[str]:
    """The commands of *text*: after a prompt, or in prose."""
    for line in re.findall(r"^    \$ (.*)$", text, re.M):
        yield from (part.partition("  #")[0].strip() for part in re.split(r"\s{2,}\$ ", line))
    yield from (words for words in re.findall(r"`([^`\n]+)`", text) if words.startswith("python "))


def test_every_command_is_run() -> None:
    shown = set(commands(README)) - PATTERNS
    assert shown - {*SERVERS, *ENDING, *ELSEWHERE} == set()
    assert {*SERVERS, *ENDING} - shown <= {"python -m aiolsp.websrv"}, "no longer in the README"


def words_of(command: str) -> list[str]:
    return [sys.executable if word == "python" else os.path.expanduser(word) for word in shlex.split(command)]


@pytest.mark.parametrize("command", SERVERS)
def test_a_server_of_the_readme_is_ready_and_stops(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "site").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    server = Server([*words_of(command), "--port", "0"], cwd=tmp_path)
    try:
        server.stop()
    finally:
        server.kill()


@pytest.mark.parametrize("command", ENDING)
def test_a_command_of_the_readme_ends_well(command: str, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        words_of(command), cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=DEADLINE
    )
    assert (done.returncode, done.stderr) == (0, "") and done.stdout
    if "--html" in command:
        assert "<!doctype html>" in (tmp_path / "lanes.html").read_text().lower()


@pytest.mark.parametrize("text", [README, CHINESE], ids=["en", "zh"])
def test_every_file_that_is_named_is_there(text: str) -> None:
    base = ROOT if text is README else ROOT / "aiolsp"
    for path in re.findall(r'(?:src|srcset)="([^"]+)"|\]\(([^)#:]+)\)', text):
        assert (base / "".join(path)).is_file(), path
    for path in re.findall(r"`((?:[\w.]+/)+[\w.-]+\.\w+)`", text):
        assert "NAME" in path or any((ROOT / folder / path).is_file() for folder in ("", "aiolsp")), path


PLACE = r"\| (?:ch\. |第 )(\d+)(?: 章)?(?:(?:, p\. |，第 )(\d+)[^|]*)? \|"
"""The first cell of a row about the book: a chapter, and in the map a page."""

CHAPTERS = {8: 137, 9: 148, 10: 184, 11: 196, 13: 255, 15: 289, 16: 329}
"""The first page that the map has of each."""


def rows_of(text: str, width: int) -> list[list[str]]:
    """The cells of the rows that begin with a place in the book and have *width* cells."""
    rows = [line for line in text.splitlines() if re.match(PLACE, line)]
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in rows]
    return [row for row in cells if len(row) == width]


def map_rows(text: str) -> list[list[str]]:
    """Those of the map of programs."""
    return rows_of(text, 6)


def other_rows(text: str) -> list[list[str]]:
    """Those of the mechanisms that have no program of their own."""
    return rows_of(text, 4)


@pytest.mark.parametrize("text", [README, CHINESE], ids=["en", "zh"])
def test_the_map_has_every_page_of_the_book_a_lab_and_a_proof_for_each(text: str) -> None:
    rows = map_rows(text)
    pages = {page for row in rows for page in re.findall(r"\d+", row[0])}
    assert pages >= {page for program in PROGRAMS.values() for page in re.findall(r"\d+", program.pages)}
    for _, _, _, _, watch, proof in rows:
        check_watch(watch.strip("`"))
        check_proof(proof.strip("`"))


@pytest.mark.parametrize("text", [README, CHINESE], ids=["en", "zh"])
def test_the_map_names_the_chapter_of_each_page(text: str) -> None:
    places = [re.match(PLACE, line) for line in text.splitlines()]
    for chapter, page in (map(int, place.groups()) for place in places if place and place[2]):
        assert chapter == max(number for number, first in CHAPTERS.items() if first <= page), page


@pytest.mark.parametrize("text", [README, CHINESE], ids=["en", "zh"])
def test_every_chapter_from_the_fifth_on_has_its_place_and_something_to_watch(text: str) -> None:
    assert {int(place[1]) for line in text.splitlines() if (place := re.match(PLACE, line))} == {*range(5, 18)}
    for _, _, files, watch in other_rows(text):
        assert re.search(r"`[\w/]+\.py`", files)
        (check_watch if watch.startswith("`lab ") else check_proof)(watch.strip("`"))


def check_watch(command: str) -> None:
    name, _, options = command.removeprefix("lab ").partition(" ")
    if command.startswith("lab ask "):
        assert options in QUESTIONS
    elif command.startswith("lab "):
        assert name in LABS and options in ("", "--broken") and (not options or LABS[name].broken), command
    else:
        assert command in ELSEWHERE


def check_proof(command: str) -> None:
    path, _, words = command.partition(" -k ")
    names = re.findall(r"^(?:async )?def (test_\w+)", (ROOT / path).read_text(), re.M)
    assert any(words in name for name in names), command


@pytest.mark.parametrize("text", [README, CHINESE], ids=["en", "zh"])
def test_the_diagram_is_that_of_the_table(text: str) -> None:
    [shown] = re.findall(r"^```mermaid\n(.*?)^```$", text, re.M | re.S)
    assert shown.rstrip() == diagram().rstrip()


@pytest.mark.parametrize("text", [README, CHINESE], ids=["en", "zh"])
def test_the_two_styles_are_the_sources_own(text: str) -> None:
    excerpts = re.findall(r"<td>\n\n```python\n(.*?)```", text, re.S)
    for excerpt, path in zip(excerpts, ("aiolsp/events.py", "aiolsp/blocking/events.py"), strict=True):
        assert textwrap.indent(excerpt, "    ") in (ROOT / path).read_text()


def test_the_questions_are_those_of_the_lab_with_its_answers() -> None:
    told = README.replace("\n", " ")
    for question in QUESTIONS.values():
        assert f"<summary>{question.text}</summary>" in told and question.answer in told


def test_the_chinese_readme_has_the_same_commands_code_pictures_and_sections() -> None:
    assert list(commands(CHINESE)) == list(commands(README))
    code = r"^```\w*\n.*?^```$"
    assert re.findall(code, CHINESE, re.M | re.S) == re.findall(code, README, re.M | re.S)
    pictures = re.findall(r'(?:src|srcset)="([^"]+)"', README)
    assert [os.path.normpath(f"aiolsp/{path}") for path in re.findall(r'(?:src|srcset)="([^"]+)"', CHINESE)] == pictures
    assert len(re.findall(r"^## ", CHINESE, re.M)) == len(re.findall(r"^## ", README, re.M))
    for cells in (slice(1, 2), slice(4, 6)):
        assert [row[cells] for row in map_rows(CHINESE)] == [row[cells] for row in map_rows(README)]
    assert [row[3] for row in other_rows(CHINESE)] == [row[3] for row in other_rows(README)]


def test_each_readme_links_to_the_other_first() -> None:
    assert "(aiolsp/README.zh.md)" in README.splitlines()[0] and "(../README.md)" in CHINESE.splitlines()[0]
