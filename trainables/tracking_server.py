"""MLflow under one URI, in the few verbs that tracking needs; whatever fails is one line.

The only file that imports mlflow, and only inside functions: the import takes over a second and
belongs in a background thread (`trainables.tracker`). Nothing here retries; a server that does not
answer in time raises TrackingUnavailable, and the store keeps what was not sent.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from json import JSONDecodeError
from pathlib import Path
from typing import TYPE_CHECKING

from trainables.errors import UserError
from trainables.tracking_content import DataUsed, Row
from trainables.tracking_uri import DATABASES, sqlite_path, without_password

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

EXPERIMENT = "optpath"
"""The MLflow experiment of all sweeps."""

TIMEOUT_SECONDS = 2.0
"""Patience with a server while runs train; a stopped server costs the thread this much per try."""

ENDED = ("FINISHED", "FAILED", "KILLED")
"""MLflow's words for runs that have ended."""

REASON_LENGTH = 300
"""Characters of mlflow's own message that are passed on."""


class TrackingUnavailable(UserError):
    """The tracking server is absent, not ready yet, hanging, or refuses; one line says which."""


class Server:
    """MLflow under one URI. Every method raises TrackingUnavailable where the server fails."""

    def __init__(self, uri: str, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        self.uri = uri
        _configure(timeout_seconds)
        with self.failing():
            from mlflow.tracking import MlflowClient

            if uri.startswith("sqlite:"):
                sqlite_path(uri).parent.mkdir(parents=True, exist_ok=True)
            self._client: MlflowClient = MlflowClient(tracking_uri=uri)

    def check(self) -> None:
        """Ask the server something that changes nothing: opening a connection to one does not."""
        with self.failing():
            self._client.get_experiment_by_name(EXPERIMENT)

    def experiment(self, storage: Path) -> str:
        """The experiment's id; created where it is missing, restored where it was deleted."""
        with self.failing():
            found = self._client.get_experiment_by_name(EXPERIMENT)
            if found is None:
                kind = {"mlflow.experimentKind": "custom_model_development"}  # not a UI of traces
                return self._client.create_experiment(EXPERIMENT, self._artifacts(storage), kind)
            if found.lifecycle_stage != "active":
                self._client.restore_experiment(found.experiment_id)
            return str(found.experiment_id)

    def create(
        self,
        experiment_id: str,
        name: str,
        tags: Mapping[str, str],
        start_time: int | None = None,
    ) -> Run:
        """A new run, which began at that time [ms]; None: now."""
        with self.failing():
            return self._client.create_run(experiment_id, start_time, dict(tags), name)

    def search(self, experiment_id: str, tags: Mapping[str, str]) -> list[Run]:
        """All runs that carry those tags, oldest first."""
        found: list[Run] = []
        with self.failing():
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

    def delete(self, run: Run) -> None:
        """Move a run to MLflow's bin."""
        with self.failing():
            self._client.delete_run(run.info.run_id)

    def log(
        self,
        run: Run,
        rows: Sequence[Row] = (),
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Send values in one request. Sending them again changes nothing: the step fixes the time.

        The only change that MLflow refuses is another value for a parameter.
        """
        with self.failing():
            from mlflow.entities import Metric, Param, RunTag

            start = run.info.start_time
            self._client.log_batch(
                run.info.run_id,
                [Metric(key, value, start + step, step) for key, value, step in rows],
                [Param(key, value) for key, value in (params or {}).items()],
                [RunTag(key, value) for key, value in (tags or {}).items()],
            )

    def log_data(self, run_id: str, data: DataUsed) -> None:
        """The data set as an input of the run; MLflow keeps one of equal name and digest."""
        with self.failing():
            from mlflow.entities import Dataset, DatasetInput, InputTag

            dataset = Dataset(
                data.name, data.digest, "optpath", json.dumps({"citation": data.source}),
                profile=data.profile,
            )  # fmt: skip
            tags = [InputTag("mlflow.data.context", "training")]
            self._client.log_inputs(run_id, [DatasetInput(dataset, tags)])

    def rows(self, run: Run) -> set[Row]:
        """Every value that the run holds."""
        with self.failing():
            return {
                (key, metric.value, metric.step)
                for key in run.data.metrics
                for metric in self._client.get_metric_history(run.info.run_id, key)
            }

    def tags(self, run_id: str) -> dict[str, str]:
        """The tags of a run."""
        with self.failing():
            return dict(self._client.get_run(run_id).data.tags)

    def set_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Set tags of a run."""
        with self.failing():
            for key, value in tags.items():
                self._client.set_tag(run_id, key, value)

    def remove_tags(self, run_id: str, names: Iterable[str]) -> None:
        """Remove tags that the run has."""
        with self.failing():
            for name in names:
                self._client.delete_tag(run_id, name)

    def describe(self, run_id: str, note: str) -> None:
        """Set the Markdown description on a run's page in the UI."""
        self.set_tags(run_id, {"mlflow.note.content": note})

    def set_status(self, run_id: str, status: str, end_time: int | None = None) -> None:
        """Set a run's status: RUNNING, FINISHED, FAILED or KILLED.

        A run that ends does so at that time [ms]; None: when it had ended already, else now.
        """
        with self.failing():
            if status == "RUNNING":
                self._client.update_run(run_id, status)
                return
            if end_time is None:
                info = self._client.get_run(run_id).info
                end_time = info.end_time if info.status in ENDED else None
            self._client.set_terminated(run_id, status, end_time)

    def put(self, run_id: str, files: Sequence[Path], folder: str | None = None) -> None:
        """Upload files as artifacts of a run."""
        with self.failing():
            for path in files:
                self._client.log_artifact(run_id, str(path), folder)

    def artifacts(self, run_id: str, folder: str) -> list[str]:
        """The paths of the files in a folder of a run's artifacts."""
        with self.failing():
            found = self._client.list_artifacts(run_id, folder)
            return [file.path for file in found if not file.is_dir]

    def remove(self, run_id: str, paths: Iterable[str]) -> None:
        """Remove artifacts of a run."""
        with self.failing():
            from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

            root = self._client.get_run(run_id).info.artifact_uri
            repository = get_artifact_repository(root, tracking_uri=self.uri)
            for path in paths:
                repository.delete_artifacts(path)  # type: ignore[no-untyped-call]

    @contextmanager
    def failing(self) -> Iterator[None]:
        """Whatever MLflow raises inside becomes TrackingUnavailable, without passwords."""
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

    def _artifacts(self, storage: Path) -> str | None:
        """Where the artifacts of a new experiment go; None: where its server says."""
        if self.uri.startswith("sqlite:"):
            return (sqlite_path(self.uri).parent / "mlartifacts").as_uri()
        if self.uri.startswith(DATABASES):
            return (storage.resolve() / "mlartifacts").as_uri()
        return None


def _configure(timeout_seconds: float) -> None:
    """Read by mlflow at every request, except the telemetry switches, which it reads on import."""
    os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"
    os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] = str(max(1, round(timeout_seconds)))
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    os.environ["DO_NOT_TRACK"] = "true"
    os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
