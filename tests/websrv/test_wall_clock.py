"""The wall clock is set forward and back: what people read follows it, and what the server decides by does not."""

from __future__ import annotations

import time
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest

from aiolsp.websettings import Settings
from harness import Shell
from webclient import Reply, exchange
from webhost import hosted

DAY = 86_400


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "file.txt").write_text("old")
    return tmp_path


def stamp(reply: Reply) -> float:
    return parsedate_to_datetime(reply.fields["date"]).timestamp()


@pytest.mark.parametrize("jump", [DAY, -DAY], ids=["forward", "back"])
def test_answers_tell_the_new_time_and_no_time_out_or_validity_moves(
    shell: Shell, site: Path, monkeypatch: pytest.MonkeyPatch, jump: int
) -> None:
    real = time.time
    offset = 0
    monkeypatch.setattr(time, "time", lambda: real() + offset)
    with hosted(shell.name, site, Settings(threads=2, grace=1.0, status="/status")) as host:
        peer, served = host.connect()
        with peer:
            first = exchange(peer, "/file.txt")
            assert abs(stamp(first) - real()) < DAY / 2
            deadline = host.call(served._deadline)
            offset = jump
            while abs(stamp(exchange(peer, "/file.txt")) - (real() + jump)) > 60:
                pass  # at most for the rest of the second that had begun
            assert abs(host.call(served._deadline) - deadline) < DAY / 2
            (site / "file.txt").write_text("newer")
            while (reply := exchange(peer, "/file.txt")).fields["etag"] == first.fields["etag"]:
                pass  # at most for a second
            assert reply.body == b"newer"
            # A time in the future would make every copy look older than it is (RFC 9110 8.8.2.1).
            assert ("last-modified" in reply.fields) == (jump > 0)
            unchanged = exchange(peer, "/file.txt", f"If-None-Match: {reply.fields['etag']}")
            assert unchanged.status == 304
            assert b"aiolsp_requests_total" in exchange(peer, "/status").body
