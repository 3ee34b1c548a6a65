"""Commands that say what a sweep is, run it, and tell how far it is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from sweeps.cli.arguments import (
    EXIT_FAILED,
    Address,
    CpusPerRun,
    GpusPerRun,
    MaxConcurrent,
    Overrides,
    Scale,
    Storage,
    Stored,
    Sweep,
    TrackingUri,
    Tuned,
    Variant,
    app,
    stored,
)
from sweeps.cli.output import console, print_table, typed
from sweeps.cli.reporting import report

if TYPE_CHECKING:
    from sweeps.places import Places
    from sweeps.plan import Plan


@app.command("list")
def list_presets() -> None:
    """Print the presets, one line each."""
    from sweeps.tables import preset_lines

    out = console()
    for line in preset_lines():
        out.print(line, no_wrap=True, overflow="ellipsis")


@app.command()
def show(
    sweep: Sweep,
    overrides: Overrides = None,
    scale: Scale = "full",
    variant: Variant = None,
) -> None:
    """Print the resolved spec as YAML, itself a valid spec."""
    from sweeps.catalogue import load_spec
    from sweeps.tables import spec_text

    typer.echo(spec_text(load_spec(sweep, overrides or [], scale=scale, variant=variant)), nl=False)


@app.command()
def plan(
    sweep: Sweep,
    overrides: Overrides = None,
    scale: Scale = "full",
    variant: Variant = None,
    storage: Storage = None,
    tuned: Tuned = None,
) -> None:
    """Print every run and what is left of it; starts nothing."""
    from sweeps.places import places
    from sweeps.same_data import check_same_data
    from sweeps.tables import costs_table, plan_notes, plan_table, plan_totals

    here = places(storage)
    planned = _plan(here, sweep, overrides, scale, variant, tuned)
    not_compared = check_same_data(planned, here.store, here.data_root)
    print_table(plan_table(planned, here.data_root))
    if (costs := costs_table(planned)) is not None:
        print_table(costs)
    for line in [*plan_notes(planned, here.data_root), *not_compared, plan_totals(planned)]:
        console().print(line)


@app.command()
def run(
    sweep: Sweep,
    overrides: Overrides = None,
    scale: Scale = "full",
    variant: Variant = None,
    storage: Storage = None,
    tracking_uri: TrackingUri = None,
    tuned: Tuned = None,
    address: Address = "local",
    cpus_per_run: CpusPerRun = 1,
    gpus_per_run: GpusPerRun = 0.0,
    max_concurrent: MaxConcurrent = None,
) -> None:
    """Run a sweep to its report. Typed again, it goes on where it stopped."""
    from sweeps.places import places
    from sweeps.ray_session import Launch, Resources
    from sweeps.runner import run_sweep

    here = places(storage, tracking_uri)
    planned = _plan(here, sweep, overrides, scale, variant, tuned)
    resources = Resources(cpus_per_run, gpus_per_run, max_concurrent)
    launch = Launch(here.store.root, here.data_root, address, resources)
    out = console()
    good = run_sweep(planned, here, launch, out)
    if any(here.store.run(run.run_id).manifest() for run in planned.runs):
        report(here, planned.name)
    if not good:
        out.print(f"some runs failed; to try these again: {typed()}", soft_wrap=True)
    raise typer.Exit(0 if good else EXIT_FAILED)


@app.command()
def status(
    sweep: Stored, scale: Scale = "full", variant: Variant = None, storage: Storage = None
) -> None:
    """Print every run's state, time left and last error."""
    from sweeps.status import sweep_status
    from sweeps.tables import status_table

    here, name = stored(sweep, scale, variant, storage)
    runs = sweep_status(here.store, name, here.data_root)
    print_table(status_table(runs))


def _plan(
    here: Places,
    sweep: str,
    overrides: list[str] | None,
    scale: str,
    variant: str | None,
    tuned: Path | None,
) -> Plan:
    from sweeps.catalogue import load_spec
    from sweeps.plan import make_plan
    from sweeps.plan_store import check_same_base, mark_done

    spec = load_spec(sweep, overrides or [], scale=scale, variant=variant, over=tuned)
    planned = mark_done(make_plan(spec, here.data_root), here.store)
    check_same_base(here.store, planned)
    return planned
