"""Messages that are odd and taken all the same, and those that break off, by what is odd about them.

With those of ``refused`` they are one table for the machine, the server on each shell, the comparison with other
parsers and the fuzzer's seeds.
"""

from __future__ import annotations

from parsing import in_pieces
from refused import CHUNKED, SMUGGLED, chunks, field, get, post
from webclient import request

TAKEN: dict[str, tuple[int, bytes]] = {
    "one empty line before the request": (200, b"\r\n" + get()),
    "four empty lines before the request": (200, b"\r\n" * 4 + get()),
    "a later minor version": (200, get(b"GET / HTTP/1.7")),
    "HTTP/1.0 that is kept alive": (200, get(b"GET / HTTP/1.0", b"Connection: keep-alive\r\n")),
    "every character of a method": (501, get(b"!#$%&'*+-.^_`|~09AZaz / HTTP/1.1")),
    "characters that browsers do not escape": (200, get(b'GET /?a|[]{}^"\\` HTTP/1.1')),
    "two slashes": (200, get(b"GET //file.txt HTTP/1.1")),
    "the absolute form": (200, get(b"GET http://b/file.txt HTTP/1.1")),
    "the absolute form without a path": (200, get(b"GET HTTP://b?c HTTP/1.1")),
    "the absolute form of an address": (200, get(b"GET http://[::1]:80/file.txt HTTP/1.1")),
    "the asterisk form": (204, get(b"OPTIONS * HTTP/1.1")),
    "CONNECT": (405, get(b"CONNECT a:443 HTTP/1.1")),
    "CONNECT to an address": (405, get(b"CONNECT [::1]:443 HTTP/1.1")),
    "TRACE": (405, get(b"TRACE / HTTP/1.1")),
    "an upgrade": (200, field(b"Upgrade: h2c\r\nConnection: Upgrade")),
    "a Host with a port": (200, get(fields=b"Host: xn--bcher-kva.example:80\r\n")),
    "an address for Host": (200, get(fields=b"Host: [::1]:8080\r\n")),
    "an empty Host": (200, get(fields=b"Host:\r\n")),
    "an empty port": (200, get(fields=b"Host: a:\r\n")),
    "white space around Host": (200, get(fields=b"HOST:\t a \t\r\n")),
    "no white space after a colon": (200, get(fields=b"Host:a\r\n")),
    "an empty field": (200, field(b"X:")),
    "a field of white space": (200, field(b"X: \t ")),
    "colons in a value": (200, field(b"X::a:b")),
    "bytes beyond ASCII in a value": (200, field(b"X: caf\xe9\xff")),
    "a request in a value": (200, field(b"X: GET /smuggled HTTP/1.1")),
    "a hundred fields": (200, get(fields=b"Host: a\r\n" + b"X: y\r\n" * 99)),
    "a field that looks like a length": (200, field(b"Content_Length: 43")),
    "a field that looks like a coding": (200, field(b"XTransfer-Encoding: chunked")),
    "TE": (200, field(b"TE: chunked")),
    "a length of zero": (200, get(fields=b"Host: a\r\nContent-Length: 0\r\n")),
    "a length of many zeros": (200, get(fields=b"Host: a\r\nContent-Length: " + b"0" * 100 + b"\r\n")),
    "a length with zeros before it": (405, post("Content-Length: " + "0" * 100 + "43")),
    "a length with white space around it": (405, post("Content-Length:\t 43 \t")),
    "a length in another case": (405, post("cONTENT-lENGTH: 43")),
    "a length twice in one": (405, post("Content-Length: 43, 43")),
    "a length twice in two lines": (405, post("Content-Length: 43", "Content-Length: 43")),
    "a length in HTTP/1.0": (405, post("Content-Length: 43", "Connection: keep-alive", version="1.0")),
    "a body of a GET": (200, request("/", "Content-Length: 43") + SMUGGLED),
    "a body of a HEAD": (200, request("/", "Content-Length: 43", method="HEAD") + SMUGGLED),
    "a body of an OPTIONS": (204, request("*", "Content-Length: 43", method="OPTIONS") + SMUGGLED),
    "a body of a CONNECT": (405, request("a:443", "Content-Length: 43", method="CONNECT") + SMUGGLED),
    "a body of line ends": (405, post("Content-Length: 8", content=b"\r\n" * 4)),
    "a body of controls": (405, post("Content-Length: 4", content=b"\0\r\n\x7f")),
    "chunked in capitals": (
        405,
        post("TRANSFER-ENCODING: \tCHUNKED ", content=b"2B\r\n" + SMUGGLED + b"\r\n0\r\n\r\n"),
    ),
    "chunks of one byte": (
        405,
        chunks(b"".join(b"1\r\n%b\r\n" % byte for byte in in_pieces(SMUGGLED, 1)) + b"0\r\n\r\n"),
    ),
    "a chunked GET": (200, request("/", CHUNKED) + b"2b\r\n" + SMUGGLED + b"\r\n0\r\n\r\n"),
    "chunks of nothing": (405, chunks(b"0\r\n\r\n")),
    "a chunk of line ends": (405, chunks(b"8\r\n" + b"\r\n" * 4 + b"\r\n0\r\n\r\n")),
    "a chunk that looks like the last": (405, chunks(b"5\r\n0\r\n\r\n\r\n0\r\n\r\n")),
    "a chunk size of sixteen digits": (405, chunks(b"0" * 14 + b"2b\r\n" + SMUGGLED + b"\r\n0\r\n\r\n")),
    "a last chunk of many zeros": (405, chunks(b"0" * 16 + b"\r\n\r\n")),
    "extensions": (405, chunks(b'1;a;b=c;d="e;\\"f"\r\nx\r\n0;g\r\n\r\n')),
    "extensions with bad white space": (405, chunks(b"1 ; a\t=\tb\r\nx\r\n0 ;g\r\n\r\n")),
    "trailers": (405, chunks(b"0\r\nX: y\r\nZ:\r\n\r\n")),
    "a length for a trailer": (405, chunks(b"0\r\nContent-Length: 43\r\nHost: b\r\n\r\n")),
    "a coding for a trailer": (405, chunks(b"0\r\nTransfer-Encoding: chunked\r\n\r\n")),
    "an expectation without a body": (200, field(b"Expect: 100-continue")),
}
"""What is odd but can be read in one way: it gets one answer, of this status, and what follows is a request."""

