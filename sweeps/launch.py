"""Launching a plan on Ray Tune: one trial per trajectory, actors reused, our own view and signals.

Tune's experiment state is only this launch's: every launch is a fresh Tuner over what the store
does not have yet (`Tuner.restore` ignores a changed grid, FACTS 1.1).
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweeps.identity import trajectory_id
from sweeps.plan import Plan, PlannedTrajectory
from sweeps.ray_session import Launch, Signals, ray_session, scratch
from sweeps.same_data import PresentData
from trainables.worker import WorkOrder

if TYPE_CHECKING:
    from sweeps.progress import Progress

RETRIES = 1
"""Retries of a trajectory whose worker died (lost node, out of memory); it resumes. Ours."""


def launch_plan(
    plan: Plan, launch: Launch, progress: Progress, on_ready: Callable[[], None]
) -> None:
    """Run every open trajectory of the plan; what happens is told to `progress`.

    `on_ready` is called once Ray is up, from when on other threads may import.

    Raises:
        KeyboardInterrupt: Ctrl-C or SIGTERM; Ray is shut down, the store resumes where it stands.
        UserError: no cluster answers at the address, or it lacks what a run asks for.
    """
    work = [trajectory for trajectory in plan.trajectories if trajectory.open_runs]
    if not work:
        return
    with scratch(launch) as folder, Signals() as signals, ray_session(launch, signals):
        on_ready()
        for number, stage in enumerate(stages(work)):
            callback = _callback(progress, signals)
            _fit(plan.name, stage, launch, callback, Path(folder) / str(number))


def stages(work: Sequence[PlannedTrajectory]) -> list[list[PlannedTrajectory]]:
    """The trajectories in the order of what they need: those that follow a finished run, last."""
    first = [trajectory for trajectory in work if trajectory.follows is None]
    second = [trajectory for trajectory in work if trajectory.follows is not None]
    return [stage for stage in (first, second) if stage]


def order(
    sweep: str, trajectory: PlannedTrajectory, launch: Launch, present: PresentData
) -> WorkOrder:
    """What a worker needs to know to do a trajectory's open runs."""
    return WorkOrder(
        sweep=sweep,
        storage=str(launch.storage),
        data_root=str(launch.data_root),
        num_threads=launch.resources.cpus_per_run,
        trajectory_id=trajectory.trajectory_id,
        runs={run.run_id: run.config.plain() for run in trajectory.open_runs},
        others=_others(trajectory),
        follows=trajectory.follows,
        data_digest=present.digest(trajectory.runs[0].config.data),
    )


def _others(trajectory: PlannedTrajectory) -> dict[str, dict[str, Any]]:
    """The other seeds' trainings whose w* the open runs measure against, by trajectory."""
    seeds = (
        (run.config, int(reference.number))
        for run in trajectory.open_runs
        for reference in run.config.other_references()
        if reference.kind == "seed"
    )
    configs = [config.with_seed(seed) for config, seed in seeds]
    return {trajectory_id(config): config.plain() for config in configs}


def _fit(
    sweep: str,
    work: Sequence[PlannedTrajectory],
    launch: Launch,
    callback: Any,
    scratch: Path,
) -> None:
    from ray import tune

    from trainables.tune_adapter import TrajectoryTrainable

    # the longest first, so that no long one is left running alone at the end
    longest_first = sorted(work, key=lambda trajectory: -trajectory.num_steps)
    present = PresentData(launch.data_root)
    orders = [asdict(order(sweep, trajectory, launch, present)) for trajectory in longest_first]
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
            callbacks=[callback],
            failure_config=tune.FailureConfig(max_failures=RETRIES),
            checkpoint_config=tune.CheckpointConfig(
                checkpoint_frequency=0, checkpoint_at_end=False
            ),
        ),
    )
    # verbose=0 still prints a box and two notes (FACTS 1.8)
    with contextlib.redirect_stdout(io.StringIO()):
        tuner.fit()


def _callback(progress: Progress, signals: Signals) -> Any:
    """Tune's callback that passes on; an exception in one would end the whole experiment."""
    from ray.tune import Callback

    class Forward(Callback):
        def on_step_begin(self, iteration: int, trials: Any, **_: Any) -> None:
            signals.check()

        def on_trial_start(self, iteration: int, trials: Any, trial: Any, **_: Any) -> None:
            progress.started(trial.config["order"]["trajectory_id"])

        def on_trial_result(
            self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **_: Any
        ) -> None:
            progress.report(result)

        def on_trial_error(self, iteration: int, trials: Any, trial: Any, **_: Any) -> None:
            progress.worker_failed(trial.config["order"]["trajectory_id"])

    return Forward()
