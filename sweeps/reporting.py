"""A report's way to MLflow: the runs brought up to date, the report on the sweep's run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from rich.console import Console

from sweeps.places import Places
from sweeps.sync import sync
from trainables.tracking import TrackingTarget
from trainables.tracking_report import log_report, page_addresses
from trainables.tracking_server import TrackingUnavailable


@dataclass(frozen=True)
class Tracked:
    """A sweep whose runs are on the server, and the address of each run's page where it has one."""

    target: TrackingTarget
    addresses: Mapping[str, str] = field(default_factory=dict)


def bring_up_to_date(sweep: str, here: Places, console: Console) -> Tracked | None:
    """Sync the sweep; without a server, say what to type once there is one, and return None."""
    try:
        target = sync(sweep, here.store, here.tracking_uri, ended=True).target
        return Tracked(target, page_addresses(target))
    except TrackingUnavailable as error:
        console.print(f"MLflow: {error}; later: optpath sync {sweep}", soft_wrap=True)
        return None


def publish(
    tracked: Tracked, here: Places, note: str, tags: Mapping[str, str], console: Console
) -> None:
    """Log the sweep's report on its run, `note` on top; a server that has gone is one line."""
    sweep = tracked.target.sweep
    try:
        log_report(tracked.target, here.store.sweep(sweep).path, note, tags)
    except TrackingUnavailable as error:
        console.print(f"MLflow: {error}; later: optpath analyze {sweep}", soft_wrap=True)
    else:
        console.print(f"MLflow: {here.tracking_uri}; to browse it: optpath ui", soft_wrap=True)
