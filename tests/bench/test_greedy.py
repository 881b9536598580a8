"""The greedy run: its attacks come as they say, its table says which bound breaks, and its status that one did."""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

import greedy
from greedy import ALLOCATOR, Outcome
from harness import DEADLINE
from load import attacks
from load.attacks import ATTACKS, Attack, Steps, yield_to_others
from load.plan import Plan, Target
from versus.programs import SHELLS
from versus.servers import Server

HEADS = ATTACKS[0]
ANSWERS = next(attack for attack in ATTACKS if attack.name == "answers")
IDLE = next(attack for attack in ATTACKS if attack.name == "idle")
FINE = Outcome(
    HEADS,
    "uvloop",
    rate=9_876.0,
    quiet=500_000,
    beside=1_000_000,
    under=1_900_000,
    answers=1234,
    failed=0,
    grown=1 << 20,
    kernel=2 << 20,
    pace=1.0,
)


@pytest.mark.parametrize(
    ("outcome", "broken"),
    [
        (FINE, []),
        (replace(FINE, under=2_100_000), ["time"]),
        (replace(FINE, quiet=1_100_000, under=2_100_000), []),
        (replace(FINE, grown=ALLOCATOR + HEADS.count * HEADS.allowance + 1), ["memory"]),
        (replace(FINE, kernel=ALLOCATOR + HEADS.count * HEADS.unread + 1), ["kernel"]),
        (replace(FINE, failed=1, under=9_000_000), ["time", "answers"]),
    ],
)
def test_a_bound_that_does_not_hold_is_named(outcome: Outcome, broken: list[str]) -> None:
    assert outcome.broken == broken
    verdict = f"BROKEN: {', '.join(broken)}" if broken else "holds"
    assert greedy.row(outcome, 1).endswith(f"100%  {verdict}")
    assert greedy.row(outcome, 2).endswith(f"{verdict}, try 2")


def test_what_breaks_is_tried_again_and_the_status_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    outcomes = [replace(FINE, failed=1), FINE, *[replace(FINE, failed=2)] * 3]
    monkeypatch.setattr(greedy, "try_attack", lambda *_: outcomes.pop(0))
    command = [HEADS.name, "--shell", "uvloop", "--output", str(tmp_path)]
    assert greedy.main(command) == 0
    assert greedy.main(command) == 1
    out = capsys.readouterr().out
    assert "holds, try 2\n" in out and "BROKEN: answers, try 3\n" in out and not outcomes
    (told,) = json.loads((tmp_path / "part-greedy.json").read_text())["outcomes"]
    assert (told["attack"], told["shell"], told["failed"], told["broken"]) == ("heads", "uvloop", 2, ["answers"])


def test_every_attack_is_made_on_every_shell_unless_some_are_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tried = []

    def try_attack(attack: Attack, shell: str, _: Path) -> Outcome:
        tried.append((attack.name, shell))
        return FINE

    monkeypatch.setattr(greedy, "try_attack", try_attack)
    assert greedy.main(["--output", str(tmp_path)]) == 0
    assert len(tried) == len(set(tried)) == 3 * len(ATTACKS) and (tmp_path / "greedy.json").exists()
    tried.clear()
    assert greedy.main(["idle", "--shell", "blocking", "--shell", "asyncio", "--output", str(tmp_path)]) == 0
    assert tried == [("idle", "asyncio"), ("idle", "blocking")]


def test_an_attack_that_nobody_knows_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        greedy.main(["kindness"])
    assert end.value.code == 2 and capsys.readouterr().err.count("\n") == 1


@pytest.mark.skipif(shutil.which("ss") is None, reason="iproute2 is not installed")
@pytest.mark.parametrize("shell", SHELLS)
def test_a_server_is_attacked_and_honest_clients_are_counted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, shell: str
) -> None:
    monkeypatch.setattr(greedy, "SECONDS", 0.4)
    # On a machine that others keep busy, in a quarter of less none may be answered, and a decoy hardly starts or stops.
    monkeypatch.setattr(greedy, "QUIET", 0.8)
    monkeypatch.setattr(greedy, "yield_to_others", lambda *_, **__: None)
    (tmp_path / "page.html").write_bytes(b"page")
    (tmp_path / "picture.bin").write_bytes(b"p" * 200_000)
    processors = os.sched_getaffinity(0)
    outcome = greedy.try_attack(ANSWERS, shell, tmp_path)
    assert outcome.answers and not outcome.failed and outcome.pace > 0 and outcome.quiet and outcome.beside
    assert outcome.kernel > 100_000, "an answer at least that nobody reads"
    assert os.sched_getaffinity(0) == processors


SLOW = """
import socketserver, time

class Slow(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile:
            if line == b"\\r\\n":
                time.sleep(0.1)
                self.wfile.write(b"HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\n\\r\\n")

with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Slow) as server:
    print("listening on 127.0.0.1:%d" % server.server_address[1], flush=True)
    server.serve_forever()
"""
"""A web server that takes longer than a short run for each answer."""


def test_a_server_that_others_keep_from_answering_is_asked_for_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(greedy, "QUIET", 0.2)
    with Server([sys.executable, "-c", SLOW], "slow") as server:
        plan = Plan(Target("http", *server.address), client="wire", connections=2)
        assert 0 < greedy.capacity(server, plan) <= 20


def test_attackers_have_taken_a_step_before_anything_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attacks, "yield_to_others", lambda _: None)
    ours, theirs = multiprocessing.Pipe()
    taken: list[int] = []

    def steps(*_: object) -> Steps:
        for number in itertools.count():
            may_step.wait(DEADLINE)
            taken.append(number)
            yield

    may_step = threading.Event()
    attacking = threading.Thread(target=attacks.run, args=(replace(HEADS, steps=steps), ("", 0), theirs))
    attacking.start()
    try:
        assert not ours.poll(0.05)
        may_step.set()
        assert ours.recv() == "begun" and taken
        ours.send("enough")
        assert ours.recv() > 0
    finally:
        ours.close()
        may_step.set()
        attacking.join(DEADLINE)
        theirs.close()


def test_ctrl_c_on_a_terminal_does_not_reach_the_attackers() -> None:
    """They said so with a traceback, and who had set them on a server took them for gone, not itself for stopped."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        with greedy.under(replace(IDLE, count=5), listener.getsockname(), []):
            (attackers,) = multiprocessing.active_children()
            assert attackers.pid is not None
            blocked = int(Path(f"/proc/{attackers.pid}/status").read_text().split("SigBlk:")[1].split()[0], 16)
        assert blocked >> signal.SIGINT - 1 & 1
        assert not attackers.is_alive()


def test_attackers_come_last_on_their_processor() -> None:
    child = subprocess.Popen(["sleep", "60"], start_new_session=True)
    try:
        yield_to_others(child.pid, session=True)
        assert os.sched_getscheduler(child.pid) == os.SCHED_IDLE
    finally:
        child.kill()
        child.wait()
