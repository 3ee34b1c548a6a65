"""Commands that turn finished runs into tables, figures and conclusions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sweeps.cli.arguments import Scale, Storage, Stored, TrackingUri, Variant, app, stored
from sweeps.cli.reporting import report


@app.command()
def analyze(
    sweep: Stored,
    scale: Scale = "full",
    variant: Variant = None,
    storage: Storage = None,
    tracking_uri: TrackingUri = None,
) -> None:
    """Write trends, figures and report.html, and log them to the sweep's MLflow run."""
    report(*stored(sweep, scale, variant, storage, tracking_uri))


@app.command()
def export(
    sweep: Stored,
    output: Annotated[Path, typer.Option("--output", "-o", help="FILE.parquet or FILE.csv.")],
    table: Annotated[str, typer.Option(help="steps, epochs or runs.")] = "epochs",
    scale: Scale = "full",
    variant: Variant = None,
    storage: Storage = None,
    tracking_uri: Annotated[
        str | None, typer.Option(help="Read from this MLflow server, not from the storage.")
    ] = None,
) -> None:
    """Write one tidy table of a sweep to a file."""
    from analysis import export_table, load_sweep
    from trainables.errors import UserError

    here, name = stored(sweep, scale, variant, storage, tracking_uri)
    loaded = load_sweep(name, tracking_uri=here.tracking_uri) if tracking_uri else None
    try:
        export_table(loaded or load_sweep(name, here.store.root), table, output)
    except OSError as error:
        raise UserError(f"{output}: cannot be written ({error.strerror})") from None
    typer.echo(f"{table} of {name}: {output}")
