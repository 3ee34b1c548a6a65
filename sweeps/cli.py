"""The command line. Commands import what they need when they run: `--help` must not wait for torch.

Exit codes: 0 all good, 1 some run failed, 2 bad input, 130 interrupted.
"""

from __future__ import annotations

import shlex
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn, cast

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from sweeps.places import Places
    from sweeps.plan import Plan

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
EXIT_FAILED, EXIT_BAD_INPUT, EXIT_INTERRUPTED = 1, 2, 130

UsageError = cast("type[typer.BadParameter]", typer.BadParameter.__base__)
"""That of click, or of the copy of click that newer versions of typer carry."""

PIPE_WIDTH = 2000
"""Columns of an output that is no terminal: nothing is folded there."""


def _print_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import PackageNotFoundError, version

        from trainables.errors import UserError

        try:
            typer.echo(f"optpath {version('optpath')}")
        except PackageNotFoundError:
            raise UserError("not installed, so without a version; type: pip install -e .") from None
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Measure the geometry of an optimizer's path over sweeps of training settings."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command("list")
def list_presets() -> None:
    """Print the presets, one line each."""
    from sweeps.tables import preset_lines

    console = _console()
    for line in preset_lines():
        console.print(line, no_wrap=True, overflow="ellipsis")


@app.command()
def show(
    sweep: Sweep,
    overrides: Overrides = None,
    scale: Scale = "full",
    variant: Variant = None,
) -> None:
    """Print the resolved spec as YAML; it is itself a valid spec file."""
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
) -> None:
    """Print every run, what is shared, what is done, steps and memory; starts nothing."""
    from sweeps.places import places
    from sweeps.tables import plan_table, plan_totals

    here = places(storage)
    planned = _plan(here, sweep, overrides, scale, variant)
    _print_table(plan_table(planned, here.data_root))
    _console().print(plan_totals(planned))


@app.command()
def run(
    sweep: Sweep,
    overrides: Overrides = None,
    scale: Scale = "full",
    variant: Variant = None,
    storage: Storage = None,
    tracking_uri: TrackingUri = None,
    address: Annotated[
        str, typer.Option(help="A running Ray cluster: HOST:PORT, or auto.")
    ] = "local",
    cpus_per_run: Annotated[int, typer.Option(min=1, help="CPU cores, and threads, per run.")] = 1,
    gpus_per_run: Annotated[
        float, typer.Option(min=0, help="GPUs per run: 0, a fraction, or 1.")
    ] = 0.0,
    max_concurrent: Annotated[
        int | None, typer.Option(min=1, help="At most this many trajectories at once.")
    ] = None,
) -> None:
    """Run a sweep to its report. Typed again, it goes on where it stopped."""
    from sweeps.launch import Launch, Resources
    from sweeps.places import places
    from sweeps.runner import run_sweep

    here = places(storage, tracking_uri)
    planned = _plan(here, sweep, overrides, scale, variant)
    resources = Resources(cpus_per_run, gpus_per_run, max_concurrent)
    launch = Launch(here.store.root, here.data_root, address, resources)
    console = _console()
    good = run_sweep(planned, here, launch, console)
    if any(here.store.run(run.run_id).manifest() for run in planned.runs):
        _report(here, planned.name)
    if not good:
        console.print(f"some runs failed; to try these again: {_typed()}", soft_wrap=True)
    raise typer.Exit(0 if good else EXIT_FAILED)


@app.command()
def status(
    sweep: Stored, scale: Scale = "full", variant: Variant = None, storage: Storage = None
) -> None:
    """Print every run's state, pass, epoch, remaining time and last error."""
    from sweeps.places import places
    from sweeps.plan_store import stored_name
    from sweeps.status import sweep_status
    from sweeps.tables import status_table

    store = places(storage).store
    runs = sweep_status(store, stored_name(store, sweep, scale, variant))
    _print_table(status_table(runs))


