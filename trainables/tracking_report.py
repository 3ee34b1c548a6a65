"""A sweep's report on its MLflow run, and the addresses of the runs' pages for the report."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from trainables.tracking import SYNC_SECONDS, Connection, TrackingTarget
from trainables.tracking_server import Server

PASSWORD = r"//[^@/\s]+@"
"""User and password in an address."""

REPORT_FILES = ("report.html", "report.md", "summary.json", "plan.json", "spec.yaml")
REPORT_FOLDERS = ("figures", "tables")

VERDICT_PREFIX = "verdict_"
"""How the names of the tags with the words on claims begin."""

TRAINING_VIEW = "?workflowType=machine_learning"
"""Without it MLflow 3's UI shows a run among evaluations of language models."""


def log_report(
    target: TrackingTarget,
    report_dir: Path,
    note: str,
    tags: Mapping[str, str] | None = None,
    timeout_seconds: float = SYNC_SECONDS,
) -> None:
    """Put a sweep's report, figures, tables, plan and spec on its parent run; note on top.

    `tags` are set on that run: the verdicts, to filter sweeps by. What an earlier report left there
    and this one does not have is removed: figures, tables, verdicts.

    Raises:
        TrackingUnavailable: the server does not answer.
    """
    server, run_id = Server(target.uri, timeout_seconds), target.parent_run_id
    files = [report_dir / name for name in REPORT_FILES]
    server.put(run_id, [path for path in files if path.is_file()])
    for folder in REPORT_FOLDERS:
        _replace_folder(server, run_id, report_dir / folder)
    server.describe(run_id, note)
    verdicts = {name for name in server.tags(run_id) if name.startswith(VERDICT_PREFIX)}
    server.remove_tags(run_id, sorted(verdicts - set(tags or {})))
    server.set_tags(run_id, tags or {})


def _replace_folder(server: Server, run_id: str, folder: Path) -> None:
    """Make a run's artifact folder hold the files of a local one, and no others."""
    files = sorted(folder.glob("*.*"))
    earlier = server.artifacts(run_id, folder.name)
    server.put(run_id, files, folder.name)
    kept = {f"{folder.name}/{file.name}" for file in files}
    server.remove(run_id, [path for path in earlier if path not in kept])


def page_addresses(target: TrackingTarget, timeout_seconds: float = SYNC_SECONDS) -> dict[str, str]:
    """The address of every run's page in the UI, by run_id; none where no server is running.

    Raises:
        TrackingUnavailable: the server does not answer.
    """
    if not target.uri.startswith(("http:", "https:")):
        return {}
    children = Connection(target.uri, timeout_seconds).children(target)
    server = re.sub(PASSWORD, "//", target.uri)
    base = f"{server}/#/experiments/{target.experiment_id}/runs"
    return {run_id: f"{base}/{run.info.run_id}{TRAINING_VIEW}" for run_id, run in children.items()}
