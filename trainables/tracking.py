"""MLflow: one parent run per sweep, one child run per run, each found again by its tags.

The only file that imports mlflow, and only inside functions: the import takes over a second and
belongs in a background thread (`trainables.tracker`). Nothing here retries; a server that does not
answer in time raises TrackingUnavailable, and the store keeps what was not sent.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from json import JSONDecodeError
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainables.errors import UserError
from trainables.store import Store, read_sealed, write_json
from trainables.tracking_content import DataUsed, Row, RunContent
from trainables.tracking_uri import DATABASES, sqlite_path, without_password

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

EXPERIMENT = "optpath"
"""The MLflow experiment of all sweeps."""

CONTENT_TAG = "optpath.content"
"""Tag written last: the digest of what the child run holds. A child without it is incomplete."""

ERROR_TAG = "error"
"""Tag with the message of a run whose training failed."""

TIMEOUT_SECONDS = 2.0
"""Patience with a server while runs train; a stopped server costs the thread this much per try."""
PREPARE_SECONDS = 10.0
"""Patience of the driver's background thread: a server's first answer takes seconds; ours."""
SYNC_SECONDS = 20.0
"""Patience where a user waits for the upload; ours."""

REASON_LENGTH = 300
"""Characters of mlflow's own message that are passed on."""


class TrackingUnavailable(UserError):
    """The tracking server is absent, not ready yet, hanging, or refuses; one line says which."""


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
    uri: str, store: Store, sweep: str, timeout_seconds: float = TIMEOUT_SECONDS
) -> TrackingTarget:
    """The sweep's experiment and parent run on a server; schema and both are created if missing.

    Raises:
        TrackingUnavailable: the server does not answer.
    """
    connection = Connection(uri, timeout_seconds)
    experiment_id = connection.experiment(store.root)
    plan = read_sealed(store.sweep(sweep).path / "plan.json") or {}
    parent = connection.parent(experiment_id, sweep, _describe(plan))
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


