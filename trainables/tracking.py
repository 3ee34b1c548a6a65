"""What optpath keeps on MLflow: one parent run per sweep, one child run per run, found by tags."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainables.store import Store, read_sealed, write_json
from trainables.tracking_content import Row, RunContent, beside
from trainables.tracking_server import ENDED, TIMEOUT_SECONDS, Server
from trainables.tracking_sweep import data_of, joined_tags

if TYPE_CHECKING:
    from mlflow.entities import Run

CONTENT_TAG = "optpath.content"
"""Tag written last: the digest of what the child run holds. A child without it is incomplete."""

ERROR_TAG = "error"
"""Tag with the message of a run whose training failed."""

PREPARE_SECONDS = 10.0
"""Patience of the driver's background thread: a server's first answer takes seconds; ours."""
SYNC_SECONDS = 20.0
"""Patience where a user waits for the upload; ours."""


@dataclass(frozen=True)
class TrackingTarget:
    """Where a sweep's runs are logged."""

    uri: str
    experiment_id: str
    parent_run_id: str
    sweep: str


def target_path(store: Store, sweep: str) -> Path:
    """The file through which the driver tells all workers where to log, once that is ready."""
    return store.sweep(sweep).path / "tracking.json"


def read_target(store: Store, sweep: str) -> TrackingTarget | None:
    """The sweep's target, or None while the driver has not prepared it."""
    try:
        return TrackingTarget(**json.loads(target_path(store, sweep).read_bytes()))
    except FileNotFoundError:
        return None


def locate(
    uri: str,
    store: Store,
    sweep: str,
    timeout_seconds: float = TIMEOUT_SECONDS,
    params: Mapping[str, str] | None = None,
) -> TrackingTarget:
    """The sweep's experiment and parent run on a server; schema and both are created if missing.

    The parent run then has those parameters, and no others; None: those that it has.

    Raises:
        TrackingUnavailable: the server does not answer.
    """
    connection = Connection(uri, timeout_seconds)
    experiment_id = connection.experiment(store.root)
    plan = read_sealed(store.sweep(sweep).path / "plan.json") or {}
    name = beside(sweep, plan)
    parent = connection.parent(experiment_id, sweep, _describe(plan), name, params)
    return TrackingTarget(uri, experiment_id, parent, sweep)


def prepare(
    uri: str, store: Store, sweep: str, timeout_seconds: float = PREPARE_SECONDS
) -> TrackingTarget:
    """`locate`, with the parent marked as running and the target written for the workers.

    Runs on the driver before any worker connects: several processes that open a fresh SQLite
    database race in its migrations.

    Raises:
        TrackingUnavailable: the server does not answer.
    """
    target = locate(uri, store, sweep, timeout_seconds)
    write_json(target_path(store, sweep), asdict(target))
    connection = Connection(uri, timeout_seconds)
    connection.set_status(target.parent_run_id, "RUNNING")
    connection.put(target.parent_run_id, plan_files(store, sweep))
    return target


def plan_files(store: Store, sweep: str) -> list[Path]:
    """The files of a sweep that lie on its parent run from the start."""
    paths = (store.sweep(sweep).path / name for name in ("plan.json", "spec.yaml"))
    return [path for path in paths if path.is_file()]


