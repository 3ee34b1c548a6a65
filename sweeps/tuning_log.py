"""A study's way to MLflow: one run per finished trial under a tuning parent."""

from __future__ import annotations

from collections.abc import Sequence

from sweeps.places import Places
from sweeps.study import Trial
from sweeps.tuning_spec import Tuning
from trainables.tracking import Connection


def log_trials(sweep: str, trials: Sequence[Trial], tuning: Tuning, here: Places) -> None:
    """Make MLflow hold every finished trial; sending one again changes nothing.

    Raises:
        TrackingUnavailable: the server does not answer.
    """
    connection = Connection(here.tracking_uri)
    experiment = connection.experiment(here.store.root)
    common = {"optpath.sweep": sweep, "mlflow.source.name": "optpath"}
    parent_tags = {"optpath.kind": "tuning", **common}
    parent = connection.keep(experiment, f"{sweep} tuning", parent_tags, {}, [])
    for trial in trials:
        tags = {
            "optpath.kind": "trial",
            "optpath.trial": str(trial.number),
            "mlflow.parentRunId": parent,
            **common,
        }
        rows = [(tuning.metric, value, step) for step, value in enumerate(trial.history)]
        params = {key: str(value) for key, value in trial.values.items()}
        name = f"trial {trial.number}"
        run = connection.keep(experiment, name, tags, params, rows)
        connection.set_status(run, "FAILED" if trial.value is None else "FINISHED")
    connection.set_status(parent, "FINISHED")
