"""Gradient clipping by norm, between the measuring of G_t and the update."""

from __future__ import annotations

import torch

from geometry.flat import FlatParameters
from geometry.reductions import ROW


class ClippedStep:
    """Optimizer steps with s_t G_t in place of G_t, s_t = min(1, max_norm / ‖G_t‖).

    The clipped gradient has a vector of its own, so that whoever looks after the update still finds
    G_t in the flat gradients. torch's `clip_grad_norm_` adds 1e-6 to the norm; this does not.
    Memory: one vector of the length of the weights.
    """

    def __init__(self, flat: FlatParameters, max_norm: float) -> None:
        self._flat = flat
        self._max_norm = max_norm
        self._clipped = torch.zeros_like(flat.gradients)

    def take(self, optimizer: torch.optim.Optimizer) -> None:
        """One step of the optimizer of the flat parameter; never waits for the device."""
        flat = self._flat
        row_norms = torch.linalg.vector_norm(flat.gradients.view(-1, ROW), dim=1)
        norm = row_norms.double().square_().sum().sqrt_()
        scale = (self._max_norm / norm).clamp_(max=1.0)
        torch.mul(flat.gradients, scale.to(flat.gradients.dtype), out=self._clipped)
        flat.parameter.grad = self._clipped
        optimizer.step()
        flat.parameter.grad = flat.gradients
