"""A stored sweep's report: written, said, and put on its MLflow run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sweeps.cli.output import console

if TYPE_CHECKING:
    from sweeps.places import Places


def report(here: Places, sweep: str) -> None:
    """Analyse a stored sweep, write its report, put both on its MLflow run.

    The runs go to MLflow first: the report's table of runs links to their pages.
    """
    from analysis import load_sweep, write_report
    from sweeps.reporting import bring_up_to_date, publish

    out = console()
    tracked = bring_up_to_date(sweep, here, out)
    written = write_report(
        load_sweep(sweep, here.store.root),
        here.store.sweep(sweep).path,
        tracked.addresses if tracked else {},
    )
    out.print(written.headline, soft_wrap=True)
    out.print(f"report: {written.html}", soft_wrap=True)
    if tracked:
        publish(tracked, here, written.abstract, written.tags, out)
