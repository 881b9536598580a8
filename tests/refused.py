"""Messages that are refused since two readers might read them differently, by what is odd about them.

Where a wrong reading would take a body for a request, that request is SMUGGLED.
"""

from __future__ import annotations

from webclient import request

SMUGGLED = request("/smuggled")
"""What must never be answered."""

CHUNKED = "Transfer-Encoding: chunked"


def get(line: bytes = b"GET / HTTP/1.1", fields: bytes = b"Host: a\r\n") -> bytes:
    """A head of this request-line and these fields, without a body."""
    return line + b"\r\n" + fields + b"\r\n"


def field(line: bytes) -> bytes:
    """A head with this field line after Host."""
    return get(fields=b"Host: a\r\n" + line + b"\r\n")


def post(*fields: str, content: bytes = SMUGGLED, version: str = "1.1") -> bytes:
    """A request with these framing fields and this content."""
    return request("/file.txt", *fields, method="POST", version=version) + content


def chunks(content: bytes) -> bytes:
    """A request whose chunked body is these bytes, and what stands after them."""
    return post(CHUNKED, content=content)


_REQUEST_LINES = {
    "a misspelt version": (400, get(b"GET / HTP/1.1")),
    "another protocol": (400, get(b"GET / HTCPCP/1.0")),
    "a version in lower case": (400, get(b"GET / http/1.1")),
    "a version of two digits": (400, get(b"GET / HTTP/1.10")),
    "a major version of two digits": (400, get(b"GET / HTTP/11.1")),
    "a version without a minor": (400, get(b"GET / HTTP/1")),
    "a version without digits": (400, get(b"GET / HTTP/.")),
    "a version with a sign": (400, get(b"GET / HTTP/+1.1")),
    "a version with a comma": (400, get(b"GET / HTTP/1,1")),
    "a space in the version": (400, get(b"GET / HTTP/1. 1")),
    "a word after the version": (400, get(b"GET / HTTP/1.1 x")),
    "no version": (400, b"GET /file.txt\r\n\r\n"),
    "no target": (400, get(b"GET HTTP/1.1")),
    "a method alone": (400, get(b"GET")),
    "HTTP/0.9 by name": (505, get(b"GET / HTTP/0.9")),
    "the version of HTTP/2": (505, get(b"GET / HTTP/2.0")),
    "the preface of HTTP/2": (505, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    "TLS": (400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200)),
    "an answer": (400, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    "nothing but empty lines": (400, b"\r\n" * 20),
    "five empty lines before the request": (400, b"\r\n" * 5 + get()),
    "an empty line of LF": (400, b"\n" + get()),
    "an empty line of CR": (400, b"\r" + get()),
    "an empty line of CR CR LF": (400, b"\r\r\n" + get()),
    "an empty line with a space": (400, b" \r\n" + get()),
    "two spaces after the method": (400, get(b"GET  / HTTP/1.1")),
    "two spaces after the target": (400, get(b"GET /  HTTP/1.1")),
    "a space after the version": (400, get(b"GET / HTTP/1.1 ")),
    "a tab after the version": (400, get(b"GET / HTTP/1.1\t")),
    "a space before the method": (400, get(b" GET / HTTP/1.1")),
    "tabs for spaces": (400, get(b"GET\t/\tHTTP/1.1")),
    "a VT for a space": (400, get(b"GET\x0b/ HTTP/1.1")),
    "an FF for a space": (400, get(b"GET /\x0cHTTP/1.1")),
    "an NBSP for a space": (400, get(b"GET\xa0/ HTTP/1.1")),
    "a bare CR for a space": (400, get(b"GET\r/ HTTP/1.1")),
    "a bare CR after the version": (400, get(b"GET / HTTP/1.1\r")),
    "a bare LF after the request-line": (400, b"GET / HTTP/1.1\nHost: a\r\n\r\n"),
    "a NUL before the method": (400, get(b"\0GET / HTTP/1.1")),
    "a BOM before the method": (400, get(b"\xef\xbb\xbfGET / HTTP/1.1")),
    "a NUL in the method": (400, get(b"GE\0T / HTTP/1.1")),
    "a NUL after the version": (400, get(b"GET / HTTP/1.1\0")),
    "a method that is no token": (400, get(b"G(T / HTTP/1.1")),
    "a method beyond ASCII": (400, get(b"G\xc9T / HTTP/1.1")),
    "an empty method": (400, get(b" / HTTP/1.1")),
}

_TARGETS = {
    "a space in the target": (400, get(b"GET /file .txt HTTP/1.1")),
    "a whole request in the target": (400, get(b"GET / HTTP/1.1 /smuggled HTTP/1.1")),
    "an escape that is none": (400, get(b"GET /%zz HTTP/1.1")),
    "half an escape": (400, get(b"GET /file.txt%4 HTTP/1.1")),
    "an escape in a query that is none": (400, get(b"GET /file.txt?%g1 HTTP/1.1")),
    "a target without end": (414, get(b"GET /" + b"a" * 9000 + b" HTTP/1.1")),
    "a control in the target": (400, get(b"GET /\x01 HTTP/1.1")),
    "a DEL in the target": (400, get(b"GET /\x7f HTTP/1.1")),
    "a NUL in the target": (400, get(b"GET /\0 HTTP/1.1")),
    "a byte beyond ASCII in the target": (400, get(b"GET /\xe9 HTTP/1.1")),
    "a fragment": (400, get(b"GET /file.txt#a HTTP/1.1")),
    "no slash": (400, get(b"GET file.txt HTTP/1.1")),
    "a query alone": (400, get(b"GET ?a HTTP/1.1")),
    "GET of the asterisk": (400, get(b"GET * HTTP/1.1")),
    "OPTIONS of two asterisks": (400, get(b"OPTIONS ** HTTP/1.1")),
    "GET of an authority": (400, get(b"GET a:80 HTTP/1.1")),
    "a URI without authority": (400, get(b"GET http:///file.txt HTTP/1.1")),
    "a URI with one slash": (400, get(b"GET http:/file.txt HTTP/1.1")),
    "a URI with a port alone": (400, get(b"GET http://:80/file.txt HTTP/1.1")),
    "a URI with a port of letters": (400, get(b"GET http://a:b/file.txt HTTP/1.1")),
    "user information": (400, get(b"GET http://user@a/file.txt HTTP/1.1")),
    "another scheme": (400, get(b"GET ftp://a/file.txt HTTP/1.1")),
    "a URI but no Host": (400, get(b"GET http://a/file.txt HTTP/1.1", b"")),
    "CONNECT to a path": (400, get(b"CONNECT / HTTP/1.1")),
    "CONNECT to a URI": (400, get(b"CONNECT http://a:80/ HTTP/1.1")),
    "CONNECT without a port": (400, get(b"CONNECT a HTTP/1.1")),
    "CONNECT without a host": (400, get(b"CONNECT :80 HTTP/1.1")),
}

_HOSTS = {
    "no Host": (400, get(fields=b"")),
    "no Host in a later minor version": (400, get(b"GET / HTTP/1.7", b"")),
    "two equal Hosts": (400, field(b"Host: a")),
    "two Hosts in two cases": (400, field(b"hOST: b")),
    "two Hosts in HTTP/1.0": (400, get(b"GET / HTTP/1.0", b"Host: a\r\nHost: b\r\n")),
    "two Hosts in one": (400, get(fields=b"Host: a, a\r\n")),
    "a space in Host": (400, get(fields=b"Host: a b\r\n")),
    "Host with user information": (400, get(fields=b"Host: user@a\r\n")),
    "Host with a path": (400, get(fields=b"Host: a/b\r\n")),
    "Host with a port of letters": (400, get(fields=b"Host: a:http\r\n")),
    "Host with a long port": (400, get(fields=b"Host: a:000080\r\n")),
    "Host with an open bracket": (400, get(fields=b"Host: [::1\r\n")),
    "Host with a scheme": (400, get(fields=b"Host: http://a\r\n")),
    "Host beyond ASCII": (400, get(fields=b"Host: \xe9\r\n")),
    "a space before the colon of Host": (400, get(fields=b"Host : a\r\n")),
}

_FIELDS = {
    "obs-fold": (400, field(b"X: a\r\n b")),
    "obs-fold by a tab": (400, field(b"X: a\r\n\tb")),
    "obs-fold of Host": (400, get(fields=b"Host:\r\n a\r\n")),
    "obs-fold of a length": (400, post("Content-Length: 4\r\n 3")),
    "obs-fold of a coding": (400, post("Transfer-Encoding:\r\n chunked")),
    "a fold of nothing": (400, field(b"X: a\r\n ")),
    "space before the first field": (400, get(fields=b" Host: a\r\n")),
    "a tab before the colon": (400, field(b"X\t: a")),
    "an FF before the colon": (400, field(b"X\x0c: a")),
    "a space before the colon of a length": (400, post("Content-Length : 43")),
    "a space before the colon of a coding": (400, post("Transfer-Encoding : chunked")),
    "a NUL before the colon of a coding": (400, post("Transfer-Encoding\0: chunked")),
    "a VT before a coding's name": (400, post("\x0bTransfer-Encoding: chunked")),
    "an NBSP before a coding's name": (400, post("\xa0Transfer-Encoding: chunked")),
    "an empty name": (400, field(b": a")),
    "no colon": (400, field(b"nothing")),
    "no colon in a head without end": (400, b"GET / HTTP/1.1\r\nnothing\r\n"),
    "a request for a field": (400, field(b"GET /smuggled HTTP/1.1")),
    "a name that is no token": (400, field(b"X(Y): a")),
    "a name in quotes": (400, field(b'"X": a')),
    "a space in a name": (400, field(b"X Y: a")),
    "a name beyond ASCII": (400, field(b"X\xe9: a")),
    "an escape character in a value": (400, field(b"X: \x1b[31m")),
    "a NUL in a value": (400, field(b"X: a\0b")),
    "a DEL in a value": (400, field(b"X: a\x7fb")),
    "a VT in a value": (400, field(b"X: a\x0bb")),
    "a bare CR in a value": (400, field(b"X: a\rb")),
    "a field hidden by a bare CR": (400, field(b"X: a\rContent-Length: 43") + SMUGGLED),
    "a bare CR in a name": (400, field(b"X\r: a")),
    "a field hidden by a bare LF": (400, field(b"X: a\nContent-Length: 43") + SMUGGLED),
    "bare LFs": (400, b"GET / HTTP/1.1\nHost: a\n\n"),
    "a bare LF after a field": (400, get(fields=b"Host: a\nX: b\r\n")),
    "a bare LF for the empty line": (400, b"GET / HTTP/1.1\r\nHost: a\r\n\n"),
    "a bare CR for the empty line": (400, b"GET / HTTP/1.1\r\nHost: a\r\n\rX"),
    "LF CR for CR LF": (400, b"GET / HTTP/1.1\n\rHost: a\n\r\n\r"),
    "CR CR LF": (400, get(fields=b"Host: a\r\r\n")),
    "a field without end": (431, field(b"X: " + b"a" * 40_000)),
    "a name without end": (431, field(b"X" * 40_000)),
    "more than a hundred fields": (431, get(fields=b"Host: a\r\n" + b"X: y\r\n" * 100)),
    "an unknown expectation": (417, field(b"Expect: 200-maybe")),
    "an unknown expectation among known ones": (417, field(b"Expect: 100-continue, x")),
}

_LENGTHS = {
    **{
        f"Content-Length of {name}": (400, post(f"Content-Length: {value}"))
        for name, value in {
            "nothing": "",
            "a minus": "-1",
            "minus nothing": "-0",
            "a plus": "+43",
            "a hexadecimal prefix": "0x2b",
            "an octal prefix": "0o53",
            "a hexadecimal digit": "2b",
            "an underscore": "4_3",
            "an apostrophe": "4'3",
            "quotes": '"43"',
            "a point": "43.0",
            "an exponent": "43e0",
            "two words": "4 3",
            "a tab within": "4\t3",
            "a superscript": "4\xb3",
            "an NBSP before it": "\xa043",
            "an NBSP after it": "43\xa0",
            "a VT before it": "\x0b43",
            "an FF after it": "43\x0c",
            "a NUL after it": "43\0",
            "a semicolon": "43;",
            "a word": "chunked",
            "two values": "0, 43",
            "two values without a space": "43,0",
            "a comma after it": "43,",
            "a comma before it": ",43",
            "an empty member": "43,,43",
            "two spellings": "43, 043",
        }.items()
    },
    "two lengths": (400, post("Content-Length: 43", "Content-Length: 0")),
    "no length and a length": (400, post("Content-Length: 0", "Content-Length: 43")),
    "two spellings of a length in two lines": (400, post("Content-Length: 43", "Content-Length: +43")),
    "two lengths in HTTP/1.0": (400, post("Content-Length: 0", "Content-Length: 43", version="1.0")),
    "two lengths in two cases": (400, post("Content-Length: 0", "CONTENT-LENGTH: 43")),
    "a length past the limit": (413, post("Content-Length: 99999999")),
    "a length past 32 bits": (413, post("Content-Length: 4294967339")),
    "a length past 64 bits": (413, post("Content-Length: 18446744073709551659")),
    "a length of a thousand digits": (413, post("Content-Length: " + "9" * 1000)),
    "a length past the limit that is to be continued": (413, post("Content-Length: 9999999", "Expect: 100-continue")),
}

_CODINGS = {
    **{
        f"Transfer-Encoding of {name}": (status, post(f"Transfer-Encoding: {value}", content=b"0\r\n\r\n" + SMUGGLED))
        for name, (status, value) in {
            "nothing": (400, ""),
            "gzip": (501, "gzip"),
            "identity": (501, "identity"),
            "gzip and chunked": (501, "gzip, chunked"),
            "identity and chunked": (501, "identity, chunked"),
            "chunked and gzip": (400, "chunked, gzip"),
            "chunked and identity": (400, "chunked, identity"),
            "chunked twice": (400, "chunked, chunked"),
            "xchunked": (501, "xchunked"),
            "chunkedx": (501, "chunkedx"),
            "chunk": (501, "chunk"),
            "x-chunked": (501, "x-chunked"),
            "chunked in quotes": (400, '"chunked"'),
            "chunked with a quote after it": (501, "chunked'"),
            "chunked with a parameter": (400, "chunked;q=1"),
            "chunked with a semicolon": (400, "chunked;"),
            "chunked with a comma after it": (400, "chunked,"),
            "chunked with a comma before it": (400, ",chunked"),
            "two words": (400, "chunked x"),
            "no token": (400, "gz/p, chunked"),
            "gzip, then a space": (400, "gzip chunked"),
            "a colon": (400, ": chunked"),
            "a VT before it": (400, "\x0bchunked"),
            "an FF after it": (400, "chunked\x0c"),
            "an NBSP before it": (400, "\xa0chunked"),
            "a NUL after it": (400, "chunked\0"),
            "a bare CR after it": (400, "chunked\r"),
            "a long s": (400, "chunked\u017f".encode().decode("latin-1")),
            "a dotless chunk": (400, "chun\u212aed".encode().decode("latin-1")),
        }.items()
    },
    "both, the length first": (400, post("Content-Length: 5", CHUNKED, content=b"0\r\n\r\n" + SMUGGLED)),
    "both, the length last": (400, post(CHUNKED, "Content-Length: 5", content=b"0\r\n\r\n" + SMUGGLED)),
    "both, in agreement": (400, post(CHUNKED, "Content-Length: 5", content=b"0\r\n\r\n")),
    "both, the length zero": (400, post("Content-Length: 0", CHUNKED, content=b"2b\r\n" + SMUGGLED)),
    "both, the length bad": (400, post(CHUNKED, "Content-Length: x", content=b"0\r\n\r\n" + SMUGGLED)),
    "both, the coding not known": (400, post("Content-Length: 43", "Transfer-Encoding: xchunked")),
    "both in HTTP/1.0": (400, post(CHUNKED, "Content-Length: 5", content=b"0\r\n\r\n" + SMUGGLED, version="1.0")),
    "chunked in HTTP/1.0": (400, post(CHUNKED, content=b"0\r\n\r\n" + SMUGGLED, version="1.0")),
    "identity in HTTP/1.0": (400, post("Transfer-Encoding: identity", version="1.0")),
    "chunked in two lines": (400, post(CHUNKED, CHUNKED, content=b"0\r\n\r\n" + SMUGGLED)),
    "chunked and identity in two lines": (400, post(CHUNKED, "Transfer-Encoding: identity")),
    "identity and chunked in two lines": (501, post("Transfer-Encoding: identity", CHUNKED)),
    "chunked and nothing in two lines": (400, post(CHUNKED, "Transfer-Encoding:")),
    "chunked of a GET in HTTP/1.0": (400, get(b"GET / HTTP/1.0", b"Transfer-Encoding: chunked\r\n") + b"0\r\n\r\n"),
}

_CHUNKS = {
    **{
        f"a chunk size of {name}": (400, chunks(size + b"\r\n" + SMUGGLED + b"\r\n0\r\n\r\n"))
        for name, size in {
            "nothing": b"",
            "a letter": b"x",
            "a minus": b"-2b",
            "a plus": b"+2b",
            "a prefix": b"0x2b",
            "an underscore": b"2_b",
            "a suffix": b"2bh",
            "a point": b"2b.0",
            "quotes": b'"2b"',
            "two words": b"2 b",
            "a space after it": b"2b ",
            "a tab after it": b"2b\t",
            "a space before it": b" 2b",
            "a tab before it": b"\t2b",
            "a VT before it": b"\x0b2b",
            "an FF after it": b"2b\x0c",
            "an NBSP after it": b"2b\xa0",
            "a NUL after it": b"2b\0",
            "a comma": b"2b,",
            "a superscript": b"2\xb2",
            "a full-width digit": b"\xef\xbc\x92b",
            "seventeen digits": b"0" * 15 + b"2b",
            "a bare CR after it": b"2b\r",
            "an extension without a name": b"2b;",
            "an extension without a value": b"2b;a=",
            "an extension with an open quote": b'2b;a="b',
            "an extension with a quote within": b'2b;a=b"c"',
            "an extension of two words": b"2b;a b",
            "an extension with a NUL": b"2b;a=\0",
            "an extension with a bare CR": b"2b;a=\rb",
            "an extension without a semicolon": b"2b a=b",
            "an extension that hides a line": b'2b;a="\n0"',
        }.items()
    },
    "a chunk size of a letter after CONNECT": (400, request("a:443", CHUNKED, method="CONNECT") + b"x\r\n" + SMUGGLED),
    "a chunk size past 32 bits": (413, chunks(b"10000002b\r\n" + SMUGGLED)),
    "a chunk size past 64 bits": (400, chunks(b"1000000000000002b\r\n" + SMUGGLED)),
    "a chunk size of all bits": (413, chunks(b"ffffffffffffffff\r\n" + SMUGGLED)),
    "a chunk past the limit": (413, chunks(b"100001\r\n" + SMUGGLED)),
    "extensions without end": (413, chunks(b"1;a=" + b"b" * 5000)),
    "an extension in each of many chunks": (413, chunks(b"1;a=b\r\nx\r\n" * 2000)),
    "a bare LF after a chunk size": (400, chunks(b"2b\n" + SMUGGLED + b"\r\n0\r\n\r\n")),
    "a bare LF after a chunk": (400, chunks(b"1\r\na\n0\r\n\r\n" + SMUGGLED)),
    "a bare CR after a chunk": (400, chunks(b"1\r\na\r0\r\n\r\n" + SMUGGLED)),
    "no CR LF after a chunk": (400, chunks(b"1\r\na0\r\n\r\n" + SMUGGLED)),
    "two CR LF after a chunk": (400, chunks(b"1\r\na\r\n\r\n0\r\n\r\n" + SMUGGLED)),
    "a chunk longer than its size": (400, chunks(b"1\r\nab\r\n0\r\n\r\n" + SMUGGLED)),
    "a chunk shorter than its size": (400, chunks(b"3\r\na\r\n0\r\n\r\n" + SMUGGLED)),
    "bare LFs at the end": (400, chunks(b"0\n\n" + SMUGGLED)),
    "a bare LF after the last size": (400, chunks(b"0\n\r\n" + SMUGGLED)),
    "a bare LF for the last line": (400, chunks(b"0\r\n\n" + SMUGGLED)),
    "a request for the last line": (400, chunks(b"0\r\n" + SMUGGLED)),
    "a trailer without a colon": (400, chunks(b"0\r\nnothing\r\n\r\n" + SMUGGLED)),
    "a trailer with a space before its colon": (400, chunks(b"0\r\nX : y\r\n\r\n" + SMUGGLED)),
    "a folded trailer": (400, chunks(b"0\r\nX: y\r\n z\r\n\r\n" + SMUGGLED)),
    "a folded first trailer": (400, chunks(b"0\r\n X: y\r\n\r\n" + SMUGGLED)),
    "a trailer with a bare LF": (400, chunks(b"0\r\nX: y\n\r\n" + SMUGGLED)),
    "a trailer with a bare CR": (400, chunks(b"0\r\nX: y\rZ: y\r\n\r\n" + SMUGGLED)),
    "a trailer with a NUL": (400, chunks(b"0\r\nX: \0\r\n\r\n" + SMUGGLED)),
    "a trailer without a name": (400, chunks(b"0\r\n: y\r\n\r\n" + SMUGGLED)),
    "trailers without end": (431, chunks(b"0\r\n" + b"X: y\r\n" * 2000)),
}

REFUSED: dict[str, tuple[int, bytes]] = {
    **_REQUEST_LINES,
    **_TARGETS,
    **_HOSTS,
    **_FIELDS,
    **_LENGTHS,
    **_CODINGS,
    **_CHUNKS,
}
"""What is to be refused, and with which status."""
