"""What a web server opens and closes: nothing is left of it, whatever goes wrong in between."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from aiolsp.static.policy import ScriptDirectoryError
from aiolsp.websettings import Settings
from aiolsp.website import close_root, leave, listen_at, open_root, url_of
from webhost import descriptors


def test_what_was_opened_is_closed_with_the_directory_of_programs(tmp_path: Path) -> None:
    (tmp_path / "cgi").mkdir()
    before = descriptors()
    root = open_root(tmp_path, Settings(cgi_dir=str(tmp_path / "cgi")), small=100)
    assert root.scripts is not None and root.small == 100
    close_root(root)
    assert descriptors() == before


def test_what_cannot_be_opened_leaves_nothing_open(tmp_path: Path) -> None:
    before = descriptors()
    with pytest.raises(FileNotFoundError):
        open_root(tmp_path / "missing", Settings(cgi_dir=str(tmp_path)))
    with pytest.raises(ScriptDirectoryError):
        open_root(tmp_path, Settings(cgi_dir=str(tmp_path / "missing")))
    assert descriptors() == before


def test_a_unix_socket_is_closed_and_removed_once(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    (listener,) = listen_at("", 0, path)
    assert url_of(listener.getsockname()) == f"unix:{path}"
    for _ in range(2):
        leave([listener], path)
    assert listener.fileno() < 0 and not list(tmp_path.iterdir())


def test_an_address_is_a_url() -> None:
    listeners = listen_at("127.0.0.1", 0, None)
    for listener in listeners:
        with listener:
            host, port = listener.getsockname()
            assert url_of((host, port)) == f"http://127.0.0.1:{port}/"


def test_a_unix_socket_of_another_server_stays(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    ours = listen_at("", 0, path)
    os.unlink(path)
    theirs = listen_at("", 0, path)
    leave(ours, path)
    assert (tmp_path / "socket").is_socket()
    leave(theirs, path)
    (tmp_path / "socket").write_text("a file")
    leave([], path)
    assert (tmp_path / "socket").read_text() == "a file"
