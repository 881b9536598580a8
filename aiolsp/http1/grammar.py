"""The grammar: each expression under the name of its production in RFC 9110, 9112, 3986 or 5234.

Fragments are bytes in lower case, to be put together; what is matched against input is compiled, in upper case, below.
A comment marks each departure from the RFC. All are to be tried on bytes in which CrlfSplitter found no control
character, hence none lists them. No expression can match one input in two ways, so none takes more than linear time.
"""

from __future__ import annotations

import re

from aiolsp.http1.expressions import expression

# RFC 5234 B.1, RFC 9110 5.6.3
hexdig = rb"[0-9A-Fa-f]"
ows = bws = rb"[ \t]*"

# RFC 9110 5.6.2
tchar = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
token = tchar + rb"+"

# RFC 9110 5.6.4
qdtext = rb"[\t !#-\[\]-~\x80-\xff]"
quoted_pair = rb"\\[\t -~\x80-\xff]"
quoted_string = rb'"' + qdtext + rb"*(?:" + quoted_pair + qdtext + rb'*)*"'

# RFC 9110 5.5. The white space after a value is in the match and stripped by the functions below: an expression that
# ends in a visible character looks ahead at every space.
field_name = token
field_value = rb"(?:[!-~\x80-\xff][\t -~\x80-\xff]*)?"

# RFC 9112 5: nothing may stand between name and colon, and obs-fold (5.2) is refused, as a line that starts with
# white space has no name.
field_line = rb"(" + field_name + rb"):" + ows + rb"(" + field_value + rb")"

# RFC 3986 2.1 to 2.3. Without the comma in a host, which the RFC allows but no name has: it is what joining two Host
# lines into one leaves behind.
pct_encoded = rb"%" + hexdig + hexdig
reg_name_char = rb"[0-9A-Za-z\-._~!$&'()*+;=]"

# RFC 3986 3.2.2. IPv4address is a reg-name too, so it needs no alternative of its own.
dec_octet = rb"(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
ipv4_address = dec_octet + rb"(?:\." + dec_octet + rb"){3}"
h16 = hexdig + rb"{1,4}"
ls32 = rb"(?:" + h16 + rb":" + h16 + rb"|" + ipv4_address + rb")"
ipv6_address = rb"(?:%s)" % rb"|".join(
    (
        rb"(?:%s:){6}%s" % (h16, ls32),
        rb"::(?:%s:){5}%s" % (h16, ls32),
        rb"(?:%s)?::(?:%s:){4}%s" % (h16, h16, ls32),
        rb"(?:(?:%s:){0,1}%s)?::(?:%s:){3}%s" % (h16, h16, h16, ls32),
        rb"(?:(?:%s:){0,2}%s)?::(?:%s:){2}%s" % (h16, h16, h16, ls32),
        rb"(?:(?:%s:){0,3}%s)?::%s:%s" % (h16, h16, h16, ls32),
        rb"(?:(?:%s:){0,4}%s)?::%s" % (h16, h16, ls32),
        rb"(?:(?:%s:){0,5}%s)?::%s" % (h16, h16, h16),
        rb"(?:(?:%s:){0,6}%s)?::" % (h16, h16),
    )
)
ipvfuture = rb"[vV]" + hexdig + rb"+\.[0-9A-Za-z\-._~!$&'()*+,;=:]+"
ip_literal = rb"\[(?:" + ipv6_address + rb"|" + ipvfuture + rb")\]"
reg_name = reg_name_char + rb"*(?:" + pct_encoded + reg_name_char + rb"*)*"
uri_host = rb"(?:" + ip_literal + rb"|" + reg_name + rb")"
# A port is any number of digits in the RFC; none has more than five.
port = rb"[0-9]{0,5}"

literal_host = ip_literal + rb"(?::" + port + rb")?"
# RFC 9110 4.2.1, 4.2.4: the authority of an http URI has no user information, and its host is not empty.
authority = rb"(?!:)" + uri_host + rb"(?::" + port + rb")?"
# RFC 9112 3.2.3: the port must be there.
authority_form = rb"(?!:)" + uri_host + rb":[0-9]{1,5}"

