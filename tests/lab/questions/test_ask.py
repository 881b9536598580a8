"""Every question is answered on this machine, by figures that say what its sentences say."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from aiolsp.lab.questions.ask import QUESTIONS
from aiolsp.lab.questions.question import Question, table
from harness import DEADLINE


def ask(*words: str) -> subprocess.CompletedProcess[str]:
    """Ask, in a process of its own: a question may fork, and take signals."""
    command = [sys.executable, "-m", "aiolsp", "lab", "ask", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=2 * DEADLINE, check=False)


def figures(output: str) -> dict[str, list[str]]:
    """The rows of the table: the figures by the label."""
    rows = [re.split(r"  +", line.strip()) for line in output.split("\n\n")[1].splitlines()[1:]]
    return {label: row for label, *row in rows}


def answered(name: str) -> list[list[str]]:
    """The rows of the answer to the question *name*."""
    done = ask(name)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(QUESTIONS[name].text)
    return list(figures(done.stdout).values())


def test_the_questions_are_listed() -> None:
    done = ask()
    assert done.returncode == 0
    assert [line.split()[0] for line in done.stdout.splitlines()] == list(QUESTIONS)


def test_an_unknown_question_is_one_line_and_status_2() -> None:
    done = ask("why")
    assert (done.returncode, done.stdout) == (2, "")
    assert "there is no question 'why'" in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize("question", QUESTIONS.values(), ids=QUESTIONS)
def test_an_answer_has_three_sentences_without_a_figure_of_a_run(question: Question) -> None:
    answer = question.answer
    assert len(re.findall(r"[a-z)]\.(?: |$)", answer)) == 3
    assert not re.search(r"\d", answer)


def test_level_triggering_tells_threads_in_vain_and_the_others_do_not() -> None:
    level, edge, oneshot = answered("lt")
    assert int(level[0]) == 200 + int(level[1]) and int(level[2]) == 200 + int(level[3])
    assert int(level[1]) > 0
    assert oneshot == ["200", "0", "200", "0"]


def test_one_accept_for_an_edge_leaves_the_others() -> None:
    level, edge, broken = answered("accept")
    assert level[1:3] == level[4:6] == edge[1:3] == edge[4:6] == ["20", "0"]
    assert broken[2] == broken[5] == "19"


def test_an_edge_costs_a_recv_more_a_message() -> None:
    small_level, small_edge, level, edge = answered("et")
    assert [row[1] for row in (small_level, small_edge, level, edge)] == ["1.0", "2.0", "10.0", "11.0"]
    assert [row[3] for row in (small_level, small_edge, level, edge)] == ["1.0", "2.0", "10.0", "11.0"]


def test_an_answer_owed_is_lost_by_who_closes_at_the_end_of_stream() -> None:
    closed, kept = answered("rdhup")
    assert closed == ["eof_received", "0 B", "EPOLLIN|EPOLLRDHUP", "0 B"]
    assert kept == ["eof_received", "11 B", "EPOLLIN|EPOLLRDHUP", "11 B"]


def test_a_blocking_call_makes_the_loop_late() -> None:
    blocked, threaded = answered("block")
    assert blocked[1].startswith("+") and blocked[3].startswith("+")
    assert len(threaded) == 4


def test_a_pool_is_measured_for_work_that_blocks_and_for_work_that_does_not() -> None:
    assert all(len(row) == 2 and row[0].endswith(" us") for row in answered("pool"))


def test_a_child_that_changes_its_copy_of_a_loop_changes_its_parents() -> None:
    assert answered("fork") == [["told", "told"], ["not told", "not told"]]


def test_a_signal_is_a_byte_in_a_socket_and_says_at_least_once() -> None:
    one_by_one, blocked = answered("signal")
    assert blocked == ["socket", "1", "socket", "1"]
    assert one_by_one[0] == "socket" and int(one_by_one[1]) > 1


def test_a_server_is_faster_or_slower_by_how_it_is_asked() -> None:
    rates = [[int(figure.removesuffix("/s").replace(",", "")) for figure in row] for row in answered("bench")]
    assert len(rates) == 4 and all(rate > 0 for row in rates for rate in row)


def test_a_table_has_its_columns_below_their_headings() -> None:
    assert table(("a", "b"), [("one", ("1", "22")), ("three", ("333", "4"))]).splitlines() == [
        "              a         b",
        "one           1        22",
        "three       333         4",
    ]
