"""The loss surface of a trajectory: other batches and curvature, without disturbing the training.

Everything is computed on a copy of the network whose parameters are views of the weights asked for:
the training's own gradients, buffers and modes are out of reach, and its generator's state is put
back.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from geometry.surface import Batch
from trainables.config import RunConfig
from trainables.errors import UserError
from trainables.full_batch import chunks
from trainables.randomness import kept_generator, reseed_default
from trainables.tasks.contract import ExampleTask, Task
from trainables.trajectory import Trajectory

FIXED_EPOCH = 1_000_000_000
"""The epoch that fixed batches are taken from: no training reaches it."""
FRESH_EPOCH = 2_000_000_000
"""The epoch that stands for epoch 0 where a step's independent minibatch is drawn."""


@dataclass(frozen=True)
class Part:
    """One forward pass of a batch: its mean loss, its share of the batch, its dropout counter."""

    loss: Callable[[nn.Module], Tensor]
    share: float
    counter: int


class TrajectorySurface:
    """`geometry.surface.Surface` of a trajectory's model, task and precision."""

    def __init__(self, trajectory: Trajectory) -> None:
        self.trajectory = trajectory
        self._task = trajectory.task
        self._device = trajectory.device
        self._segments = trajectory.flat.layout.segments
        self._model = copy.deepcopy(trajectory.model)
        parameters = dict(self._model.named_parameters())
        self._parameters = [parameters[segment.name] for segment in self._segments]
        self._seed = trajectory.config.seed_for("dropout")

    @property
    def batch_size(self) -> int:
        """Examples of a fixed minibatch: of an epoch after all growth where the batches grow."""
        return self.trajectory.batch_size(self._task.calendar.start(FIXED_EPOCH))

    def loss(self, batch: Batch, weights: Tensor) -> Tensor:
        """L_B(w), float64, shape []."""
        total = torch.zeros((), dtype=torch.float64, device=self._device)
        with self._standing_at(weights), torch.no_grad():
            for part in self._parts(batch):
                total += self._loss(part)
        return total

    def gradient(self, batch: Batch, weights: Tensor, out: Tensor) -> Tensor:
        """Write grad L_B(w) to `out`; returns L_B(w)."""
        total = torch.zeros((), dtype=torch.float64, device=self._device)
        with self._standing_at(weights):
            out.zero_()
            for parameter, segment in zip(self._parameters, self._segments, strict=True):
                parameter.grad = segment.view(out)
            for part in self._parts(batch):
                loss = self._loss(part)
                loss.backward()  # type: ignore[no-untyped-call]
                total += loss.detach()
        return total

    def hessian_product(self, batch: Batch, weights: Tensor, vector: Tensor, out: Tensor) -> None:
        """Write H v to `out`, by differentiating <grad L_B, v> once more."""
        directions = [segment.view(vector) for segment in self._segments]
        # attention's fused kernels cannot be differentiated twice
        with self._standing_at(weights), sdpa_kernel(SDPBackend.MATH):
            out.zero_()
            for part in self._parts(batch):
                for product, segment in zip(
                    self._products(part, directions), self._segments, strict=True
                ):
                    segment.view(out).add_(product)

    def _products(self, part: Part, directions: list[Tensor]) -> tuple[Tensor, ...]:
        gradients = torch.autograd.grad(
            self._loss(part), self._parameters, create_graph=True, materialize_grads=True
        )
        # a gradient that does not depend on the weights has no graph, and adds nothing
        pairs = [(g, v) for g, v in zip(gradients, directions, strict=True) if g.requires_grad]
        if not pairs:
            return tuple(map(torch.zeros_like, directions))
        curved, along = zip(*pairs, strict=True)
        return torch.autograd.grad(curved, self._parameters, along, materialize_grads=True)

    def _loss(self, part: Part) -> Tensor:
        if self.trajectory.draws:
            reseed_default(self._seed, part.counter, self._device)
        with self.trajectory.autocast():
            return part.loss(self._model) * part.share

    @contextmanager
    def _standing_at(self, weights: Tensor) -> Iterator[None]:
        """The copy at those weights, with the training's buffers of now, in train mode."""
        for parameter, segment in zip(self._parameters, self._segments, strict=True):
            parameter.data = segment.view(weights)
        buffers = zip(self._model.buffers(), self.trajectory.model.buffers(), strict=True)
        for buffer, own in buffers:
            buffer.copy_(own)
        self._model.train()
        with kept_generator(self._device):
            yield

    def _parts(self, batch: Batch) -> Iterator[Part]:
        fixed, fresh = map(self._task.calendar.start, (FIXED_EPOCH, FRESH_EPOCH))
        if batch.kind == "fixed":
            yield self._minibatch(fixed + batch.number)
        elif batch.kind == "fresh":
            yield self._minibatch(fresh + batch.number)
        elif batch.kind == "held_out":
            yield self._held_out(batch.number)
        elif isinstance(self._task, ExampleTask):
            yield from self._whole(self._task)
        else:  # all of an epoch, as P1's published code
            num_steps = self._task.calendar.start(FIXED_EPOCH + 1) - fixed
            for index in range(num_steps):
                yield self._minibatch(fixed + index, 1 / num_steps)

    def _minibatch(self, step: int, share: float = 1.0) -> Part:
        return Part(lambda model: self._task.loss(model, step), share, step)

    def _whole(self, task: ExampleTask) -> Iterator[Part]:
        """All training examples, in the chunks of a full-batch step or of minibatch size."""
        num = task.num_examples("train")
        for index, part in enumerate(self.trajectory.chunks or chunks(num, self.batch_size)):
            share = (part.stop - part.start) / num
            yield _examples(task, part, share, counter=-FIXED_EPOCH - index)

    def _held_out(self, number: int) -> Part:
        task, size = self._task, self.batch_size
        return Part(lambda model: task.held_out_loss(model, number, size), 1.0, -1 - number)


def _examples(task: ExampleTask, part: slice, share: float, *, counter: int) -> Part:
    return Part(lambda model: task.loss_on(model, "train", part), share, counter)


def check_probes(config: RunConfig, task: Task) -> None:
    """Refuse probes that ask for batches that the data cannot fill, before anything is trained.

    Raises:
        UserError: more held-out batches than the validation examples make up.
    """
    for probe in config.probes:
        if "held_out" not in probe.batches():
            continue
        num_train = task.num_examples("train") if isinstance(task, ExampleTask) else 0
        size = config.examples_per_step(num_train, FIXED_EPOCH)
        asked = getattr(probe.typed_options(), "num_batches", 1)
        there = task.num_held_out(size)
        if asked > there:
            fewer = f"num_batches: {there} or fewer, or " if there > 1 else ""
            raise UserError(
                f"probe {probe.name}: {asked} batches of {size} are more than the validation "
                f"examples fill; give {fewer}a smaller batch_size"
            )
