"""Where an analysis reads a sweep from: a store, or an MLflow server alone."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from analysis.history import column_of, epochs_of, manifest_of
from trainables.store import Store, StoreDamaged, UserError, read_sealed

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

EXPERIMENT = "optpath"
"""The MLflow experiment that holds every sweep."""

T = TypeVar("T")


class Source(Protocol):
    """What `load_sweep` needs to know about one sweep."""

    @property
    def where(self) -> str:
        """The place, for messages."""

    def plan(self) -> dict[str, Any]:
        """The sweep's plan; raises UserError naming the known sweeps if there is none."""

    def spec(self) -> str | None:
        """The resolved spec as YAML text, or None if it was not kept."""

    def manifest(self, run_id: str) -> dict[str, Any] | None:
        """The run's manifest, or None while it is not done."""

    def state(self, run_id: str, trajectory_id: str) -> tuple[str, str]:
        """State and words for a run without manifest: failed, unfinished, or not started."""

    def table(self, run_id: str, name: str, columns: Sequence[str] | None) -> pd.DataFrame | None:
        """That table of the run (steps, epochs, or a probe's own), None if it has none.

        Columns that it lacks are left out.
        """

    def column_names(self, run_id: str, name: str) -> Sequence[str]:
        """The columns of that table of the run, none if it has no such table."""


class StoreSource:
    """A sweep in a store."""

    def __init__(self, name: str, root: Path) -> None:
        self._name = name
        self._store = Store(root)

    @property
    def where(self) -> str:
        """The storage folder."""
        return str(self._store.root)

    @property
    def cache_folder(self) -> Path:
        """Where tables made from this sweep's may be kept."""
        return self._store.sweep(self._name).path / "cache"

    def plan(self) -> dict[str, Any]:
        """plan.json of the sweep's folder."""
        plan = read_sealed(self._store.sweep(self._name).path / "plan.json")
        if plan is None:
            raise unknown_sweep(self._name, self.where, self._store.sweep_names())
        return plan

    def spec(self) -> str | None:
        """spec.yaml of the sweep's folder."""
        path = self._store.sweep(self._name).path / "spec.yaml"
        return path.read_text() if path.is_file() else None

    def manifest(self, run_id: str) -> dict[str, Any] | None:
        """manifest.json of the run's folder."""
        return self._store.run(run_id).manifest()

    def state(self, run_id: str, trajectory_id: str) -> tuple[str, str]:
        """From error.json and progress.json of the trajectory, whichever is newer."""
        folder = self._store.trajectory(trajectory_id).path
        error = _read_json(folder / "error.json")
        progress = _read_json(folder / "progress.json")
        if error and (not progress or error["time"] >= progress["updated"]):
            return "failed", f"failed: {error['message'].splitlines()[0]}"
        if not progress:
            return "not started", "not started"
        done = f"step {progress['step']} of {progress['num_steps']}"
        return "unfinished", f"unfinished: {progress['phase']} at {done}"

    def table(self, run_id: str, name: str, columns: Sequence[str] | None) -> pd.DataFrame | None:
        """The table's parquet file in the run's folder."""
        path = self._store.run(run_id).path / f"{name}.parquet"
        return read_columns(path, columns) if path.is_file() else None

    def column_names(self, run_id: str, name: str) -> Sequence[str]:
        """From the footer of the table's parquet file."""
        path = self._store.run(run_id).path / f"{name}.parquet"
        return read_names(path) if path.is_file() else ()


