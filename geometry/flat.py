"""FlatParameters: all weights as views of one buffer, all gradients as views of another."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from geometry.reductions import ROW

NORMALISATION = (_NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)
"""Modules whose weights and biases form the group `normalisation`."""


@dataclass(frozen=True)
class Segment:
    """One parameter's place in the flat buffers; `offset` is a multiple of the row length."""

    name: str
    offset: int
    shape: tuple[int, ...]
    channels_last: bool
    group: str
    """weights, biases or normalisation."""

    @property
    def numel(self) -> int:
        """Number of elements, padding not counted."""
        return torch.Size(self.shape).numel()

    @property
    def num_rows(self) -> int:
        """Number of rows that the parameter takes, the padded last one included."""
        return -(-self.numel // ROW)

    def view(self, flat: Tensor) -> Tensor:
        """The parameter's view of a flat buffer, in its memory format."""
        part = flat[self.offset : self.offset + self.numel]
        if self.channels_last:
            out_channels, in_channels, height, width = self.shape
            return part.view(out_channels, height, width, in_channels).permute(0, 3, 1, 2)
        return part.view(self.shape)


@dataclass(frozen=True)
class FlatLayout:
    """The order of the parameters in the flat buffers, that of `module.named_parameters()`."""

    segments: tuple[Segment, ...]

    @property
    def size(self) -> int:
        """Length of the flat buffers, padding included."""
        return sum(segment.num_rows for segment in self.segments) * ROW

    @property
    def num_parameters(self) -> int:
        """Number of weights P, padding not counted; tied weights count once."""
        return sum(segment.numel for segment in self.segments)

    @property
    def labels(self) -> tuple[str, ...]:
        """The parameters' names."""
        return tuple(segment.name for segment in self.segments)

    def metadata(self) -> dict[str, str]:
        """The layout as the metadata of a weight file."""
        return {"layout": json.dumps([asdict(segment) for segment in self.segments])}


class FlatParameters:
    """Owns a module's trainable parameters as views of `weights`, their `.grad` of `gradients`.

    Both buffers have shape [P padded]; the padding is zero and stays zero under every optimizer.
    `parameter` is the one tensor that a torch.optim optimizer steps. Parameters named in `without`
    (frozen, or without gradient in a dry backward) are left alone: a zero gradient is not None,
    weight decay and Adam would move them.
    """

    def __init__(
        self, module: nn.Module, *, channels_last: bool = False, without: Collection[str] = ()
    ) -> None:
        self._module = module
        parameters = {
            name: parameter
            for name, parameter in module.named_parameters()
            if parameter.requires_grad and name not in without
        }
        if not parameters:
            raise ValueError("the module has no trainable parameter that receives a gradient")
        self.layout = _layout(module, parameters, channels_last)
        first = next(iter(parameters.values()))
        self.weights = torch.zeros(self.layout.size, device=first.device, dtype=first.dtype)
        self.gradients = torch.zeros_like(self.weights)
        self._attach(parameters)
        self.parameter = nn.Parameter(self.weights)
        self.parameter.grad = self.gradients

    def _attach(self, parameters: dict[str, nn.Parameter]) -> None:
        for segment in self.layout.segments:
            parameter = parameters[segment.name]
            view = segment.view(self.weights)
            with torch.no_grad():
                view.copy_(parameter)
            parameter.data = view
            parameter.grad = segment.view(self.gradients)

    def check(self) -> None:
        """Verify that every parameter and gradient is still a view of the buffers.

        Raises:
            RuntimeError: something replaced one (`zero_grad` to None, `.to`, `assign=True`).
        """
        # The module's parameters of now: `assign=True` puts new ones in place of ours.
        parameters = dict(self._module.named_parameters())
        for segment in self.layout.segments:
            offset = segment.offset * self.weights.element_size()
            if not self._lives_at(parameters.get(segment.name), offset):
                raise RuntimeError(f"parameter {segment.name} no longer lives in the flat buffers")
        if not self._lives_at(self.parameter, 0):
            raise RuntimeError("the optimizer's parameter no longer lives in the flat buffers")

    def _lives_at(self, parameter: nn.Parameter | None, offset: int) -> bool:
        if parameter is None or parameter.grad is None:
            return False
        return (
            parameter.data_ptr() == self.weights.data_ptr() + offset
            and parameter.grad.data_ptr() == self.gradients.data_ptr() + offset
        )


def parameters_without_gradient(module: nn.Module) -> set[str]:
    """Names of the parameters that a backward pass, done just before, left without gradient."""
    return {name for name, parameter in module.named_parameters() if parameter.grad is None}


def _layout(
    module: nn.Module, parameters: dict[str, nn.Parameter], channels_last: bool
) -> FlatLayout:
    segments: list[Segment] = []
    offset = 0
    for name, parameter in parameters.items():
        segment = Segment(
            name=name,
            offset=offset,
            shape=tuple(parameter.shape),
            channels_last=channels_last and parameter.dim() == 4,
            group=_group(module, name),
        )
        segments.append(segment)
        offset += segment.num_rows * ROW
    return FlatLayout(tuple(segments))


def _group(module: nn.Module, name: str) -> str:
    owner, _, leaf = name.rpartition(".")
    if isinstance(module.get_submodule(owner), NORMALISATION):
        return "normalisation"
    return "biases" if leaf.endswith("bias") else "weights"
