"""Headless Chromium, driven over a pipe by its DevTools protocol: enough of it to use a page."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import time
from contextlib import contextmanager, suppress
from pathlib import Path

CHROMIUM = shutil.which("chromium")
SECONDS = 30


class Browser:
    """A tab. What it complains of is in `complaints`: errors of scripts, and of the policy."""

    def __init__(self, profile: Path, *arguments: str):
        ours_in, theirs_out = os.pipe()
        theirs_in, ours_out = os.pipe()
        command = [
            *("bash", "-c", f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}', "chromium"),
            *(CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
            *("--no-first-run", "--remote-debugging-pipe", f"--user-data-dir={profile}"),
            *("--window-size=1400,1000", *arguments, "about:blank"),
        ]
        self._process = subprocess.Popen(
            command,
            pass_fds=(theirs_in, theirs_out),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._in, self._out = os.fdopen(ours_in, "rb"), os.fdopen(ours_out, "wb")
        self._number = 0
        self._session = None
        self.complaints: list[str] = []
        self.requested: list[str] = []
        tab = self.command("Target.createTarget", url="about:blank")["targetId"]
        made = self.command("Target.attachToTarget", targetId=tab, flatten=True)
        self._session = made["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.command(f"{domain}.enable")

    def command(self, method: str, **values):
        """What a command answers."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": values}
        if self._session:
            message["sessionId"] = self._session
        self._out.write(json.dumps(message).encode() + b"\0")
        self._out.flush()
        while (answer := self._read()).get("id") != self._number:
            self._note(answer)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        return answer["result"]

    def _read(self):
        text = bytearray()
        while (byte := self._in.read(1)) != b"\0":
            if not byte:
                raise RuntimeError("chromium has ended")
            text += byte
        return json.loads(text)

    def _note(self, event):
        values = event.get("params", {})
        if event.get("method") == "Log.entryAdded":
            self.complaints.append(values["entry"]["text"])
        elif event.get("method") == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(values["exceptionDetails"]))
        elif event.get("method") == "Page.javascriptDialogOpening":
            self.complaints.append(f"a dialog: {values['message']}")
        elif event.get("method") == "Network.requestWillBeSent":
            self.requested.append(values["request"]["url"])

    def open(self, url: str):
        self.command("Page.navigate", url=url)

    def run(self, script: str):
        """The value of an expression in the page."""
        answer = self.command(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in answer:
            raise RuntimeError(json.dumps(answer["exceptionDetails"]))
        return answer["result"].get("value")

    def wait(self, script: str):
        """Wait until an expression is true; meanwhile it may fail, or the page be another."""
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            with suppress(RuntimeError):
                if value := self.run(script):
                    return value
            time.sleep(0.05)
        seen = self.run("document.body.innerText")
        raise AssertionError(f"not within {SECONDS} s: {script}\n{seen}\n{self.complaints}")

    def text(self, selector: str) -> str:
        return self.run(f"document.querySelector({json.dumps(selector)}).innerText")

    def type(self, selector: str, text: str):
        """Focus a field and type into it, as a user does."""
        self.run(f"document.querySelector({json.dumps(selector)}).focus()")
        self.command("Input.insertText", text=text)

    def press(self, key: str):
        for kind in ("keyDown", "keyUp"):
            code = {"Enter": 13, "Tab": 9}[key]
            text = {"text": "\r"} if key == "Enter" and kind == "keyDown" else {}
            self.command(
                "Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code, **text
            )

    def click(self, x: float, y: float):
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            self.command(
                "Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1
            )

    def screenshot(self, path: Path):
        size = self.command("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        shot = self.command("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
        path.write_bytes(base64.b64decode(shot["data"]))

    def close(self):
        self._in.close()
        self._out.close()
        self._process.terminate()
        self._process.wait(10)


@contextmanager
def browser(profile: Path, *arguments: str):
    one = Browser(profile, *arguments)
    try:
        yield one
    finally:
        one.close()
