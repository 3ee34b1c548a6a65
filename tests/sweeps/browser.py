"""A page in a real headless Chromium, driven through its DevTools protocol over a pipe.

The pipe needs neither a port nor a driver program nor a package: messages are JSON between NULs.
https://chromedevtools.github.io/devtools-protocol
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

PATIENCE_SECONDS = 90.0
"""Most time that a page may take to show what it is asked for: many times what it takes."""

PIPED = 'exec "$0" "$@" 3<&0 4>&1 1>&2'
"""Chromium reads commands from descriptor 3 and answers on 4."""

TEXT = "document.body ? document.body.innerText : ''"

MIDDLE = """(() => {
  const found = ELEMENT;
  found.scrollIntoView({block: "center", behavior: "instant"});
  const box = found.getBoundingClientRect();
  return [box.x + box.width / 2, box.y + box.height / 2];
})()"""

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--hide-scrollbars", "--remote-debugging-pipe",
    "--disable-features=IsolateSandboxedIframes",  # else a page cannot look into its frames
)  # fmt: skip


class Browser:
    """One page. Close it, or use it in a `with`."""

    def __init__(self, folder: Path, width: int = 1600, height: int = 1200) -> None:
        profile = f"--user-data-dir={folder / 'profile'}"
        size = f"--window-size={width},{height}"
        self._process = subprocess.Popen(
            ["sh", "-c", PIPED, str(CHROMIUM), *FLAGS, profile, size, "about:blank"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self._received, self._session, self._count = b"", None, 0
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        self.call("Page.enable")

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the browser."""
        self._process.kill()
        self._process.communicate()

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """One command of the protocol, and its result."""
        self._count += 1
        message: dict[str, Any] = {"id": self._count, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(message).encode() + b"\0")
        self._process.stdin.flush()
        while (answer := self._message()).get("id") != self._count:
            pass  # an event
        assert "error" not in answer, f"{method}: {answer}"
        return dict(answer["result"])

    def open(self, url: str) -> None:
        """Go to an address as if it had been typed: also where only what follows # is new."""
        self.call("Page.navigate", url="about:blank")
        self.call("Page.navigate", url=url)

    def ask(self, expression: str, frame: str | None = None) -> Any:
        """The value of a JavaScript expression in the page, or in one of its frames by id."""
        place: dict[str, Any] = {}
        if frame is not None:  # a world of its own sees what is in a frame that scripts cannot
            world = self.call("Page.createIsolatedWorld", frameId=frame)
            place = {"contextId": world["executionContextId"]}
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, **place)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def frames(self) -> list[str]:
        """The ids of the frames inside the page."""
        tree = self.call("Page.getFrameTree")["frameTree"]
        return [child["frame"]["id"] for child in tree.get("childFrames", ())]

    def text(self) -> str:
        """The text that the page shows, and then that of its frames."""
        return "\n".join(str(self.ask(TEXT, frame)) for frame in (None, *self.frames()))

    def until(self, *wanted: str) -> str:
        """The page's text, once it has all that is wanted."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not all(word in (text := self.text()) for word in wanted):
            assert time.monotonic() < deadline, f"not all of {wanted} in:\n{text}"
            time.sleep(0.2)
        return text

    def click(self, element: str) -> None:
        """Click with the mouse on the middle of what a JavaScript expression gives."""
        x, y = self.ask(MIDDLE.replace("ELEMENT", element))
        at = {"x": x, "y": y, "button": "left", "clickCount": 1}
        self.call("Input.dispatchMouseEvent", type="mousePressed", **at)
        self.call("Input.dispatchMouseEvent", type="mouseReleased", **at)

    def type(self, element: str, text: str) -> None:
        """Click into a field and type a text there."""
        self.click(element)
        self.call("Input.insertText", text=text)

    def press(self, key: str) -> None:
        """Press one key, such as "+" or "Escape"."""
        text = {"text": key} if len(key) == 1 else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key)

    def screenshot(self, path: Path) -> None:
        """The window as a PNG file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        data = self.call("Page.captureScreenshot", format="png")["data"]
        path.write_bytes(base64.b64decode(data))

    def _message(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        deadline = time.monotonic() + PATIENCE_SECONDS
        while b"\0" not in self._received:
            ready, _, _ = select.select([self._process.stdout], [], [], deadline - time.monotonic())
            assert ready, "Chromium does not answer"
            received = os.read(self._process.stdout.fileno(), 1 << 20)
            assert received, "Chromium has ended"
            self._received += received
        first, _, self._received = self._received.partition(b"\0")
        return dict(json.loads(first))
