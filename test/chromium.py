"""A page in a headless Chromium, driven by the DevTools protocol: for tests, and for the film in
docs/images.
"""

from __future__ import annotations

import base64
import io
import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image
from websockets.sync.client import ClientConnection, connect

from .patience import PATIENCE_S

CHROMIUM = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)
# viser warns of drawing without a graphics card.
_WITHOUT_WARNING = "<style>.mantine-Notification-root {display: none}</style>"


class Page:
    """A tab, of so many pixels."""

    def __init__(self, connection: ClientConnection, width: int, height: int) -> None:
        self._connection = connection
        self._calls = 0
        self.width, self.height = width, height

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The result of a method of the protocol; events meanwhile are passed over."""
        self._calls += 1
        self._connection.send(
            json.dumps({"id": self._calls, "method": method, "params": parameters})
        )
        while True:
            answer = json.loads(self._connection.recv(timeout=PATIENCE_S))
            if answer.get("id") == self._calls:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return dict(answer["result"])

    def ask(self, javascript: str) -> Any:
        """The value of an expression."""
        return self.call("Runtime.evaluate", expression=javascript)["result"].get("value")

    def mouse(self, event: str, x: int, y: int, **more: Any) -> None:
        """mousePressed, mouseMoved or mouseReleased, with the left button; mouseWheel."""
        self.call(
            "Input.dispatchMouseEvent", **{"type": event, "x": x, "y": y, "button": "left", **more}
        )

    def click(self, x: int, y: int) -> None:
        """Move there, press and release."""
        self.mouse("mouseMoved", x, y, button="none")
        self.mouse("mousePressed", x, y, buttons=1, clickCount=1)
        self.mouse("mouseReleased", x, y, clickCount=1)

    def picture(self) -> Image.Image:
        """What the page shows, as RGB."""
        data = self.call("Page.captureScreenshot", format="png")["data"]
        return Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")


@contextmanager
def opened(url: str, folder: Path, width: int, height: int) -> Iterator[Page]:
    """The page at an address, in a browser with a profile of its own in `folder`."""
    command = [
        *(
            str(CHROMIUM),
            "--headless=new",
            "--no-sandbox",
            "--hide-scrollbars",
            "--use-angle=swiftshader",
        ),
        *("--enable-unsafe-swiftshader", "--remote-debugging-port=0", f"--user-data-dir={folder}"),
        *(f"--window-size={width},{height}", "about:blank"),
    ]
    browser = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        with connect(_address(folder), max_size=None, proxy=None) as connection:
            page = Page(connection, width, height)
            size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
            page.call("Emulation.setDeviceMetricsOverride", **size)
            page.call("Page.navigate", url=url)
            while not page.ask("!!document.querySelector('canvas')"):
                time.sleep(0.1)
            page.ask(f"document.head.insertAdjacentHTML('beforeend', '{_WITHOUT_WARNING}')")
            yield page
    finally:
        browser.terminate()
        browser.wait()


def _address(folder: Path) -> str:
    """Where the first tab of the browser with that profile listens."""
    port_file = folder / "DevToolsActivePort"
    end = time.monotonic() + PATIENCE_S
    while not port_file.exists() or not port_file.read_text():
        if time.monotonic() > end:
            raise TimeoutError(f"{CHROMIUM} has not started within {PATIENCE_S:.0f} s")
        time.sleep(0.1)
    port = port_file.read_text().split()[0]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/json", timeout=PATIENCE_S) as answer:
        return str(
            next(tab["webSocketDebuggerUrl"] for tab in json.load(answer) if tab["type"] == "page")
        )