UNFINISHED: dict[str, bytes] = {
    "a request-line": b"GET / HTTP/1.1",
    "a request-line and its CR": b"GET / HTTP/1.1\r",
    "a field": b"GET / HTTP/1.1\r\nHost: a",
    "a line that cannot become a field": b"GET / HTTP/1.1\r\nHost: a\r\n:",
    "no empty line": b"GET / HTTP/1.1\r\nHost: a\r\n",
    "half an empty line": b"GET / HTTP/1.1\r\nHost: a\r\n\r",
    "no byte of a body": post("Content-Length: 1000", content=b""),
    "a length with a zero too many": post("Content-Length: 430"),
    "no chunk": chunks(b""),
    "a chunk size": chunks(b"2b"),
    "a chunk size and its CR": chunks(b"2b\r"),
    "a chunk size and its line's end": chunks(b"ff\r\n"),
    "an open extension": chunks(b'2b;a="'),
    "half a chunk": chunks(b"ff\r\n" + SMUGGLED),
    "a chunk without its end": chunks(b"2b\r\n" + SMUGGLED),
    "a chunk and half its end": chunks(b"2b\r\n" + SMUGGLED + b"\r"),
    "no last chunk": chunks(b"2b\r\n" + SMUGGLED + b"\r\n"),
    "a last chunk without its line's end": chunks(b"0"),
    "a last chunk and half its line's end": chunks(b"0\r"),
    "no empty line after the last chunk": chunks(b"0\r\n"),
    "half an empty line after the last chunk": chunks(b"0\r\n\r"),
    "an open trailer": chunks(b"0\r\nX: y"),
    "a trailer without the empty line": chunks(b"0\r\nX: y\r\n"),
}
"""What breaks off: a request sent after it is a part of it, or spoils it, and is never answered."""
