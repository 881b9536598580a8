"""Processor time is read to more than the ticks of /proc, of which a short run has one or none."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from load.plan import Target
from load.usage import UsageMeter, process_seconds

WORK = 0.003
"""Seconds of processor time; /proc counts in steps of 0.01."""


def test_the_generators_own_time_is_exact() -> None:
    meter = UsageMeter(Target("http", "192.0.2.1", 80))
    before, end = meter.read(), time.process_time() + WORK
    while time.process_time() < end:
        pass
    assert WORK <= meter.read().generator - before.generator < 3 * WORK


def test_the_time_of_another_process_is_exact() -> None:
    assert process_seconds(os.getpid()) == pytest.approx(time.process_time(), abs=WORK)
    code = "import time\nwhile time.process_time() < 0.5: pass\nprint(time.process_time(), flush=True)\ninput()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        told = float(process.stdout.readline())
        assert process_seconds(process.pid) == pytest.approx(told, abs=WORK)
        process.communicate(b"\n")
    with pytest.raises(OSError, match="Invalid argument"):
        process_seconds(process.pid)
