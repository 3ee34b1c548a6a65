"""The command line. Commands import what they need when they run: `--help` must not wait for torch.

Exit codes: 0 all good, 1 some run failed, 2 bad input, 130 interrupted.
"""

from __future__ import annotations

import signal
import sys
from typing import Annotated, NoReturn, cast

import typer

# The order of the imports is that of --help.
# isort: off
from sweeps.cli import running, tuning, analysing, claims, upkeep

# isort: on
from sweeps.cli.arguments import EXIT_BAD_INPUT, EXIT_INTERRUPTED, app
from sweeps.cli.output import typed

__all__ = ["analysing", "claims", "main", "running", "tuning", "upkeep"]

UsageError = cast("type[typer.BadParameter]", typer.BadParameter.__base__)
"""That of click, or of the copy of click that newer versions of typer carry."""


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
        typer.echo(f"stopped; what is done is kept. To go on: {typed()}", err=True)
    sys.exit(code)


def _terminate(number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt


def _complain(message: str) -> int:
    typer.echo(f"optpath: {' '.join(message.split())}", err=True)
    return EXIT_BAD_INPUT
