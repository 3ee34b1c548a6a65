"""Launching a plan on Ray Tune: one trial per trajectory, actors reused, our own view and signals.

Tune's experiment state is only this launch's: every launch is a fresh Tuner over what the store
does not have yet (`Tuner.restore` ignores a changed grid, FACTS 1.1).
"""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import os
import signal
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweeps.plan import Plan, PlannedTrajectory
from trainables.errors import UserError
from trainables.worker import WorkOrder

if TYPE_CHECKING:
    from sweeps.progress import Progress

LOCAL = "local"
"""The address that starts a Ray of our own, and never joins one that happens to run."""

RAY_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # a report costs 1.5 ms instead of 6 (FACTS 1.6)
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Tune's swallows Ctrl-C (FACTS 0.11)
}

RETRIES = 1
"""Retries of a trajectory whose worker died (lost node, out of memory); it resumes. Ours."""


@dataclass(frozen=True)
class Resources:
    """What a run is given, and how many run at once."""

    cpus_per_run: int = 1
    gpus_per_run: float = 0.0
    max_concurrent: int | None = None


@dataclass(frozen=True)
class Launch:
    """Where a plan is launched."""

    storage: Path
    data_root: Path
    address: str = LOCAL
    resources: Resources = Resources()
    tracking: bool = True


class Interrupted(Exception):
    """The user or the system asked to stop."""


def check_resources(launch: Launch) -> None:
    """Refuse what cannot be given; raises UserError."""
    resources = launch.resources
    if resources.gpus_per_run > 1:
        raise UserError("--gpus-per-run: a run trains on one GPU at most; give 1 or a fraction")
    cores = os.cpu_count() or 1
    if launch.address == LOCAL and resources.cpus_per_run > cores:
        raise UserError(f"--cpus-per-run: {resources.cpus_per_run} asked, {cores} cores are here")
    if launch.address == LOCAL and resources.gpus_per_run > 0:
        import torch

        if not torch.cuda.is_available():
            raise UserError("--gpus-per-run: no GPU is here; leave it out to train on the CPU")


def launch_plan(plan: Plan, launch: Launch, progress: Progress) -> None:
    """Run every open trajectory of the plan; what happens is told to `progress`.

    Raises:
        Interrupted: Ctrl-C or SIGTERM; Ray is shut down, the store resumes where it stands.
    """
    work = [trajectory for trajectory in plan.trajectories if trajectory.open_runs]
    if not work:
        return
    # Tune's own files; on a cluster the storage is the one folder that all nodes share
    scratch = tempfile.TemporaryDirectory(prefix=".tune-", dir=launch.storage)
    with scratch as folder, _ray(launch):
        _fit(plan.name, work, launch, progress, Path(folder))


def order(sweep: str, trajectory: PlannedTrajectory, launch: Launch) -> WorkOrder:
    """What a worker needs to know to do a trajectory's open runs."""
    return WorkOrder(
        sweep=sweep,
        storage=str(launch.storage),
        data_root=str(launch.data_root),
        num_threads=launch.resources.cpus_per_run,
        trajectory_id=trajectory.trajectory_id,
        runs={run.run_id: run.config.plain() for run in trajectory.open_runs},
    )


def _fit(
    sweep: str,
    work: Sequence[PlannedTrajectory],
    launch: Launch,
    progress: Progress,
    scratch: Path,
) -> None:
    from ray import tune

    from trainables.tune_adapter import TrajectoryTrainable

    # the longest first, so that no long one is left running alone at the end
    longest_first = sorted(work, key=lambda trajectory: -trajectory.num_steps)
    orders = [asdict(order(sweep, trajectory, launch)) for trajectory in longest_first]
    resources = launch.resources
    asked = {"cpu": resources.cpus_per_run, "gpu": resources.gpus_per_run}
    tuner = tune.Tuner(
        tune.with_resources(TrajectoryTrainable, asked),
        param_space={
            "order": tune.grid_search(orders),
            "gpu_fraction": resources.gpus_per_run,
            "tracking": launch.tracking,
        },
        tune_config=tune.TuneConfig(
            reuse_actors=True,
            max_concurrent_trials=resources.max_concurrent,
            trial_dirname_creator=lambda trial: str(trial.trial_id),
        ),
        run_config=tune.RunConfig(
            name=sweep,
            storage_path=str(scratch),
            verbose=0,
            callbacks=[_callback(progress)],
            failure_config=tune.FailureConfig(max_failures=RETRIES),
            checkpoint_config=tune.CheckpointConfig(
                checkpoint_frequency=0, checkpoint_at_end=False
            ),
        ),
    )
    # verbose=0 still prints a box and two notes (FACTS 1.8)
    with contextlib.redirect_stdout(io.StringIO()):
        tuner.fit()


def _callback(progress: Progress) -> Any:
    """Tune's callback that passes on; an exception in one would end the whole experiment."""
    from ray.tune import Callback

    class Forward(Callback):
        def on_trial_result(
            self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **_: Any
        ) -> None:
            progress.report(result)

        def on_trial_error(self, iteration: int, trials: Any, trial: Any, **_: Any) -> None:
            progress.worker_failed(trial.config["order"]["trajectory_id"])

    return Forward()


@contextlib.contextmanager
def _ray(launch: Launch) -> Iterator[None]:
    """Ray for the time of a launch; none of its processes outlives the block."""
    os.environ.update({k: v for k, v in RAY_ENVIRONMENT.items() if k not in os.environ})
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    _on_signals(_interrupt)
    import ray

    for name in ("ray", "ray.tune", "ray.train"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        _start(launch)
        _on_signals(_interrupt)  # ray.init puts its own in their place
        yield
    finally:
        _on_signals(signal.SIG_IGN)
        ray.shutdown()
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _start(launch: Launch) -> None:
    import ray

    # importing ray.tune takes as long as ray.init waits for its processes
    warm = threading.Thread(target=importlib.import_module, args=("ray.tune",))
    warm.start()
    options: dict[str, Any] = {"include_dashboard": False} if launch.address == LOCAL else {}
    if launch.address != LOCAL:
        options["runtime_env"] = {"py_modules": _packages()}
    try:
        ray.init(address=launch.address, log_to_driver=False, configure_logging=False, **options)
    except ConnectionError as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"--address {launch.address}: no Ray cluster answers ({reason})") from None
    finally:
        warm.join()


def _packages() -> list[str]:
    """Our packages' folders, which a running cluster's nodes need not have installed."""
    house = Path(__file__).resolve().parents[1]
    return [str(house / name) for name in ("geometry", "trainables", "sweeps", "analysis")]


def _on_signals(handler: Any) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handler)


def _interrupt(number: int, frame: object) -> None:
    raise Interrupted(signal.Signals(number).name)
