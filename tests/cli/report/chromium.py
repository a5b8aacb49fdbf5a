"""A headless Chromium, driven over a pipe by the DevTools protocol: it tells all that its console says.

Debian's `chromium` and nothing else: with `--remote-debugging-pipe` the protocol is JSON with a NUL behind
each message, on the descriptors 3 and 4, so no driver and no WebSocket is needed.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

_DEADLINE_S = 60.0
_FLAGS = (
    "--headless",
    "--no-sandbox",  # root has none, and the pages are this test's own
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-extensions",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--remote-debugging-pipe",
)


class Chromium:
    """One browser with one tab; what its console said is in `messages`, what it asked for in `requests`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._number = 0
        self._data = b""
        self._session = ""
        self.messages: list[str] = []
        self.requests: list[str] = []

    def __enter__(self) -> Self:
        path = shutil.which("chromium")
        assert path is not None, "chromium is not installed: apt-get install chromium"
        self._start(path)
        try:
            self._attach()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _start(self, path: str) -> None:
        there, self._to = os.pipe()
        self._from, back = os.pipe()
        # Out of the way of 3 and 4, which they become.
        far = [fcntl.fcntl(one, fcntl.F_DUPFD_CLOEXEC, 10) for one in (there, back)]
        words = [path, *_FLAGS, f"--user-data-dir={self._folder / 'profile'}", "about:blank"]
        try:
            self._process = subprocess.Popen(
                # Not sh: Debian's does not take descriptors of two digits.
                ["bash", "-c", f'exec "$@" 3<&{far[0]} 4>&{far[1]}', "bash", *words],
                env=os.environ | {"HOME": str(self._folder)},
                pass_fds=far,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        finally:
            for one in (there, back, *far):
                os.close(one)

    def _attach(self) -> None:
        target = self._call("Target.createTarget", {"url": "about:blank"}, session=False)["targetId"]
        attached = self._call("Target.attachToTarget", {"targetId": target, "flatten": True}, session=False)
        self._session = attached["sessionId"]
        for domain in ("Runtime", "Log", "Page", "Network"):
            self._call(f"{domain}.enable")

    def __exit__(self, *_: object) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)  # the session that it was started in: its children too
        self._process.wait(60)
        os.close(self._to)
        os.close(self._from)

    def screen(self, width: int, height: int, *, dark: bool = False) -> None:
        """Sets the window's size, in pixels, and what the page is told of its reader's taste."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self._call("Emulation.setDeviceMetricsOverride", size)
        wish = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._call("Emulation.setEmulatedMedia", {"features": [wish]})

    def open(self, path: Path) -> None:
        """Opens a file and waits until its figures are drawn."""
        self._call("Page.navigate", {"url": path.as_uri()})
        self.wait_for("document.documentElement?.dataset.drawn === 'yes'")

    def wait_for(self, condition: str) -> None:
        """Waits until an expression is true."""
        asked = f"""new Promise(done => {{
            const look = () => {{ if ({condition}) done(true); else requestAnimationFrame(look); }};
            look();
        }})"""
        assert self.value(asked) is True

    def value(self, expression: str) -> Any:
        """What an expression, or the promise that it is, comes to."""
        given = {"expression": expression, "awaitPromise": True, "returnByValue": True}
        answer = self._call("Runtime.evaluate", given)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def move(self, x: float, y: float) -> None:
        """Moves the pointer."""
        self._call("Input.dispatchMouseEvent", {"type": "mouseMoved", "x": x, "y": y})

    def drag(self, points: Sequence[tuple[float, float]]) -> None:
        """Presses at the first point, moves along the others, lets go at the last."""
        kinds = ["mousePressed", *["mouseMoved"] * (len(points) - 1), "mouseReleased"]
        for kind, (x, y) in zip(kinds, [*points, points[-1]], strict=True):
            given = {"type": kind, "x": x, "y": y, "button": "left", "buttons": 1, "clickCount": 1}
            self._call("Input.dispatchMouseEvent", given)

    def wheel(self, x: float, y: float, pixels: float) -> None:
        """Turns the wheel at a point, while Ctrl is held down; less than 0 is away from oneself."""
        given = {"type": "mouseWheel", "x": x, "y": y, "deltaX": 0, "deltaY": pixels, "modifiers": 2}
        self._call("Input.dispatchMouseEvent", given)

    def screenshot(self, path: Path) -> bytes:
        """The whole page as a PNG, also as a file."""
        size = self._call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        given = {"format": "png", "captureBeyondViewport": True, "clip": clip}
        data = base64.b64decode(self._call("Page.captureScreenshot", given)["data"])
        path.write_bytes(data)
        return data

    def _call(self, method: str, given: dict[str, Any] | None = None, *, session: bool = True) -> Any:
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": given or {}}
        if session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        until = time.monotonic() + _DEADLINE_S
        while True:
            answer = self._next(until, method)
            if answer.get("id") == self._number:
                assert "error" not in answer, (method, answer["error"])
                return answer["result"]
            self._see(answer)

    def _next(self, until: float, what: str) -> dict[str, Any]:
        while b"\0" not in self._data:
            ready, _, _ = select.select([self._from], [], [], max(0.0, until - time.monotonic()))
            assert ready, f"chromium has not answered {what} in {_DEADLINE_S:g} s"
            piece = os.read(self._from, 1 << 20)
            assert piece, f"chromium has ended in {what}"
            self._data += piece
        line, _, self._data = self._data.partition(b"\0")
        return dict(json.loads(line))

    def _see(self, event: dict[str, Any]) -> None:
        given = event.get("params", {})
        if event.get("method") == "Runtime.consoleAPICalled":
            words = [str(one.get("value", one.get("description", ""))) for one in given["args"]]
            self.messages.append(f"{given['type']}: {' '.join(words)}")
        elif event.get("method") == "Runtime.exceptionThrown":
            details = given["exceptionDetails"]
            self.messages.append(
                f"exception: {details.get('exception', {}).get('description', details['text'])}"
            )
        elif event.get("method") == "Log.entryAdded":
            self.messages.append(f"{given['entry']['level']}: {given['entry']['text']}")
        elif event.get("method") == "Network.requestWillBeSent":
            self.requests.append(given["request"]["url"])
