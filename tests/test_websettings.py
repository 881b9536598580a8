"""The web server's command line, read without a server: the words of http.server, limits, fields, one-line errors."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from aiolsp.cli import UsageError
from aiolsp.http1.limits import Limits
from aiolsp.sansio import pool
from aiolsp.static.access_log import FORMATS
from aiolsp.static.policy import Policy
from aiolsp.websettings import ACCEPT, LOG_FORMATS, Listening, Settings, listening, settings_of, web_parser


def told(*words: str) -> Settings:
    """The settings that *words* mean."""
    return settings_of(web_parser().parse_args(words))


def where(*words: str) -> Listening:
    """Where *words* say to listen."""
    return listening(web_parser().parse_args(words))


# Where


@pytest.mark.parametrize(
    ("words", "directory", "host", "port"),
    [
        ([], ".", "127.0.0.1", 8080),
        (["8000"], ".", "127.0.0.1", 8000),
        (["0"], ".", "127.0.0.1", 0),
        (["site"], "site", "127.0.0.1", 8080),
        (["site", "8000"], "site", "127.0.0.1", 8000),
        (["8000", "site"], "site", "127.0.0.1", 8000),
        (["8000", "-d", "site", "-b", "::1", "-p", "HTTP/1.0"], "site", "::1", 8000),
        (["--directory", "site", "--bind", "0.0.0.0", "8000"], "site", "0.0.0.0", 8000),
        (["site", "--host", "localhost", "--port", "0"], "site", "localhost", 0),
        (["-b", "::", "--", "-odd-name"], "-odd-name", "::", 8080),
        (["site", "-b", "::1", "8000"], "site", "::1", 8000),
        (["8000", "--cors", "site", "-b", "::1"], "site", "::1", 8000),
        (["٣"], "٣", "127.0.0.1", 8080),
        (["80a"], "80a", "127.0.0.1", 8080),
    ],
)
def test_the_words_of_http_server_are_understood(words: list[str], directory: str, host: str, port: int) -> None:
    assert where(*words) == Listening(directory, host, port, None)


def test_a_directory_whose_name_is_a_number_is_a_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "8000").mkdir()
    monkeypatch.chdir(tmp_path)
    assert where("8000") == Listening("8000", "127.0.0.1", 8080, None)
    assert where("8000", "9000") == Listening("8000", "127.0.0.1", 9000, None)


@pytest.mark.parametrize(
    "words",
    [
        ["80", "81"],
        ["a", "b"],
        ["80", "--port", "81"],
        ["a", "-d", "b"],
        ["65536"],
        ["9" * 50],
        ["a", "80", "b"],
        ["a", "--cors", "b"],
    ],
)
def test_two_of_one_kind_and_a_port_too_high_are_refused(words: list[str]) -> None:
    with pytest.raises(UsageError) as refused:
        where(*words)
    assert "\n" not in str(refused.value)


# Settings


def test_the_defaults_of_the_command_line_are_those_of_the_object() -> None:
    assert told("--log", "off") == Settings()
    assert Settings().limits == Limits() and Settings().policy == Policy()


@pytest.mark.parametrize("limit", Limits._fields)
def test_each_limit_has_an_option_that_sets_it_and_no_other(limit: str) -> None:
    value = 16_384 if limit == "max_head" else 33
    limits = told("--" + limit.replace("_", "-"), str(value)).limits
    assert limits == Limits()._replace(**{limit: value})


def test_options_that_open_a_site_up_reach_the_policy() -> None:
    words = ["--no-listing", "--follow-symlinks", "--dotfiles", "--spa", "--cors", "--cache-control", "max-age=60"]
    assert told(*words).policy == Policy(
        follow_symlinks=True, dotfiles=True, listing=False, spa=True, cors=True, cache_control=b"max-age=60"
    )


def test_the_machinery_can_be_set() -> None:
    words = {"threads": 2, "max-queue": 3, "cache-size": 0, "cache-file": 0, "cache-valid": 0.5, "grace": 0}
    read = told(*(word for name, value in words.items() for word in (f"--{name}", str(value))), "--log", "json")
    assert read == Settings(threads=2, max_queue=3, cache_size=0, cache_file=0, cache_valid=0.5, grace=0.0, log="json")


def test_processes_and_pages_can_be_asked_for() -> None:
    assert (where().workers, where().accept) == (1, "parent")
    assert (where("--workers", "3", "--accept", "child").workers, where("--accept", "child").accept) == (3, "child")
    assert where("--workers", "auto").workers == len(os.sched_getaffinity(0))
    assert (told("--status", "/s", "--health", "/h/z").status, told("--health", "/h").health) == ("/s", "/h")
    assert ACCEPT == pool.ACCEPT


def test_fields_are_taken_as_written_in_their_order() -> None:
    words = ["--header", "X-A:1", "--header", "x-a: \t two words \t", "--header", "X-C:", "--header", "X-D: a:b ü"]
    pairs = ((b"X-A", b"1"), (b"x-a", b"two words"), (b"X-C", b""), (b"X-D", "a:b ü".encode()))
    assert told(*words).policy.headers == pairs


@pytest.mark.parametrize(
    "words",
    [
        ["--header", "nothing"],
        ["--header", ": value"],
        ["--header", "X Y: value"],
        ["--header", "Ü: value"],
        ["--header", "X : value"],
        ["--header", "X: a\r\nY: b"],
        ["--header", "X: a\nb"],
        ["--header", "X: \x1b[31m"],
        ["--header", "Content-Length: 1"],
        ["--header", "transfer-ENCODING: chunked"],
        ["--header", "Connection: close"],
        ["--header", "Date: now"],
        ["--header", "Content-Type: text/plain"],
        ["--header", 'ETag: "one"'],
        ["--cache-control", "no-store\r\nX: y"],
        ["--max-target", "40000"],
        ["--head-timeout", "0"],
        ["--body-rate", "0"],
    ],
)
def test_what_cannot_be_sent_or_kept_is_refused_in_one_line(words: list[str]) -> None:
    with pytest.raises(UsageError) as refused:
        told(*words)
    assert str(refused.value).isprintable() and "_" not in str(refused.value)


@pytest.mark.parametrize(
    "words",
    [
        ["--threads", "0"],
        ["--workers", "0"],
        ["--workers", "many"],
        ["--accept", "all"],
        ["--status", "status"],
        ["--status", ""],
        ["--status", "/a b"],
        ["--health", "/health?x"],
        ["--health", "/ü"],
        ["--threads", "two"],
        ["--max-queue", "-1"],
        ["--max-connections", "0"],
        ["--max-connections", "1.5"],
        ["--idle-timeout", "nan"],
        ["--idle-timeout", "inf"],
        ["--idle-timeout", "-1"],
        ["--cache-size", "64M"],
        ["--grace", ""],
        ["--port", "-1"],
        ["--port", "65536"],
        ["-p", "8000"],
        ["--log", "xml"],
        ["--loop", "twisted"],
        ["--no-such-option"],
    ],
)
def test_a_value_of_another_kind_is_one_line_and_status_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        told(*words)
    line = capsys.readouterr().err
    assert ended.value.code == 2 and line.count("\n") == 1 and words[0] in line


@settings(max_examples=300, deadline=None)
@given(st.text(st.characters(codec="utf-8"), max_size=20))
@example("--")
def test_any_field_is_sent_as_one_line_or_refused(text: str) -> None:
    try:
        ((name, value),) = told("--header=" + text).policy.headers
    except UsageError as refused:
        assert str(refused).count("\n") == 0
    else:
        assert name and not {10, 13, 0} & {*name, *value} and b":" not in name


# Log and help


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        """It is."""
        return True


def test_requests_are_logged_where_somebody_looks_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert told().log == "off" and told("--log", "json").log == "json"
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert told().log == "common" and told("--log", "off").log == "off"


def test_the_formats_are_those_that_the_log_knows() -> None:
    assert LOG_FORMATS == FORMATS


@pytest.mark.parametrize("blocking", [False, True])
def test_the_help_fits_a_screen_and_names_every_option(blocking: bool) -> None:
    parser = web_parser(blocking=blocking)
    lines = parser.format_help().splitlines()
    assert 24 <= len(lines) <= 50 and max(map(len, lines)) <= 110
    text = " ".join(lines)
    for limit in Limits._fields:
        assert "--" + limit.replace("_", "-") in text
    assert ("--loop" in text) is not blocking
    assert (".blocking." in text) is blocking