class Connection:
    """MLflow under one URI. Every method raises TrackingUnavailable where the server fails."""

    def __init__(self, uri: str, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        self.uri = uri
        _configure(timeout_seconds)
        with self._failing():
            from mlflow.tracking import MlflowClient

            if uri.startswith("sqlite:"):
                sqlite_path(uri).parent.mkdir(parents=True, exist_ok=True)
            self._client: MlflowClient = MlflowClient(tracking_uri=uri)

    def check(self) -> None:
        """Ask the server something that changes nothing: opening a connection to one does not."""
        with self._failing():
            self._client.get_experiment_by_name(EXPERIMENT)

    def experiment(self, storage: Path) -> str:
        """The experiment's id; created where it is missing, restored where it was deleted."""
        with self._failing():
            found = self._client.get_experiment_by_name(EXPERIMENT)
            if found is None:
                kind = {"mlflow.experimentKind": "custom_model_development"}  # not a UI of traces
                return self._client.create_experiment(EXPERIMENT, self._artifacts(storage), kind)
            if found.lifecycle_stage != "active":
                self._client.restore_experiment(found.experiment_id)
            return str(found.experiment_id)

    def parent(self, experiment_id: str, sweep: str, note: str) -> str:
        """The id of the sweep's parent run; created with `note` as description if missing."""
        tags = {"optpath.kind": "sweep", "optpath.sweep": sweep}
        found = self._search(experiment_id, tags)
        for surplus in found[1:]:
            self.delete(surplus)
        if found:
            return str(found[0].info.run_id)
        extra = {"mlflow.note.content": note, "mlflow.source.name": "optpath"}
        return str(self._create(experiment_id, sweep, tags | extra).info.run_id)

    def children(self, target: TrackingTarget) -> dict[str, Run]:
        """The sweep's child runs by run_id."""
        return self._distinct(target, {"optpath.kind": "run", "optpath.sweep": target.sweep})

    def child(self, target: TrackingTarget, content: RunContent) -> Run:
        """The child run of that run in that sweep, created where it is missing."""
        identity = ("optpath.kind", "optpath.sweep", "optpath.run_id")
        found = self._distinct(target, {key: content.tags[key] for key in identity})
        return found.get(content.run_id) or self.create_child(target, content)

    def create_child(self, target: TrackingTarget, content: RunContent) -> Run:
        """A new child run with its tags."""
        return self._create(target.experiment_id, content.name, _child_tags(target, content))

    def open_child(self, target: TrackingTarget, content: RunContent) -> Run:
        """The child run of a run that trains now, with its parameters, marked as running."""
        run = self.child(target, content)
        self._log(run, [], _missing(content.params, run.data.params), {})
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
        found = self._search(experiment_id, tags)
        run = found[0] if found else self._create(experiment_id, name, tags)
        self._log(run, rows, _missing(params, run.data.params), {})
        return str(run.info.run_id)

    def log_rows(self, run: Run, rows: Sequence[Row]) -> None:
        """Send values. Sending them again changes nothing: the step fixes their timestamp."""
        self._log(run, rows, {}, {})

    def upload(self, target: TrackingTarget, content: RunContent, found: Run | None = None) -> bool:
        """Make the child run hold exactly what the store holds; False if it did already.

        A child that holds anything else (of an attempt on another machine, or from before a
        damaged folder was removed) is deleted and written anew: MLflow cannot change a value.
        """
        run = found or self.child(target, content)
        tags = _child_tags(target, content) | {CONTENT_TAG: content.digest}
        if not _missing(tags, run.data.tags):
            return False
        metrics, present = content.metrics(), self._rows(run)
        if not present <= set(metrics) or _missing(run.data.params, content.params):
            self.delete(run)
            run, present = self.create_child(target, content), set()
        rows = [row for row in metrics if row not in present]
        self._log(run, rows, _missing(content.params, run.data.params), {})
        self.put(run.info.run_id, content.artifacts)
        if content.data is not None:
            self._log_data(run, content.data)
        if ERROR_TAG in run.data.tags:
            with self._failing():
                self._client.delete_tag(run.info.run_id, ERROR_TAG)
        self._log(run, [], {}, _missing(tags, run.data.tags))
        self.set_status(run.info.run_id, "FAILED" if content.failed else "FINISHED")
        return True

    def put(self, run_id: str, files: Sequence[Path], folder: str | None = None) -> None:
        """Upload files as artifacts of a run."""
        with self._failing():
            for path in files:
                self._client.log_artifact(run_id, str(path), folder)

    def describe(self, run_id: str, note: str) -> None:
        """Set the Markdown description on a run's page in the UI."""
        self.set_tags(run_id, {"mlflow.note.content": note})

    def set_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Set tags of a run."""
        with self._failing():
            for key, value in tags.items():
                self._client.set_tag(run_id, key, value)

    def set_status(self, run_id: str, status: str) -> None:
        """Set a run's status: RUNNING, FINISHED, FAILED or KILLED."""
        with self._failing():
            if status == "RUNNING":
                self._client.update_run(run_id, status)
            else:
                self._client.set_terminated(run_id, status)

    def delete(self, run: Run) -> None:
        """Move a run to MLflow's bin."""
        with self._failing():
            self._client.delete_run(run.info.run_id)

    def _create(self, experiment_id: str, name: str, tags: Mapping[str, str]) -> Run:
        with self._failing():
            return self._client.create_run(experiment_id, tags=dict(tags), run_name=name)

    def _search(self, experiment_id: str, tags: Mapping[str, str]) -> list[Run]:
        found: list[Run] = []
        with self._failing():
            token: str | None = None
            while True:
                page = self._client.search_runs(
                    [experiment_id],
                    " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items()),
                    order_by=["attributes.start_time ASC", "attributes.run_id ASC"],
                    page_token=token,
                )
                found += page
                token = page.token
                if not token:
                    return found

    def _distinct(self, target: TrackingTarget, tags: Mapping[str, str]) -> dict[str, Run]:
        """Child runs by run_id; of two with the same the older stays and the other is deleted.

        There are two where a stopped server carries out, later, a request that had timed out here.
        """
        distinct: dict[str, Run] = {}
        for run in self._search(target.experiment_id, tags):
            if distinct.setdefault(run.data.tags["optpath.run_id"], run) is not run:
                self.delete(run)
        return distinct

    def _rows(self, run: Run) -> set[Row]:
        with self._failing():
            return {
                (key, metric.value, metric.step)
                for key in run.data.metrics
                for metric in self._client.get_metric_history(run.info.run_id, key)
            }

    def _log(
        self, run: Run, rows: Sequence[Row], params: Mapping[str, str], tags: Mapping[str, str]
    ) -> None:
        with self._failing():
            from mlflow.entities import Metric, Param, RunTag

            start = run.info.start_time
            self._client.log_batch(
                run.info.run_id,
                [Metric(key, value, start + step, step) for key, value, step in rows],
                [Param(key, value) for key, value in params.items()],
                [RunTag(key, value) for key, value in tags.items()],
            )

    def _log_data(self, run: Run, data: DataUsed) -> None:
        """The data set as an input of the run; MLflow keeps one of equal name and digest."""
        with self._failing():
            from mlflow.entities import Dataset, DatasetInput, InputTag

            dataset = Dataset(
                data.name, data.digest, "optpath", json.dumps({"citation": data.source}),
                profile=data.profile,
            )  # fmt: skip
            tags = [InputTag("mlflow.data.context", "training")]
            self._client.log_inputs(run.info.run_id, [DatasetInput(dataset, tags)])

    def _artifacts(self, storage: Path) -> str | None:
        """Where the artifacts of a new experiment go; None: where its server says."""
        if self.uri.startswith("sqlite:"):
            return (sqlite_path(self.uri).parent / "mlartifacts").as_uri()
        if self.uri.startswith(DATABASES):
            return (storage.resolve() / "mlartifacts").as_uri()
        return None

    @contextmanager
    def _failing(self) -> Iterator[None]:
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        try:
            yield
        except (MlflowException, SQLAlchemyError, OSError, ImportError, JSONDecodeError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            where = without_password(self.uri)
            raise TrackingUnavailable(
                f"MLflow at {where} cannot be used: {without_password(reason)[:REASON_LENGTH]}"
            ) from error


def _configure(timeout_seconds: float) -> None:
    """Read by mlflow at every request, except the telemetry switches, which it reads on import."""
    os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"
    os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] = str(max(1, round(timeout_seconds)))
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    os.environ["DO_NOT_TRACK"] = "true"
    os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")


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
