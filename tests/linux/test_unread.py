"""What waits to be read is counted, in a pipe as in a socket."""

from __future__ import annotations

import os
import socket

import pytest

from aiolsp.linux.unread import unread


def test_what_waits_in_a_pipe_is_counted_also_when_its_writer_has_gone() -> None:
    read, write = os.pipe()
    with open(read, "rb", buffering=0) as reader:
        with open(write, "wb", buffering=0) as writer:
            writer.write(b"x" * 1000)
        assert unread(reader.fileno()) == 1000
        reader.read(999)
        assert unread(reader.fileno()) == 1
        reader.read(1)
        assert unread(reader.fileno()) == 0


def test_what_waits_in_the_receive_buffer_of_a_connection_is_counted() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as peer:
        ours, _ = listener.accept()
        with ours:
            assert unread(ours.fileno()) == 0
            peer.sendall(b"x" * 35)
            assert ours.recv(1, socket.MSG_PEEK) == b"x"  # it has come
            assert unread(ours.fileno()) == 35


def test_a_closed_descriptor_is_an_error() -> None:
    read, write = os.pipe()
    os.close(write)
    os.close(read)
    with pytest.raises(OSError):
        unread(read)
