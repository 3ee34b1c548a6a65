"""The tuning stage: search the base configuration of a sweep by validation, on Ray Tune.

Trials are reference passes that measure nothing and keep nothing. Optuna's study lies in SQLite
beside the sweep: the same command again goes on where the study stands.
"""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweeps import study as studies
from sweeps.ray_session import Launch, Signals, check_launch, ray_session, scratch
from sweeps.spec import SweepSpec
from sweeps.tree import merge, nest
from sweeps.tuning_spec import Tuning
from trainables.config import RunConfig
from trainables.errors import UserError

if TYPE_CHECKING:
    from optuna.study import Study

REDUCTION_FACTOR = 3
"""ASHA keeps one trial in three at each rung; ours, its authors use 3 or 4."""
NUM_RUNGS = 2
"""Rungs at which ASHA may stop a trial: after 1/9 and 1/3 of its evaluations; ours, untuned."""

Say = Callable[[str], None]


def tune_sweep(spec: SweepSpec, folder: Path, launch: Launch, say: Say) -> list[studies.Trial]:
    """Search until the study has its number of trials; the finished ones of all commands so far.

    Raises:
        UserError: before anything starts: resources, data, options that do not fit; or a trial
            failed otherwise than by divergence.
        KeyboardInterrupt: Ctrl-C or SIGTERM; finished trials are kept.
    """
    check_launch(launch)
    config = RunConfig.parse(spec.base, "base")
    config.data.prepare(launch.data_root)
    study = studies.open_study(folder, spec.tuning)
    open_points = _open_points(study, spec.tuning)
    if open_points:
        _search(study, spec, config, launch, open_points, say)
    return studies.finished_trials(study)


def _open_points(study: Study, tuning: Tuning) -> int | list[dict[str, str]]:
    """How many trials a search has left, or which points a grid."""
    done = studies.finished_trials(study)
    if tuning.sampler == "tpe":
        return max(0, tuning.trials - len(done))
    tried = [trial.values for trial in done]
    return [p for p in studies.combinations(tuning) if studies.decoded(p) not in tried]


def _search(
    study: Study,
    spec: SweepSpec,
    config: RunConfig,
    launch: Launch,
    open_points: int | list[dict[str, str]],
    say: Say,
) -> None:
    with scratch(launch) as folder, Signals() as signals, ray_session(launch, signals):
        from ray import tune

        from sweeps.search_trainable import SearchTrainable

        tuning, resources = spec.tuning, launch.resources
        asked = {"cpu": resources.cpus_per_run, "gpu": resources.gpus_per_run}
        space: dict[str, Any] = {
            "base": spec.base,
            "data_root": str(launch.data_root),
            "num_threads": resources.cpus_per_run,
            "gpu_fraction": resources.gpus_per_run,
            "metric": tuning.metric,
        }
        follow = _Follow(study, tuning, signals, say)
        settings: dict[str, Any] = {"max_concurrent_trials": resources.max_concurrent}
        if isinstance(open_points, int):
            settings |= {"search_alg": _searcher(study, tuning), "num_samples": open_points}
            settings["max_concurrent_trials"] = resources.max_concurrent or _slots(asked)
        else:
            space["values"] = tune.grid_search(open_points)
        if tuning.prune:
            settings["scheduler"] = _asha(tuning, config, launch.data_root)
        tuner = tune.Tuner(
            tune.with_resources(SearchTrainable, asked),
            param_space=space,
            tune_config=tune.TuneConfig(
                reuse_actors=True,
                trial_dirname_creator=lambda trial: str(trial.trial_id),
                **settings,
            ),
            run_config=tune.RunConfig(
                name=spec.name,
                storage_path=str(folder),
                verbose=0,
                callbacks=[follow.callback()],
                checkpoint_config=tune.CheckpointConfig(
                    checkpoint_frequency=0, checkpoint_at_end=False
                ),
            ),
        )
        # verbose=0 still prints a box and two notes (FACTS 1.8)
        with contextlib.redirect_stdout(io.StringIO()):
            results = tuner.fit()
        _check_failures([str(error) for error in results.errors])


def _slots(asked: dict[str, float]) -> int:
    """Trials that fit at once; a searcher starts one at a time unless it is told (FACTS 1.7)."""
    import ray

    there: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return max(1, min(int(there.get(k.upper(), 0) // n) for k, n in asked.items() if n))


def _searcher(study: Study, tuning: Tuning) -> Any:
    from optuna.samplers import TPESampler
    from ray.tune.search.optuna import OptunaSearch

    # every command continues the sequence elsewhere, else a resumed search would repeat itself
    sampler = TPESampler(seed=tuning.seed + len(study.trials))
    return OptunaSearch(
        space=studies.distributions(tuning),
        metric=tuning.metric,
        mode=tuning.mode,
        sampler=sampler,
        study_name=study.study_name,
        storage=study._storage,
    )


def _asha(tuning: Tuning, config: RunConfig, data_root: Path) -> Any:
    from ray.tune.schedulers import ASHAScheduler

    num_train = config.task.num_train(config, data_root)
    calendar = config.calendar(num_train)
    epochs, rest = calendar.place(config.budget.num_steps(calendar))
    most = max(1, math.ceil((epochs + bool(rest)) / config.evaluate_every_epochs))
    return ASHAScheduler(
        metric=tuning.metric,
        mode=tuning.mode,
        max_t=most,
        grace_period=max(1, most // REDUCTION_FACTOR**NUM_RUNGS),
        reduction_factor=REDUCTION_FACTOR,
    )


def _check_failures(errors: list[str]) -> None:
    broken = [error for error in errors if "TrialDiverged" not in error]
    if broken:
        raise UserError(f"a trial failed: {broken[0].strip().splitlines()[-1]}")


class _Follow:
    """Follows the trials on the driver: says how they end, and puts a grid's into the study."""

    def __init__(self, study: Study, tuning: Tuning, signals: Signals, say: Say) -> None:
        self._study = study
        self._tuning = tuning
        self._signals = signals
        self._say = say
        self._histories: dict[str, list[float]] = {}
        self._ended = len(studies.finished_trials(study))

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles its callbacks into an experiment state that is never restored."""
        return {}

    def callback(self) -> Any:
        """Tune's callback that passes on."""
        from ray.tune import Callback

        outer = self

        class Forward(Callback):
            def on_step_begin(self, iteration: int, trials: Any, **_: Any) -> None:
                outer._signals.check()

            def on_trial_result(
                self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **_: Any
            ) -> None:
                values = outer._histories.setdefault(trial.trial_id, [])
                values.append(result[outer._tuning.metric])

            def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **_: Any) -> None:
                outer._end(trial, ok=True)

            def on_trial_error(self, iteration: int, trials: Any, trial: Any, **_: Any) -> None:
                outer._end(trial, ok=False)

        return Forward()

    def _end(self, trial: Any, *, ok: bool) -> None:
        values, history = trial.config["values"], self._histories.get(trial.trial_id, [])
        if self._tuning.sampler == "grid":
            studies.add_trial(self._study, self._tuning, values, history, ok=ok)
        self._ended += 1
        result = f"{self._tuning.metric} {history[-1]:.4g}" if ok else "diverged"
        options = ", ".join(f"{key}={_short(value)}" for key, value in values.items())
        self._say(f"trial {self._ended}: {result} after {len(history)} evaluations ({options})")


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def tuned_config(base: dict[str, Any], values: dict[str, Any]) -> RunConfig:
    """The base configuration with a trial's options; raises UserError if they do not fit."""
    return RunConfig.parse(merge(base, nest(studies.decoded(values))))
