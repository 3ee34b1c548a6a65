"""Commands that look after what is stored, and after the installation."""

from __future__ import annotations

from typing import Annotated

import typer

from sweeps.cli.arguments import (
    EXIT_FAILED,
    Scale,
    Storage,
    Stored,
    TrackingUri,
    Variant,
    app,
    stored,
)
from sweeps.cli.output import console, print_table


@app.command()
def verify(
    sweep: Stored, scale: Scale = "full", variant: Variant = None, storage: Storage = None
) -> None:
    """Re-hash the files, replay an epoch of every run."""
    from sweeps.verification import verify_sweep

    here, name = stored(sweep, scale, variant, storage)
    failed = verify_sweep(here.store, name, here.data_root, console())
    raise typer.Exit(EXIT_FAILED if failed else 0)


@app.command()
def sync(
    sweep: Stored,
    scale: Scale = "full",
    variant: Variant = None,
    storage: Storage = None,
    tracking_uri: TrackingUri = None,
) -> None:
    """Upload to MLflow whatever it is missing of a sweep."""
    from sweeps.sync import sync as sync_sweep

    here, name = stored(sweep, scale, variant, storage, tracking_uri)
    typer.echo(sync_sweep(name, here.store, here.tracking_uri).text)


@app.command()
def ui(
    storage: Storage = None,
    tracking_uri: TrackingUri = None,
    port: Annotated[int, typer.Option(help="Port on the loopback address.")] = 5000,
) -> None:
    """Start MLflow on the loopback address with the right store."""
    from sweeps.places import places
    from sweeps.ui import serve

    raise typer.Exit(serve(places(storage, tracking_uri).tracking_uri, port, typer.echo))


@app.command()
def doctor(storage: Storage = None, tracking_uri: TrackingUri = None) -> None:
    """Check versions, devices, data, tracking and storage."""
    from sweeps.doctor import examine
    from sweeps.tables import findings_table

    findings = examine(storage, tracking_uri)
    print_table(findings_table(findings))
    raise typer.Exit(EXIT_FAILED if any(finding.ok is False for finding in findings) else 0)
