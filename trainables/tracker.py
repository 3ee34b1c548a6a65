"""Tracking off the training thread: a queue, one background thread, our own back-off.

Putting something in the queue never waits. What could not be sent when the thread ends stays in
the store, and `optpath sync` sends it.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from trainables.errors import UserError
from trainables.store import Store, read_sealed
from trainables.tracking import (
    Connection,
    TrackingTarget,
    prepare,
    read_target,
    target_path,
)
from trainables.tracking_content import finished, opening, reference_metrics
from trainables.tracking_server import TrackingUnavailable

if TYPE_CHECKING:
    from mlflow.entities import Run

Evaluation = Mapping[str, Any]
"""One epoch of the reference pass, as in the trajectory's manifest."""

LOGGER = logging.getLogger("optpath.tracking")

FIRST_PAUSE_SECONDS = 0.25
LAST_PAUSE_SECONDS = 30.0
"""Pause after a failure, doubled with each in a row up to this; ours, untuned."""

LIVE_SECONDS = 5.0
"""Epochs that end within this time of one another are sent together; ours, untuned."""


def pause_after(failures: int) -> float:
    """Seconds until the next attempt after that many failures in a row: doubled with each."""
    return float(min(FIRST_PAUSE_SECONDS * 2 ** min(failures - 1, 16), LAST_PAUSE_SECONDS))


