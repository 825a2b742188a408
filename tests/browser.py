"""A headless Chromium for tests, spoken to by WebDriver (W3C): HTTP and JSON, no library."""

import base64
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Self

from support import absent, require_program

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_PORT = re.compile(r"started successfully on port (\d+)")
_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # WebDriver s.11
_OPTIONS = (
    "--headless=new",
    "--no-sandbox",  # the tests may run as root
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)


class Browser:
    """One window."""

    def __init__(self, port: int, program: str, directory: Path) -> None:
        self._port = port
        chrome = {"binary": program, "args": [*_OPTIONS, f"--user-data-dir={directory}"]}
        wanted = {
            "browserName": "chrome",
            "goog:chromeOptions": chrome,
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
        }
        found = self._call("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
        self._session = f"/session/{found['sessionId']}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._call("DELETE", self._session)

    def open(
        self, page: Path | str, *, width: int = 1280, height: int = 900, dark: bool = False
    ) -> None:
        """Open a file or a URL in a window of a size, as somebody who prefers light or dark."""
        self.devtools(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.devtools("Emulation.setEmulatedMedia", features=[scheme])
        url = page if isinstance(page, str) else page.as_uri()
        self._call("POST", f"{self._session}/url", {"url": url})

    def devtools(self, command: str, **parameters: Any) -> Any:
        """Run a command of the Chrome DevTools protocol."""
        body = {"cmd": command, "params": parameters}
        return self._call("POST", f"{self._session}/goog/cdp/execute", body)

    def run(self, script: str, *arguments: Any) -> Any:
        """Run a function's body in the page and return what it returns."""
        body = {"script": script, "args": list(arguments)}
        return self._call("POST", f"{self._session}/execute/sync", body)

    def click(self, selector: str) -> None:
        """Click where an element is, as a mouse does; it must be visible and uncovered."""
        self._call("POST", f"{self._element(selector)}/click", {})

    def type(self, selector: str, text: str) -> None:
        """Type into an element."""
        self._call("POST", f"{self._element(selector)}/value", {"text": text})

    def screenshot(self, file: Path) -> None:
        """Write what the window shows, as PNG."""
        data = self._call("GET", f"{self._session}/screenshot")
        file.write_bytes(base64.b64decode(data))

    def log(self, kind: str) -> list[dict[str, Any]]:
        """Return what was logged since the last time: "browser" or "performance"."""
        found: list[dict[str, Any]] = self._call("POST", f"{self._session}/se/log", {"type": kind})
        return found

    def requested(self) -> list[str]:
        """Return every address asked for since the last time, but those of Chromium's own pages."""
        messages = [json.loads(one["message"])["message"] for one in self.log("performance")]
        asked = [one["params"] for one in messages if one["method"] == "Network.requestWillBeSent"]
        own = ("chrome:", "data:,")
        return [
            str(one["request"]["url"]) for one in asked if not one["documentURL"].startswith(own)
        ]

    def _element(self, selector: str) -> str:
        body = {"using": "css selector", "value": selector}
        found = self._call("POST", f"{self._session}/element", body)
        return f"{self._session}/element/{found[_ELEMENT]}"

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        connection = HTTPConnection("127.0.0.1", self._port, timeout=60)
        try:
            data = None if body is None else json.dumps(body)
            connection.request(method, path, data, {"Content-Type": "application/json"})
            answer = json.loads(connection.getresponse().read())["value"]
        finally:
            connection.close()
        if isinstance(answer, dict) and "error" in answer:
            raise AssertionError(f"{path}: {answer['error']}: {answer['message']}")
        return answer


@contextmanager
def chromium(directory: Path) -> Iterator[Browser]:
    """Start a browser with a profile of its own in `directory`; skip where there is none."""
    program = next(filter(None, map(shutil.which, _NAMES)), None)
    if program is None:
        absent("the program chromium is not installed")
    driver = require_program("chromedriver")
    environment = {**os.environ, "HOME": str(directory)}
    command = [driver, "--port=0"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    ) as running:
        try:
            assert running.stdout is not None
            found = next(filter(None, map(_PORT.search, running.stdout)), None)
            assert found is not None, "chromedriver did not start"
            with Browser(int(found[1]), str(program), directory / "profile") as browser:
                yield browser
        finally:
            running.terminate()
