"""``python -m aiolsp`` prints the table of programs; ``python -m aiolsp NAME ...`` runs one."""

from __future__ import annotations

import sys

from aiolsp import look_here_last

if __name__ == "__main__":
    look_here_last()

import runpy

from aiolsp.catalog import PROGRAMS, WEB_SERVER
from aiolsp.cli import EXIT_OK, EXIT_USAGE, flush_stdout

HEADINGS = ("program", "mechanism", "book page", "command")

AFTER = (
    "The blocking twin of NAME is python -m aiolsp.blocking.NAME.",
    "To see one at work, with all that happens explained: python -m aiolsp lab NAME",
)

OTHERS = (WEB_SERVER.name, "lab")
"""Programs whose options are not in the catalog."""


def table() -> str:
    """The table of programs, one a line."""
    rows = [HEADINGS]
    rows += [
        (p.name, p.mechanism, p.pages, f"python -m aiolsp {p.name} {'|'.join(p.roles)}") for p in PROGRAMS.values()
    ]
    web = WEB_SERVER
    rows.append((web.name, web.mechanism, web.pages, f"python -m aiolsp {web.name} [DIR | PORT]"))
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([*lines, "", *AFTER])


def main(argv: list[str]) -> int:
    """Run the program named first in *argv*, or print the table when there is none."""
    if not argv or argv[0] in ("-h", "--help"):
        print(table())  # noqa: T201 - the table is the output
        flush_stdout()
        return EXIT_OK
    name = argv[0]
    if name not in PROGRAMS and name not in OTHERS:
        sys.stderr.write(f"python -m aiolsp: there is no program {name!r} (python -m aiolsp lists them)\n")
        return EXIT_USAGE
    sys.argv[1:] = argv[1:]
    runpy.run_module(f"aiolsp.{name}", run_name="__main__", alter_sys=True)
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
