"""The web server, book p. 301 to 318: a thread pool for what may block, and everything else on one thread."""

from __future__ import annotations

from pathlib import Path

from aiolsp.catalog import WEB_SERVER
from aiolsp.lab.actors import Actor
from aiolsp.lab.broken.servers import BUSY
from aiolsp.lab.model import Run
from aiolsp.lab.scenario import Lab, Scenario, mistake
from aiolsp.lab.stage import Stage

LARGE = 1 << 20
"""Bytes of the file that the book's server cuts off at 128 KiB."""


def prepare(home: Path) -> None:
    """A small and a large file."""
    site = home / "site"
    site.mkdir()
    (site / "small.txt").write_text("hello\n")
    (site / "large.bin").write_bytes(bytes(LARGE))


def script(stage: Stage) -> None:
    """The small file twice on one connection, the large one on another, and a path out of the directory."""
    keen = stage.client("keen")
    for why in ("not seen before", "seen a moment ago"):
        keen.send(b"GET /small.txt HTTP/1.1\r\nHost: lab\r\n\r\n", why=f"GET /small.txt, {why}")
        receive_answer(keen)
    bulk = stage.client("bulk")
    bulk.send(b"GET /large.bin HTTP/1.1\r\nHost: lab\r\n\r\n", why="GET /large.bin")
    receive_answer(bulk)
    thief = stage.client("thief")
    thief.send(b"GET /../../../etc/passwd HTTP/1.1\r\nHost: lab\r\n\r\n", why="GET /../../../etc/passwd")
    receive_answer(thief)


def receive_answer(client: Actor) -> None:
    """A response, by its Content-Length."""
    length = 0
    while (line := client.receive_line(quiet=True)) != b"\r\n":
        if line.lower().startswith(b"content-length:"):
            length = int(line.split(b":")[1])
    client.receive(length)


def finding(run: Run) -> str:
    """What went which way."""
    sent = sum(event.size for event in run.server("sendfile"))
    asked = len(run.server("submit"))
    bulk = sum(event.size for event in run.client("bulk", "recv"))
    if sent < LARGE or bulk != LARGE:
        return ""
    return (
        f"work went to a thread of the pool {asked} times; {sent:,} bytes of the large file"
        " went by sendfile(2) and were never in the process"
    )


def script_slow(stage: Stage) -> None:
    """One asks for what takes long; another, just then, for what does not."""
    slow, quick = stage.client("slow"), stage.client("quick")
    stage.wait_for("accept", count=2)
    slow.send(b"slow\n", why=f"work that blocks for {BUSY * 1000:.0f} ms")
    stage.wait_for("recv")
    quick.send(b"quick\n", why="nothing to wait for")
    quick.receive_line()
    slow.receive_line()


def waited_ms(run: Run) -> float:
    """How long the quick one waited for its answer."""
    [asked, answered] = [run.client("quick", call)[0].t_us for call in ("send", "recv")]
    return (answered - asked) / 1000


def answered_after_it(run: Run) -> bool:
    """Whether the call that blocks had ended before the quick one had its answer."""
    [call] = run.server("a call that blocks")
    return run.client("quick", "recv")[0].t_us > call.t_us + call.duration_us


def finding_lag(run: Run) -> str:
    """Everybody waited."""
    lag = run.server("lag")
    if not lag or not answered_after_it(run):
        return ""
    return f"the quick client waited {waited_ms(run):.0f} ms for nothing: the loop was {lag[0].args['late']} late"


def finding_no_lag(run: Run) -> str:
    """Only the one that asked for it."""
    if answered_after_it(run):
        return ""
    return f"the quick client waited {waited_ms(run):.1f} ms while a thread did the work that blocks"


LAB = Lab(
    WEB_SERVER,
    shown=(
        Scenario(
            "websrv",
            "a small file twice, a large one, a thief",
            "What may block on the disk goes to a thread of the pool; what was answered a moment ago is in memory.",
            script,
            finding,
            options=("{home}/site",),
            role="",
            prepare=prepare,
        ),
    ),
    broken=mistake(
        Scenario(
            "broken.blocking",
            "a blocking call on the loop",
            "One callback sleeps, as a disk or a resolver would: no other event is looked at until it returns.",
            script_slow,
            finding_lag,
            mend="What may block goes to a thread (run_in_executor, a bounded pool); its end is one more event.",
        ),
        "a blocking call in a thread",
        "The same work in a thread: the loop goes on.",
        finding_no_lag,
    ),
)
