"""What the tuning stage may search: a space over a run's options, a metric, a number of trials."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from sweeps.keys import check_key
from trainables.errors import UserError
from trainables.registry import Options, build


class Interval(Options):
    """A range of numbers from which trials are drawn."""

    low: float
    """Smallest value."""
    high: float
    """Largest value."""
    log: bool = False
    """True to draw its logarithm uniformly."""

    @model_validator(mode="after")
    def _ordered(self) -> Interval:
        if not self.low < self.high:
            raise ValueError(f"low {self.low:g} must be below high {self.high:g}")
        if self.log and self.low <= 0:
            raise ValueError(f"a logarithmic range starts above 0, not at {self.low:g}")
        return self


Levels = list[Any]
"""Values to choose from."""

DEFAULT_SPACE: dict[str, dict[str, Any]] = {
    "learning_rate.base": {"low": 1e-4, "high": 1.0, "log": True},
    "optimizer.weight_decay": {"low": 1e-7, "high": 1e-2, "log": True},
}
"""Learning rate and weight decay, around every value that the papers use; ours, untuned."""


class Tuning(Options):
    """How a sweep's base configuration is tuned. The tuning stage trains and never measures."""

    metric: str = "validation_accuracy"
    """What the reference pass reports at the end of every evaluated epoch. A sweep that names none
    takes its task's own: accuracy, perplexity or loss on the validation split."""
    mode: Literal["max", "min"] = "max"
    """Whether more or less of the metric is better; a sweep that does not say: less of a loss or of
    perplexity, more of anything else."""
    sampler: Literal["tpe", "grid"] = "tpe"
    """tpe: Optuna's tree-structured Parzen estimator; grid: every combination, by Ray Tune."""
    trials: int = Field(default=20, ge=1)
    """Trials of the study in all, those of earlier commands included; a grid has its own number."""
    prune: bool = True
    """Stop bad trials early by ASHA (asynchronous successive halving)."""
    seed: int = Field(default=0, ge=0)
    """Seed of the sampler. Trials that run side by side may still end in another order."""
    space: dict[str, Interval | Levels] = Field(
        default_factory=lambda: dict(DEFAULT_SPACE), validate_default=True
    )
    """Dotted option of a run -> a range {low, high, log} or a list of levels."""

    @field_validator("space", mode="before")
    @classmethod
    def _intervals(cls, space: dict[str, Any]) -> dict[str, Any]:
        if not space:
            raise UserError("tuning.space: empty; name at least one option to search")
        return {key: _dimension(key, value) for key, value in space.items()}

    @model_validator(mode="after")
    def _grid_has_levels(self) -> Tuning:
        ranges = [key for key, value in self.space.items() if isinstance(value, Interval)]
        if self.sampler == "grid" and ranges:
            raise UserError(f"tuning.space.{ranges[0]}: a grid needs a list of levels, not a range")
        return self


def _dimension(key: str, value: Any) -> Interval | Levels:
    check_key(key, "tuning.space")
    if isinstance(value, Interval):
        return value
    if isinstance(value, list):
        if not value:
            raise UserError(f"tuning.space.{key}: an empty list; give it at least one level")
        return value
    if isinstance(value, dict):
        return build(Interval, value, f"tuning.space.{key}")
    raise UserError(f"tuning.space.{key}: a list of levels or {{low, high, log}}, not {value!r}")
