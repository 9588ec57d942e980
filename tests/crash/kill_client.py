"""Starts processes of kill_server.py that work on a hub, hears what they say, and kills them."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections import deque
from pathlib import Path

PATIENCE_SECONDS = 100


class KillServer:
    """The process that forks those who are killed."""

    def __init__(self) -> None:
        script = Path(__file__).with_name("kill_server.py")
        self.process = subprocess.Popen(
            [sys.executable, str(script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        )
        self.partial = b""
        self.lines: deque[str] = deque()

    def start(self, *command: object) -> int:
        """Fork a child; return its pid."""
        self.process.stdin.write(("\t".join(map(str, command)) + "\n").encode())
        return int(self.wait_for("pid").split()[1])

    def next_line(self, deadline: float) -> str | None:
        """The next line that a child says, or None if there is none in time."""
        while not self.lines:
            patience = max(0.0, deadline - time.monotonic())
            if not select.select([self.process.stdout], [], [], patience)[0]:
                return None
            chunk = os.read(self.process.stdout.fileno(), 1 << 16)
            assert chunk, "the kill server is gone"
            *whole, self.partial = (self.partial + chunk).split(b"\n")
            self.lines.extend(line.decode() for line in whole)
        line = self.lines.popleft()
        assert not line.startswith("failed"), line
        return line

    def wait_for(self, word: str, seen: list[str] | None = None) -> str:
        """The first line that begins so; the ones before it go to `seen`."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while (line := self.next_line(deadline)) is not None:
            if line.startswith(word):
                return line
            if seen is not None:
                seen.append(line)
        raise AssertionError(f"no line {word!r} within {PATIENCE_SECONDS} s")

    def listen(self, seconds: float) -> list[str]:
        """All that is said in this time."""
        deadline = time.monotonic() + seconds
        said = []
        while time.monotonic() < deadline and (line := self.next_line(deadline)) is not None:
            said.append(line)
        return said

    def kill(self, pid: int) -> list[str]:
        """End a child; return what was still said."""
        said: list[str] = []
        os.kill(pid, signal.SIGKILL)
        self.process.stdin.write(f"reap\t{pid}\n".encode())
        self.wait_for(f"dead {pid}", said)
        return said

    def run(self, *command: object, seconds: float) -> list[str]:
        """Let a child work for a while and kill it; return what it said."""
        pid = self.start(*command)
        return self.listen(seconds) + self.kill(pid)

    def close(self) -> None:
        """End it."""
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()
