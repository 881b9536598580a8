"""``python -m aiolsp lab ask`` lists the questions; ``python -m aiolsp lab ask NAME`` answers one, by experiment."""

from __future__ import annotations

import argparse
import shutil
import sys
import textwrap
from collections.abc import Sequence

from aiolsp.cli import EXIT_FAILURE, EXIT_OK, Parser, UsageError, execute, say
from aiolsp.lab.actors import Failed
from aiolsp.lab.questions import ends, load, loops, readiness
from aiolsp.lab.questions.question import Question, table

QUESTIONS: dict[str, Question] = {
    question.name: question for module in (readiness, ends, loops, load) for question in module.QUESTIONS
}


def ask_parser() -> Parser:
    """The command line."""
    parser = Parser(prog="python -m aiolsp lab ask", description="Answer a question by an experiment.")
    parser.add_argument("name", nargs="?", metavar="NAME", help="which question (default: list them)")
    parser.set_defaults(verbose=False, trace=None)
    return parser


def answer(options: argparse.Namespace) -> int:
    """Answer the question, or list all; the exit status."""
    if options.name is None:
        width = max(map(len, QUESTIONS))
        say("\n".join(f"{name:<{width}}  {question.text}" for name, question in QUESTIONS.items()))
        return EXIT_OK
    if options.name not in QUESTIONS:
        raise UsageError(f"there is no question {options.name!r} (python -m aiolsp lab ask lists them)")
    question = QUESTIONS[options.name]
    say(f"{question.text}\n")
    try:
        say(table(question.columns, question.measure()))
    except Failed as failure:
        sys.stderr.write(f"python -m aiolsp lab ask {question.name}: {failure}\n")
        return EXIT_FAILURE
    say("\n" + textwrap.fill(question.answer, min(shutil.get_terminal_size().columns, 100)))
    return EXIT_OK


def main(argv: Sequence[str] | None = None) -> int:
    """Answer the question that the command line names; the exit status."""
    return execute(ask_parser(), argv, answer)
