"""The Ray Tune trainable of the tuning stage: one trial is one configuration's reference pass."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ray import tune

from sweeps.tuning import tuned_config
from trainables.errors import UserError
from trainables.search import search_trial
from trainables.tune_adapter import device_of, end_with_parent


class SearchTrainable(tune.Trainable):
    """Trains `base` with the options under `values`; an actor is reused for the next trial."""

    def setup(self, config: dict[str, Any]) -> None:
        """Called by Tune once per actor."""
        end_with_parent()
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Called by Tune to reuse the actor."""
        self._metric: str = new_config["metric"]
        self._trial = search_trial(
            tuned_config(new_config["base"], new_config["values"]),
            Path(new_config["data_root"]),
            device_of(new_config["gpu_fraction"]),
            new_config["num_threads"],
        )
        return True

    def step(self) -> dict[str, Any]:
        """Called by Tune until done; one evaluation each."""
        progress = next(self._trial)
        if self._metric not in progress.evaluation:
            known = ", ".join(sorted(progress.evaluation))
            raise UserError(f"tuning.metric: no '{self._metric}' is reported; known: {known}")
        return {"epoch": progress.epoch, "done": progress.done, **progress.evaluation}