class Connection(Server):
    """A server that holds sweeps and their runs."""

    def parent(
        self,
        experiment_id: str,
        sweep: str,
        note: str,
        name: str,
        params: Mapping[str, str] | None = None,
    ) -> str:
        """The id of the sweep's parent run; created with that description and name if missing.

        One with a parameter that is not among `params`, as after the grid has grown, is deleted and
        created anew: MLflow cannot change a value.
        """
        tags = {"optpath.kind": "sweep", "optpath.sweep": sweep}
        found = self.search(experiment_id, tags)
        run = found[0] if found else None
        start = None if run is None else run.info.start_time
        if run is not None and params is not None and _missing(run.data.params, params):
            run = None
        for surplus in found[0 if run is None else 1 :]:
            self.delete(surplus)
        if run is None:
            extra = {"mlflow.note.content": note, "mlflow.source.name": "optpath"}
            run = self.create(experiment_id, name, tags | extra, start)
        self.log(run, params=_missing(params or {}, run.data.params))
        return str(run.info.run_id)

    def tell_parent(self, target: TrackingTarget, members: Sequence[RunContent]) -> None:
        """Put on the parent run what a user filters sweeps by, and the data sets in use."""
        run_id = target.parent_run_id
        self.set_tags(run_id, _missing(joined_tags(members), self.tags(run_id)))
        for data in data_of(members):
            self.log_data(run_id, data)

    def end_parent(self, target: TrackingTarget, status: str) -> None:
        """Mark the parent run as ended, at the end of the member that ended last."""
        ends = [run.info.end_time for run in self.children(target).values() if run.info.end_time]
        self.set_status(target.parent_run_id, status, max(ends, default=None))

    def children(self, target: TrackingTarget) -> dict[str, Run]:
        """The sweep's child runs by run_id."""
        return self._distinct(target, {"optpath.kind": "run", "optpath.sweep": target.sweep})

    def child(self, target: TrackingTarget, content: RunContent) -> Run:
        """The child run of that run in that sweep, created where it is missing."""
        identity = ("optpath.kind", "optpath.sweep", "optpath.run_id")
        found = self._distinct(target, {key: content.tags[key] for key in identity})
        return found.get(content.run_id) or self.create_child(target, content)

    def create_child(
        self, target: TrackingTarget, content: RunContent, start_time: int | None = None
    ) -> Run:
        """A new child run with its tags, which began at that time [ms]; None: now."""
        tags = _child_tags(target, content)
        return self.create(target.experiment_id, content.name, tags, start_time)

    def open_child(self, target: TrackingTarget, content: RunContent) -> Run:
        """The child run of a run that trains now, with its parameters, marked as running."""
        run = self.child(target, content)
        self.log(run, params=_missing(content.params, run.data.params))
        self.set_status(run.info.run_id, "RUNNING")
        return run

    def keep(
        self,
        experiment_id: str,
        name: str,
        tags: Mapping[str, str],
        params: Mapping[str, str],
        rows: Sequence[Row],
    ) -> str:
        """The id of the run that those tags identify, created if missing, holding those values."""
        found = self.search(experiment_id, tags)
        run = found[0] if found else self.create(experiment_id, name, tags)
        self.log(run, rows, _missing(params, run.data.params))
        return str(run.info.run_id)

    def upload(self, target: TrackingTarget, content: RunContent, found: Run | None = None) -> bool:
        """Make the child run hold exactly what the store holds; False if it did already.

        A child that holds anything else (of an attempt on another machine, or from before a
        damaged folder was removed) is deleted and written anew: MLflow cannot change a value.
        """
        run = found or self.child(target, content)
        ended = run.info.end_time if run.info.status in ENDED else None
        tags = _child_tags(target, content) | {CONTENT_TAG: content.digest}
        if not _missing(tags, run.data.tags):
            return False
        metrics, present = content.metrics(), self.rows(run)
        if not present <= set(metrics) or _missing(run.data.params, content.params):
            self.delete(run)
            run, present = self.create_child(target, content, run.info.start_time), set()
        rows = [row for row in metrics if row not in present]
        self.log(run, rows, _missing(content.params, run.data.params))
        self.put(run.info.run_id, content.artifacts)
        if content.data is not None:
            self.log_data(run.info.run_id, content.data)
        if ERROR_TAG in run.data.tags:
            self.remove_tags(run.info.run_id, [ERROR_TAG])
        self.log(run, tags=_missing(tags, run.data.tags))
        self.set_status(run.info.run_id, "FAILED" if content.failed else "FINISHED", ended)
        return True

    def _distinct(self, target: TrackingTarget, tags: Mapping[str, str]) -> dict[str, Run]:
        """Child runs by run_id; of two with the same the older stays and the other is deleted.

        There are two where a stopped server carries out, later, a request that had timed out here.
        """
        distinct: dict[str, Run] = {}
        for run in self.search(target.experiment_id, tags):
            if distinct.setdefault(run.data.tags["optpath.run_id"], run) is not run:
                self.delete(run)
        return distinct


def _child_tags(target: TrackingTarget, content: RunContent) -> dict[str, str]:
    return {
        **content.tags,
        "mlflow.parentRunId": target.parent_run_id,
        "mlflow.source.name": "optpath",
    }


def _missing(wanted: Mapping[str, str], present: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in wanted.items() if present.get(key) != value}


def _describe(plan: Mapping[str, Any]) -> str:
    texts = [plan.get(name) for name in ("title", "question", "description")]
    return "\n\n".join(text for text in texts if text)
