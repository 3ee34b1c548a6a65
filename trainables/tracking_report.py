"""A sweep's report on its MLflow run, and the addresses of the runs' pages for the report."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from trainables.tracking import SYNC_SECONDS, Connection, TrackingTarget

PASSWORD = r"//[^@/\s]+@"
"""User and password in an address."""

REPORT_FILES = ("report.html", "report.md", "summary.json", "plan.json", "spec.yaml")
REPORT_FOLDERS = ("figures", "tables")


def log_report(
    target: TrackingTarget,
    report_dir: Path,
    note: str,
    tags: Mapping[str, str] | None = None,
    timeout_seconds: float = SYNC_SECONDS,
) -> None:
    """Put a sweep's report, figures, tables, plan and spec on its parent run; note on top.

    `tags` are set on that run: the verdicts, to filter sweeps by.

    Raises:
        TrackingUnavailable: the server does not answer.
    """
    connection = Connection(target.uri, timeout_seconds)
    files = [report_dir / name for name in REPORT_FILES]
    connection.put(target.parent_run_id, [path for path in files if path.is_file()])
    for folder in REPORT_FOLDERS:
        connection.put(target.parent_run_id, sorted((report_dir / folder).glob("*.*")), folder)
    connection.describe(target.parent_run_id, note)
    connection.set_tags(target.parent_run_id, tags or {})


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
    return {run_id: f"{base}/{run.info.run_id}" for run_id, run in children.items()}
