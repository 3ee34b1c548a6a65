"""The command that searches a sweep's base configuration before it is run."""

from __future__ import annotations

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
    Sweep,
    TrackingUri,
    Variant,
    app,
)
from sweeps.cli.output import console


@app.command()
def tune(
    sweep: Sweep,
    overrides: Overrides = None,
    scale: Scale = "full",
    variant: Variant = None,
    storage: Storage = None,
    tracking_uri: TrackingUri = None,
    address: Address = "local",
    cpus_per_run: CpusPerRun = 1,
    gpus_per_run: GpusPerRun = 0.0,
    max_concurrent: MaxConcurrent = None,
) -> None:
    """Search learning rate and more by validation.

    The best configuration goes into a file, which `optpath run SWEEP --from FILE` takes.
    """
    from sweeps.catalogue import load_spec
    from sweeps.places import check_writable, places
    from sweeps.ray_session import Launch, Resources
    from sweeps.study import best_trial, write_best
    from sweeps.tuning import tune_sweep
    from sweeps.tuning_log import log_trials
    from trainables.tracking_server import TrackingUnavailable

    here = places(storage, tracking_uri)
    spec = load_spec(sweep, overrides or [], scale=scale, variant=variant)
    check_writable(here.store)
    resources = Resources(cpus_per_run, gpus_per_run, max_concurrent)
    launch = Launch(here.store.root, here.data_root, address, resources)
    folder, out = here.store.root / "tuning" / spec.name, console()
    trials = tune_sweep(spec, folder, launch, lambda line: out.print(line, soft_wrap=True))
    try:
        log_trials(spec.name, trials, spec.tuning, here)
    except TrackingUnavailable as error:
        out.print(f"MLflow: {error}; later: type the same command again", soft_wrap=True)
    best = best_trial(trials, spec.tuning)
    if best is None:
        out.print("every trial diverged; search smaller learning rates: tuning.space")
        raise typer.Exit(EXIT_FAILED)
    path = write_best(folder, best, spec.tuning, len(trials))
    out.print(f"best of {len(trials)} trials: {spec.tuning.metric} {best.value:.4g}: {path}")
    out.print(f"to run the sweep with it: optpath run {sweep} --from {path}", soft_wrap=True)