class MlflowSource:
    """A sweep on an MLflow server: plan on the parent run, tables and manifests on the children.

    Where a child's files are not on the server, its tags and metrics say what they can of them.
    """

    def __init__(self, name: str, tracking_uri: str) -> None:
        self._name = name
        self._uri = tracking_uri
        _refuse_absent_database(tracking_uri)
        with _quietly():
            from mlflow import MlflowClient

            self._client: MlflowClient = MlflowClient(tracking_uri=tracking_uri)
            # A table is asked for several times, and downloaded once.
            self._downloads = Path(tempfile.mkdtemp(prefix="optpath-"))
            weakref.finalize(self, shutil.rmtree, self._downloads)
            self._listed: dict[str, set[str]] = {}
            self._planned: dict[str, dict[str, Any]] = {}
            self._parent = self._ask(self._find_parent)
            self._children = self._ask(self._find_children)

    @property
    def where(self) -> str:
        """The tracking URI."""
        return self._uri

    def plan(self) -> dict[str, Any]:
        """plan.json among the parent run's artifacts."""
        plan = self._artifact(self._parent, "plan.json", read_sealed)
        if plan is None:
            raise UserError(
                f"{self._uri}: sweep '{self._name}' has no plan.json there (were the artifacts "
                f"moved?); where its storage is, type  optpath sync {self._name}"
            )
        self._planned = {run["run_id"]: run for run in plan["runs"]}
        return plan

    def spec(self) -> str | None:
        """spec.yaml among the parent run's artifacts."""
        return self._artifact(self._parent, "spec.yaml", Path.read_text)

    def manifest(self, run_id: str) -> dict[str, Any] | None:
        """manifest.json among the child run's artifacts, else what its tags and metrics say."""
        child = self._children.get(run_id)
        if child is None:
            return None
        sealed = self._artifact(child, "manifest.json", read_sealed)
        return sealed or manifest_of(self._planned[run_id], child)

    def state(self, run_id: str, trajectory_id: str) -> tuple[str, str]:
        """From the child run's own status."""
        child = self._children.get(run_id)
        if child is None:
            return "not started", "not started, or not synced to this server"
        if child.info.status in ("FAILED", "KILLED"):
            return "failed", f"failed (MLflow run {child.info.run_id})"
        return "unfinished", "unfinished, or its tables are not synced to this server"

    def table(self, run_id: str, name: str, columns: Sequence[str] | None) -> pd.DataFrame | None:
        """The table's parquet file among the child run's artifacts; epochs also from its metrics.

        A server keeps an epoch's means, of gamma the extremes as well, and the evaluations.
        """
        child = self._children.get(run_id)
        if child is None:
            return None
        read: Callable[[Path], pd.DataFrame] = lambda path: read_columns(path, columns)  # noqa: E731
        found = self._artifact(child, f"{name}.parquet", read)
        if found is None and name == "epochs":
            found = self._epochs(child, run_id)
            if found is not None and columns is not None:
                return found[[c for c in columns if c in found.columns]]
        return found

    def column_names(self, run_id: str, name: str) -> Sequence[str]:
        """From the table's parquet file among the child run's artifacts."""
        child = self._children.get(run_id)
        names = None if child is None else self._artifact(child, f"{name}.parquet", read_names)
        return names or ()

    def _epochs(self, child: Run, run_id: str) -> pd.DataFrame | None:
        manifest = self.manifest(run_id)
        if manifest is None or manifest["status"] == "replay_diverged":
            return None
        histories = {key: self._history(child, key) for key in child.data.metrics if column_of(key)}
        return epochs_of(manifest, histories)

    def _history(self, child: Run, key: str) -> list[tuple[int, float]]:
        run_id = child.info.run_id
        found = self._ask(lambda: self._client.get_metric_history(run_id, key))
        return [(metric.step, metric.value) for metric in found]

    def _ask(self, question: Callable[[], T]) -> T:
        from mlflow.exceptions import MlflowException

        try:
            with _quietly():
                return question()
        except MlflowException as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"{self._uri}: the MLflow server does not answer ({reason})") from None

    def _search(self, condition: str) -> list[Run]:
        experiment = self._client.get_experiment_by_name(EXPERIMENT)
        if experiment is None:
            raise UserError(f"{self._uri}: no experiment '{EXPERIMENT}'; run a sweep with this URI")
        found: list[Run] = []
        token: str | None = None
        while True:
            page = self._client.search_runs(
                [experiment.experiment_id], condition, max_results=1000, page_token=token
            )
            found.extend(page)
            token = page.token
            if not token:
                return found

    def _find_parent(self) -> Run:
        parents = self._search("tags.`optpath.kind` = 'sweep'")
        mine = [run for run in parents if run.data.tags["optpath.sweep"] == self._name]
        if not mine:
            names = {run.data.tags["optpath.sweep"] for run in parents}
            raise unknown_sweep(self._name, self._uri, sorted(names))
        return max(mine, key=lambda run: run.info.start_time)

    def _find_children(self) -> dict[str, Run]:
        parent = self._parent.info.run_id
        runs = self._search(f"tags.`mlflow.parentRunId` = '{parent}'")
        return {run.data.tags["optpath.run_id"]: run for run in runs}

    def _artifact(self, run: Run, name: str, read: Callable[[Path], T]) -> T | None:
        run_id = run.info.run_id
        if run_id not in self._listed:
            items = self._ask(lambda: self._client.list_artifacts(run_id))
            self._listed[run_id] = {item.path for item in items}
        if name not in self._listed[run_id]:
            return None
        folder = self._downloads / run_id
        path = folder / name
        if not path.is_file():
            folder.mkdir(exist_ok=True)
            self._ask(lambda: self._client.download_artifacts(run_id, name, str(folder)))
        return read(path)


def unknown_sweep(name: str, where: str, known: Sequence[str]) -> UserError:
    """The error for a sweep that is not there: it lists those that are."""
    if not known:
        return UserError(f"{where}: no sweep there yet; start with  optpath run quickstart")
    return UserError(f"{where}: no sweep '{name}'; there are: {', '.join(known)}")


def read_columns(path: Path, columns: Sequence[str] | None) -> pd.DataFrame:
    """Those columns of a parquet table that it has, all if None; raises StoreDamaged."""
    with _opened(path) as file:
        names = file.metadata.schema.names
        wanted = None if columns is None else [name for name in columns if name in names]
        table = file.read(columns=wanted, use_threads=False)
    # pandas' own notes on a table of 140 plain columns cost as much to read as the table.
    frame: pd.DataFrame = table.replace_schema_metadata(None).to_pandas()
    return frame


def read_names(path: Path) -> list[str]:
    """The names of a parquet table's columns; raises StoreDamaged."""
    with _opened(path) as file:
        names: list[str] = file.metadata.schema.names
    return names


@contextmanager
def _opened(path: Path) -> Iterator[pq.ParquetFile]:
    try:
        with pq.ParquetFile(path) as file:
            yield file
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise StoreDamaged(
            f"{path}: not readable ({reason}); delete its folder, run again"
        ) from None


def _read_json(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    values: dict[str, Any] = json.loads(path.read_bytes())
    return values


def _refuse_absent_database(tracking_uri: str) -> None:
    # MLflow would create an empty database there, and the typing error would go unseen.
    if tracking_uri.startswith("sqlite:///"):
        path = Path(tracking_uri.removeprefix("sqlite:///"))
        if not path.is_file():
            raise UserError(f"{tracking_uri}: no such database; give the URI used for the sweep")


@contextmanager
def _quietly() -> Iterator[None]:
    # By default the client tries for minutes before it says that a server is down.
    wanted = {
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",  # a bar per file, of which there are 1,000
    }
    added = {name: value for name, value in wanted.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)
