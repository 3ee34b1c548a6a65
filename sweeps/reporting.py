"""A report's way to MLflow: the runs brought up to date, the report on the sweep's run."""

from __future__ import annotations

from rich.console import Console

from sweeps.places import Places
from sweeps.sync import sync
from trainables.tracking import TrackingUnavailable, log_report


def publish(sweep: str, here: Places, headline: str, console: Console) -> None:
    """Sync the sweep and log its report; without a server, say what to type once there is one."""
    try:
        result = sync(sweep, here.store, here.tracking_uri, ended=True)
        log_report(result.target, here.store.sweep(sweep).path, headline)
    except TrackingUnavailable as error:
        console.print(f"MLflow: {error}; later: optpath sync {sweep}", soft_wrap=True)
    else:
        console.print(f"MLflow: {here.tracking_uri}; to browse it: optpath ui", soft_wrap=True)
