"""The application, and the arguments that its commands share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from sweeps.places import Places

app = typer.Typer(
    name="optpath",
    invoke_without_command=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

Sweep = Annotated[str, typer.Argument(help="A preset's name, or a YAML file.")]
Stored = Annotated[
    str, typer.Argument(help="A sweep in the storage: its name there, or its preset or YAML file.")
]
Overrides = Annotated[
    list[str] | None, typer.Argument(help="key=value changes, such as batch_size=16,32 seeds=0,1.")
]
Scale = Annotated[str, typer.Option(help="One of the preset's scales: smoke or full.")]
Variant = Annotated[str | None, typer.Option(help="One of the preset's named variants.")]
Storage = Annotated[
    Path | None,
    typer.Option(help="Results folder; else OPTPATH_STORAGE, else ./optpath-results."),
]
TrackingUri = Annotated[
    str | None,
    typer.Option(help="MLflow; else MLFLOW_TRACKING_URI, else sqlite:///<storage>/mlflow.db."),
]
Tuned = Annotated[
    Path | None,
    typer.Option("--from", help="A file such as tune writes; its base is laid over the sweep."),
]
Address = Annotated[str, typer.Option(help="A running Ray cluster: HOST:PORT, or auto.")]
CpusPerRun = Annotated[int, typer.Option(min=1, help="CPU cores, and threads, per run.")]
GpusPerRun = Annotated[float, typer.Option(min=0, help="GPUs per run: 0, a fraction, or 1.")]
MaxConcurrent = Annotated[
    int | None, typer.Option(min=1, help="At most this many trajectories at once.")
]

EXIT_FAILED, EXIT_BAD_INPUT, EXIT_INTERRUPTED = 1, 2, 130


def stored(
    sweep: str,
    scale: str,
    variant: str | None,
    storage: Path | None,
    tracking_uri: str | None = None,
) -> tuple[Places, str]:
    """The places that were asked for, and the sweep's name in that storage."""
    from sweeps.places import places

    here = places(storage, tracking_uri)
    if scale == "full" and variant is None and sweep in here.store.sweep_names():
        return here, sweep
    # Presets and files are read by what imports torch: three seconds, for those who need it.
    from sweeps.plan_store import stored_name

    return here, stored_name(here.store, sweep, scale, variant)
