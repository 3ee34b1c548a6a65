"""The study of a tuning stage: its trials in SQLite, what is left to try, and the best of them."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweeps.tree import nest
from sweeps.tuning_spec import Interval, Tuning
from trainables.errors import UserError
from trainables.store import write_bytes, write_yaml

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.study import Study
    from optuna.trial import FrozenTrial

PREFIX = "values/"
"""Of Optuna's names: Tune unfolds it, so that dotted options stay whole under `values`."""
INTERRUPTED = "interrupted"
"""User attribute of a trial whose command was stopped: it does not count."""


@dataclass(frozen=True)
class Trial:
    """A finished trial: its options, and the metric at every evaluation; `value` None: diverged."""

    number: int
    values: dict[str, Any]
    history: tuple[float, ...]
    value: float | None


def open_study(folder: Path, tuning: Tuning) -> Study:
    """The study in `folder`/tuning.db; trials that a stopped command left open are set aside.

    Raises:
        UserError: the study there was made for another metric, mode or space.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    folder.mkdir(parents=True, exist_ok=True)
    study = optuna.create_study(
        storage=storage(folder),
        study_name=folder.name,
        direction="maximize" if tuning.mode == "max" else "minimize",
        load_if_exists=True,
    )
    question = json.dumps(tuning.model_dump(mode="json", include={"metric", "mode", "space"}))
    asked = study.user_attrs.get("question")
    if asked is None:
        study.set_user_attr("question", question)
    elif asked != question:
        path = folder / "tuning.db"
        raise UserError(
            f"{path}: tuned for another metric, mode or space; remove the file, or name the sweep "
            "anew: name=OTHER"
        )
    for trial in study.get_trials(states=[optuna.trial.TrialState.RUNNING]):
        study._storage.set_trial_user_attr(trial._trial_id, INTERRUPTED, True)
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
    return study


def storage(folder: Path) -> Any:
    """Optuna's storage of the study."""
    import optuna

    return optuna.storages.RDBStorage(f"sqlite:///{folder / 'tuning.db'}")


def distributions(tuning: Tuning) -> dict[str, BaseDistribution]:
    """The space as Optuna has it; levels are written as JSON, since they may be mappings."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    return {
        PREFIX + key: FloatDistribution(dimension.low, dimension.high, log=dimension.log)
        if isinstance(dimension, Interval)
        else CategoricalDistribution([json.dumps(level) for level in dimension])
        for key, dimension in tuning.space.items()
    }


def combinations(tuning: Tuning) -> list[dict[str, str]]:
    """Every point of a grid, levels as JSON."""
    levels = [[json.dumps(level) for level in axis] for axis in tuning.space.values()]
    return [dict(zip(tuning.space, point, strict=True)) for point in itertools.product(*levels)]


def decoded(values: Mapping[str, Any]) -> dict[str, Any]:
    """Options as a run takes them: JSON levels read, numbers of ranges as they are."""
    return {k: json.loads(v) if isinstance(v, str) else v for k, v in values.items()}


def finished_trials(study: Study) -> list[Trial]:
    """The trials that count, in the order in which they were begun."""
    return [
        Trial(trial.number, _values(trial), _history(trial), trial.value)
        for trial in study.get_trials(deepcopy=False)
        if trial.state.is_finished() and INTERRUPTED not in trial.user_attrs
    ]


def _values(trial: FrozenTrial) -> dict[str, Any]:
    return decoded({k.removeprefix(PREFIX): v for k, v in trial.params.items()})


def _history(trial: FrozenTrial) -> tuple[float, ...]:
    return tuple(trial.intermediate_values[i] for i in sorted(trial.intermediate_values))


def add_trial(
    study: Study, tuning: Tuning, values: Mapping[str, str], history: Sequence[float], *, ok: bool
) -> None:
    """Put a point of a grid into the study; `ok` is False for one that diverged."""
    import optuna

    state = optuna.trial.TrialState.COMPLETE if ok else optuna.trial.TrialState.FAIL
    study.add_trial(
        optuna.trial.create_trial(
            state=state,
            value=history[-1] if ok else None,
            params={PREFIX + key: value for key, value in values.items()},
            distributions=distributions(tuning),
            intermediate_values=dict(enumerate(history, start=1)),
        )
    )


def best_trial(trials: Sequence[Trial], tuning: Tuning) -> Trial | None:
    """The trial with the best last value; None if every one diverged."""
    valued = [trial for trial in trials if trial.value is not None]
    sign = 1 if tuning.mode == "max" else -1
    return max(valued, key=lambda trial: sign * (trial.value or 0.0), default=None)


def write_best(folder: Path, best: Trial, tuning: Tuning, num_trials: int) -> Path:
    """Write `folder`/best.yaml, which `optpath run SWEEP --from FILE` takes."""
    path = folder / "best.yaml"
    write_yaml(path, {"base": nest(best.values)})
    told = f"# {tuning.metric} {best.value:.6g}, the best of {num_trials} trials\n"
    write_bytes(path, told.encode() + path.read_bytes())
    return path
