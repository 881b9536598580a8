"""What a connection asks of whoever takes the body of a request as it comes, and makes the answer piece by piece."""

from __future__ import annotations

from typing import Protocol


class Exchange(Protocol):
    """One request and its answer: ``(feed | resume)* -> receive_eof -> resume*``; ``abandon`` ends it at any time.

    It calls the connection's ``take_more`` when it is no longer full, and answers in one of two ways: ``begin_stream ->
    stream* -> streamed``, at any time; or ``release``, followed by ``send`` once the body is complete, or by ``refuse``
    before that. After ``streamed`` or ``release`` it is forgotten.
    """

    @property
    def sent(self) -> int:
        """Bytes of the answer's body so far, for the log."""

    @property
    def full(self) -> bool:
        """Whether no more of the body is taken now: then the client is not read either."""

    def feed(self, data: bytes) -> None:
        """A piece of the body."""

    def receive_eof(self) -> None:
        """The body is complete; without a body, that comes at once."""

    def resume(self) -> None:
        """The client has read what was sent, and the connection is no longer ``full``: go on."""

    def abandon(self) -> None:
        """The client has gone, or nobody may answer it any more: let go of everything."""
