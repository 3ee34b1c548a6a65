"""Optimizers: torch.optim on one flat tensor, each with the null model of its own random walk."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from geometry import null
from geometry.bridge import LinearUpdate
from geometry.probes.contract import Scaling
from trainables.registry import Member, registry_of


class OptimizerConfig(Member, ABC):
    """Options of one optimizer. `param` is the flat weight tensor, with the flat `.grad`."""

    required_probes: ClassVar[tuple[str, ...]] = ()
    """Probes whose columns the null model needs."""
    num_slots: ClassVar[int]
    """Weight-sized vectors that the optimizer keeps."""

    weight_decay: float = Field(default=0.0, ge=0)
    """lambda, the weight decay coefficient [1]."""
    gradient_clip: float | None = Field(default=None, gt=0)
    """Largest norm of the gradient that the update uses: G_t min(1, gradient_clip / ‖G_t‖), before
    weight decay. G_t itself is measured before (INVENTORY B0); without it nothing is clipped."""

    @property
    def num_vectors(self) -> int:
        """Weight-sized vectors of an update: the slots, and the clipped gradient if it clips."""
        return self.num_slots + (self.gradient_clip is not None)

    @abstractmethod
    def build(self, param: Tensor) -> torch.optim.Optimizer:
        """The torch.optim optimizer of that tensor; the learning rate is set at every step."""

    @abstractmethod
    def null_path(self, columns: Mapping[str, Tensor]) -> null.NullPath:
        """The aware null model's path, from the steps table of a whole run (INVENTORY D9).

        Of a run without clipping; see `null_path_clipped`.
        Shape: every column [T], float64 -> each [T].
        """

    def null_path_clipped(self, columns: Mapping[str, Tensor]) -> null.NullPath:
        """`null_path` of a walk whose steps use s_t G_t, s_t = min(1, gradient_clip / ‖G_t‖).

        Shape: every column [T], float64 -> each [T].
        """
        if self.gradient_clip is None:
            return self.null_path(columns)
        scale = (self.gradient_clip / columns["gradient_norm"]).clamp(max=1.0)
        powers = {"gradient_norm": 1, "preconditioned_norm": 1, "preconditioned_inner": 2}
        used = {
            name: columns[name] * scale**power for name, power in powers.items() if name in columns
        }
        return null.of_scaled_gradients(self.null_path({**columns, **used}), scale)

    def linear_update(self) -> LinearUpdate | None:
        """The update as a linear function of gradients and weights; None where it is none."""
        return None

    def preconditioner(self, optimizer: torch.optim.Optimizer) -> Scaling | None:
        """The diagonal P_t by which the last update scaled its direction; None: the identity."""
        return None


class SGD(OptimizerConfig):
    """w <- w - eta (G + lambda w)."""

    name: ClassVar[str] = "sgd"
    num_slots: ClassVar[int] = 0

    def build(self, param: Tensor) -> torch.optim.Optimizer:
        """torch.optim.SGD without momentum."""
        return torch.optim.SGD([param], lr=0.0, weight_decay=self.weight_decay)

    def null_path(self, columns: Mapping[str, Tensor]) -> null.NullPath:
        """The momentum null with beta = 0."""
        return null.momentum(columns["learning_rate"], columns["gradient_norm"], beta=0.0)

    def linear_update(self) -> LinearUpdate | None:
        """Without momentum; None with clipping."""
        if self.gradient_clip is not None:
            return None
        return LinearUpdate(decays=self.weight_decay > 0)


class Momentum(OptimizerConfig):
    """v <- beta v + G + lambda w;  w <- w - eta v."""

    name: ClassVar[str] = "momentum"
    num_slots: ClassVar[int] = 1
    nesterov: ClassVar[bool] = False

    momentum: float = Field(default=0.9, ge=0, lt=1)
    """beta, the momentum coefficient [1] (P1 appendix A.4: 0.9)."""

    def build(self, param: Tensor) -> torch.optim.Optimizer:
        """torch.optim.SGD with momentum, without dampening."""
        return torch.optim.SGD(
            [param],
            lr=0.0,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            nesterov=self.nesterov,
        )

    def null_path(self, columns: Mapping[str, Tensor]) -> null.NullPath:
        """The null aware of step size, norm and momentum."""
        return null.momentum(
            columns["learning_rate"],
            columns["gradient_norm"],
            beta=self.momentum,
            nesterov=self.nesterov,
        )

    def linear_update(self) -> LinearUpdate | None:
        """With momentum; None with clipping."""
        if self.gradient_clip is not None:
            return None
        return LinearUpdate(self.momentum, self.nesterov, self.weight_decay > 0)


class Nesterov(Momentum):
    """v <- beta v + G + lambda w;  w <- w - eta (G + lambda w + beta v)."""

    name: ClassVar[str] = "nesterov"
    nesterov: ClassVar[bool] = True

    momentum: float = Field(default=0.9, gt=0, lt=1)
    """beta, the momentum coefficient [1]; Nesterov's form needs it above 0."""


class Adam(OptimizerConfig):
    """Adam; the weight decay is coupled (L2, added to the gradient)."""

    name: ClassVar[str] = "adam"
    num_slots: ClassVar[int] = 2
    required_probes: ClassVar[tuple[str, ...]] = ("preconditioner",)

    beta1: float = Field(default=0.9, ge=0, lt=1)
    """Decay of the first moment [1] (P1 appendix A.4)."""
    beta2: float = Field(default=0.999, ge=0, lt=1)
    """Decay of the second moment [1] (P1 appendix A.4)."""
    epsilon: float = Field(default=1e-8, gt=0)
    """Added to the root of the second moment (torch's default)."""

    def build(self, param: Tensor) -> torch.optim.Optimizer:
        """torch.optim.Adam."""
        betas = (self.beta1, self.beta2)
        return torch.optim.Adam(
            [param], lr=0.0, betas=betas, eps=self.epsilon, weight_decay=self.weight_decay
        )

    def null_path(self, columns: Mapping[str, Tensor]) -> null.NullPath:
        """The null aware of the diagonal preconditioner."""
        return null.adam(
            columns["learning_rate"],
            columns["gradient_norm"],
            columns["preconditioned_inner"],
            columns["preconditioned_norm"],
            beta1=self.beta1,
        )

    def preconditioner(self, optimizer: torch.optim.Optimizer) -> Scaling:
        """P_t = 1 / (sqrt(v_t / (1 - beta2^(t+1))) + epsilon), after the update of step t."""
        (slots,) = optimizer.state.values()
        second_moment: Tensor = slots["exp_avg_sq"]
        correction = 1.0 - torch.tensor(self.beta2, dtype=torch.float64) ** slots["step"].double()
        scale = correction.sqrt()

        def scaling(block: slice, out: Tensor) -> Tensor:
            root = torch.sqrt(second_moment[block], out=out)
            return root.div_(scale).add_(self.epsilon).reciprocal_()

        return scaling


class AdamW(Adam):
    """Adam with decoupled weight decay."""

    name: ClassVar[str] = "adamw"

    weight_decay: float = Field(default=0.01, ge=0)
    """lambda, the decoupled weight decay coefficient [1] (torch's default)."""

    def build(self, param: Tensor) -> torch.optim.Optimizer:
        """torch.optim.AdamW."""
        betas = (self.beta1, self.beta2)
        return torch.optim.AdamW(
            [param], lr=0.0, betas=betas, eps=self.epsilon, weight_decay=self.weight_decay
        )


OPTIMIZERS = registry_of(SGD, Momentum, Nesterov, Adam, AdamW)
