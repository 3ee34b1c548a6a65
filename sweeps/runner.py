"""One `optpath run`: check, prepare the data, launch, bring MLflow up to date."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from sweeps.launch import launch_plan
from sweeps.places import Places, check_writable
from sweeps.plan import Plan
from sweeps.plan_store import write_plan
from sweeps.progress import Progress
from sweeps.ray_session import Launch, check_launch
from sweeps.same_data import check_same_data
from sweeps.sync import sync
from sweeps.view import shown
from sweeps.weights import num_weights
from trainables.store import Store
from trainables.tracker import Preparation
from trainables.tracking_server import TrackingUnavailable

PREPARE_SECONDS = 60.0
"""How long a finished launch still waits for an MLflow attempt that is under way: a database's
first migrations take 3 s, and several times that on a busy machine; ours."""
STOP_SECONDS = 5.0
"""How long an interrupted launch takes at most to tell MLflow which runs have stopped; ours."""
PATIENCE_SECONDS = 1.0
"""Data that are prepared within this time are not worth a line; ours."""


def run_sweep(plan: Plan, here: Places, launch: Launch, console: Console) -> bool:
    """Run what the store does not have of the plan; False if some run failed unexpectedly.

    Raises:
        UserError: before anything starts: storage, resources, data that are not there or not those
            of the stored results, a sweep of another base.
        KeyboardInterrupt: Ctrl-C or SIGTERM; nothing of the launch runs any more.
    """
    check_launch(launch)
    check_writable(here.store)
    _prepare_data(plan, here.data_root, console)
    for line in check_same_data(plan, here.store, here.data_root):
        console.print(line, style="yellow", soft_wrap=True)
    write_plan(here.store, plan)
    progress = Progress(plan, here.store)
    preparation = Preparation(here.tracking_uri, here.store, plan.name)
    patience = 0.0
    try:
        with shown(progress, console):
            launch_plan(plan, launch, progress, preparation.start)
        progress.close()
        patience = PREPARE_SECONDS
    except KeyboardInterrupt:
        _tell_stopped(preparation, here, plan.name)
        raise
    finally:
        preparation.stop(patience)
    _print_failures(progress, console)
    for line in schedule_warnings(plan, here.store):
        console.print(line, style="yellow", soft_wrap=True)
    return all(failure.diverged and plan.spec.expects_divergence for failure in progress.failures)


def schedule_warnings(plan: Plan, store: Store) -> list[str]:
    """One line per ended run whose schedule found its batch too small to follow the gradients."""
    manifests = {run.run_id: store.run(run.run_id).manifest() or {} for run in plan.runs}
    found = {
        run_id: manifest.get("schedule", {}).get("schedule_warning")
        for run_id, manifest in manifests.items()
    }
    return [f"warning: run {run_id}: {words}" for run_id, words in found.items() if words]


def _prepare_data(plan: Plan, data_root: Path, console: Console) -> None:
    for data in dict.fromkeys(run.config.data for run in plan.runs):
        with _announced(f"preparing {data.name}, once ...", console):
            data.prepare(data_root)
    for run in plan.open_runs:  # a network that the data do not fit is a mistake found here
        num_weights(run.config, data_root)


@contextmanager
def _announced(line: str, console: Console) -> Iterator[None]:
    """Print the line if the block takes longer than a moment."""
    timer = threading.Timer(PATIENCE_SECONDS, console.print, (line,))
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _tell_stopped(preparation: Preparation, here: Places, sweep: str) -> None:
    """Mark the stopped runs on MLflow, as far as it answers within a few seconds."""
    if preparation.target() is None:
        return

    def tell() -> None:
        try:
            sync(sweep, here.store, here.tracking_uri, ended=True)
        except TrackingUnavailable:
            return  # the store is the truth; the next run or sync says it again

    thread = threading.Thread(target=tell, daemon=True)
    thread.start()
    thread.join(STOP_SECONDS)


def _print_failures(progress: Progress, console: Console) -> None:
    for failure in progress.failures:
        expected = failure.diverged and progress.plan.spec.expects_divergence
        runs = ", ".join(failure.run_ids)
        words = f"{failure.name} ({runs}): {failure.message}" + (", as expected" * expected)
        console.print(words, style="yellow" if expected else "red", soft_wrap=True)
