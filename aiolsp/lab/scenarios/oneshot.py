"""EPOLLONESHOT, book p. 157: one thread at a time on a socket, although several threads serve it in turn."""

from __future__ import annotations

from aiolsp.catalog import PROGRAMS
from aiolsp.lab.model import Run
from aiolsp.lab.scenario import Lab, Scenario, mistake
from aiolsp.lab.stage import Stage

OPTIONS = ("--wait", "0.3", "--threads", "2")


def script(stage: Stage) -> None:
    """A burst, another while its worker still waits, and a third when the socket has been let go."""
    client = stage.client("client")
    client.send(b"burst 1\n")
    stage.wait_for("recv EAGAIN", why="wait")
    client.send(b"burst 2\n", why="the worker still has the socket")
    stage.wait_for("recv", count=2)
    stage.wait_for("recv EAGAIN", why="let the socket go")
    client.send(b"burst 3\n", why="the socket was let go and armed again")
    stage.wait_for("recv", count=3)
    client.shut_down()
    client.receive_to_end()


def script_shared(stage: Stage) -> None:
    """A burst, and another while its worker still waits."""
    client = stage.client("client")
    client.send(b"burst 1\n")
    stage.wait_for("recv EAGAIN", why="wait")
    client.send(b"burst 2\n", why="the first worker still waits for more")
    stage.wait_for("recv EAGAIN", why="let the socket go", count=2)
    client.shut_down()
    client.receive_to_end()


def overlaps(run: Run) -> int:
    """How many times a thread came onto the socket while another was on it."""
    held = [(event.t_us, event.t_us + event.duration_us) for event in run.server() if not event.sign]
    return sum(first[1] > second[0] for first, second in zip(held, held[1:], strict=False))


def finding(run: Run) -> str:
    """Which threads had the socket, and when."""
    reads = [event for event in run.server("recv") if event.size > 0]
    if overlaps(run) or len(reads) != 3 or reads[0].tid != reads[1].tid:
        return ""
    held = [event for event in run.server() if not event.sign]
    return f"{len(held)} times a thread had the socket ({', '.join(run.threads(held))}), never two at a time"


def finding_shared(run: Run) -> str:
    """Two threads at a time."""
    if not overlaps(run):
        return ""
    first, second = run.threads(event for event in run.server() if not event.sign)[:2]
    return f"{second} came onto the socket while {first} was on it"


def script_again(stage: Stage) -> None:
    """Two lines, the second when the first is answered."""
    client = stage.client("client")
    client.send(b"one\n")
    client.receive_line()
    client.send(b"two\n")
    stage.pause(0.5)


def finding_deaf(run: Run) -> str:
    """The second line is not read."""
    if len(run.server("recv")) != 1:
        return ""
    return "the first line was read and answered; the second lay in the kernel for 500 ms, and nobody was told"


def finding_armed(run: Run) -> str:
    """Both are."""
    reads = [event for event in run.server("recv") if event.size > 0]
    return f"{len(reads)} lines were read, since the socket was armed again after each" if len(reads) == 2 else ""


LAB = Lab(
    PROGRAMS["oneshot"],
    shown=(
        Scenario(
            "oneshot",
            "one thread at a time",
            "After its report the socket is disarmed: the second burst wakes nobody and goes to the worker that waits.",
            script,
            finding,
            options=OPTIONS,
        ),
    ),
    broken=(
        Scenario(
            "oneshot",
            "without EPOLLONESHOT",
            "The second burst is reported although a worker is on the socket, and so a second worker comes onto it.",
            script_shared,
            finding_shared,
            options=("--wait", "0.3", "--threads", "4", "--broken"),
            variant="broken",
            mend="EPOLLONESHOT, and EPOLL_CTL_MOD as the last thing that a worker does with the socket.",
        ),
        Scenario(
            "oneshot",
            "with EPOLLONESHOT",
            "The same bursts: the second is read by the worker that has the socket.",
            script,
            finding,
            options=OPTIONS,
            variant="mended",
        ),
        *mistake(
            Scenario(
                "broken.unarmed",
                "never armed again",
                "EPOLLONESHOT has taken the socket's events away with the first report, and nobody gives them back.",
                script_again,
                finding_deaf,
                mend="epoll_ctl(EPOLL_CTL_MOD) when done: it reports at once what has come meanwhile.",
            ),
            "armed again",
            "EPOLL_CTL_MOD after each read: the second line is reported too.",
            finding_armed,
        ),
    ),
)
