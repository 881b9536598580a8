"""The help of every program and script: an option that has a default tells it."""

from __future__ import annotations

import argparse
import re

import pytest

from aiolsp.catalog import PROGRAMS
from aiolsp.cli import program_parser
from aiolsp.lab.__main__ import lab_parser
from aiolsp.websettings import web_parser
from compare import compare_parser
from greedy import greedy_parser
from load.options import stress_parser
from soak import soak_parser


def roles(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """The parsers of a program's roles."""
    [choices] = [action.choices for action in parser._actions if isinstance(action.choices, dict)]
    return dict(choices)


PARSERS: dict[str, argparse.ArgumentParser] = {
    **{f"{name} {role}": one for name in PROGRAMS for role, one in roles(program_parser(name)).items()},
    "websrv": web_parser(),
    "blocking websrv": web_parser(blocking=True),
    "lab": lab_parser(),
    **{make.__name__: make() for make in (stress_parser, compare_parser, greedy_parser, soak_parser)},
}


@pytest.mark.parametrize("parser", PARSERS.values(), ids=PARSERS)
def test_an_option_tells_its_default(parser: argparse.ArgumentParser) -> None:
    silent = []
    for action in parser._actions:
        default = parser.get_default(action.dest)
        # What is off, nothing or none until it is asked for needs no word.
        if action.help not in (None, argparse.SUPPRESS) and default not in (None, False, argparse.SUPPRESS, []):
            if not re.search(r"default|\(", str(action.help)):
                silent.append(action.option_strings)
    assert silent == []
