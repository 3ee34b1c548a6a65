"""A stored sweep's report: written, said, and put on its MLflow run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sweeps.cli.output import console

if TYPE_CHECKING:
    from sweeps.places import Places


def report(here: Places, sweep: str) -> None:
    """Analyse a stored sweep, write its report, put both on its MLflow run."""
    from analysis import load_sweep, write_report
    from sweeps.reporting import publish

    written = write_report(load_sweep(sweep, here.store.root), here.store.sweep(sweep).path)
    out = console()
    out.print(written.headline, soft_wrap=True)
    out.print(f"report: {written.html}", soft_wrap=True)
    publish(sweep, here, written.headline, out)
