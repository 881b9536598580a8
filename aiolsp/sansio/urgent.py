"""Put urgent bytes in their place: reads, urgent bytes and the answers of SIOCATMARK become lines of a report.

Book p. 148, listing 9-1 (select takes normal and out-of-band data).

Facts (tcp(7), RFC 9293 section 3.8.5, RFC 6093; tried on this kernel, see tests/linux/test_urgent.py)
    - TCP has no second channel. A segment may carry one pointer into the stream; the byte it points at is the urgent
      one. Of ``abc`` sent urgent, ``a`` and ``b`` are normal bytes and ``c`` is taken out of the stream.
    - The place it stood at is the mark. A read never crosses the mark, it stops there; SIOCATMARK then says yes.
    - The urgent byte is announced, and can be taken, before the normal bytes in front of it have been read.
    - A send that the socket takes in part makes the last byte of that part urgent, too.
    - There is one mark. When the next urgent byte comes, the older mark is forgotten. If reading stood at that mark
      and the older byte was not taken, the byte is gone. If reading had not come that far, it turns into a normal byte.
Consequence
    The order in which normal and urgent bytes arrive at a program says nothing about their order in the stream. The
    position is known when a read stops at the mark, and not before.
Decision
    `UrgentStream` counts normal bytes and holds an urgent byte back until a read has stopped at its mark.
Price
    A report of an urgent byte may come later than the byte: urgency is what TCP's urgent data does not give.

``(feed | feed_urgent)* -> end``
"""

from __future__ import annotations

from dataclasses import dataclass

WHOLE = 1024
"""Bytes that a socket takes in one go when it is writable: poll(2) says so of one with a third of its buffer free."""

SHOWN = 64
"""Bytes of one piece that a report shows; longer pieces are cut off there, since a report is for people."""


@dataclass(frozen=True, slots=True)
class Part:
    """What the client sends in one go; of urgent data, the last byte becomes the urgent one."""

    data: bytes
    urgent: bool = False

    @property
    def pieces(self) -> tuple[bytes, bytes]:
        """What is sent as normal bytes, and then, whole, what is sent urgent; either may be empty."""
        end = max(0, len(self.data) - WHOLE) if self.urgent else len(self.data)
        return self.data[:end], self.data[end:]


def parse_part(text: str) -> Part:
    """A word of the client's command line: ``!abc`` is sent urgent, ``abc`` is not. Raises ValueError for no bytes."""
    urgent = text.startswith("!")
    data = text.removeprefix("!").encode("utf-8", "surrogateescape")
    if not data:
        raise ValueError(f"{text!r} holds no byte to send")
    return Part(data, urgent)


class UrgentStream:
    """One connection's normal and urgent bytes; each method returns the report lines that are now certain."""

    def __init__(self) -> None:
        self.position = 0
        """Normal bytes read so far, which is where in the stream the next one stands."""
        self.urgent_count = 0
        self._held = b""

    def feed(self, data: bytes, at_mark: bool) -> list[str]:
        """Normal bytes were read; *at_mark* is what SIOCATMARK said after that read."""
        self.position += len(data)
        lines = [f"normal {show(data)}"]
        if at_mark and self._held:
            lines.append(self._placed())
        return lines

    def feed_urgent(self, byte: bytes, at_mark: bool) -> list[str]:
        """The urgent byte was taken; *at_mark* is what SIOCATMARK says now."""
        lines = self._overtaken("a newer urgent byte moved the mark")
        self.urgent_count += 1
        self._held = byte
        if at_mark:
            lines.append(self._placed())
        return lines

    def end(self, why: str) -> list[str]:
        """The stream has ended, and *why*."""
        lines = self._overtaken("its mark was never reached")
        bytes_ = "byte" if self.urgent_count == 1 else "bytes"
        return [*lines, f"{why} after {self.position} normal bytes and {self.urgent_count} urgent {bytes_}"]

    def _placed(self) -> str:
        line = f"urgent {self._held!r}, its mark after {self.position} normal bytes"
        self._held = b""
        return line

    def _overtaken(self, why: str) -> list[str]:
        if not self._held:
            return []
        line = f"urgent {self._held!r}, place unknown: {why}"
        self._held = b""
        return [line]


def show(data: bytes) -> str:
    """Bytes as a person reads them, at most SHOWN of them, with the length of a longer piece."""
    if len(data) <= SHOWN:
        return repr(data)
    return f"{data[:SHOWN]!r}... ({len(data)} bytes)"
