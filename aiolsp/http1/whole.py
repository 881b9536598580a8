"""The usual request in one step: a packet that is one head, of a kind that leaves nothing open.

Facts: most requests of a client that waits for its answers come so. What `RequestParser` does besides, to be ready for
any other cut of the bytes, takes twice as long as to read such a head.
Consequence: between two requests, a packet may be tried as a whole first, without a parser.
Decision: `whole_request` reads what needs no state, by the same grammar, and complains of nothing: what it gives None
for, the parser reads from its first byte on.
Price: a third way through the table of states, from REQUEST_LINE straight back to it. It must be the parser's, however
the bytes are cut: tests ask both whenever they ask one.
"""

from __future__ import annotations

from aiolsp.http1.grammar import USUAL_REQUEST_LINE_CRLF
from aiolsp.http1.limits import Limits
from aiolsp.http1.messages import HTTP_1_1, Request
from aiolsp.http1.sections import read_section
from aiolsp.http1.sieve import END


def whole_request(packet: bytes, limits: Limits) -> Request | None:
    """The request that *packet* is, if it is just that: HTTP/1.1, for a path, without a body; None for all else."""
    if len(packet) > limits.max_head or not packet.endswith(END):
        return None
    found = USUAL_REQUEST_LINE_CRLF.match(packet)
    if found is None:
        return None
    fields_start = found.end()
    if fields_start > limits.max_target:
        return None
    # An empty line before the last one would be none of a section's: so nothing follows the head.
    section = read_section(packet[fields_start:])
    if section is None or not section.plain or len(section.fields) > limits.max_fields:
        return None
    method, target = found.groups()
    return Request(method, target, HTTP_1_1, section.fields, section.keep_alive, False, False, packet)
