"""Event flags by name."""

from __future__ import annotations

import select

import pytest

from aiolsp.linux.epoll_flags import flag_names


@pytest.mark.parametrize("name", [name for name in dir(select) if name.startswith("EPOLL") and name != "EPOLL_CLOEXEC"])
def test_every_flag_that_python_knows_has_its_name(name: str) -> None:
    assert flag_names(getattr(select, name)) == name


@pytest.mark.parametrize("name", [name for name in dir(select) if name.startswith("POLL")])
def test_poll_s_flags_have_their_names(name: str) -> None:
    assert flag_names(getattr(select, name), "POLL") == name


def test_several_flags_are_joined_and_unknown_bits_are_shown() -> None:
    assert flag_names(select.EPOLLIN | select.EPOLLET) == "EPOLLIN|EPOLLET"
    assert flag_names(select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLHUP) == "EPOLLIN|EPOLLHUP|EPOLLRDHUP"
    assert flag_names(1 << 20 | 1 << 21 | select.EPOLLOUT) == "EPOLLOUT|0x300000"
    assert flag_names(0) == "0"
