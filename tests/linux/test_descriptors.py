"""Room for descriptors, as the kernel tells of it in /proc; each test in a process of its own, whose table is small."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import os, re, resource
from aiolsp.linux.descriptors import make_room

def places():
    return int(re.search(r"FDSize:\\s*(\\d+)", open("/proc/self/status").read())[1])

assert places() <= 1024
before = os.listdir("/proc/self/fd")
"""


def run(rest: str) -> None:
    """Run SCRIPT and *rest*."""
    subprocess.run([sys.executable, "-c", SCRIPT + rest + "\nassert os.listdir('/proc/self/fd') == before"], check=True)


def test_the_table_holds_what_was_asked_for() -> None:
    run("make_room(5000); assert 5000 <= places() <= 8192")


def test_no_more_than_the_process_may_have() -> None:
    run("resource.setrlimit(resource.RLIMIT_NOFILE, (1500, 1500)); make_room(5000); assert 1500 <= places() <= 2048")


def test_without_a_descriptor_to_spare_it_does_nothing() -> None:
    run(
        "_, most = resource.getrlimit(resource.RLIMIT_NOFILE); resource.setrlimit(resource.RLIMIT_NOFILE, (3, most))\n"
        "make_room(5000); resource.setrlimit(resource.RLIMIT_NOFILE, (most, most)); assert places() <= 1024"
    )
