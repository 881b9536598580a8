"""Which target runs which program, what is refused, and that no source is ever served as a file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from aiolsp.http1.cgi import Ends, ScriptPath
from aiolsp.http1.limits import Limits
from aiolsp.http1.messages import ProtocolError, Request
from aiolsp.http1.parser import RequestParser
from aiolsp.http1.target import parse_target
from aiolsp.static.policy import Policy, ScriptDirectoryError
from aiolsp.static.representation import Wanted
from aiolsp.static.resource import DocumentRoot
from aiolsp.static.scripts import Launched, Scripts
from webhost import descriptors

SECRET = "#!/bin/sh\necho secret\n"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    root = tmp_path / "site"
    for directory in ("cgi-bin/sub", "htbin", "files"):
        (root / directory).mkdir(parents=True)
    for name in ("cgi-bin/run", "cgi-bin/sub/deep", "htbin/run", "files/run"):
        (root / name).write_text(SECRET)
        (root / name).chmod(0o755)
    (root / "cgi-bin/data.txt").write_text("secret")
    (root / "cgi-bin/broken").write_bytes(b"\x7fno program")
    (root / "cgi-bin/broken").chmod(0o755)
    (root / "cgi-bin/orphan").write_text("#!/no/such/interpreter\n")
    (root / "cgi-bin/orphan").chmod(0o755)
    (root / "cgi-bin/link").symlink_to("run")
    (root / "way").symlink_to("cgi-bin")
    (root / "files/straight").symlink_to("../cgi-bin/run")
    return root


@pytest.fixture
def scripts(site: Path) -> Iterator[Scripts]:
    opened = Scripts(os.fspath(site))
    yield opened
    opened.close()


def request_for(target: str) -> Request:
    (request, *_) = RequestParser(Limits()).feed(f"GET {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    assert isinstance(request, Request)
    return request


def whole(fd: int) -> bytes:
    """All that comes by our end of a pipe."""
    os.set_blocking(fd, True)
    with open(fd, "rb") as pipe:
        return pipe.read()


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/cgi-bin/run", ScriptPath(b"cgi-bin", b"run", b"")),
        ("/htbin/run?a/b", ScriptPath(b"htbin", b"run", b"")),
        ("/cgi-bin/run/", ScriptPath(b"cgi-bin", b"run", b"/")),
        ("/cgi-bin/run/a%20b/c?q", ScriptPath(b"cgi-bin", b"run", b"/a b/c")),
        ("/%63gi-bin/r%75n/a/", ScriptPath(b"cgi-bin", b"run", b"/a/")),
        ("//files/..//cgi-bin/./run//x", ScriptPath(b"cgi-bin", b"run", b"/x")),
        ("http://host/cgi-bin/run", ScriptPath(b"cgi-bin", b"run", b"")),
        ("/cgi-bin/../cgi-bin/run", ScriptPath(b"cgi-bin", b"run", b"")),
        ("/cgi-bin/run/../../files/run", None),
        ("/files/cgi-bin/run", None),
        ("/", None),
        ("/CGI-BIN/run", None),
        ("/cgi-bin%00/run", None),
    ],
)
def test_a_target_is_cut_into_the_program_and_what_follows(
    scripts: Scripts, target: str, path: ScriptPath | None
) -> None:
    assert scripts.route(target.encode()) == path


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/cgi-bin", 404),
        ("/cgi-bin/", 404),
        ("/cgi-bin/.hidden", 404),
        ("/cgi-bin/a%2Fb", 404),
        ("/cgi-bin/run/a%2Fb", 404),
        ("/cgi-bin/run/a%0d%0aSet-Cookie:%20x", 404),
        ("/cgi-bin/nph-run", 403),
    ],
)
def test_a_target_that_no_program_can_have_is_refused(scripts: Scripts, target: str, status: int) -> None:
    fault = scripts.route(target.encode())
    assert isinstance(fault, ProtocolError) and fault.status == status


@pytest.mark.parametrize(
    ("name", "status"),
    [("missing", 404), ("sub", 404), ("link", 404), ("data.txt", 403), ("broken", 500), ("orphan", 500)],
)
def test_what_is_no_program_is_not_started(scripts: Scripts, name: str, status: int) -> None:
    path = scripts.route(f"/cgi-bin/{name}".encode())
    assert isinstance(path, ScriptPath)
    before = descriptors()
    fault = scripts.start(path, request_for(f"/cgi-bin/{name}"), Ends(None, None), 5)
    assert descriptors() == before
    assert isinstance(fault, ProtocolError) and fault.status == status


def test_a_program_gets_its_variables_and_a_path_and_nothing_else(
    site: Path, scripts: Scripts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "x")
    (site / "cgi-bin/env").write_text("#!/bin/sh\nenv\n")
    (site / "cgi-bin/env").chmod(0o755)
    path = ScriptPath(b"cgi-bin", b"env", b"/\xff")
    launched = scripts.start(path, request_for("/"), Ends(None, None), 0)
    assert isinstance(launched, Launched) and launched.stdin == -1
    lines = whole(launched.stdout).splitlines()
    assert whole(launched.stderr) == b"" and launched.program.finish() == 0
    assert b"PATH=" + os.fsencode(os.environ["PATH"]) in lines and b"PATH_INFO=/\xff" in lines
    assert b"PATH_TRANSLATED=" + os.fsencode(site) + b"/\xff" in lines and b"GATEWAY_INTERFACE=CGI/1.1" in lines
    assert not any(line.startswith(b"SECRET_TOKEN") for line in lines)


@pytest.mark.parametrize(
    "target",
    ["/cgi-bin/run", "/cgi-bin/data.txt", "/cgi-bin/sub/deep", "/cgi-bin/", "/cgi-bin", "/htbin/run",
     "/way/run", "/way/", "/way/sub/deep", "/files/straight"],
)  # fmt: skip
def test_no_file_of_a_directory_of_programs_is_served(site: Path, scripts: Scripts, target: str) -> None:
    root = DocumentRoot(os.fspath(site), Policy(follow_symlinks=True), small=1 << 20, scripts=scripts)
    wanted = parse_target(target.encode())
    assert wanted is not None
    resource = root.load(Wanted(wanted))
    root.close()
    assert resource.outline.status == 404 and b"secret" not in (resource.body or b"")


def test_a_program_reads_a_body_and_writes_to_both_streams(site: Path, scripts: Scripts) -> None:
    (site / "cgi-bin/both").write_text("#!/bin/sh\ncat; echo sad >&2; exit 3\n")
    (site / "cgi-bin/both").chmod(0o755)
    before = descriptors()
    launched = scripts.start(ScriptPath(b"cgi-bin", b"both", b""), request_for("/"), Ends(None, None), 5)
    assert isinstance(launched, Launched)
    assert not any(map(os.get_blocking, (launched.stdin, launched.stdout, launched.stderr)))
    os.write(launched.stdin, b"hello")
    os.close(launched.stdin)
    assert (whole(launched.stdout), whole(launched.stderr)) == (b"hello", b"sad\n")
    assert launched.program.finish() == 3 and descriptors() == before


def test_a_file_elsewhere_is_served_and_no_directory_of_programs_is_listed(site: Path, scripts: Scripts) -> None:
    root = DocumentRoot(os.fspath(site), Policy(), small=1 << 20, scripts=scripts)
    page, file = (root.load(Wanted(target)) for name in (b"/", b"/files/run") if (target := parse_target(name)))
    root.close()
    assert page.body is not None and b"files/" in page.body
    assert b"cgi-bin" not in page.body and b"htbin" not in page.body
    assert file.body == SECRET.encode()


def test_a_directory_of_ones_own_is_hidden_wherever_it_stands_in_the_site(site: Path) -> None:
    scripts = Scripts(os.fspath(site), os.fspath(site / "files"))
    root = DocumentRoot(os.fspath(site), Policy(), small=1 << 20, scripts=scripts)
    assert scripts.route(b"/cgi-bin/run") == ScriptPath(b"cgi-bin", b"run", b"")
    assert scripts.route(b"/htbin/run") is None
    for name, status in ((b"/files/run", 404), (b"/cgi-bin/run", 404), (b"/htbin/run", 200)):
        target = parse_target(name)
        assert target is not None and root.load(Wanted(target)).outline.status == status
    root.close()
    scripts.close()


def test_a_directory_that_cannot_hold_programs_is_refused_in_one_line(site: Path, tmp_path: Path) -> None:
    for directory, words in (
        (tmp_path / "missing", "no such file or directory"),
        (site / "files/run", "not a directory"),
        (site, "whose files are to be served"),
        (tmp_path, "whose files are to be served"),
    ):
        with pytest.raises(ScriptDirectoryError, match=words):
            Scripts(os.fspath(site), os.fspath(directory))


@pytest.mark.parametrize("file", ["other", "cgi-bin"])
def test_a_site_without_such_directories_has_no_programs(tmp_path: Path, file: str) -> None:
    (tmp_path / file).touch()
    scripts = Scripts(os.fspath(tmp_path))
    path = scripts.route(b"/cgi-bin/run")
    assert isinstance(path, ScriptPath)
    fault = scripts.start(path, request_for("/"), Ends(None, None), 0)
    assert isinstance(fault, ProtocolError) and fault.status == 404
    scripts.close()


def test_a_site_with_programs_stays_the_one_whose_programs_they_are(site: Path) -> None:
    scripts = Scripts(os.fspath(site))
    root = DocumentRoot(os.fspath(site), Policy(), scripts=scripts, look_always=True)
    site.rename(site.with_name("old"))
    (site / "files").mkdir(parents=True)
    (site / "files" / "new.txt").touch()
    target = parse_target(b"/files/new.txt")
    assert target is not None
    assert root.load(Wanted(target)).outline.status == 404
    root.close()
    scripts.close()
