"""wrk as the generator: a tenth of the cost of any client in Python, and no look at what comes back but the status.

A Lua script hands out the requests of a plan, byte for byte those of the wire client, and writes down the whole
distribution of latencies (in microseconds, as wrk keeps it; wrk adds samples that it guesses it has omitted). wrk is a
closed loop; each run opens connections of its own.
"""

from __future__ import annotations

import math
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from aiolsp.linux.scratch import scratch
from load.histogram import Histogram
from load.plan import NUMBER, Plan
from load.server_process import ServerTrouble

PIECES, REQUESTS = b"\x01", b"\x00"
"""Separators in the file of requests: no request of a plan has them."""

SCRIPT = """\
local requests, n, depth = {}, 0, %(depth)d
for text in io.open("%(file)s", "rb"):read("*a"):gmatch("[^%%z]+") do
  local pieces = {}
  for piece in text:gmatch("[^\\1]+") do pieces[#pieces + 1] = piece end
  requests[#requests + 1] = pieces
end
local function one()
  n = n + 1
  return table.concat(requests[(n - 1) %% #requests + 1], n)
end
local batch = {}
function request()
  for index = 1, depth do batch[index] = one() end
  return table.concat(batch)
end
if #requests == 1 and #requests[1] == 1 then
  local always = string.rep(one(), depth)
  function request() return always end
end
function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format("\\nTOTAL %%d %%d %%d %%d %%d\\n", summary.requests, summary.bytes, summary.duration,
    errors.status, errors.connect + errors.read + errors.write + errors.timeout))
  for index = 1, #latency do io.write(string.format("LATENCY %%d %%d\\n", latency(index))) end
end
"""

_TOTAL = re.compile(r"^TOTAL (\d+) (\d+) (\d+) (\d+) (\d+)$", re.MULTILINE)
_LATENCY = re.compile(r"^LATENCY (\d+) (\d+)$", re.MULTILINE)


@dataclass
class WrkResult:
    """What a run of wrk told."""

    answers: int
    octets: int
    """All that came, also of answers that were under way at the end."""
    elapsed: int
    """Nanoseconds."""
    bad_statuses: int
    """Answers of 400 and above, whatever was asked for."""
    errors: int
    """Connections that failed, and answers that never came."""
    latency: Histogram


def installed() -> bool:
    """Whether there is a wrk to run."""
    return shutil.which("wrk") is not None


@contextmanager
def wrk_script(plan: Plan) -> Iterator[Path]:
    """The script for a plan, in a directory of its own."""
    with scratch("wrk-") as directory:
        requests, script = directory / "requests", directory / "script.lua"
        ready = [plan.request_bytes(path) for path in plan.paths]
        requests.write_bytes(
            REQUESTS.join(request.replace(NUMBER, PIECES) if plan.numbered else request for request in ready)
        )
        script.write_text(SCRIPT % {"depth": plan.pipeline, "file": requests})
        yield script


def run_wrk(plan: Plan, script: Path, seconds: float) -> str:
    """Load as *plan* says for so long; what wrk printed, for ``parse_wrk``."""
    command = ["wrk", "-t1", f"-c{plan.connections}", f"-d{math.ceil(seconds) + 1}s", "-s", str(script), plan.url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        # Its own durations are whole seconds; at SIGINT it ends and reports as at the end of one.
        time.sleep(seconds)
        process.send_signal(signal.SIGINT)
        return process.communicate()[0]


def parse_wrk(text: str) -> WrkResult:
    """What the script of ``wrk_script`` wrote. Raises ServerTrouble if it did not, or if nothing was answered."""
    total = _TOTAL.search(text)
    if total is None:
        raise ServerTrouble(f"wrk: {(text.strip().splitlines() or ['it said nothing'])[-1]}")
    answers, octets, microseconds, bad, errors = map(int, total.groups())
    if not answers:
        raise ServerTrouble("wrk: no answer")
    latency = Histogram()
    for value, count in _LATENCY.findall(text):
        latency.record_many(int(value) * 1000, int(count))
    return WrkResult(answers, octets, microseconds * 1000, bad, errors, latency)
