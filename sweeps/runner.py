"""One `optpath run`: check, prepare the data, launch, bring MLflow up to date."""

from __future__ import annotations

from dataclasses import dataclass

from rich.console import Console

from sweeps.launch import Interrupted, Launch, check_resources, launch_plan
from sweeps.places import Places, check_writable
from sweeps.plan import Plan
from sweeps.plan_store import write_plan
from sweeps.progress import Progress
from sweeps.view import shown
from trainables.tracker import Preparation

PREPARE_SECONDS = 10.0
"""How long a finished launch still waits for an MLflow attempt that is under way; ours."""


@dataclass(frozen=True)
class Outcome:
    """How a launch ended."""

    interrupted: bool
    failed: bool
    """Some run failed, and not in a way that the spec expects."""


def run_sweep(plan: Plan, here: Places, launch: Launch, console: Console, command: str) -> Outcome:
    """Run what the store does not have of the plan; `command` is what the user typed.

    Raises:
        UserError: before anything starts: storage, resources, data, a sweep of another base.
    """
    check_writable(here.store)
    check_resources(launch)
    for data in {run.config.data for run in plan.open_runs}:
        data.prepare(here.data_root)
    write_plan(here.store, plan)
    progress = Progress(plan, here.store)
    preparation = Preparation(here.tracking_uri, here.store, plan.name)
    interrupted = False
    try:
        with shown(progress, console):
            launch_plan(plan, launch, progress)
    except (Interrupted, KeyboardInterrupt):
        interrupted = True
        console.print(f"stopped; what is done is kept. To go on: {command}", soft_wrap=True)
    finally:
        preparation.stop(PREPARE_SECONDS)
    _print_failures(progress, console, command)
    return Outcome(interrupted, _failed(progress))


def _failed(progress: Progress) -> bool:
    """A run that diverged counts as failed unless the spec says that divergence is expected."""
    expected = progress.plan.spec.expects_divergence
    return any(not (failure.diverged and expected) for failure in progress.failures)


def _print_failures(progress: Progress, console: Console, command: str) -> None:
    for failure in progress.failures:
        runs = ", ".join(failure.run_ids)
        console.print(f"{runs}: {failure.message}", style="red", soft_wrap=True)
    if any(not failure.diverged for failure in progress.failures):
        console.print(f"to try these again: {command}", soft_wrap=True)
