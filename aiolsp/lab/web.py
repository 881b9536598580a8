"""``python -m aiolsp lab web``: the labs on a page, run on a click and shown while they happen; websrv serves it.

Decision
    The site is made for the occasion, in a temporary directory: the page, and one CGI program of two lines that is
    ``aiolsp.lab.live``. websrv does the rest in this process: it listens on 127.0.0.1, runs LABS_AT_ONCE programs at
    most (503 for the next), and ends them with their servers at Ctrl-C. Their temporary files are in that directory
    too, so that a lab that is cut leaves none.
"""

from __future__ import annotations

import argparse
import importlib
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from aiolsp.cli import Parser, execute, port_number
from aiolsp.lab.page import PROJECT, assembled
from aiolsp.lab.scenarios import LABS
from aiolsp.linux.scratch import scratch

PORT = 8301
"""By default: 8000 and the book's page of the thread pool, as each program has it."""

LABS_AT_ONCE = 2
"""Each takes a core while it lasts, and would spoil the others' times."""

SILENCE = 20
"""Seconds that a lab may say nothing before it is killed: no script waits for anything longer than a quarter of it."""

SCRIPTS = ("lanes.js", "controls.js", "live.js")


def web_page() -> str:
    """The page that lists the labs and asks for them."""
    labs = [
        {
            "name": lab.name,
            "book": lab.pages,
            "mechanism": lab.mechanism,
            "look_for": lab.shown[0].look_for,
            "broken": bool(lab.broken),
        }
        for lab in LABS.values()
    ]
    title = "The labs of aiolsp"
    lead = "Each program of the book beside its blocking twin, before the same clients: press Run, and watch."
    data = {"runs": [], "sources": {}, "labs": labs, "title": title, "lead": lead}
    return assembled(data, SCRIPTS, connect="'self'")


def make_site(home: Path) -> list[str]:
    """Write the site to *home*, a directory of its own; the options of websrv that serve it."""
    site, programs, scratch = (home / name for name in ("site", "programs", "scratch"))
    for directory in (site, programs, scratch):
        directory.mkdir()
    (site / "index.html").write_text(web_page(), encoding="utf-8")
    command = f"TMPDIR={shlex.quote(str(scratch))} exec {shlex.quote(sys.executable)} -m aiolsp.lab.live"
    program = programs / "lab"
    program.write_text(f"#!/bin/sh\ncd {shlex.quote(str(PROJECT))} && {command}\n")
    program.chmod(0o700)
    bounds = ["--max-children", str(LABS_AT_ONCE), "--cgi-timeout", str(SILENCE), "--grace", "0"]
    # A page that frames this one could have its visitors press Run.
    return [os.fspath(site), "--cgi-dir", os.fspath(programs), *bounds, "--header", "X-Frame-Options: DENY"]


def serve(options: argparse.Namespace) -> int:
    """Serve the page until a signal; the exit status."""
    # By its name, as `python -m aiolsp` does: the lab runs programs, it is not built from them.
    server = importlib.import_module("aiolsp.websrv.__main__")
    with scratch("aiolsp-lab-web-") as home:
        status: int = server.main([*make_site(home), "--host", "127.0.0.1", "--port", str(options.port)])
    return status


def main(argv: Sequence[str] | None = None) -> int:
    """Serve the page as the command line says; the exit status."""
    parser = Parser(prog="python -m aiolsp lab web", description="Serve the labs on a page, for this machine only.")
    parser.add_argument("--port", type=port_number, default=PORT, help="port; 0 takes a free one (default %(default)s)")
    parser.set_defaults(verbose=False, trace=None)
    return execute(parser, argv, serve)


if __name__ == "__main__":
    sys.exit(main())
