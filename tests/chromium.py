"""A real browser for tests of pages: headless Chromium, driven over its DevTools protocol, on two pipes.

https://chromedevtools.github.io/devtools-protocol/ : JSON messages, each ended by a NUL (``--remote-debugging-pipe``:
the browser reads descriptor 3 and writes descriptor 4).
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness import DEADLINE

FLAGS = (
    "--headless",
    "--no-sandbox",  # CI runs as root, which the sandbox refuses
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--remote-debugging-pipe",
)

PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Chromium:
    """A running browser; see `chromium`."""

    def __init__(self, profile: Path) -> None:
        assert PROGRAM is not None
        theirs_in, self._to = os.pipe()
        self._from, theirs_out = os.pipe()
        # Away from 3 and 4 first, so that neither overwrites the other.
        ends = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10) for fd in (theirs_in, theirs_out)]
        self._process = subprocess.Popen(
            [PROGRAM, *FLAGS, f"--user-data-dir={profile}", "about:blank"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            close_fds=False,
            start_new_session=True,
            preexec_fn=lambda: [os.dup2(end, number) for number, end in enumerate(ends, 3)],
        )
        for fd in (theirs_in, theirs_out, *ends):
            os.close(fd)
        self._rest = b""
        self._number = 0
        self.events: list[dict[str, Any]] = []
        """What it told unasked, and nobody has taken."""

    def call(self, method: str, session: str = "", **params: Any) -> Any:
        """The result of a method of the protocol; AssertionError if it fails or does not come."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if session:
            message["sessionId"] = session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive(f"an answer to {method}")
            if answer.get("id") == self._number:
                assert "error" not in answer, (method, answer)
                return answer["result"]
            self.events.append(answer)

    def _receive(self, what: str) -> Any:
        end = time.monotonic() + DEADLINE
        while b"\0" not in self._rest:
            readable, _, _ = select.select([self._from], [], [], max(0.0, end - time.monotonic()))
            assert readable, f"the browser never gave {what}"
            data = os.read(self._from, 1 << 20)
            assert data, f"the browser ended before it gave {what}"
            self._rest += data
        message, self._rest = self._rest.split(b"\0", 1)
        return json.loads(message)

    def close(self) -> None:
        """End it."""
        os.close(self._to)
        try:
            self._process.wait(DEADLINE / 4)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, 9)
            self._process.wait(DEADLINE)
        os.close(self._from)


class Tab:
    """A page in the browser, and what it complained of."""

    def __init__(self, browser: Chromium) -> None:
        self._browser = browser
        self._target = browser.call("Target.createTarget", url="about:blank")["targetId"]
        answer = browser.call("Target.attachToTarget", targetId=self._target, flatten=True)
        self._session = answer["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> Any:
        """The result of a method of the protocol, for this page."""
        return self._browser.call(method, self._session, **params)

    def show(self, url: str, *, width: int = 1400, height: int = 1000, dark: bool = False) -> None:
        """Load *url* in a window of that size and scheme, and wait until it is there."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", **metrics)
        # A page that still scrolls moves away from under the mouse.
        media = {"prefers-color-scheme": "dark" if dark else "light", "prefers-reduced-motion": "reduce"}
        features = [{"name": name, "value": value} for name, value in media.items()]
        self.call("Emulation.setEmulatedMedia", features=features)
        self.call("Page.navigate", url=url)
        self.wait_for(f"location.href.startsWith({json.dumps(url)}) && document.readyState === 'complete'")
        self.evaluate("new Promise(requestAnimationFrame)")

    def evaluate(self, script: str) -> Any:
        """The value of an expression in the page, awaited; AssertionError if it throws."""
        answer = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait_for(self, script: str) -> Any:
        """The value of an expression as soon as it is true of the page."""
        end = time.monotonic() + DEADLINE
        while not (value := self.evaluate(script)):
            assert time.monotonic() < end, f"never true of the page: {script}"
            time.sleep(0.02)
        return value

    def click(self, selector: str) -> None:
        """Press the left button in the middle of the first element that matches."""
        x, y = self.evaluate(
            f"(() => {{ const node = document.querySelector({json.dumps(selector)});"
            "node.scrollIntoView({ block: 'center' }); const box = node.getBoundingClientRect();"
            "return [box.x + box.width / 2, box.y + box.height / 2]; })()"
        )
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def press(self, *keys: str) -> None:
        """Press keys, by their names in the DOM."""
        for key in keys:
            for kind in ("keyDown", "keyUp"):
                self.call("Input.dispatchKeyEvent", type=kind, key=key)

    def complaints(self) -> list[str]:
        """Errors and warnings on its console so far, and exceptions that nothing caught."""
        self.evaluate("new Promise(requestAnimationFrame)")
        found = []
        for event in self._browser.events:
            params = event.get("params", {})
            if event.get("sessionId") != self._session:
                continue
            if event["method"] == "Runtime.exceptionThrown":
                found.append(json.dumps(params["exceptionDetails"]))
            elif event["method"] == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
                found.append(params["entry"]["text"])
            elif event["method"] == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning"):
                found.append(json.dumps(params["args"]))
        return found

    def screenshot(self, path: Path) -> None:
        """Save what it looks like."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))

    def close(self) -> None:
        """Close it."""
        self._browser.call("Target.closeTarget", targetId=self._target)


@contextmanager
def chromium(profile: Path) -> Iterator[Chromium]:
    """A browser, with *profile* as its directory; ended with the block."""
    browser = Chromium(profile)
    try:
        yield browser
    finally:
        browser.close()
