"""The table of programs: complete, free of clashes, and usable as a command line."""

from __future__ import annotations

import argparse
import math

import pytest

from aiolsp.catalog import PROGRAMS, Program, positive, seconds
from aiolsp.cli import program_parser

SHARED = {"--host", "--port", "--loop", "-v", "--verbose", "--trace", "-h", "--help"}
"""What every program's command line has besides its own options."""

programs = pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)


def test_a_program_is_found_by_its_name() -> None:
    assert all(name == program.name for name, program in PROGRAMS.items())


def test_no_two_programs_share_a_port() -> None:
    assert len({program.port for program in PROGRAMS.values()}) == len(PROGRAMS)


def test_programs_stand_in_the_order_of_the_book() -> None:
    pages = [int(program.pages.split(",")[0]) for program in PROGRAMS.values()]
    assert pages == sorted(pages)


@programs
def test_a_program_says_what_it_shows(program: Program) -> None:
    assert program.mechanism and program.summary[0].isupper() and not program.summary.endswith(".")
    assert all(page.strip().isdigit() for page in program.pages.split(","))


@programs
def test_a_port_needs_no_privilege_and_names_the_page(program: Program) -> None:
    assert 1024 <= program.port <= 32767, "below the ephemeral range of ip(7)"
    assert str(program.port).endswith(program.pages.split(",")[0])


@programs
def test_a_program_has_a_server_and_a_client(program: Program) -> None:
    assert list(program.roles)[:2] == ["server", "client"]


@programs
def test_an_option_has_one_meaning_and_a_help(program: Program) -> None:
    for options in program.roles.values():
        names = [name for option in options for name in option.names]
        assert len(set(names)) == len(names)
        assert not SHARED & set(names)
        assert all(option.settings["help"] for option in options)


@programs
@pytest.mark.parametrize("blocking", [False, True], ids=["asyncio", "blocking"])
def test_every_default_is_a_value_of_its_option(program: Program, blocking: bool) -> None:
    parser = program_parser(program.name, blocking=blocking)
    for role, options in program.roles.items():
        parsed = parser.parse_args([role])
        assert (parsed.role, parsed.host) == (role, "127.0.0.1")
        assert getattr(parsed, "port", None) == (program.port if role in ("server", "client") else None)
        assert ("loop" in parsed) is not blocking
        for option in options:
            settings = option.settings
            value = settings.get("default")
            if "type" in settings and value is not None:
                assert settings["type"](str(value)) == value
            if "choices" in settings:
                assert value in settings["choices"]


@programs
def test_the_help_of_each_role_fits_a_screen(
    program: Program, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for role in program.roles:
        with pytest.raises(SystemExit):
            program_parser(program.name).parse_args([role, "--help"])
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) <= 40
        assert max(map(len, lines)) <= 80


@pytest.mark.parametrize(("text", "value"), [("1", 1), ("007", 7), (str(2**31 - 1), 2**31 - 1)])
def test_a_positive_number_is_read(text: str, value: int) -> None:
    assert positive(text) == value


@pytest.mark.parametrize("text", ["", "0", "-1", "+1", "1.0", "1_0", "²", "x", str(2**31)])
def test_what_is_no_positive_number_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="is not a whole number of at least 1"):
        positive(text)


@pytest.mark.parametrize(("text", "value"), [("5", 5.0), ("0.25", 0.25), ("1e3", 1000.0)])
def test_a_time_is_read(text: str, value: float) -> None:
    assert math.isclose(seconds(text), value)


@pytest.mark.parametrize("text", ["", "0", "-1", "inf", "nan", "1e9", "5 s", "x"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="is not a number of seconds above 0"):
        seconds(text)