# RFC 9112 3.2. Wider than the RFC: any visible ASCII character, because browsers and curl send | [ ] { } ^ " \ as they
# are; but a % must begin an escape. Without #, which some readers take for the end of the path.
target_char = rb'[!"$&-~]'
request_target = target_char + rb"*(?:" + pct_encoded + target_char + rb"*)*"

# RFC 9112 2.3, 3. One space each, no more and no other white space, although 3 allows a lenient reader.
http_version = rb"HTTP/([0-9])\.([0-9])"
request_line = rb"(" + token + rb") (" + request_target + rb") " + http_version

# RFC 9112 3.2.1, with its query, in a version that is read as HTTP/1.1. CONNECT has no such target (3.2.3).
origin_form = rb"/" + request_target
usual_request_line = rb"(?!CONNECT )(" + token + rb") (" + origin_form + rb") HTTP/1\.[1-9]"

# RFC 9112 7.1, 7.1.1. Sixteen digits are 16 EiB: more can only be zeros or nonsense.
chunk_size = hexdig + rb"{1,16}"
chunk_ext_val = rb"(?:" + token + rb"|" + quoted_string + rb")"
chunk_ext = rb"(?:" + bws + rb";" + bws + token + rb"(?:" + bws + rb"=" + bws + chunk_ext_val + rb")?)*"

# Compiled at once is what every request needs; of the others, those with an IPv6 address take the longest.
REQUEST_LINE = expression(request_line)
REQUEST_LINE_CRLF = expression(request_line + rb"\r\n")
USUAL_REQUEST_LINE_CRLF = re.compile(usual_request_line + rb"\r\n")
FIELD_LINE = expression(field_line)
FIELD_LINES = re.compile(rb"^" + field_line + rb"\r\n", re.MULTILINE)
"""For findall. Each match is one whole line: so all lines of a text match if it has as many matches as LF."""

NAMED_HOST = re.compile(reg_name + rb"(?::" + port + rb")?")
LITERAL_HOST = expression(literal_host)
"""RFC 9110 7.2, for names and for IP literals: see `is_host`."""
AUTHORITY = expression(authority)
AUTHORITY_FORM = expression(authority_form)
ABSOLUTE_FORM = expression(rb"[Hh][Tt][Tt][Pp][Ss]?://([^/?]+)(?:[/?].*)?")
"""RFC 9112 3.2.2, for the two schemes of RFC 9110 4.2; group 1 is to be matched by authority."""

CONTENT_LENGTH = expression(rb"[0-9]+")
"""RFC 9110 8.6."""
TRANSFER_CODING = expression(token)
"""RFC 9112 7, without transfer-parameter: chunked takes none, and no other coding is known here."""
CHUNK_LINE = expression(rb"(" + chunk_size + rb")" + chunk_ext)
"""RFC 9112 7.1: chunk or last-chunk without its CR LF; group 1 is the size."""

Pair = tuple[bytes, bytes]


def is_host(value: bytes) -> bool:
    """Whether *value* is right for a Host field (RFC 9110 7.2)."""
    return bool(LITERAL_HOST.fullmatch(value) if value[:1] == b"[" else NAMED_HOST.fullmatch(value))


def field_pair(line: bytes) -> Pair | None:
    """The lower-cased name and the value of a field line without its CR LF; None if it is none."""
    found = FIELD_LINE.fullmatch(line)
    return (found[1].lower(), found[2].rstrip()) if found else None


def field_pairs(lines: bytes) -> list[Pair] | None:
    """The pairs of all field *lines*, down to the empty one that ends them; None if any is wrong."""
    found = FIELD_LINES.findall(lines)
    if len(found) + 1 != lines.count(b"\n"):
        return None
    return [(name.lower(), value.rstrip()) for name, value in found]


def field_fault(line: bytes) -> str:
    """Why *line* is no field line, for a person."""
    name, colon, _ = line.partition(b":")
    if line[:1] in (b" ", b"\t"):
        return "a line starts with white space (obs-fold)"
    if not colon:
        return "a field line has no colon"
    if not name:
        return "a field name is empty"
    if name[-1:] in (b" ", b"\t"):
        return "white space before the colon of a field"
    return "a field name holds a character it must not"
