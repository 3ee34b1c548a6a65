"""What a plan will take: weights and memory of every network, counted without building one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from geometry.flat import FlatParameters
from sweeps.plan import Plan, PlannedTrajectory
from trainables.config import RunConfig
from trainables.data.contract import DataConfig
from trainables.models.contract import ModelConfig
from trainables.optimizers import OptimizerConfig

FLOAT32_BYTES = 4

SCRATCH_VECTORS = 2
"""Vectors that a replay pass may need beside w*: an upper bound, ours."""


@dataclass(frozen=True)
class Estimate:
    """Size of one trajectory's vectors; activations and images are not in it."""

    num_weights: int
    """P, tied weights once."""
    training_bytes: int
    """Weights, gradients and the optimizer's slots."""
    replay_bytes: int
    """The same, one w* per budget, and scratch."""


class Estimator:
    """Estimates for a plan's trajectories; each network is counted once.

    The data sets are opened for the shape of their examples, so they must be prepared.
    """

    def __init__(self, data_root: Path) -> None:
        self._root = data_root
        self._shapes: dict[DataConfig, tuple[tuple[int, ...], int]] = {}
        self._counts: dict[tuple[ModelConfig, tuple[int, ...], int, bool], tuple[int, int]] = {}

    def trajectory(self, trajectory: PlannedTrajectory) -> Estimate:
        """The estimate for one trajectory."""
        config = trajectory.runs[0].config
        num_weights, padded = self._count(config)
        training = 2 + num_slots(config.optimizer)
        ends = {run.num_steps for run in trajectory.runs if run.config.needs_replay()}
        replay = training + len(ends) + SCRATCH_VECTORS if ends else training
        return Estimate(
            num_weights=num_weights,
            training_bytes=training * padded * FLOAT32_BYTES,
            replay_bytes=replay * padded * FLOAT32_BYTES,
        )

    def largest(self, plan: Plan) -> Estimate:
        """The estimate of the trajectory that needs most memory."""
        return max((self.trajectory(t) for t in plan.trajectories), key=lambda e: e.replay_bytes)

    def _count(self, config: RunConfig) -> tuple[int, int]:
        """Number of weights, and of elements of a flat buffer."""
        shape, num_classes = self._shape(config.data)
        key = (config.model, shape, num_classes, config.channels_last())
        if key not in self._counts:
            with torch.device("meta"):
                module = config.model.build(shape, num_classes)
                layout = FlatParameters(module, channels_last=config.channels_last()).layout
            self._counts[key] = layout.num_parameters, layout.size
        return self._counts[key]

    def _shape(self, data: DataConfig) -> tuple[tuple[int, ...], int]:
        if data not in self._shapes:
            loaded = data.load(self._root)
            shape = tuple(int(side) for side in loaded.train.images.shape[1:])
            self._shapes[data] = shape, len(loaded.class_names)
        return self._shapes[data]


def num_slots(optimizer: OptimizerConfig) -> int:
    """Vectors that the optimizer keeps per weight: found by stepping a tensor of two elements."""
    parameter = torch.zeros(2)
    parameter.grad = torch.ones(2)
    stepped = optimizer.build(parameter)
    stepped.step()
    slots = stepped.state.get(parameter, {}).values()
    return sum(isinstance(s, torch.Tensor) and s.shape == parameter.shape for s in slots)
