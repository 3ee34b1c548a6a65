"""A run's epochs are those that its training had."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.lengths import Length, growth_of
from trainables.config import RunConfig

CONFIGS = [
    {"batch_size": 7, "budget": {"epochs": 6}},
    {"batch_size": 7, "budget": {"epochs": 9}, "batch_growth": {"epochs": [2, 5], "factor": 3}},
    {"batch_size": 3, "budget": {"steps": 201}, "batch_growth": {"epochs": [1, 4], "factor": 2}},
]


@pytest.mark.parametrize("options", CONFIGS)
def test_epochs_are_those_of_the_training_s_own_calendar(options: dict[str, object]) -> None:
    config = RunConfig.model_validate({"data": "digits", "model": "mlp", **options})
    calendar = config.calendar(200)
    num_steps = config.budget.num_steps(calendar)
    length = Length(num_steps, calendar.steps_per_epoch, growth_of(config.plain()))
    steps = np.arange(num_steps)
    np.testing.assert_array_equal(length.epochs_of(steps), calendar.epochs_of(steps))
    np.testing.assert_array_equal(length.sizes, np.bincount(calendar.epochs_of(steps)))
    for epoch in range(length.num_epochs):
        assert length.start(epoch) == calendar.start(epoch)
    place = length.place(steps)
    np.testing.assert_array_equal(place.astype(int), calendar.epochs_of(steps))
    np.testing.assert_allclose(length.steps_at(place), steps, atol=1e-9)


def test_an_epoch_that_the_budget_cuts_short_counts_and_is_not_whole() -> None:
    length = Length(95, 10)
    assert (length.num_epochs, length.num_whole_epochs, length.sizes[-1]) == (10, 9, 5)