@app.command()
def analyze(
    sweep: Stored,
    scale: Scale = "full",
    variant: Variant = None,
    storage: Storage = None,
    tracking_uri: TrackingUri = None,
) -> None:
    """Write trends, figures and report.html, and log them to the sweep's MLflow run."""
    from sweeps.places import places
    from sweeps.plan_store import stored_name

    here = places(storage, tracking_uri)
    _report(here, stored_name(here.store, sweep, scale, variant))


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
    from sweeps.places import places
    from sweeps.plan_store import stored_name
    from trainables.errors import UserError

    here = places(storage, tracking_uri)
    name = stored_name(here.store, sweep, scale, variant)
    loaded = load_sweep(name, tracking_uri=here.tracking_uri) if tracking_uri else None
    try:
        export_table(loaded or load_sweep(name, here.store.root), table, output)
    except OSError as error:
        raise UserError(f"{output}: cannot be written ({error.strerror})") from None
    typer.echo(f"{table} of {name}: {output}")


@app.command()
def verify(
    sweep: Stored, scale: Scale = "full", variant: Variant = None, storage: Storage = None
) -> None:
    """Re-hash what is stored, and replay one drawn epoch of every finished run."""
    from sweeps.places import places
    from sweeps.plan_store import stored_name
    from sweeps.verification import verify_sweep

    here = places(storage)
    name = stored_name(here.store, sweep, scale, variant)
    failed = verify_sweep(here.store, name, here.data_root, _console())
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
    from sweeps.places import places
    from sweeps.plan_store import stored_name
    from sweeps.sync import sync as sync_sweep

    here = places(storage, tracking_uri)
    name = stored_name(here.store, sweep, scale, variant)
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
    """Check versions, devices, data sets, tracking and storage; say what to do."""
    from sweeps.doctor import examine
    from sweeps.tables import findings_table

    findings = examine(storage, tracking_uri)
    _print_table(findings_table(findings))
    raise typer.Exit(EXIT_FAILED if any(not finding.ok for finding in findings) else 0)


def main() -> None:
    """The console script: a mistake of the user's is one line and exit code 2."""
    from trainables.errors import UserError

    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        code = app(standalone_mode=False, prog_name="optpath")
    except UsageError as error:
        path = error.ctx.command_path if error.ctx else "optpath"
        code = _complain(f"{error.format_message()} (see: {path} --help)")
    except UserError as error:
        code = _complain(str(error))
    except (typer.Abort, KeyboardInterrupt):
        code = EXIT_INTERRUPTED
    finally:
        signal.signal(signal.SIGTERM, before)
    if code == EXIT_INTERRUPTED:
        typer.echo(f"stopped; what is done is kept. To go on: {_typed()}", err=True)
    sys.exit(code)


def _terminate(number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt


def _typed() -> str:
    """What the user typed."""
    return shlex.join(["optpath", *sys.argv[1:]])


def _complain(message: str) -> int:
    typer.echo(f"optpath: {' '.join(message.split())}", err=True)
    return EXIT_BAD_INPUT


def _console() -> Console:
    from rich.console import Console

    return Console(
        file=sys.stdout,  # kept, since Tune's notes are silenced by redirecting sys.stdout
        width=None if sys.stdout.isatty() else PIPE_WIDTH,
        highlight=False,
        markup=False,
        emoji=False,
    )


def _print_table(table: Table) -> None:
    """Without the spaces that fill up the last column."""
    console = _console()
    with console.capture() as lines:
        console.print(table)
    typer.echo("\n".join(line.rstrip() for line in lines.get().splitlines()))


def _plan(
    here: Places, sweep: str, overrides: list[str] | None, scale: str, variant: str | None
) -> Plan:
    from sweeps.catalogue import load_spec
    from sweeps.plan import make_plan
    from sweeps.plan_store import check_same_base, mark_done

    spec = load_spec(sweep, overrides or [], scale=scale, variant=variant)
    planned = mark_done(make_plan(spec, here.data_root), here.store)
    check_same_base(here.store, planned)
    return planned


def _report(here: Places, sweep: str) -> None:
    """Analyse a stored sweep, write its report, put both on its MLflow run."""
    from analysis import load_sweep, write_report
    from sweeps.reporting import publish

    report = write_report(load_sweep(sweep, here.store.root), here.store.sweep(sweep).path)
    _console().print(report.headline, soft_wrap=True)
    _console().print(f"report: {report.html}", soft_wrap=True)
    publish(sweep, here, report.headline, _console())
