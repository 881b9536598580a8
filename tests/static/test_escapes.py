"""No target leads out of the root, nor a name that changes; by sockets: tests/websrv/test_escapes.py."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from aiolsp.http1.target import RequestTarget, directory_location, parse_target
from aiolsp.static.policy import Policy
from aiolsp.static.representation import Wanted
from aiolsp.static.resource import DocumentRoot
from escaping import MAY_LEAVE, SECRET, make_site, targets

TRIES = 20_000


@pytest.fixture
def root(tmp_path: Path) -> Iterator[DocumentRoot]:
    site = make_site(tmp_path)
    opened = DocumentRoot(str(site), Policy(), small=1 << 20)
    yield opened
    opened.close()


def body_of(root: DocumentRoot, target: RequestTarget) -> bytes:
    """What is sent for *target*, which is in memory for all that is so small."""
    resource = root.load(Wanted(target))
    resource.close()
    assert resource.outline.status in (200, 308, 404) and resource.body is not None
    return resource.body


def test_no_target_of_many_leads_out_or_breaks_a_line(root: DocumentRoot) -> None:
    asked = set()
    for raw in targets(8, TRIES, broken=0.2):
        target = parse_target(raw)
        if target is None:
            continue
        assert not {b"", b".", b".."} & set(target.segments) and b"\0" not in b"".join(target.segments), raw
        assert not directory_location(target).startswith(b"//") and not set(b"\r\n\0") & set(directory_location(target))
        if target.nameable and (target.segments, target.is_directory) not in asked:
            asked.add((target.segments, target.is_directory))
            assert SECRET not in body_of(root, target), raw
    assert len(asked) > 1000


@pytest.mark.parametrize("target", [b"/name", b"/name/secret.txt"], ids=["file", "directory"])
def test_a_name_that_turns_into_a_link_while_it_is_asked_for_never_leads_out(
    root: DocumentRoot, tmp_path: Path, target: bytes
) -> None:
    name, link = tmp_path / "site" / "name", tmp_path / "site" / ("up" if target.endswith(b"txt") else "link")
    if target.endswith(b"txt"):
        name.mkdir()
        (name / "secret.txt").write_bytes(MAY_LEAVE)
    else:
        name.write_bytes(MAY_LEAVE)
    wanted = parse_target(target)
    assert wanted is not None
    stop = threading.Event()

    def swap() -> None:
        aside = tmp_path / "aside"
        while not stop.is_set():
            for source, place in ((name, aside), (link, name), (name, link), (aside, name)):
                source.rename(place)

    swapper = threading.Thread(target=swap)
    swapper.start()
    bodies: set[bytes] = set()
    try:
        for tries in range(100_000):
            if tries >= 3000 and MAY_LEAVE in bodies:
                break
            bodies.add(body_of(root, wanted))
    finally:
        stop.set()
        swapper.join()
    assert MAY_LEAVE in bodies and not any(SECRET in body for body in bodies)
