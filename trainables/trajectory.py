"""The trajectory: what the weights do. A step is a pure function of (state, t)."""

from __future__ import annotations

import copy
import hashlib
import math
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor, nn

from geometry.flat import FlatParameters, parameters_without_gradient
from geometry.probes.contract import StepView
from trainables.clipping import ClippedStep
from trainables.config import RunConfig
from trainables.full_batch import add_gradient, training_chunks
from trainables.randomness import reseed_default, seeded
from trainables.schedules.contract import Curve, Training
from trainables.tasks.contract import ExampleTask, Task


class Observer(Protocol):
    """Sees every step and changes nothing; a `geometry.recorder.Recorder` is one."""

    @property
    def needs_update(self) -> bool:
        """True if `after_update` is to be given w_t and w_{t+1}."""

    def before_update(self, view: StepView, loss: Tensor) -> None:
        """Called once per step with w_t, G_t and the minibatch loss, a device scalar."""

    def after_update(self, view: StepView) -> None:
        """Called once per step after the update, if `needs_update`."""


class Trajectory:
    """Weights, optimizer slots, module buffers and t; at t = 0 when built, `advance` moves on.

    Two trajectories of the same config that stand at the same t are equal bit for bit on the same
    machine and thread count, whatever was observed, evaluated, saved or restored on the way.
    `curve` is that of the run which the schedule follows, if it follows one.
    """

    def __init__(
        self, config: RunConfig, task: Task, device: torch.device, curve: Curve | None = None
    ) -> None:
        self.config = config
        self.task = task
        self.device = device
        self.step = 0
        with seeded(config.seed_for("init"), "init"):
            self.model = task.build_model().to(device)
        self.model.train()
        self.chunks = training_chunks(config, task)
        self.draws, without = self._dry_run()
        self.flat = FlatParameters(
            self.model, channels_last=config.channels_last(), without=without
        )
        self.optimizer = config.optimizer.build(self.flat.parameter)
        clip = config.optimizer.gradient_clip
        self._clipped_step = None if clip is None else ClippedStep(self.flat, clip)
        self._weights_before = torch.empty(0, device=device)
        self._no_weights = self.flat.weights[:0]
        num_steps = config.budget.num_steps(task.calendar)
        self.pace = config.schedule.start(
            Training(num_steps, task.calendar, self._configured_rate, curve)
        )

    def _dry_run(self) -> tuple[bool, set[str]]:
        """Whether the model draws random numbers, and which parameters get no gradient."""
        model = copy.deepcopy(self.model)
        reseed_default(self.config.seed_for("dropout"), 0, self.device)
        before = self._generator_state()
        self._add_gradient(model, 0, self.chunks[:1])
        return not torch.equal(before, self._generator_state()), parameters_without_gradient(model)

    def _generator_state(self) -> Tensor:
        if self.device.type == "cuda":
            return torch.cuda.get_rng_state(self.device)
        return torch.get_rng_state()

    def autocast(self) -> AbstractContextManager[None]:
        """The context of a forward pass: the run's precision."""
        enabled = self.config.precision == "bf16"
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=enabled)

    def batch_size(self, step: int) -> int:
        """Examples of minibatch t, or all that there are."""
        epoch, _ = self.task.calendar.place(step)
        return self.config.examples_per_step(self.chunks[-1].stop if self.chunks else 0, epoch)

    def _configured_rate(self, step: int) -> float:
        return self.config.learning_rate.at(self.batch_size(step))

    def _add_gradient(self, model: nn.Module, step: int, chunks: Sequence[slice]) -> Tensor:
        """Add a step's gradient to `.grad`; the step's loss, a device scalar."""
        if isinstance(self.task, ExampleTask) and chunks:
            return add_gradient(self.task, model, "train", chunks, self.autocast)
        with self.autocast():
            loss = self.task.loss(model, step)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def learning_rate(self, step: int) -> float:
        """eta_t: the configured learning rate at the step's batch size times the schedule's factor.

        Of a schedule that follows gradients, t is the next step.
        """
        return self._configured_rate(step) * self.pace.factor(step)

    def weight_decay(self, step: int) -> float:
        """lambda_t: the configured weight decay times the schedule's factor for it."""
        return self.config.optimizer.weight_decay * self.pace.weight_decay_factor(step)

    def advance(
        self, until: int, observers: Sequence[Observer] = (), *, seconds: float = math.inf
    ) -> None:
        """Take the steps t, t+1, ..., until - 1, shown to every observer.

        Stops before `until`, after one step at least, when that many seconds have passed.
        """
        deadline = time.monotonic() + seconds
        keep_weights = any(observer.needs_update for observer in observers)
        if keep_weights and not len(self._weights_before):
            self._weights_before = torch.empty_like(self.flat.weights)
        while self.step < until:
            self._take_step(observers, keep_weights=keep_weights)
            self.step += 1
            if time.monotonic() >= deadline:
                break

    def _take_step(self, observers: Sequence[Observer], *, keep_weights: bool) -> None:
        flat, learning_rate = self.flat, self.learning_rate(self.step)
        if self.draws:
            reseed_default(self.config.seed_for("dropout"), self.step, self.device)
        flat.gradients.zero_()
        loss = self._add_gradient(self.model, self.step, self.chunks)
        view = StepView(
            step=self.step,
            weights=flat.weights,
            gradient=flat.gradients,
            weights_after=self._no_weights,
            learning_rate=learning_rate,
            weight_decay=self.weight_decay(self.step),
            preconditioner=None,
            momentum=self.optimizer.state.get(flat.parameter, {}).get("momentum_buffer"),
        )
        self.pace.observe(self.step, flat.gradients)
        for observer in observers:
            observer.before_update(view, loss)
        if keep_weights:
            self._weights_before.copy_(flat.weights)
        group = self.optimizer.param_groups[0]
        group["lr"], group["weight_decay"] = learning_rate, view.weight_decay
        if self._clipped_step is None:
            self.optimizer.step()
        else:  # after the observers saw G_t
            self._clipped_step.take(self.optimizer)
        if keep_weights:
            self._show_update(view, observers)

    def _show_update(self, view: StepView, observers: Sequence[Observer]) -> None:
        view = replace(
            view,
            weights=self._weights_before,
            weights_after=self.flat.weights,
            preconditioner=self.config.optimizer.preconditioner(self.optimizer),
            momentum=None,
        )
        for observer in observers:
            observer.after_update(view)

    def evaluate(self, split: str) -> dict[str, float]:
        """The task's evaluation of the current weights on one split."""
        with self.autocast():
            return self.task.evaluate(self.model, split)

    def fingerprint(self) -> str:
        """SHA-256 of the raw bytes of the flat weights; also checks that the views still hold."""
        self.flat.check()
        return fingerprint(self.flat.weights)

    def is_finite(self) -> bool:
        """True if every weight is a number."""
        return bool(torch.isfinite(self.flat.weights).all())

    def state(self) -> dict[str, Tensor]:
        """Everything that `load` needs besides t: weights, optimizer slots, module buffers."""
        slots = self.optimizer.state.get(self.flat.parameter, {})
        return {
            "weights": self.flat.weights,
            **{f"optimizer.{k}": v for k, v in slots.items() if isinstance(v, Tensor)},
            **{f"buffer.{name}": buffer for name, buffer in self.model.named_buffers()},
            **{f"schedule.{name}": value for name, value in self.pace.state().items()},
        }

    def load(self, state: dict[str, Tensor], step: int) -> None:
        """Stand at step t with that state."""
        self.step = step
        buffers = dict(self.model.named_buffers())
        slots: dict[str, Tensor] = {}
        paced: dict[str, Tensor] = {}
        with torch.no_grad():
            self.flat.weights.copy_(state["weights"])
            for key, value in state.items():
                kind, _, name = key.partition(".")
                if kind == "buffer":
                    buffers[name].copy_(value)
                elif kind == "schedule":
                    paced[name] = value
                elif kind == "optimizer":
                    # Adam's step count stays on the CPU, as torch keeps it
                    slots[name] = value.clone().to("cpu" if value.dim() == 0 else self.device)
        self.optimizer.state.clear()
        if slots:
            self.optimizer.state[self.flat.parameter] = slots
        self.pace.load(paced)


def fingerprint(weights: Tensor) -> str:
    """SHA-256 of a weight vector's raw bytes, hexadecimal."""
    return hashlib.sha256(weights.detach().cpu().numpy().tobytes()).hexdigest()
