"""Commands that turn finished runs into tables, figures and conclusions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sweeps.cli.arguments import Scale, Storage, Stored, TrackingUri, Variant, app, stored
from sweeps.cli.reporting import report

if TYPE_CHECKING:
    from analysis import Sweep
    from sweeps.places import Places

Remote = Annotated[
    str | None, typer.Option(help="Read from this MLflow server, not from the storage.")
]


def _loaded(here: Places, name: str, *, remote: bool) -> Sweep:
    """The sweep's tables, from the MLflow server that was named or from the storage."""
    from analysis import load_sweep

    if remote:
        return load_sweep(name, tracking_uri=here.tracking_uri)
    return load_sweep(name, here.store.root)


@app.command()
def analyze(
    sweep: Stored,
    scale: Scale = "full",
    variant: Variant = None,
    storage: Storage = None,
    tracking_uri: TrackingUri = None,
) -> None:
    """Write the report, its figures and tables; on MLflow too."""
    report(*stored(sweep, scale, variant, storage, tracking_uri))


@app.command()
def figure(
    name: Annotated[str, typer.Argument(help="A figure's name, or paper and number: P1-4-left.")],
    sweep: Stored,
    by: Annotated[
        str | None, typer.Option(help="The field whose values the curves compare; seed: each seed.")
    ] = None,
    x: Annotated[
        str | None, typer.Option(help="step, epoch, fraction, path_length or loss.")
    ] = None,
    scale: Scale = "full",
    variant: Variant = None,
    storage: Storage = None,
    tracking_uri: Remote = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder; else the sweep's figures.")
    ] = None,
) -> None:
    """Draw one figure: PNG, SVG, and its table as CSV."""
    from analysis.figures.contract import save_table
    from analysis.figures.naming import chosen, figure_named

    figure_named(name)  # a wrong name is said before any table is read
    here, stored_as = stored(sweep, scale, variant, storage, tracking_uri)
    loaded = _loaded(here, stored_as, remote=bool(tracking_uri))
    drawing = chosen(loaded, name, by=by, x=x)
    folder = output or here.store.sweep(stored_as).path / "figures"
    saved = save_table(drawing.kind, loaded, drawing.table, folder)
    for path in (saved.png, saved.svg, saved.csv):
        typer.echo(path)


@app.command()
def export(
    sweep: Stored,
    output: Annotated[Path, typer.Option("--output", "-o", help="FILE.parquet or FILE.csv.")],
    table: Annotated[str, typer.Option(help="steps, epochs or runs.")] = "epochs",
    scale: Scale = "full",
    variant: Variant = None,
    storage: Storage = None,
    tracking_uri: Remote = None,
) -> None:
    """Write one tidy table of a sweep to a file."""
    from analysis import export_table

    here, name = stored(sweep, scale, variant, storage, tracking_uri)
    export_table(_loaded(here, name, remote=bool(tracking_uri)), table, output)
    typer.echo(f"{table} of {name}: {output}")


@app.command()
def compare(
    sweep: Stored,
    other: Annotated[
        str | None, typer.Argument(help="The second sweep; else the same, of --other-storage.")
    ] = None,
    scale: Scale = "full",
    variant: Variant = None,
    storage: Storage = None,
    other_storage: Annotated[
        Path | None, typer.Option(help="Results folder of the second sweep; else the same.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="All numbers: FILE.parquet or FILE.csv.")
    ] = None,
) -> None:
    """Print which numbers moved from one sweep to another.

    Two sweeps, or one by two versions of the code, each in a storage of its own.
    """
    from analysis import compare as compare_sweeps
    from analysis import load_sweep, write_frame
    from sweeps.cli.compared import print_moved
    from trainables.errors import UserError

    if other is None and other_storage is None:
        raise UserError(f"compare {sweep} with what? name a second sweep, or --other-storage DIR")
    here, name = stored(sweep, scale, variant, storage)
    there, other_name = stored(other or sweep, scale, variant, other_storage or here.store.root)
    moved = compare_sweeps(
        load_sweep(name, here.store.root), load_sweep(other_name, there.store.root)
    )
    if output is not None:
        write_frame(output, moved.table)
    print_moved(moved)
