"""The soak: what counts as wrong, as explained by a kill, as flat; and a short one of the real server."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import monotonic

import pytest

import soak
from faults import wait_until
from harness import DEADLINE
from load.interrupts import interruptible
from load.units import SECOND
from soak import Event, Outcome, Soak, complaints, main, soak_parser, unexplained
from soaking.clients import Client, Failed, Site, Wrong
from soaking.files import STALE, ChangingFile, content
from soaking.watch import Sample, course, sample
from webhost import hosted


def failures(*instants: tuple[float, float]) -> list[Failed]:
    return [Failed(at, opened, "hot: reset") for at, opened in instants]


def test_a_kill_explains_as_many_failures_as_its_worker_had_connections() -> None:
    failed = failures((10.1, 5), (10.2, 6), (10.3, 7))
    assert unexplained(failed, [Event("kill", 10, connections=2)]) == failed[2:]
    assert unexplained(failed, [Event("kill", 10, connections=2), Event("kill", 10.05, connections=1)]) == []


def test_a_kill_explains_nothing_before_it_nor_long_after_nor_of_connections_opened_since() -> None:
    failed = failures((9.9, 5), (10 + soak.DYING + 1, 5), (12, 11))
    assert unexplained(failed, [Event("kill", 10, connections=9)]) == failed


def test_a_replacement_explains_nothing() -> None:
    failed = failures((10.1, 5))
    assert unexplained(failed, [Event("replace", 10, connections=9)]) == failed


def test_a_version_may_answer_from_its_rename_until_the_next_one_and_a_while(tmp_path: Path) -> None:
    file = ChangingFile(tmp_path, "a.txt", 100)
    before = monotonic()
    file.replace()
    after = monotonic()
    assert file.possible(before, before) == [0]
    assert file.possible(before, after) == [1, 0]
    assert file.possible(after + STALE, after + STALE) == [1]
    assert (tmp_path / "a.txt").read_bytes() == content("/a.txt", 1, 100)


def test_each_version_is_told_from_any_other_and_from_a_mixture(tmp_path: Path) -> None:
    file = ChangingFile(tmp_path, "a.txt", 100)
    file.replace()
    old, new = (content("/a.txt", version, 100) for version in (0, 1))
    assert [file.version_of(body, 0, len(body), [1, 0]) for body in (old, new)] == [0, 1]
    assert file.version_of(new[10:30], 10, len(new), [1, 0]) == 1
    assert file.version_of(old, 0, len(old), [1]) is None
    assert file.version_of(old[:50] + new[50:], 0, len(new), [1, 0]) is None
    assert file.version_of(new[:-1], 0, len(new) - 1, [1, 0]) is None


def test_an_entity_tag_is_for_one_version(tmp_path: Path) -> None:
    file = ChangingFile(tmp_path, "a.txt", 100)
    assert file.tag_fault('"x"', 0) is None and file.tag_fault('"x"', 0) is None
    assert "version 0 for version 1" in (file.tag_fault('"x"', 1) or "")


def samples(descriptors: list[int], memory: list[int]) -> list[Sample]:
    both = zip(descriptors, memory, strict=True)
    return [Sample(at, 3, count, threads=9, memory=size) for at, (count, size) in enumerate(both)]


def test_what_grows_between_the_second_and_the_last_quarter_is_not_flat() -> None:
    flat = course(samples([50] * 12, [10**8] * 12))
    assert flat is not None and flat.faults == []
    a_little = course(samples([50] * 6 + [58] * 6, [10**8] * 6 + [11 * 10**7] * 6))
    assert a_little is not None and a_little.faults == []
    small = course(samples([50] * 12, [10**6] * 6 + [3 * 10**6] * 6))
    assert small is not None and small.faults == [], "an allocator's pools are no leak"
    leaking = course(samples(list(range(50, 170, 10)), [10**8 + 10**7 * at for at in range(12)]))
    assert leaking is not None and [fault.split()[0] for fault in leaking.faults] == ["memory", "descriptors"]
    assert (leaking.early.descriptors, leaking.late.descriptors, leaking.most.descriptors) == (90, 150, 160)
    assert leaking.most.memory == 10**8 + 11 * 10**7
    assert course(samples([50] * 7, [1] * 7)) is None


def test_a_process_and_its_children_are_sampled() -> None:
    with subprocess.Popen(["sleep", "60"]) as child:
        taken = sample(os.getpid(), 0.5)
        child.kill()
    assert taken is not None and taken.processes >= 2 and taken.memory > 1 << 20
    assert taken.threads >= 2 and taken.descriptors >= 6, "the standard streams of both at least"
    assert sample(2**22 + 1, 0.0) is None


def test_only_the_usual_words_on_stderr_are_no_complaint() -> None:
    usual = "http://127.0.0.1:1/ serves /x; Ctrl-C stops it\naiolsp.websrv: worker with pid 7 was killed by SIGKILL"
    assert complaints(usual) == ""
    segfault = "aiolsp.websrv: worker with pid 7 was killed by SIGSEGV"
    assert complaints(f"{usual}\n{segfault}\n") == segfault


def test_each_fault_is_a_line() -> None:
    outcome = Outcome(events=[Event("kill", 1.0)], status=1, complaints="Traceback\nValueError: x")
    outcome.tally.wrong.append("hot: 500")
    outcome.tally.failed += failures((1, 1))
    assert [fault.split(":")[0] for fault in outcome.faults()] == ["wrong", "failed", "kill", "exit status 1", "stderr"]
    assert Outcome(status=0).faults() == []


def test_a_client_sees_bytes_of_no_version(tmp_path: Path) -> None:
    file = ChangingFile(tmp_path, "a.txt", 1000)
    with hosted("asyncio", tmp_path) as host:
        address = ("127.0.0.1", host.server.addresses[0][1])
        client = Client(address, Site([file], [file], [file.path], 1000), threading.Event(), 1.0, 0)
        for kind in (client.hot, client.part, client.conditional, client.pipelined, client.cold, client.once):
            kind()
        (tmp_path / "b.txt").write_bytes(b"x" * 1200)
        (tmp_path / "b.txt").rename(tmp_path / "a.txt")
        for kind in (client.once, client.part, client.pipelined, client.cold):
            wait_until(partial(is_wrong, kind), f"{kind.__name__} sees it")
        client.leave()


def test_an_answer_that_is_cut_short_is_a_failure_not_a_wrong_one(tmp_path: Path) -> None:
    file = ChangingFile(tmp_path, "a.txt", 1000)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def cut() -> None:
            for _ in range(2):
                connection, _ = listener.accept()
                with connection:
                    connection.recv(1 << 16)
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + bytes(500))

        server = threading.Thread(target=cut)
        server.start()
        client = Client(listener.getsockname(), Site([file], [file], [], 0), threading.Event(), 1.0, 0)
        for kind in (client.slow, client.large):
            with pytest.raises(http.client.IncompleteRead):
                kind()
            client.leave()
        server.join(DEADLINE)


def is_wrong(kind: Callable[[], None]) -> bool:
    try:
        kind()
    except Wrong:
        return True
    return False


def test_the_defaults_are_half_an_hour_with_a_kill_each_minute() -> None:
    options = soak_parser().parse_args([])
    assert (options.duration, options.every) == (1800 * SECOND, 60 * SECOND)


def test_a_minute_under_load_with_workers_killed_and_replaced_leaves_no_answer_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = tmp_path / "soak.json"
    status = main(["--duration", "60s", "--every", "20s", "--rate", "100", "--json", str(told)])
    assert status == 0, capsys.readouterr().out
    figures = json.loads(told.read_text())
    assert figures["faults"] == [] and len(figures["events"]) == 6
    assert all(
        figures["answers"][kind] for kind in ("hot", "large", "slow", "part", "program", "pipelined", "conditional")
    )


def test_two_signals_at_one_moment_leave_nobody_who_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What writes to a directory that is being removed keeps it from being removed."""
    numbers = signal.SIGINT, signal.SIGTERM

    def interrupted(*_: object) -> None:  # while it waits for what is due next
        signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
        for number in numbers:
            signal.raise_signal(number)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)

    monkeypatch.setattr(Soak, "_sample", lambda *_: signal.setitimer(signal.ITIMER_REAL, 0.05))
    before = set(threading.enumerate())
    handler = signal.signal(signal.SIGALRM, interrupted)
    try:
        with pytest.raises(KeyboardInterrupt), interruptible():
            Soak(soak_parser().parse_args(["--clients", "1"]), tmp_path / "site").run(lambda _: None)
    finally:
        signal.signal(signal.SIGALRM, handler)
    assert not [thread for thread in threading.enumerate() if thread not in before and "_change_files" in thread.name]