class Preparation:
    """`prepare` in a background thread of the driver, tried again until it succeeds or is stopped.

    The target file of an earlier launch is removed before this returns, so that no worker logs to
    another server than the one that was asked for now.
    """

    def __init__(self, uri: str, store: Store, sweep: str) -> None:
        self._arguments = (uri, store, sweep)
        self._target: TrackingTarget | None = None
        self.problem: str | None = None
        """Why the last attempt failed, one line; None once prepared."""
        self._ready = threading.Event()
        self._stop = threading.Event()
        target_path(store, sweep).unlink(missing_ok=True)
        self._thread = threading.Thread(target=self._work, name="optpath-prepare", daemon=True)

    def start(self) -> None:
        """Begin; not while another thread may be stopped in the middle of an import."""
        self._thread.start()

    def target(self, timeout: float = 0.0) -> TrackingTarget | None:
        """The target, waiting at most `timeout` seconds for it; None if it is not ready."""
        self._ready.wait(timeout)
        return self._target

    def stop(self, timeout: float = 0.0) -> None:
        """Try no more; waits at most `timeout` seconds for the attempt that is under way."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout)

    def _work(self) -> None:
        failures = 0
        while not self._stop.is_set():
            try:
                self._target = prepare(*self._arguments)
            except TrackingUnavailable as error:
                self.problem = str(error)
                failures += 1
                self._stop.wait(pause_after(failures))
            else:
                self.problem = None
                self._ready.set()
                return


@dataclass
class _Pending:
    """What waits to be sent. Only the thread touches it."""

    epochs: dict[str, list[Evaluation]] = field(default_factory=dict)
    ended: dict[str, None] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.epochs or self.ended)

    def add(self, run_id: str, epochs: Sequence[Evaluation] | None) -> None:
        """Epochs of a run that goes on, or None for a run that has ended."""
        if epochs is None:  # its files hold them as well
            self.ended[run_id] = None
            self.epochs.pop(run_id, None)
        elif run_id not in self.ended:
            self.epochs.setdefault(run_id, []).extend(epochs)


class Tracker:
    """Logs a sweep's runs from inside a worker; never stops or slows what it logs.

    One tracker serves a worker for as long as it lives, over all its trials of the same sweep.
    """

    def __init__(self, sweep: str, store: Store, enabled: bool = True) -> None:
        self.sweep = sweep
        self.problem: str | None = None
        """Why the last attempt failed, one line; None while all is well."""
        self._store = store
        self._enabled = enabled
        self._queue: queue.SimpleQueue[tuple[str, list[Evaluation] | None] | None]
        self._queue = queue.SimpleQueue()
        self._pending = _Pending()
        self._failures = 0
        self._entries: dict[str, dict[str, Any]] = {}
        self._open: dict[str, Run] = {}
        self._connection: Connection | None = None
        self._thread = threading.Thread(target=self._work, name="optpath-tracker", daemon=True)
        if enabled:
            self._thread.start()

    def epochs(self, run_id: str, rows: Sequence[Evaluation]) -> None:
        """Log epochs of the reference pass that have ended, as the trajectory's manifest has them.

        Each row has `epoch`, `step` and evaluation values such as `validation_loss`. Epochs past
        the run's own budget may be among them and are not logged.
        """
        if self._enabled:
            self._queue.put((run_id, list(rows)))

    def finish(self, run_id: str) -> None:
        """Upload a run whose manifest is in the store: parameters, tags, metrics, artifacts."""
        if self._enabled:
            self._queue.put((run_id, None))

    def close(self, timeout: float) -> bool:
        """Send what can be sent at once and end the thread; True if nothing is left to send.

        Waits at most `timeout` seconds, and not for a server whose last answer was a failure.
        """
        if not self._enabled:
            return True
        self._queue.put(None)
        self._thread.join(timeout)
        return not self._thread.is_alive() and not self._pending

    def _work(self) -> None:
        due = 0.0
        closing = False
        while not closing:
            closing = self._take(due if self._pending else None)
            if self._pending and (time.monotonic() >= due or (closing and not self.problem)):
                due = time.monotonic() + self._attempt()

    def _take(self, due: float | None) -> bool:
        """Move the queue's items to what is pending; waits until `due` for one; True: closing."""
        try:
            pause = None if due is None else max(0.0, due - time.monotonic())
            item = self._queue.get(timeout=pause)
            while item is not None:
                self._pending.add(*item)
                item = self._queue.get_nowait()
        except queue.Empty:
            return False
        return True

    def _attempt(self) -> float:
        """Send what is pending; the pause until the next attempt, in seconds."""
        target = read_target(self._store, self.sweep)
        if target is None:
            self.problem = "MLflow is not prepared yet"
            return FIRST_PAUSE_SECONDS
        try:
            self._send_all(target)
        except (UserError, OSError) as error:
            self._note_failure(str(error))
            return pause_after(self._failures)
        self._failures, self.problem = 0, None
        return LIVE_SECONDS

    def _note_failure(self, problem: str) -> None:
        self._failures += 1
        self.problem = problem
        self._open.clear()  # a run that was deleted in the UI is then created anew
        if self._failures == 1:
            LOGGER.warning("%s; training goes on, `optpath sync` sends what is missing", problem)

    def _send_all(self, target: TrackingTarget) -> None:
        """Send everything pending; what fails goes to the end of the line and raises."""
        connection = self._connect(target.uri)
        for run_id in list(self._pending.ended):
            self._pending.ended[run_id] = self._pending.ended.pop(run_id)
            self._send_ended(connection, target, run_id)
        for run_id in list(self._pending.epochs):
            self._pending.epochs[run_id] = self._pending.epochs.pop(run_id)
            self._send_epochs(connection, target, run_id)

    def _connect(self, uri: str) -> Connection:
        if self._connection is None or self._connection.uri != uri:
            self._open.clear()
            self._connection = Connection(uri)
        return self._connection

    def _send_epochs(self, connection: Connection, target: TrackingTarget, run_id: str) -> None:
        entry = self._entry(run_id)
        if run_id not in self._open:
            self._open[run_id] = connection.open_child(target, opening(entry, self.sweep))
        rows = reference_metrics(self._pending.epochs[run_id], entry["num_steps"])
        connection.log(self._open[run_id], rows)
        del self._pending.epochs[run_id]

    def _send_ended(self, connection: Connection, target: TrackingTarget, run_id: str) -> None:
        content = finished(self._entry(run_id), self.sweep, self._store)
        if content is not None:
            connection.upload(target, content)
        self._open.pop(run_id, None)
        del self._pending.ended[run_id]

    def _entry(self, run_id: str) -> dict[str, Any]:
        if run_id not in self._entries:
            plan = read_sealed(self._store.sweep(self.sweep).path / "plan.json") or {"runs": []}
            self._entries = {entry["run_id"]: entry for entry in plan["runs"]}
        if run_id not in self._entries:
            raise UserError(f"run {run_id} is not in the plan of sweep {self.sweep}")
        return self._entries[run_id]
