"""A process of its own for test_resume: does one job again and again, each time in a fork.

Reads one attempt per line from standard input, {"store": folder, "configs": runs, "kill": how}, and
answers each with {"status": of the child, "events": count, "seconds": duration}. `how` is null (do
the job to its end), {"event": n} (SIGKILL at the n-th event) or {"seconds": s} (SIGKILL after that
time). An event is a point around a write: the temporary file is half written, it is whole but not
renamed, or it has just been renamed; {"event": n, "name": file, "point": which} counts only those.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from trainables import store as store_module
from trainables.config import RunConfig
from trainables.job import Job, Place, RunJob
from trainables.passes import work
from trainables.store import Store


class Events:
    """Counts the events of a job and dies at the one that was asked for."""

    def __init__(self, kill: dict[str, Any] | None) -> None:
        self._kill = kill or {}
        self.count = 0

    def pass_by(self, name: str, point: str) -> None:
        wanted = self._kill.get("name", name), self._kill.get("point", point)
        if wanted != (name, point):
            return
        if self.count == self._kill.get("event"):
            os.kill(os.getpid(), signal.SIGKILL)
        self.count += 1

    def watch_writes(self) -> None:
        """Put the events into the one function that writes files."""
        write_bytes = store_module.write_bytes
        replace = os.replace

        def watched_replace(source: Path, target: Path) -> None:
            self.pass_by(target.name, "written")
            replace(source, target)
            self.pass_by(target.name, "renamed")

        def watched_write(path: Path, content: bytes) -> None:
            temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(content[: len(content) // 2])
            self.pass_by(path.name, "half")
            write_bytes(path, content)

        store_module.write_bytes = watched_write
        os.replace = watched_replace  # type: ignore[assignment]


def do_job(folder: str, configs: dict[str, Any]) -> None:
    runs = tuple(RunJob(run_id, RunConfig.parse(plain)) for run_id, plain in configs.items())
    place = Place(Store(folder), Path(folder), torch.device("cpu"), 1, checkpoint_seconds=0)
    for _ in work(Job("t", runs), place):
        pass


def attempt(folder: str, kill: dict[str, Any] | None, configs: dict[str, Any]) -> None:
    events = Events(kill)
    events.watch_writes()
    if kill and "seconds" in kill:
        die: Callable[[], None] = lambda: os.kill(os.getpid(), signal.SIGKILL)  # noqa: E731
        threading.Timer(kill["seconds"], die).start()
    do_job(folder, configs)
    Path(folder, "count").write_text(str(events.count))


def main() -> None:
    torch.use_deterministic_algorithms(True)  # imports 900 modules, which every fork then has
    for line in sys.stdin:
        one = json.loads(line)
        started = time.monotonic()
        child = os.fork()
        if child == 0:
            attempt(one["store"], one["kill"], one["configs"])
            os._exit(0)
        _, status = os.waitpid(child, 0)
        count = Path(one["store"], "count")
        events = int(count.read_text()) if count.exists() else 0
        seconds = time.monotonic() - started
        print(json.dumps({"status": status, "events": events, "seconds": seconds}), flush=True)


if __name__ == "__main__":
    main()
