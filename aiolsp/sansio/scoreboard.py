"""The numbers of all workers in one shared memory: a row for each, that only its worker writes; no lock.

Facts
    - A word of 8 bytes is stored and loaded whole (slots.py has the sources). Two words are not one.
    - A worker that is killed says nothing more, and what it counted last is lost with it.
Consequence
    Numbers that grow never seem to go back, as long as each word has one writer, who takes up where the last one
    stopped; and who reads while a worker writes may see its answers before its requests.
Decision
    A worker counts in plain attributes, which cost least, and stores its row at each second in which it worked, and
    before it tells of the server itself. Whoever reads adds the rows up. When a worker has ended, its parent `vacate`s
    the row: what was now goes to zero, what has grown stays, and the row's next worker goes on from there.
Price
    A row may be a second old, and the last second of a killed worker is not counted.

The memory, in words of 8 bytes: rows x `metrics.NAMES`.
"""

from __future__ import annotations

from aiolsp.sansio.metrics import COUNTERS, NAMES, Metrics

WORD = 8


class Scoreboard:
    """*rows* rows in the writable *buffer*, zeros when it is new, shared by all workers or none but one.

    Raises ValueError if *buffer* is too small. Calling sequence of a row: (resume -> publish* -> vacate)*.
    """

    def __init__(self, buffer: memoryview, rows: int) -> None:
        if len(buffer) < (needed := memory_size(rows)):
            raise ValueError(f"{len(buffer)} bytes are less than the {needed} that {rows} rows need")
        self._rows = rows
        self._words = buffer[:needed].cast("Q")

    def detach(self) -> None:
        """Let go of the buffer, so that its owner can unmap it."""
        self._words.release()

    def resume(self, row: int) -> Metrics:
        """What the next worker of *row* begins with: the totals of those before it."""
        return Metrics(*self._row(row)[:COUNTERS])

    def publish(self, row: int, metrics: Metrics) -> None:
        """Store what the worker of *row* has to tell."""
        for word, value in enumerate(metrics.values(), row * len(NAMES)):
            self._words[word] = value

    def vacate(self, row: int) -> None:
        """The worker of *row* has ended: only what it has counted stays."""
        for word in range(row * len(NAMES) + COUNTERS, (row + 1) * len(NAMES)):
            self._words[word] = 0

    def workers(self) -> dict[int, Metrics]:
        """What each row tells that ever had a worker; a row without one at present has the pid 0."""
        told = {row: Metrics(*self._row(row)) for row in range(self._rows)}
        return {row: metrics for row, metrics in told.items() if any(metrics.values())}

    def _row(self, row: int) -> list[int]:
        return self._words[row * len(NAMES) : (row + 1) * len(NAMES)].tolist()


def memory_size(rows: int) -> int:
    """Bytes of memory that *rows* rows take."""
    return rows * len(NAMES) * WORD
